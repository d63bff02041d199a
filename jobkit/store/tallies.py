"""What happened to runs, in totals that only grow: counted once, whoever looks and however often.

Runs that were made, and runs that ended, are read in order from where the last look stopped, by an
index. Where that is stands in the database: it moves in the transaction that adds to the totals.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import Prepared, Utc, insert_once
from jobkit.models import archives, metric_marks, metric_totals, runs

Key: TypeAlias = tuple[str, str, str]
"""What is counted, the queue, and a label: a trigger, a status, or the bound of a bucket."""
LAG = timedelta(seconds=15)
"""Runs are counted so much later: a commit may become visible after one of a later instant."""
FIRST_LOOK = timedelta(hours=1)
"""How far back the first look goes: a history of years would seem to happen at once."""
MOST_READ = 500
"""Rows of a look, so that it holds up no other writer; what is left is the next one's."""
BOUNDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds: the upper bounds of the buckets of each histogram."""
BUCKETS = (*map(str, BOUNDS), "+Inf")
SUM = "sum"


@dataclass(frozen=True)
class Mark:
    """The last run that was looked at, by an instant of it and its id."""

    at: datetime
    run_id: int = 0


def count(connection: Connection, now: datetime) -> bool:
    """Add what happened up to a moment ago to the totals; returns whether more is left.

    1. Read on from where the last look stopped.
    2. Move that on, unless somebody else did meanwhile: what was read is theirs.
    3. Add to the totals.
    """
    looks = [_count(connection, look, now) for look in _LOOKS]
    return any(looks)


def totals(connection: Connection) -> dict[Key, float]:
    """Return all totals."""
    return {(row.metric, row.queue, row.label): row.value for row in _TOTALS.rows(connection)}


def archived_bytes(connection: Connection) -> int:
    """Return the bytes of all files of the archive."""
    return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(archives.c.bytes), 0))))


@dataclass(frozen=True)
class _Look:
    """What is read, and what each row of it adds."""

    name: str
    rows: Prepared
    adds: Callable[[Any], Iterator[tuple[Key, float]]]


def _count(connection: Connection, look: _Look, now: datetime) -> bool:
    mark = _mark(connection, look.name, now)
    asked = {"at": mark.at, "run": mark.run_id, "until": now - LAG, "most": MOST_READ}
    rows = look.rows.rows(connection, asked)
    if rows and _move(connection, look.name, mark, Mark(rows[-1].at, rows[-1].id)):
        added = Counter[Key]()
        for row in rows:
            for key, value in look.adds(row):
                added[key] += value  # type: ignore[assignment]
        _add(connection, added)
    return len(rows) >= MOST_READ


def _mark(connection: Connection, name: str, now: datetime) -> Mark:
    found = _MARK.rows(connection, {"of": name})
    if not found:
        first = {"name": name, "at": now - FIRST_LOOK, "run_id": 0}
        insert_once(connection, metric_marks, [first])
        found = _MARK.rows(connection, {"of": name})
    return Mark(found[0].at, found[0].run_id)


def _move(connection: Connection, name: str, old: Mark, new: Mark) -> bool:
    guard = {"of": name, "old_at": old.at, "old_run": old.run_id}
    return _MOVE.count(connection, guard | {"at": new.at, "run_id": new.run_id}) == 1


def _add(connection: Connection, added: Counter[Key]) -> None:
    # In one order: two that add wait for each other, and not in a ring.
    for (metric, queue, label), value in sorted(added.items()):
        if value == 0:
            continue
        key = {"of": metric, "of_queue": queue, "of_label": label}
        if _ADD.count(connection, key | {"more": value}) == 0:
            row = {"metric": metric, "queue": queue, "label": label, "value": value}
            insert_once(connection, metric_totals, [row])


def _made(run: Any) -> Iterator[tuple[Key, float]]:
    yield ("runs_dispatched", run.queue, run.trigger), 1


def _ended(run: Any) -> Iterator[tuple[Key, float]]:
    """Count a run that ended: its last attempt, and how late its first one was."""
    yield ("runs_finished", run.queue, run.status), 1
    yield ("retries", run.queue, ""), run.retry_count
    yield ("lease_rescues", run.queue, ""), run.lost_count
    if run.claimed_at is None:
        return
    yield from _took("run_seconds", run.queue, run.at - run.claimed_at)
    yield from _took("queue_wait_seconds", run.queue, run.claimed_at - run.available_at)
    if run.trigger == "schedule" and run.attempt == 1:
        yield from _took("lateness_seconds", run.queue, run.claimed_at - run.scheduled_for)


def _took(metric: str, queue: str, duration: timedelta) -> Iterator[tuple[Key, float]]:
    # Clocks that disagree by a moment count as nothing.
    seconds = max(duration.total_seconds(), 0.0)
    yield (metric, queue, BUCKETS[bisect_left(BOUNDS, seconds)]), 1
    yield (metric, queue, SUM), seconds


def _between(column: sa.Column[Any], *columns: sa.Column[Any]) -> Prepared:
    at = sa.bindparam("at", type_=column.type)
    is_after = sa.or_(column > at, runs.c.id > sa.bindparam("run"))
    return Prepared(
        sa.select(runs.c.id, column.label("at"), *columns)
        .where(column >= at, is_after, column <= sa.bindparam("until", type_=column.type))
        .order_by(column, runs.c.id)
        .limit(sa.bindparam("most"))
    )


_LOOKS = (
    _Look("made", _between(runs.c.created_at, runs.c.trigger, runs.c.queue), _made),
    _Look(
        "ended",
        _between(
            runs.c.completed_at,
            *(runs.c[name] for name in ("status", "queue", "trigger", "scheduled_for")),
            *(runs.c[name] for name in ("available_at", "claimed_at", "attempt")),
            *(runs.c[name] for name in ("retry_count", "lost_count")),
        ),
        _ended,
    ),
)
_TOTALS = Prepared(sa.select(metric_totals))
_MARK = Prepared(
    sa.select(metric_marks.c.at, metric_marks.c.run_id).where(
        metric_marks.c.name == sa.bindparam("of")
    )
)
_MOVE = Prepared(
    metric_marks.update().where(
        metric_marks.c.name == sa.bindparam("of"),
        metric_marks.c.at == sa.bindparam("old_at", type_=Utc()),
        metric_marks.c.run_id == sa.bindparam("old_run"),
    )
)
_ADD = Prepared(
    metric_totals.update()
    .where(
        metric_totals.c.metric == sa.bindparam("of"),
        metric_totals.c.queue == sa.bindparam("of_queue"),
        metric_totals.c.label == sa.bindparam("of_label"),
    )
    .values(value=metric_totals.c.value + sa.bindparam("more"))
)
