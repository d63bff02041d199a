"""Law 4: nothing stays unfinished."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from jobkit.models import attempts, kept_kernels, runs
from jobkit.states import FINAL, LONGEST_DELAY, MOST_LOST
from jobkit.verify.inspection import FAILING, OURS, TOLERANCE, TRIED, Inspection, check


@check(4, "a lapsed lease is taken back")
def nothing_hangs(it: Inspection) -> None:
    held = runs.c.status == "IN_PROGRESS"
    it.count_runs(held)
    lapsed = sa.and_(held, runs.c.lease_until < it.scope.now - it.scope.late)
    it.broken_runs("lost its worker, and no scheduler took it back", lapsed)


@check(4, "a run that waits can start")
def nothing_waits_for_ever(it: Inspection) -> None:
    waits = runs.c.status == "PENDING"
    it.count_runs(waits)
    expired = sa.and_(runs.c.attempt == 0, runs.c.start_until < it.scope.now - it.scope.late)
    words = "is past its start deadline, and no scheduler ended it"
    it.broken_runs(words, sa.and_(waits, expired))
    longest = it.scope.now + 1.1 * LONGEST_DELAY + TOLERANCE
    distant = sa.and_(waits, runs.c.attempt > 0, runs.c.available_at > longest)
    it.broken_runs("waits longer than any retry may", distant)


@check(4, "a retry waits for its delay")
def retries_wait(it: Inspection) -> None:
    it.count_attempts()
    of_run: dict[str, Any] = {
        "partition_by": attempts.c.dispatch_id,
        "order_by": attempts.c.attempt,
    }
    fails = attempts.c.status.in_(FAILING)
    tries = (
        sa.select(
            attempts.c.dispatch_id.label("run"),
            attempts.c.attempt,
            attempts.c.finished_at,
            runs.c.retry_delay_seconds.label("delay"),
            fails.label("fails"),
            sa.func.count(sa.case((fails, 1))).over(**of_run).label("failures"),
            sa.func.lead(attempts.c.queued_at, type_=attempts.c.queued_at.type)
            .over(**of_run)
            .label("again_at"),
        )
        .select_from(TRIED)
        .where(it.made, OURS)
        .subquery()
    )
    # Who corrects a cell in a kernel that was kept waits for nothing.
    went_on = sa.exists().where(
        kept_kernels.c.dispatch_id == tries.c.run,
        kept_kernels.c.attempt == tries.c.attempt,
        kept_kernels.c.went_on_at.is_not(None),
    )
    followed = sa.select(tries).where(tries.c.fails, tries.c.again_at.is_not(None), ~went_on)
    # No upper bound: a result may reach the database long after its attempt ended.
    for row in it.rows(followed):
        doubled = row.delay * 2.0 ** min(row.failures - 1, 40)
        least = min(timedelta(seconds=min(doubled, 86_400)), LONGEST_DELAY)
        waited = row.again_at - row.finished_at
        if waited < least - TOLERANCE:
            said = f"attempt {row.attempt} of run {row.run} failed and was followed"
            it.breach(f"{said} after {waited}, its delay is {least}")


@check(4, "tries are bounded")
def tries_are_bounded(it: Inspection) -> None:
    it.count_runs(OURS)
    too_many = sa.or_(runs.c.retry_count > runs.c.max_retries, runs.c.lost_count > MOST_LOST)
    it.broken_runs("was tried too often", sa.and_(OURS, too_many))


@check(4, "a run that has ended says when")
def ends_are_dated(it: Inspection) -> None:
    it.count_runs()
    final = runs.c.status.in_(FINAL)
    it.broken_runs("has no end", sa.and_(final, OURS, runs.c.completed_at.is_(None)))
    dated = sa.and_(~final, runs.c.completed_at.is_not(None))
    it.broken_runs("has an end although it goes on", dated)


CHECKS = (
    nothing_hangs,
    nothing_waits_for_ever,
    retries_wait,
    tries_are_bounded,
    ends_are_dated,
)
