"""What an attempt ran on: enough to tell later what changed since a job last worked."""

from __future__ import annotations

import hashlib
import platform
import socket
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobkit.clock import stopwatch
from jobkit.executors.git import LOOK_SECONDS, Look, Repositories, read_head
from jobkit.executors.packages import Interpreters, PackageSet

HIDDEN = "***"
LOOK_WAIT_SECONDS = 0.25


@dataclass(frozen=True)
class Subject:
    """What an attempt is about to run."""

    file: Path
    """Where its bytes lie."""
    script: Path
    """The file; not absolute where the job carries its own text."""
    sha256: str
    """Of the bytes that run."""
    kind: str
    isolation: str
    """warm or fresh."""
    interpreter: str | None
    """The Python that runs it; None where none does."""
    params: Mapping[str, Any]
    variables: Collection[str]
    """Names of its environment; values have no business here."""


@dataclass(frozen=True)
class ScriptText:
    """The text of a script, without secrets, and the hash of the bytes that it was."""

    sha256: str
    text: str


@dataclass(frozen=True)
class Begun:
    """What was seen when an attempt began."""

    document: dict[str, Any]
    interpreter: str | None
    started: float
    look: Look | None
    script: ScriptText | None


@dataclass(frozen=True)
class Provenance:
    """A record for the row of an attempt, and what its hashes stand for, unless that is kept."""

    document: dict[str, Any]
    packages: PackageSet | None
    script: ScriptText | None = None


def hide(value: Any, secrets: Collection[str]) -> Any:
    """Return a JSON value with `***` where a secret stands, also within a longer text."""
    if isinstance(value, Mapping):
        return {hide(str(key), secrets): hide(item, secrets) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [hide(item, secrets) for item in value]
    if isinstance(value, str):
        for secret in secrets:
            value = HIDDEN if value == secret else _without(value, secret)
        return value
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return HIDDEN if is_number and str(value) in secrets else value


def _without(text: str, secret: str) -> str:
    # A secret of one or two letters would hide half of every text.
    return text.replace(secret, HIDDEN) if len(secret) > 3 else text


class Recorder:
    """Records what attempts ran on; held by a worker, for all its threads.

    `environment`: what git and other interpreters are asked with. `longest_script`: texts of more
    bytes are not kept; 0 keeps none.
    """

    def __init__(self, environment: Mapping[str, str], longest_script: int = 0) -> None:
        self._longest_script = longest_script
        self._repositories = Repositories(environment)
        self._interpreters = Interpreters(environment)
        self._machine = {"host": socket.gethostname(), "platform": platform.platform()}
        self._lock = threading.Lock()
        self._stored: set[str] = set()

    def begin(self, subject: Subject, secrets: Collection[str] = ()) -> Begun:
        """Note what runs, before it starts; starts no process that it would wait for.

        `secrets`: values that are hidden in the parameters.
        """
        git, look = self._checked_out(subject.script)
        document = {
            "script": str(subject.script),
            "sha256": subject.sha256,
            "kind": subject.kind,
            "isolation": subject.isolation,
            "git": git,
            "params": hide(subject.params, secrets) if secrets else dict(subject.params),
            **self._machine,
            "variables": sorted(subject.variables),
        }
        script = self._script(subject, secrets)
        return Begun(document, subject.interpreter, stopwatch(), look, script)

    def finish(self, begun: Begun) -> Provenance:
        """Complete the record after the attempt.

        Waits for git until 0.25 s after it was asked, which happens once in 10 s at most.
        """
        document = dict(begun.document)
        if begun.look is not None:
            document["git"] = {**document["git"], "dirty": _changes(begun)}
        document["python"], document["packages"] = None, None
        asked = begun.interpreter
        interpreter = self._interpreters.interpreter(asked) if asked is not None else None
        if interpreter is None:
            return Provenance(document, None, begun.script)
        packages = self._interpreters.packages(interpreter)
        document["python"] = {
            "version": interpreter.version,
            "implementation": interpreter.implementation,
            "path": interpreter.path,
        }
        document["packages"] = packages.sha256
        with self._lock:
            is_stored = packages.sha256 in self._stored
        return Provenance(document, None if is_stored else packages, begun.script)

    def stored(self, kept: PackageSet | ScriptText) -> None:
        """Hear that packages or a text are kept: they are not handed out again."""
        with self._lock:
            self._stored.add(kept.sha256)

    def _script(self, subject: Subject, secrets: Collection[str]) -> ScriptText | None:
        """Read the text that runs, unless it is kept, is too long or is none."""
        with self._lock:
            if subject.sha256 in self._stored:
                return None
        text = _text(subject, self._longest_script)
        if text is None:
            with self._lock:
                self._stored.add(subject.sha256)  # there is no use in looking again
            return None
        return ScriptText(subject.sha256, hide(text, secrets))

    def _checked_out(self, script: Path) -> tuple[dict[str, Any] | None, Look | None]:
        checkout = self._repositories.checkout(script.parent) if script.is_absolute() else None
        if checkout is None:
            return None, None
        head = read_head(checkout)
        return (
            {"commit": head.commit, "branch": head.branch, "dirty": None},
            self._repositories.look(checkout.root),
        )


def _text(subject: Subject, longest: int) -> str | None:
    if not longest:
        return None
    try:
        with subject.file.open("rb") as file:
            data = file.read(longest + 1)
        if len(data) > longest or hashlib.sha256(data).hexdigest() != subject.sha256:
            return None
        return None if b"\x00" in data else data.decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def _changes(begun: Begun) -> bool | None:
    look = begun.look
    assert look is not None
    look.done.wait(max(0.0, look.began + LOOK_WAIT_SECONDS - stopwatch()))
    is_recent = look.began > begun.started - LOOK_SECONDS
    return look.has_changes if look.done.is_set() and is_recent else None
