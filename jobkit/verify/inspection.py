"""One check at work: what it reads by, what it has looked at, and what it found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.models import attempts, runs

LISTED = 20
BATCH = 1000
# Instants come from clocks that agree within the time an answer of the database takes.
TOLERANCE = timedelta(seconds=1)
SETTLED = timedelta(minutes=1)


@dataclass(frozen=True)
class Scope:
    """What is audited: the instant of the audit, and how far back slots have their rows."""

    now: datetime
    since: datetime | None
    """Runs that were made before are left out."""
    slots_since: datetime | None
    """Slots before this one may have been cleaned up."""
    late: timedelta
    """How long after its lease or deadline a run may wait for a scheduler."""
    leaving: tuple[tuple[datetime, datetime], ...] = ()
    """Spans of ends of runs that are about to be archived or restored: they may be half there."""


@dataclass(frozen=True)
class Finding:
    """What one check looked at, and what breaks it."""

    law: int
    rule: str
    checked: int
    broken: int
    breaches: tuple[str, ...]
    """The first 20, each naming a row."""


OURS: sa.ColumnElement[bool] = runs.c.job_version.is_not(None)
FAILING = ("FAILURE", "ERROR", "TIMEOUT")
"""How an attempt ends that counts as a failed try."""
TRIED = attempts.join(runs, runs.c.id == attempts.c.dispatch_id)


@dataclass
class Inspection:
    """What a check is handed: it counts what it looked at and tells each breach."""

    connection: Connection
    scope: Scope
    checked: int = 0
    broken: int = 0
    breaches: list[str] = field(default_factory=list)

    def breach(self, words: str) -> None:
        """Tell what breaks the rule, naming the row."""
        self.broken += 1
        if len(self.breaches) < LISTED:
            self.breaches.append(words)

    @property
    def made(self) -> sa.ColumnElement[bool]:
        """Whether a run was made late enough to be audited."""
        since = self.scope.since
        recent = sa.true() if since is None else runs.c.created_at >= since
        half = [runs.c.completed_at.between(*span) for span in self.scope.leaving]
        if not half:
            return recent
        return sa.and_(recent, sa.or_(runs.c.completed_at.is_(None), ~sa.or_(*half)))

    def rows(self, statement: sa.Select[Any]) -> Iterator[Any]:
        """Read rows a thousand at a time: a history may be larger than the memory."""
        with self.connection.execute(statement.execution_options(yield_per=BATCH)) as found:
            yield from found

    def count_runs(self, *which: sa.ColumnElement[bool]) -> None:
        """Count the runs that a check looks at."""
        statement = sa.select(sa.func.count()).select_from(runs).where(self.made, *which)
        self.checked += self.connection.scalar(statement) or 0

    def count_attempts(self) -> None:
        """Count the attempts that a check looks at."""
        statement = sa.select(sa.func.count()).select_from(TRIED).where(self.made, OURS)
        self.checked += self.connection.scalar(statement) or 0

    def broken_runs(self, words: str, which: sa.ColumnElement[bool]) -> None:
        """Tell the runs of which something is true that must not be."""
        statement = sa.select(runs.c.id, runs.c.status).where(self.made, which)
        for id_, status in self.rows(statement.order_by(runs.c.id)):
            self.breach(f"run {id_} ({status}) {words}")

    def broken_attempts(self, words: str, which: sa.ColumnElement[bool]) -> None:
        """Tell the attempts of which something is true that must not be."""
        columns = (attempts.c.dispatch_id, attempts.c.attempt, attempts.c.status)
        statement = sa.select(*columns).select_from(TRIED).where(self.made, OURS, which)
        for run, number, status in self.rows(statement.order_by(*columns[:2])):
            self.breach(f"attempt {number} of run {run} ({status}) {words}")


@dataclass(frozen=True)
class Check:
    """One rule of a law, and the function that looks whether it holds."""

    law: int
    rule: str
    look: Callable[[Inspection], None]


def check(law: int, rule: str) -> Callable[[Callable[[Inspection], None]], Check]:
    """Make a check of a function."""
    return lambda look: Check(law, rule, look)


class ByJob:
    """Rows in the order of their `job_id`, taken job by job: no job's rows outlive their turn."""

    def __init__(self, rows: Iterable[Row[Any]]) -> None:
        self._groups = groupby(rows, key=attrgetter("job_id"))
        self._next = next(self._groups, None)

    def take(self, job_id: int) -> list[Row[Any]]:
        """Return the rows of a job; ask for jobs in the order of their ids."""
        while self._next is not None and self._next[0] < job_id:
            self._next = next(self._groups, None)
        if self._next is None or self._next[0] != job_id:
            return []
        return list(self._next[1])


def utc(value: str | None) -> datetime | None:
    """Read an instant of a definition; one of an older system names no time zone."""
    if value is None:
        return None
    instant = datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
