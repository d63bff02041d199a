"""Questions asked of a child process, which is there only while somebody asks.

One line of JSON a question, one an answer, over its stdin and stdout. It starts with the first
question and ends after a minute without any, and it ends when this process does, however that
comes: then its stdin is at its end. When it is killed another one starts, and is asked again.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from contextlib import suppress
from datetime import timedelta
from typing import Any

import jobkit

IDLE_SECONDS = 60.0
TRIES = 2
SECRETS = {"token", "oidc_client_secret"}
"""Settings that open doors, which a child has no use for."""
ERRORS: Mapping[str, type[jobkit.JobkitError]] = {
    kind.__name__: kind
    for kind in (
        jobkit.NotFound,
        jobkit.Conflict,
        jobkit.BadInput,
        jobkit.DatabaseUnavailable,
        jobkit.ArtifactsUnavailable,
        jobkit.JobkitError,
    )
}
"""What the child says by name."""


class ReportsUnavailable(jobkit.JobkitError):
    """The process that makes reports ended, and so did the one after it."""


class Reporter:
    """Answers questions about a kit's history by a child process; threads may share it."""

    def __init__(self, kit: jobkit.Kit, *, idle_seconds: float = IDLE_SECONDS) -> None:
        self._opening = {"settings": _settings(kit), "idle_seconds": idle_seconds}
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def ask(self, name: str, state: tuple[int, str], /, **given: Any) -> Any:
        """Answer a question; the errors are the kit's, and ReportsUnavailable."""
        for _ in range(TRIES):
            try:
                answer = self._there().ask({"name": name, "state": state, "given": given})
            except _Ended as ended:
                said = str(ended)
                continue
            return _read(answer)
        raise ReportsUnavailable(
            f"The process that makes reports {said}, twice.",
            "The portal's log says more. Where memory is short, ask for a shorter window.",
        )

    def close(self) -> None:
        """End the child."""
        with self._lock:
            if self._child is not None:
                self._child.close()
                self._child = None

    @property
    def process_id(self) -> int | None:
        """The number of the child, while there is one."""
        child = self._child
        return None if child is None or child.has_ended else child.process_id

    def _there(self) -> _Child:
        with self._lock:
            if self._child is None or self._child.has_ended:
                self._child = _Child(self._opening)
            return self._child


class _Ended(Exception):
    """The child ended before it answered."""


class _Child:
    """One child, until it ends."""

    def __init__(self, opening: Mapping[str, Any]) -> None:
        # -P: no file of the current folder is taken for a module.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "portal.reports"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._lock = threading.Lock()
        self._waiting: dict[int, Future[Any]] = {}
        self._numbers = itertools.count(1)
        self._said = ""
        self._write(opening)
        threading.Thread(target=self._listen, name="portal-reports", daemon=True).start()

    @property
    def has_ended(self) -> bool:
        """Whether nobody is to be asked any more."""
        return bool(self._said)

    @property
    def process_id(self) -> int:
        """Its number."""
        return self._process.pid

    def ask(self, question: Mapping[str, Any]) -> Any:
        """Return what it answers; _Ended when it ends before it does."""
        future: Future[Any] = Future()
        with self._lock:
            if self._said:
                raise _Ended(self._said)
            number = next(self._numbers)
            self._waiting[number] = future
            self._write({"id": number, **question})
        return future.result()

    def close(self) -> None:
        """Let it see the end of its questions, and wait for it."""
        assert self._process.stdin is not None
        with self._lock:
            self._process.stdin.close()
        self._process.wait()

    def _write(self, line: Mapping[str, Any]) -> None:
        """Write a line; of one that is not read any more `_listen` hears."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(line).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError):  # its end is closed, or ours is
            self._process.kill()

    def _listen(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._process.stdout as answers:
            for line in answers:
                answer = json.loads(line)
                self._waiting.pop(answer["id"]).set_result(answer)
        code = self._process.wait()
        with self._lock:
            with suppress(OSError):  # of what it did not read
                self._process.stdin.close()
            self._said = f"ended with {code}" if code >= 0 else f"was killed by signal {-code}"
            left = [*self._waiting.values()]
        for future in left:
            future.set_exception(_Ended(self._said))


def _read(answer: Mapping[str, Any]) -> Any:
    """Return what was answered, or raise it."""
    error = answer.get("error")
    if error is None:
        return answer["answer"]
    kind = ERRORS.get(error["kind"])
    if kind is None:
        raise RuntimeError(f"{error['kind']} in the process that makes reports: see its traceback")
    raise kind(error["message"], error["hint"])


def _settings(kit: jobkit.Kit) -> dict[str, Any]:
    """Return the settings of a kit as JSON has them, without secrets."""
    return {
        name: _plain(value)
        for name, value in kit.settings.model_dump(exclude=SECRETS, exclude_none=True).items()
    }


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return list(map(str, value))
    return value if isinstance(value, str | int | float) else str(value)
