"""Law 2: one live attempt per run, one live run per lane."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from jobkit.models import attempts, runs
from jobkit.verify.inspection import OURS, TOLERANCE, TRIED, Inspection, check

_HELD: sa.ColumnElement[bool] = runs.c.status == "IN_PROGRESS"
_IN_A_LANE: sa.ColumnElement[bool] = runs.c.lane.is_not(None)


@check(2, "a run in progress has a worker, a claim and a lease")
def held_by_somebody(it: Inspection) -> None:
    it.count_runs(_HELD)
    needed = (runs.c.worker_id, runs.c.claimed_at, runs.c.lease_until)
    lacks = sa.or_(*(column.is_(None) for column in needed))
    it.broken_runs("is held by nobody", sa.and_(_HELD, lacks, OURS))


@check(2, "one run of a lane is in progress")
def one_live_run_per_lane(it: Inspection) -> None:
    it.count_runs(_HELD, _IN_A_LANE)
    lane = (runs.c.job_id, runs.c.lane)
    statement = sa.select(*lane, sa.func.count()).where(_HELD, _IN_A_LANE, it.made)
    for job, number, count in it.rows(statement.group_by(*lane).having(sa.func.count() > 1)):
        it.breach(f"job {job} has {count} runs in progress in lane {number}")


@check(2, "attempts of one run follow each other")
def attempts_follow(it: Inspection) -> None:
    _tell_overlaps(it, (attempts.c.dispatch_id,), (attempts.c.attempt,), OURS)


@check(2, "runs of one lane follow each other")
def lanes_follow(it: Inspection) -> None:
    order = (attempts.c.claimed_at, attempts.c.finished_at)
    _tell_overlaps(it, (runs.c.job_id, runs.c.lane), order, sa.and_(OURS, _IN_A_LANE))


def _tell_overlaps(
    it: Inspection,
    within: tuple[Any, ...],
    order: tuple[Any, ...],
    which: sa.ColumnElement[bool],
) -> None:
    def before(column: Any) -> Any:
        return sa.func.lag(column, type_=column.type).over(partition_by=within, order_by=order)

    it.count_attempts()
    spans = (
        sa.select(
            attempts.c.dispatch_id.label("run"),
            attempts.c.attempt,
            attempts.c.claimed_at,
            before(attempts.c.finished_at).label("ended"),
            before(attempts.c.dispatch_id).label("other"),
            before(attempts.c.attempt).label("other_attempt"),
        )
        .select_from(TRIED)
        .where(it.made, which)
        .subquery()
    )
    for row in it.rows(sa.select(spans).where(spans.c.claimed_at < spans.c.ended)):
        if row.claimed_at < row.ended - TOLERANCE:
            it.breach(
                f"attempt {row.attempt} of run {row.run} began at {row.claimed_at}, before attempt "
                f"{row.other_attempt} of run {row.other} ended at {row.ended}"
            )


@check(2, "slots of one lane start in their order")
def lanes_keep_their_order(it: Inspection) -> None:
    def before(column: Any) -> Any:
        alike = (runs.c.job_id, runs.c.lane, runs.c.queue, runs.c.priority)
        earlier = sa.func.lag(column, type_=column.type)
        return earlier.over(partition_by=alike, order_by=(runs.c.scheduled_for, runs.c.id))

    it.count_attempts()
    first = (attempts.c.attempt == 1, runs.c.trigger == "schedule", _IN_A_LANE)
    starts = (
        sa.select(
            attempts.c.dispatch_id.label("run"),
            attempts.c.claimed_at,
            before(attempts.c.claimed_at).label("other_claimed_at"),
            before(attempts.c.dispatch_id).label("other"),
        )
        .select_from(TRIED)
        .where(it.made, OURS, *first)
        .subquery()
    )
    late = sa.select(starts).where(starts.c.claimed_at < starts.c.other_claimed_at)
    for row in it.rows(late):
        if row.claimed_at < row.other_claimed_at - TOLERANCE:
            it.breach(
                f"run {row.run} was claimed at {row.claimed_at}, before run {row.other} of the "
                f"earlier slot at {row.other_claimed_at}"
            )


CHECKS = (
    held_by_somebody,
    one_live_run_per_lane,
    attempts_follow,
    lanes_follow,
    lanes_keep_their_order,
)
