"""Errors that a person can act on: each names the thing, the value and the next step."""

from __future__ import annotations

from functools import partial
from pathlib import PurePath
from traceback import extract_tb
from typing import Any

SHOWN_LINES = 20


class JobkitError(Exception):
    """Something jobkit could not do, said in one sentence, with the way out in `hint`."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".rstrip()


class BadInput(JobkitError):
    """What was asked for is wrong; nothing was written."""


class NotFound(BadInput):
    """The named job, run or worker does not exist."""


class Conflict(BadInput):
    """It cannot be done as things stand: a name is taken, a run has ended, somebody was faster."""


class Refused(BadInput):
    """Whoever asks is not known, or may not do that."""


class DatabaseUnavailable(JobkitError):
    """The database did not answer; what was being written is not half written."""


class DatabaseRefused(BadInput):
    """The database answers but must not be used: too new, not upgraded, or on a shared disk."""


class ArtifactsUnavailable(JobkitError):
    """The store of artifacts did not answer, or has no room."""


class ArchiveUnavailable(JobkitError):
    """The place of the archive did not answer or has no room; no row left the tables."""


class ArchiveDamaged(JobkitError):
    """A file of the archive is not the one that was written; no row left the tables."""


class ArchiveConflict(JobkitError):
    """What is archived cannot be in the tables as well: something else has its place."""


class BackupFailed(JobkitError):
    """A copy of the database could not be written; what was there before is there still."""


class CannotStart(JobkitError):
    """An attempt's program could not be started."""


class JobFailed(JobkitError):
    """A run that was waited for did not complete; `output` holds the end of what it printed."""

    def __init__(
        self,
        message: str,
        *,
        run_id: int,
        status: str,
        output: str = "",
        traceback: str | None = None,
        changes: str = "",
        where: str = "",
    ) -> None:
        super().__init__(message, f"\n\n{output}" if output else "")
        self.run_id = run_id
        self.status = status
        self.output = output
        self.traceback = traceback
        """The frames of the program that failed, as text."""
        self.changes = changes
        """What changed since it last worked."""
        self.where = where
        """The attempt and the worker."""
        if traceback and traceback not in output:
            self.add_note(self._remote)
        if changes:
            self.add_note(changes)

    @property
    def _remote(self) -> str:
        where = f" ({self.where})" if self.where else ""
        return f"Traceback of run {self.run_id}{where}:\n{self.traceback}"

    def __reduce__(self) -> Any:
        named = ("run_id", "status", "output", "traceback", "changes", "where")
        return partial(type(self), **{name: getattr(self, name) for name in named}), (self.message,)

    def _render_traceback_(self) -> list[str]:
        """Return what IPython shows: where it was waited for, and the frames of the run itself."""
        lines = [f"JobFailed: {self.message}", *_callers(self)]
        if self.traceback:
            lines += ["", *self._remote.splitlines()]
        elif self.output:
            lines += ["", f"The end of what run {self.run_id} printed:"]
            lines += self.output.rstrip().splitlines()[-SHOWN_LINES:]
        told = {self._remote, self.changes}
        notes = [note for note in getattr(self, "__notes__", ()) if note not in told]
        for note in filter(None, (self.changes, *notes)):
            lines += ["", *note.splitlines()]
        return lines


def _callers(error: BaseException) -> list[str]:
    """Return the lines that waited: not those of jobkit, nor of what runs cells."""
    ours = str(PurePath(__file__).parent)
    return [
        f"  {frame.name}, line {frame.lineno}: {frame.line}"
        for frame in extract_tb(error.__traceback__)
        if frame.line and not frame.filename.startswith(ours)
        if not {"IPython", "ipykernel", "asyncio"} & set(PurePath(frame.filename).parts)
    ]
