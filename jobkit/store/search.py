"""Runs that were searched for: page after page by id, however many there are.

Some filters have an index, others mean reading rows until enough are found. So the runs are looked
through a span of ids at a time, the newest first, until the page is full or the time for it is up;
a page says how far back it looked, and the next one goes on there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.models import runs
from jobkit.states import FINAL, RUN_STATUSES
from jobkit.store.history import with_names

UNFINISHED = RUN_STATUSES[:2]
SPAN = 20_000
SLACK = 10_000
"""By how much ids and instants may disagree: ids are taken before a run becomes visible."""


@dataclass(frozen=True)
class Sieve:
    """Which runs are searched for; what is None or empty matters not."""

    job_ids: tuple[int, ...] | None = None
    """Of these jobs; of none where it is empty."""
    statuses: tuple[str, ...] = ()
    worker: str | None = None
    trigger: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    params: tuple[tuple[str, Any], ...] = ()
    text: str | None = None
    """In the reason or the error, whatever its case."""
    backfill: str | None = None

    @property
    def has_index(self) -> bool:
        """Whether an index brings what is searched for in the order of ids."""
        asked = [name for name, value in vars(self).items() if value]
        if self.backfill is not None:
            return True
        is_one = len(self.job_ids or ()) < 2 and len(self.statuses) < 2
        return not asked or (len(asked) == 1 and asked[0] in ("job_ids", "statuses") and is_one)

    def holds(self, params: dict[str, Any] | None) -> bool:
        """Whether a run's parameters are those that are searched for."""
        return all((params or {}).get(name, _NOTHING) == value for name, value in self.params)


_NOTHING = object()


@dataclass(frozen=True)
class Found:
    """A page of runs, the newest first, and where the search goes on."""

    rows: list[Row[Any]]
    onward: int | None
    """Older runs than this one were not looked at; None when there are none."""
    is_full: bool
    """Whether it ended because the page is full, and not because its time was up."""


def page(
    connection: Connection,
    sieve: Sieve,
    *,
    limit: int,
    before: int | None = None,
    is_time_up: Callable[[], bool] = lambda: False,
) -> Found:
    """Return up to `limit` runs with smaller ids than `before`, the newest first."""
    found: list[Row[Any]] = []
    for rows, below in _spans(connection, sieve, before, limit + 1):
        found += rows
        if len(found) > limit:
            return Found(found[:limit], found[limit - 1].id, True)
        if below is not None and is_time_up():
            return Found(found, below, False)
    return Found(found, None, False)


def ids(connection: Connection, sieve: Sieve, *, most: int, before: int | None = None) -> list[int]:
    """Return the ids of all that match, the newest first, or of the newest `most`."""
    found: list[int] = []
    for rows, _ in _spans(connection, sieve, before, most):
        found += [row.id for row in rows]
        if len(found) >= most:
            break
    return found[:most]


def _spans(
    connection: Connection, sieve: Sieve, before: int | None, limit: int
) -> Iterator[tuple[list[Row[Any]], int | None]]:
    """Yield what matches, span after span, each with the id below which nothing was looked at.

    None with the last one.
    """
    if sieve.job_ids is not None and not sieve.job_ids:
        return
    lowest, top = _bounds(connection, sieve, before)
    statement = _matching(sieve).order_by(runs.c.id.desc()).limit(limit)
    while top > lowest:
        bottom = lowest if sieve.has_index else max(lowest, top - SPAN)
        within = statement.where(runs.c.id < top, runs.c.id >= bottom)
        rows = connection.execute(within).all()
        # What is left of a span that holds more than was asked for is the next one.
        top = rows[-1].id if len(rows) == limit else bottom
        yield [row for row in rows if sieve.holds(row.params)], top if top > lowest else None


def _bounds(connection: Connection, sieve: Sieve, before: int | None) -> tuple[int, int]:
    """Return the lowest id that may match, and the first above those that may."""
    first, last = connection.execute(
        sa.select(
            sa.select(sa.func.min(runs.c.id)).scalar_subquery(),
            sa.select(sa.func.max(runs.c.id)).scalar_subquery(),
        )
    ).one()
    if last is None:
        return 0, 0
    top = last + 1 if before is None else min(before, last + 1)
    made = sa.select(runs.c.id).limit(1)
    if sieve.until is not None:
        newest = made.where(runs.c.created_at < sieve.until).order_by(runs.c.created_at.desc())
        top = min(top, (connection.scalar(newest) or first) + SLACK)
    if sieve.since is not None:
        oldest = made.where(runs.c.created_at >= sieve.since).order_by(runs.c.created_at)
        first = max(first, (connection.scalar(oldest) or last + 1) - SLACK)
    return first, top


def _matching(sieve: Sieve) -> sa.Select[Any]:
    statement = with_names()
    if sieve.job_ids:
        statement = statement.where(_among(runs.c.job_id, sieve.job_ids))
    if sieve.statuses:
        statement = statement.where(_among(runs.c.status, sieve.statuses))
    if sieve.worker is not None:
        statement = statement.where(runs.c.worker_id == sieve.worker)
    if sieve.trigger is not None:
        statement = statement.where(runs.c.trigger == sieve.trigger)
    if sieve.since is not None:
        statement = statement.where(runs.c.created_at >= sieve.since)
    if sieve.until is not None:
        statement = statement.where(runs.c.created_at < sieve.until)
    if sieve.backfill is not None:
        statement = statement.where(runs.c.backfill_id == sieve.backfill)
    for name, value in sieve.params:
        # What the text does not hold the document does not either; `holds` is exact.
        written = f"{json.dumps(name, ensure_ascii=False)}: {json.dumps(value, ensure_ascii=False)}"
        params = sa.type_coerce(runs.c.params, sa.Text)
        statement = statement.where(params.contains(written, autoescape=True))
    if sieve.text is not None:
        said = (runs.c.error_message, runs.c.reason)
        wanted = [column.icontains(sieve.text, autoescape=True) for column in said]
        statement = statement.where(sa.or_(*wanted))
    return statement


def _among(column: sa.ColumnElement[Any], values: Sequence[Any]) -> sa.ColumnElement[bool]:
    return column == values[0] if len(values) == 1 else column.in_(values)


def without_ended(sieve: Sieve) -> Sieve:
    """Narrow a search to the runs that can be cancelled."""
    return _narrowed(sieve, UNFINISHED)


def only_ended(sieve: Sieve) -> Sieve:
    """Narrow a search to the runs that can be run again."""
    return _narrowed(sieve, FINAL)


def _narrowed(sieve: Sieve, statuses: Sequence[str]) -> Sieve:
    left = tuple(word for word in sieve.statuses or statuses if word in statuses)
    return replace(sieve, statuses=left) if left else replace(sieve, job_ids=())
