"""What people ask of runs: start one, cancel, run again, fill past slots."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit import parameters, states
from jobkit.db import insert_new
from jobkit.errors import BadInput, Conflict, NotFound
from jobkit.models import jobs, runs
from jobkit.store.dispatch import cancel_pending, run_row, wish_cancel

BACKFILL_PRIORITY = 100
"""How much lower a backfill's priority is, so that live slots go first."""


def submit(
    connection: Connection, job: Row[Any], params: dict[str, Any] | None, by: str, now: datetime
) -> Row[Any]:
    """Make a manual run; it is never skipped, it waits its turn. Returns its row."""
    (row,) = insert_new(connection, runs, _manual(job, [params], by, now), tuple(runs.c))
    return row


def submit_many(
    connection: Connection,
    job: Row[Any],
    many: Sequence[dict[str, Any] | None],
    by: str,
    now: datetime,
) -> list[int]:
    """Make a manual run for each set of parameters, in their order. Returns the ids."""
    return _make(connection, _manual(job, many, by, now))


def _manual(
    job: Row[Any], many: Sequence[dict[str, Any] | None], by: str, now: datetime
) -> list[dict[str, Any]]:
    _refuse_external(job)
    own = job.params or {}
    return [
        run_row(
            job, now, trigger="manual", params={**own, **(given or {})} or None, requested_by=by
        )
        for given in many
    ]


def cancel(connection: Connection, run_id: int, by: str, now: datetime) -> bool:
    """End a run that waits, or ask its worker to end it; returns whether this caller did.

    A repeat does nothing. NotFound for no such run; Conflict for one that has ended.
    """
    which = runs.c.id == run_id
    if cancel_pending(connection, which, now, f"cancelled by {by}"):
        return True
    if wish_cancel(connection, which, now, f"cancelled by {by}"):
        return True
    run = _run(connection, run_id)
    if run.status in states.FINAL and run.status != "CANCELLED":
        raise Conflict(
            f"Run {run_id} has ended as {run.status} and stays so.",
            f"To run it again: jobkit retry {run_id}",
        )
    return False


def retry(connection: Connection, run_id: int, by: str, now: datetime) -> int:
    """Make a new run of what a finished run ran; the finished one stays. Returns the new id."""
    run = _run(connection, run_id)
    if run.status not in states.FINAL:
        raise Conflict(
            f"Run {run_id} is {run.status}, not finished.",
            f"Cancel it first: jobkit cancel {run_id}",
        )
    return repeat(connection, run_id, by, now)


def repeat(connection: Connection, run_id: int, by: str, now: datetime) -> int:
    """Make a new run of what a run ran, whatever its state. Returns the new id."""
    run = _run(connection, run_id)
    job = connection.execute(
        sa.select(jobs).where(jobs.c.id == run.job_id, jobs.c.deleted_at.is_(None))
    ).one_or_none()
    if job is None:
        raise Conflict(f"The job of run {run_id} was deleted.", "Add the job again.")
    _refuse_external(job)
    parameters.check(job.signature, run.params or {}, job=job.name)
    row = run_row(
        job,
        now,
        trigger="retry",
        scheduled_for=run.scheduled_for,
        params=run.params,
        retry_of=run_id,
        requested_by=by,
    )
    return _make(connection, [row])[0]


def successful_slots(
    connection: Connection, job_id: int, start: datetime, end: datetime
) -> set[datetime]:
    """Return the slots of [start, end] that need no backfill: completed, or still to run."""
    statement = sa.select(runs.c.scheduled_for).where(
        runs.c.job_id == job_id,
        runs.c.scheduled_for.between(start, end),
        runs.c.status.in_(("COMPLETED", "PENDING", "IN_PROGRESS")),
    )
    return set(connection.scalars(statement))


def backfill(
    connection: Connection,
    job: Row[Any],
    slots: Sequence[datetime],
    *,
    backfill_id: str,
    limit: int,
    by: str,
    now: datetime,
) -> list[int]:
    """Make runs for past slots, oldest first; at most `limit` of them run at once.

    A job that allows overlap spreads them over that many lanes; any other keeps its one lane.
    """
    _refuse_external(job)
    allows = job.overlap_policy == "allow"
    rows = [
        run_row(
            job,
            now,
            trigger="backfill",
            scheduled_for=slot,
            backfill_id=backfill_id,
            requested_by=by,
            priority=job.priority - BACKFILL_PRIORITY,
            lane=1 + index % limit if allows else 0,
        )
        for index, slot in enumerate(slots)
    ]
    return _make(connection, rows)


def abandon(connection: Connection, job_id: int, now: datetime) -> None:
    """End what a deleted job still has waiting, and ask for what runs to be ended."""
    cancel_pending(connection, runs.c.job_id == job_id, now, "the job was deleted")
    wish_cancel(connection, runs.c.job_id == job_id, now, "the job was deleted")


def _refuse_external(job: Row[Any]) -> None:
    if job.kind == states.EXTERNAL:
        raise BadInput(
            f"The job {job.name!r} runs elsewhere: nothing here can start it.",
            f"Start it where it runs; it reports itself: jobkit ping {job.name}",
        )


def _make(connection: Connection, rows: list[dict[str, Any]]) -> list[int]:
    """Insert runs; returns their ids, in the order of the rows."""
    return sorted(row.id for row in insert_new(connection, runs, rows, (runs.c.id,)))


def _run(connection: Connection, run_id: int) -> Row[Any]:
    run = connection.execute(sa.select(runs).where(runs.c.id == run_id)).one_or_none()
    if run is None:
        raise NotFound(f"There is no run {run_id}.", "See the latest: jobkit runs")
    return run
