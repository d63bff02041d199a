"""Law 1: each due slot of an active job becomes exactly one run, or one row that says why not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit import states
from jobkit.db import OneOf, Prepared, insert_new
from jobkit.models import jobs, runs
from jobkit.schedule import Gap, look
from jobkit.states import CAUGHT_UP, Earlier, Ending
from jobkit.store.definitions import schedule_of

BATCH = 200
Slot = tuple[int, datetime]
"""A job's id and an instant of its schedule."""

PENDING: sa.ColumnElement[str] = sa.literal_column("'PENDING'", sa.Text)
IN_PROGRESS: sa.ColumnElement[str] = sa.literal_column("'IN_PROGRESS'", sa.Text)
UNFINISHED = (PENDING, IN_PROGRESS)


@dataclass(frozen=True)
class Dispatched:
    """What one batch did: how many jobs it looked at and the runs that workers can claim."""

    jobs: int = 0
    runs: tuple[int, ...] = ()

    @property
    def is_full(self) -> bool:
        return self.jobs >= BATCH


def dispatch(connection: Connection, now: datetime, *, patience: timedelta) -> Dispatched:
    """Turn the due slots of up to 200 jobs into runs, in this one transaction.

    1. Take due jobs that no other scheduler holds.
    2. Read their unfinished runs.
    3. Decide, job by job, what becomes of each slot since the cursor.
    4. Insert the runs; a slot that is already there stays as it is.
    5. Cancel what a new run replaces.
    6. Move each job's cursor, guarded by the cursor it was read with.

    `patience`: how late the misfire policy `skip` still runs a slot.
    """
    return _dispatch(connection, _due(connection, now), now, patience)


def dispatch_job(
    connection: Connection, job_id: int, now: datetime, *, patience: timedelta
) -> Dispatched:
    """Turn the due slots of one job into runs, as `dispatch` does."""
    due = _DUE_OF_JOB.rows(connection, {"of": job_id, "at": now})
    return _dispatch(connection, due, now, patience)


def _dispatch(
    connection: Connection, due: Sequence[Row[Any]], now: datetime, patience: timedelta
) -> Dispatched:
    unfinished = _unfinished(connection, [job.id for job in due])
    gaps = [(job, _gap(job, now, patience)) for job in due]
    decided = [_decide(job, gap, unfinished[job.id], now) for job, gap in gaps]
    rows = [row for made, _ in decided for row in made]
    made = _insert(connection, rows)
    for _, replaced in decided:
        for slot, earlier in replaced.items():
            if slot in made:  # else it has its run: a repeat after an ambiguous commit
                _replace(connection, earlier, made[slot], now)
    _advance(connection, gaps, now)
    pending = {(row["job_id"], row["scheduled_for"]) for row in rows if row["status"] == "PENDING"}
    return Dispatched(len(due), tuple(id_ for slot, id_ in made.items() if slot in pending))


def next_due(connection: Connection) -> datetime | None:
    """Return when the next job comes due."""
    due: datetime | None = _NEXT_DUE.scalar(connection)
    return due


# As the index has it: to SQLite `is_active = 1` is another condition, and it would read all jobs.
_LIVE = sa.and_(sa.text("is_active"), jobs.c.deleted_at.is_(None))
NEXT_DUE = (
    sa.select(jobs.c.next_run)
    .where(_LIVE, jobs.c.next_run.is_not(None))
    .order_by(jobs.c.next_run)
    .limit(1)
)
_NEXT_DUE = Prepared(NEXT_DUE)
_DUE = Prepared(
    sa.select(jobs)
    .where(_LIVE, jobs.c.next_run <= sa.bindparam("at"))
    .order_by(jobs.c.next_run)
    .limit(BATCH)
    .with_for_update(skip_locked=True)
)

_DUE_OF_JOB = Prepared(
    sa.select(jobs)
    .where(_LIVE, jobs.c.next_run <= sa.bindparam("at"), jobs.c.id == sa.bindparam("of"))
    .with_for_update()
)


def _due(connection: Connection, now: datetime) -> Sequence[Row[Any]]:
    return _DUE.rows(connection, {"at": now})


def _unfinished(connection: Connection, job_ids: Sequence[int]) -> dict[int, list[Earlier]]:
    found: dict[int, list[Earlier]] = defaultdict(list)
    if not job_ids:
        return found
    for job_id, *rest in _UNFINISHED.rows(connection, {"of": list(job_ids)}):
        found[job_id].append(Earlier(*rest))
    return found


_UNFINISHED = Prepared(
    sa.select(runs.c.job_id, runs.c.id, runs.c.status, runs.c.trigger, runs.c.reason)
    .where(OneOf(runs.c.job_id, "of"), runs.c.status.in_(UNFINISHED))
    .order_by(runs.c.id)
)


def _gap(job: Row[Any], now: datetime, patience: timedelta) -> Gap:
    return look(
        schedule_of(job),
        job.slots_until,
        now,
        policy=job.misfire_policy,
        window=timedelta(seconds=job.misfire_window_seconds),
        patience=patience,
    )


