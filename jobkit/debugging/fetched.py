"""What a failed attempt ran, fetched: its source, its parameters, and what it left."""

from __future__ import annotations

import hashlib
import json
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from jobkit.errors import BadInput, JobkitError
from jobkit.executors.provenance import HIDDEN
from jobkit.executors.target import split_arguments, split_function
from jobkit.store import definitions, keepsakes
from jobkit.text import iso

if TYPE_CHECKING:
    from jobkit.handles import Attempt, Run

FAILED = ("FAILURE", "ERROR", "TIMEOUT", "LOST", "CANCELLED")
DEBUGGED = ("python", "notebook", "function")


@dataclass(frozen=True)
class Fetched:
    """All that is needed to run a failed attempt here."""

    run: Run
    attempt: Attempt
    kind: str
    name: str
    text: str
    function: str | None
    arguments: tuple[str, ...]
    params: Mapping[str, Any]
    """Secrets in them are `***`."""
    variables: Mapping[str, str]
    file: Path | None
    """The script's own, where it is here and still the same."""
    home: Path | None
    """The folder of the script, where it is here."""
    working_dir: Path | None
    secrets: tuple[str, ...]
    notes: tuple[str, ...]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return the variables that the attempt had, with places below a folder."""
        slot = self.attempt.scheduled_for
        return {
            **self.variables,
            "JOBKIT_RUN_ID": str(self.run.id),
            "JOBKIT_ATTEMPT": str(self.attempt.attempt),
            "JOBKIT_SCHEDULED_FOR": iso(slot) if slot else "",
            "JOBKIT_WORKER_ID": self.attempt.worker_id or "",
            "JOBKIT_PARAMS": json.dumps(dict(self.params), ensure_ascii=False),
            "JOBKIT_ARTIFACTS": str(folder / "artifacts"),
            "JOBKIT_SECRETS": str(folder / "secrets"),
        }


def fetch(run: Run) -> Fetched:
    """Find what a run's last failed attempt ran.

    BadInput when none failed, when it is of a kind that Python does not run, and when its source is
    nowhere to be had: then it says which file differs.
    """
    attempt = _failed(run)
    provenance = attempt.provenance or {}
    with run._kit.database.read() as connection:
        definition = definitions.executed(connection, run.job_id, run.job_version)
        wanted = provenance.get("sha256") or ""
        kept = keepsakes.scripts(connection, [wanted]).get(wanted) if wanted else None
    path, function = split_function(definition["script_path"])
    name = PurePosixPath(path.replace("\\", "/")).name
    kind = provenance.get("kind") or definition.get("kind") or _kind(name, function)
    if kind not in DEBUGGED:
        raise BadInput(
            f"Run {run.id} ran {name}, of the kind {kind}, which is not debugged here.",
            f"See what it said: jobkit logs {run.id}",
        )
    file = Path(str(provenance.get("script") or path))
    text, notes = _source(run, definition.get("source"), kept, file, wanted)
    home = file.absolute().parent if file.is_file() and definition.get("source") is None else None
    return Fetched(
        run=run,
        attempt=attempt,
        kind=kind,
        name=name,
        text=text,
        function=function,
        arguments=tuple(split_arguments(definition.get("script_args"))),
        params=provenance.get("params") or run.params or {},
        variables=definition.get("variables") or {},
        file=file.absolute() if home is not None and _holds(file, text) else None,
        home=home,
        working_dir=_working_dir(definition.get("working_dir"), home),
        secrets=tuple(definition.get("secrets") or ()),
        notes=(*notes, *_elsewhere(provenance)),
    )


def _failed(run: Run) -> Attempt:
    ended = run.attempts()
    failed = [attempt for attempt in ended if attempt.status in FAILED]
    if not failed and run.refresh().kept is not None:
        raise BadInput(
            f"The kernel of run {run.id} is kept: what failed is still there.",
            "Open it: run.attach(), or %jobkit attach in a notebook.",
        )
    if not failed:
        raise BadInput(
            f"No attempt of run {run.id} has failed: it is {run.refresh().status}.",
            "Debug a run that FAILED: jobkit runs --status FAILED",
        )
    return failed[-1]


def _kind(name: str, function: str | None) -> str:
    if function is not None:
        return "function"
    suffix = Path(name).suffix
    return {".py": "python", ".ipynb": "notebook"}.get(suffix, suffix.lstrip(".") or "program")


def _source(
    run: Run, own: str | None, kept: str | None, file: Path, wanted: str
) -> tuple[str, tuple[str, ...]]:
    """Return the text that ran: the job's own, else the one that was kept, else the file's."""
    if own is not None:
        return own, ()
    if kept is not None:
        is_same = hashlib.sha256(kept.encode("utf-8", "surrogatepass")).hexdigest() == wanted
        return kept, () if is_same else (f"secrets in its text are {HIDDEN} here",)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(
            f"The source of run {run.id} is not kept, and {file} cannot be read: {error.strerror}.",
            "Debug it where the file is; JOBKIT_SCRIPT_TEXT_LIMIT lets workers keep texts.",
        ) from None
    found = hashlib.sha256(data).hexdigest()
    if wanted and found != wanted:
        raise BadInput(
            f"{file} differs from what run {run.id} ran: its hash is {found[:12]}, it ran "
            f"{wanted[:12]}, and that text is not kept.",
            "Check out the version that ran; JOBKIT_SCRIPT_TEXT_LIMIT lets workers keep texts.",
        )
    return data.decode("utf-8"), ()


def _holds(file: Path, text: str) -> bool:
    try:
        return file.read_bytes() == text.encode("utf-8", "surrogatepass")
    except OSError:
        return False


def _working_dir(named: str | None, home: Path | None) -> Path | None:
    if named is None or home is None:
        return home
    folder = home / named
    return folder if folder.is_dir() else home


def _elsewhere(provenance: Mapping[str, Any]) -> list[str]:
    """Say in what this interpreter and machine are other than those of the attempt."""
    notes = []
    version = (provenance.get("python") or {}).get("version")
    if version and version != platform.python_version():
        notes.append(f"it ran on Python {version}, this is {platform.python_version()}")
    host = provenance.get("host")
    if host and host != socket.gethostname():
        notes.append(f"it ran on {host}, this is {socket.gethostname()}")
    return notes


def bring_artifacts(fetched: Fetched, folder: Path) -> list[str]:
    """Copy what the attempt left into a folder; returns what could not be had."""
    missing = []
    for artifact in fetched.run.artifacts(fetched.attempt.attempt):
        place = folder.joinpath(*PurePosixPath(artifact.name).parts)
        if not place.resolve().is_relative_to(folder.resolve()):
            continue
        try:
            data = artifact.read()
        except JobkitError as error:
            missing.append(f"the artifact {artifact.name} cannot be had: {error.message}")
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
    return missing
