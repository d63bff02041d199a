"""What a glance shows: jobs with their last runs, and a day of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

from jobkit.analytics import charts
from jobkit.errors import BadInput
from jobkit.handles import Job
from jobkit.states import RUN_STATUSES
from jobkit.store import board, history
from jobkit.store.board import SORTS, Wanted

if TYPE_CHECKING:
    from jobkit.kit import Kit

STATES = ("active", "paused", *RUN_STATUSES)
MARKS = 20
MOST_DRAWN = 200
DRAWN = {"COMPLETED": "completed", "FAILED": "failed", "TIMEOUT": "timed out"}
"""Of which runs it is shown how long they took, and what they are called there."""


@dataclass(frozen=True)
class Span:
    """When a run ran; one that was never claimed is where it was made."""

    run_id: int
    job: str
    status: str
    start: datetime
    end: datetime | None
    """None while it runs."""

    @property
    def duration(self) -> timedelta | None:
        """How long it ran."""
        return None if self.end is None else self.end - self.start


@dataclass(frozen=True)
class Line:
    """A job with its last runs, the newest first."""

    job: Job
    runs: list[Span]

    @property
    def usual(self) -> timedelta | None:
        """How long half of those that completed took at most."""
        took = [run.duration for run in self.runs if run.status == "COMPLETED"]
        seconds = [value.total_seconds() for value in took if value is not None]
        return timedelta(seconds=median(seconds)) if seconds else None


@dataclass(frozen=True)
class JobPage:
    """Some of the jobs that match."""

    lines: list[Line]
    total: int
    """How many match."""


@dataclass(frozen=True)
class Counts:
    """How much there is."""

    jobs: int
    active: int
    runs: dict[str, int]
    """Runs made since then, by status."""


class Board:
    """Jobs and runs at a glance, with as few rows as that takes."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def jobs(
        self,
        *,
        text: str | None = None,
        tag: str | None = None,
        queue: str | None = None,
        state: str | None = None,
        sort: str = "name",
        limit: int = 50,
        offset: int = 0,
    ) -> JobPage:
        """Return some of the jobs that match, each with its last 20 runs; BadInput."""
        wanted = _wanted(text, tag, queue, state)
        if sort not in SORTS:
            raise BadInput(f"Jobs are not sorted by {sort!r}.", f"Use: {', '.join(SORTS)}.")
        with self._kit.database.read() as connection:
            rows = board.listed(connection, wanted, sort=sort, limit=limit, offset=offset)
            lines = [
                Line(
                    self._kit.jobs.picture(row),
                    [_span(run, row.name) for run in board.last_runs(connection, row.id, MARKS)],
                )
                for row in rows
            ]
            return JobPage(lines, board.count(connection, wanted))

    def names(
        self,
        *,
        text: str | None = None,
        tag: str | None = None,
        queue: str | None = None,
        state: str | None = None,
    ) -> list[str]:
        """Return the names of all jobs that match."""
        with self._kit.database.read() as connection:
            return board.names(connection, _wanted(text, tag, queue, state))

    def tags(self) -> list[str]:
        """Return all tags that jobs have."""
        with self._kit.database.read() as connection:
            return board.tags(connection)

    def counts(self, since: datetime) -> Counts:
        """Return how many jobs there are, and how many runs were made since then."""
        with self._kit.database.read() as connection:
            return Counts(*board.counts(connection), history.counts(connection, since))

    def upcoming(self, limit: int) -> list[Job]:
        """Return the jobs whose slots come next, the soonest first."""
        with self._kit.database.read() as connection:
            return [self._kit.jobs.picture(row) for row in board.upcoming(connection, limit)]

    def spans(self, since: datetime, limit: int) -> list[Span]:
        """Return when the newest runs made since then ran, the oldest first."""
        with self._kit.database.read() as connection:
            rows = board.timeline(connection, since, limit)
            names = board.names_of(connection, (row.job_id for row in rows))
        return [_span(row, names[row.job_id]) for row in reversed(rows) if row.job_id in names]

    def durations(self, job: Job) -> charts.Chart:
        """Draw how long the last attempts of a job's newest 200 runs took."""
        with self._kit.database.read() as connection:
            rows = board.last_runs(connection, job.id, MOST_DRAWN)
        found = [
            charts.Point(
                run.start, run.duration.total_seconds(), DRAWN[run.status], f"run {run.run_id}"
            )
            for run in (_span(row, job.name) for row in rows if row.claimed_at is not None)
            if run.status in DRAWN and run.duration is not None
        ]
        found.sort(key=lambda point: point.at)
        title = f"How long the last {len(found)} runs took"
        return charts.points(title, found, list(DRAWN.values()), unit="seconds", zone=job.timezone)


def _span(row: Any, job: str) -> Span:
    if row.claimed_at is None:
        return Span(row.id, job, row.status, row.created_at, row.created_at)
    return Span(row.id, job, row.status, row.claimed_at, row.completed_at)


def _wanted(text: str | None, tag: str | None, queue: str | None, state: str | None) -> Wanted:
    _check("state", state, STATES)
    return Wanted(text, tag, queue, state)


def _check(what: str, given: str | None, allowed: Sequence[str]) -> None:
    if given is not None and given not in allowed:
        raise BadInput(f"{given!r} is no {what} of a job.", f"Use: {', '.join(allowed)}.")
