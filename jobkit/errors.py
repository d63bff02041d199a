"""Errors that a person can act on: each names the thing, the value and the next step."""

from __future__ import annotations


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


class CannotStart(JobkitError):
    """An attempt's program could not be started."""


class JobFailed(JobkitError):
    """A run that was waited for did not complete; `output` holds the end of what it printed."""

    def __init__(self, message: str, *, run_id: int, status: str, output: str = "") -> None:
        super().__init__(message, f"\n\n{output}" if output else "")
        self.run_id = run_id
        self.status = status
        self.output = output
