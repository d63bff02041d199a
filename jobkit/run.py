"""Run: one occurrence of a job, as a picture of its row, with verbs."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobkit import cards
from jobkit.cells import Cell
from jobkit.states import FINAL

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from jobkit.analytics.comparison import Changes
    from jobkit.attach import Kernel
    from jobkit.debugging import Debugged
    from jobkit.expectation import Expectation
    from jobkit.handles import Artifact, Attempt, Edit, Kept, Output, Version
    from jobkit.kit import Kit


@dataclass(frozen=True)
class Run:
    """A run as it was when it was read; `refresh()` reads it again."""

    _kit: Kit = field(repr=False, compare=False)
    id: int
    job_id: int
    job_name: str
    status: str
    trigger: str
    scheduled_for: datetime | None
    created_at: datetime
    available_at: datetime
    claimed_at: datetime | None
    completed_at: datetime | None
    worker_id: str | None
    attempt: int
    retry_count: int
    max_retries: int
    error_message: str | None
    reason: str | None
    params: dict[str, Any] | None
    job_version: int | None
    queue: str
    priority: int
    cancel_requested_at: datetime | None
    retry_of: int | None
    backfill_id: str | None
    requested_by: str | None
    progress: float | None
    """How much of the attempt is done as it says itself, 0 to 1."""
    progress_text: str | None

    @property
    def is_final(self) -> bool:
        """Whether the run has ended for good."""
        return self.status in FINAL

    @property
    def is_running(self) -> bool:
        """Whether a worker executes it."""
        return self.status == "IN_PROGRESS"

    @property
    def wants_cancel(self) -> bool:
        """Whether somebody asked to end it and it has not ended yet."""
        return self.cancel_requested_at is not None and not self.is_final

    @property
    def duration(self) -> timedelta | None:
        """How long the last attempt took, if it has ended."""
        if self.claimed_at is None or self.completed_at is None:
            return None
        return self.completed_at - self.claimed_at

    @property
    def version(self) -> Version | None:
        """The version of its job's definition that it executes; None where none is recorded."""
        return self._kit.runs.version(self)

    @property
    def traceback(self) -> str | None:
        """The last traceback in what the last attempt printed; None without one."""
        return self._kit.traces.traceback(self.id)

    def refresh(self) -> Run:
        """Read the run again."""
        return self._kit.run(self.id)

    def wait(self, timeout: timedelta | float | str | None = None, *, live: bool = True) -> Run:
        """Wait until the run has ended; JobFailed unless it COMPLETED.

        `timeout` in seconds, or like `5m`; TimeoutError when it passes first. In a notebook a card
        shows how it stands, unless `live=False`. An interrupt ends the waiting and not the run.
        """
        return self._kit.wait(self.id, timeout, live=live)

    def __await__(self) -> Generator[Any, None, Run]:
        """Wait as `wait()` does, in any running event loop of asyncio, without holding it up."""
        return self._kit.runs.awaited(self).__await__()

    def why_waiting(self) -> str:
        """Say what keeps it from starting; nothing of a run that does not wait."""
        return self._kit.runs.why_waiting(self.id)

    def logs(self, follow: bool = False) -> Iterator[str]:
        """Yield the lines that the last attempt printed.

        With `follow` also those that come, of its further attempts too, until the run has ended.
        """
        return self._kit.runs.logs(self.id, follow)

    def notebook(self, attempt: int | None = None) -> NotebookNode:
        """Return the notebook that an attempt, the last one by default, executed, with its outputs.

        BadInput for a run of no notebook, or one that left none.
        """
        return self._kit.traces.notebook(self.id, attempt)

    def cancel(self) -> Run:
        """End the run, or ask its worker to."""
        return self._kit.cancel(self.id)

    def retry(self) -> Run:
        """Make a new run of what this one ran."""
        return self._kit.retry(self.id)

    def attempts(self) -> list[Attempt]:
        """Return the attempts that have ended."""
        return self._kit.attempts(self.id)

    def output(self, attempt: int | None = None, after: int = -1) -> Output:
        """Return what an attempt, the last one by default, printed after a numbered chunk."""
        return self._kit.output(self.id, attempt, after)

    def cells(self, attempt: int | None = None) -> list[Cell]:
        """Return the cells of a notebook that an attempt, the last one by default, executes."""
        return self._kit.cells(self.id, attempt)

    def artifacts(self, attempt: int | None = None) -> list[Artifact]:
        """Return the files that its attempts left, or one of them."""
        return self._kit.artifacts(self.id, attempt)

    @property
    def kept(self) -> Kept | None:
        """Where its kernel waits after a cell that failed, and until when; None when none does."""
        return self._kit.runs.kept(self.id) if self.is_running else None

    def attach(self) -> Kernel:
        """Open the memory of the kernel that is kept of it; on the machine where that is."""
        from jobkit.attach import attach

        return attach(self)

    def go_on(self, source: str) -> Run:
        """Let it go on with a corrected cell, as its next attempt; its kernel must be kept."""
        return self._kit.runs.go_on(self.id, source)

    def let_go(self) -> Run:
        """End the kernel that is kept of it; it is FAILED then."""
        return self._kit.runs.let_go(self.id)

    @property
    def edits(self) -> list[Edit]:
        """The cells that were corrected while its kernel was kept."""
        return self._kit.runs.edits(self.id)

    def debug(self, *, interactive: bool | None = None) -> Debugged:
        """Run here what failed, and stop where it stops: see `jobkit.debugging.debug`."""
        from jobkit.debugging import debug

        return debug(self, interactive=interactive)

    def expectation(self) -> Expectation:
        """Return what is usual, the expected end while it runs, and what is unusual about it."""
        return self._kit.expectation_of(self)

    def result(self) -> Any:
        """Return the result of the last attempt: JSON, or the DataFrame of `result.parquet`.

        BadInput when it has none.
        """
        return self._kit.result(self.id)

    def changes(self, attempt: int | None = None) -> Changes:
        """Say what changed since its job last worked: what an attempt ran on, and what it told."""
        return self._kit.changes(self.id, attempt)

    def __repr__(self) -> str:
        why = cards.plain(self.reason or self.error_message or "")
        name = cards.plain(self.job_name)
        return f"<Run {self.id} of {name}: {self.status}{f', {why}' if why else ''}>"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self._kit.runs.bundle(self)

    def _repr_html_(self) -> str:
        return self._kit.runs.card(self).html


def own_fields(cls: type[Any], row: Any) -> dict[str, Any]:
    """Return the values of a row that a handle has fields for."""
    values: Mapping[str, Any] = row._asdict()
    return {item.name: values[item.name] for item in fields(cls) if item.name in values}


def run_of(kit: Kit, row: Any, job_name: str | None = None) -> Run:
    """Picture a row of `job_dispatch`, which has its job's name unless that is given."""
    name = job_name or row.job_name or f"(job {row.job_id})"
    return Run(kit, **own_fields(Run, row) | {"job_name": name})