def _decide(
    job: Row[Any], gap: Gap, unfinished: list[Earlier], now: datetime
) -> tuple[list[dict[str, Any]], dict[Slot, tuple[int, ...]]]:
    """Return the rows of a gap's slots, and which unfinished runs each of them replaces.

    Slots of one gap do not mind each other: all but the last are caught up.
    """
    rows = list(_missed_rows(job, gap, now))
    replaced: dict[Slot, tuple[int, ...]] = {}
    behind = gap.next_run is not None and gap.next_run <= now
    for slot in gap.run:
        catching_up = behind or slot != gap.run[-1]
        decided = states.overlap(job.overlap_policy, _minded(unfinished, catching_up))
        if decided.skip_reason:
            rows.append(closed_row(job, slot, now, "SKIPPED", decided.skip_reason))
            continue
        rows.append(slot_row(job, slot, now, reason=CAUGHT_UP if catching_up else None))
        if decided.replaces:
            replaced[job.id, slot] = decided.replaces
    return rows, replaced


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> dict[Slot, int]:
    """Insert the rows of slots; returns the ids of those that were not there yet."""
    returned = (runs.c.job_id, runs.c.scheduled_for, runs.c.id)
    made = insert_new(connection, runs, rows, returned)
    return {(row.job_id, row.scheduled_for): row.id for row in made}


def _minded(unfinished: list[Earlier], catching_up: bool) -> list[Earlier]:
    """Slots that are caught up run one after the other: they do not skip each other."""
    return [run for run in unfinished if not (catching_up and run.reason == CAUGHT_UP)]


def run_row(job: Row[Any], now: datetime, **values: Any) -> dict[str, Any]:
    """Return the row of a new run of a job, with what it copies from the job."""
    return {
        "job_id": job.id,
        "status": "PENDING",
        "created_at": now,
        "available_at": now,
        "params": job.params,
        "job_version": job.version,
        "queue": job.queue,
        "priority": job.priority,
        "lane": None if job.overlap_policy == "allow" else 0,
        "start_until": None,
        "completed_at": None,
        "reason": None,
        "max_retries": job.max_retries,
        "retry_delay_seconds": job.retry_delay_seconds,
        "on_worker_lost": job.on_worker_lost,
    } | values


def slot_row(
    job: Row[Any], slot: datetime, now: datetime, reason: str | None = None
) -> dict[str, Any]:
    """Return the row of a slot that is to run; its start deadline counts from the slot."""
    deadline = job.start_deadline_seconds
    return run_row(
        job,
        now,
        trigger="schedule",
        scheduled_for=slot,
        reason=reason,
        start_until=None if deadline is None else slot + timedelta(seconds=deadline),
    )


def closed_row(
    job: Row[Any], slot: datetime, now: datetime, status: str, reason: str
) -> dict[str, Any]:
    """Return the row of a slot that is not run: MISSED or SKIPPED, with the reason."""
    return run_row(
        job,
        now,
        trigger="schedule",
        scheduled_for=slot,
        status=status,
        reason=reason,
        completed_at=now,
    )


def _missed_rows(job: Row[Any], gap: Gap, now: datetime) -> Iterator[dict[str, Any]]:
    if gap.rest is not None:
        rest = gap.rest
        reason = f"{rest.count} slots from {rest.first.isoformat()} to {rest.last.isoformat()}"
        yield closed_row(job, rest.last, now, "MISSED", f"{reason} passed while nobody looked")
    for slot in gap.missed:
        yield closed_row(job, slot, now, "MISSED", "passed while nobody looked")


def _replace(connection: Connection, earlier: tuple[int, ...], by: int, now: datetime) -> None:
    if earlier:
        cancel_pending(connection, runs.c.id.in_(earlier), now, f"replaced by run {by}")
        wish_cancel(connection, runs.c.id.in_(earlier), now, f"replaced by run {by}")


def cancel_pending(
    connection: Connection, which: sa.ColumnElement[bool], now: datetime, reason: str
) -> int:
    """End the runs that wait; returns how many this caller ended."""
    ending: Ending = states.cancel_pending(now, reason)
    statement = runs.update().where(which, runs.c.status == PENDING).values(ending.run)
    return connection.execute(statement).rowcount


def wish_cancel(
    connection: Connection, which: sa.ColumnElement[bool], now: datetime, reason: str
) -> int:
    """Ask the workers to end runs in progress; returns how many had no such wish yet."""
    statement = (
        runs.update()
        .where(which, runs.c.status == IN_PROGRESS, runs.c.cancel_requested_at.is_(None))
        .values(cancel_requested_at=now, reason=reason)
    )
    return connection.execute(statement).rowcount


def _advance(connection: Connection, gaps: Sequence[tuple[Row[Any], Gap]], now: datetime) -> None:
    moves = [
        {
            "of": job.id,
            "from": job.slots_until,
            "slots_until": gap.cursor,
            "next_run": gap.next_run,
            "last_dispatched_at": now if gap.run else job.last_dispatched_at,
        }
        for job, gap in gaps
    ]
    _ADVANCE.each(connection, moves)


_ADVANCE = Prepared(
    jobs.update().where(jobs.c.id == sa.bindparam("of"), jobs.c.slots_until == sa.bindparam("from"))
)
