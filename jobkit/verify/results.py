"""Law 3: one recorded result per attempt."""

from __future__ import annotations

import sqlalchemy as sa

from jobkit.models import attempts, runs
from jobkit.states import FINAL, UNFINISHED
from jobkit.verify.inspection import FAILING, OURS, TRIED, Inspection, check

_WITH_ATTEMPTS = runs.outerjoin(attempts, attempts.c.dispatch_id == runs.c.id)


@check(3, "an attempt has one result")
def one_result(it: Inspection) -> None:
    it.count_attempts()
    key = (attempts.c.dispatch_id, attempts.c.attempt)
    statement = sa.select(*key, sa.func.count()).select_from(TRIED).where(it.made, OURS)
    for run, number, count in it.rows(statement.group_by(*key).having(sa.func.count() > 1)):
        it.breach(f"attempt {number} of run {run} has {count} results")


@check(3, "every attempt that ended has a result, and no other")
def all_results(it: Inspection) -> None:
    it.count_runs(OURS)
    ended = runs.c.attempt - sa.case((runs.c.status == "IN_PROGRESS", 1), else_=0)
    recorded = sa.func.count(sa.distinct(attempts.c.attempt))
    highest = sa.func.coalesce(sa.func.max(attempts.c.attempt), 0)
    statement = (
        sa.select(runs.c.id, ended, recorded, highest)
        .select_from(_WITH_ATTEMPTS)
        .where(it.made, OURS)
        .group_by(runs.c.id, runs.c.attempt, runs.c.status)
        .having(sa.or_(recorded != ended, highest != ended))
    )
    for run, wanted, found, last in it.rows(statement):
        said = f"run {run} ended {wanted} attempts and has {found} results"
        it.breach(f"{said}, the last of attempt {last}")


@check(3, "a run is COMPLETED by one SUCCESS, and by nothing else")
def success_is_completed(it: Inspection) -> None:
    it.count_runs(OURS)
    won = sa.func.count(sa.case((attempts.c.status == "SUCCESS", 1)))
    wanted = sa.case((runs.c.status == "COMPLETED", 1), else_=0)
    statement = (
        sa.select(runs.c.id, runs.c.status, won)
        .select_from(_WITH_ATTEMPTS)
        .where(it.made, OURS)
        .group_by(runs.c.id, runs.c.status)
        .having(won != wanted)
    )
    for run, status, count in it.rows(statement):
        it.breach(f"run {run} is {status} with {count} successful attempts")


@check(3, "a script that ended with 0 succeeded, and no other")
def exit_codes_agree(it: Inspection) -> None:
    it.count_attempts()
    code, won = attempts.c.exit_code, attempts.c.status == "SUCCESS"
    contradicts = sa.or_(
        sa.and_(won, sa.or_(code.is_(None), code != 0)),
        sa.and_(attempts.c.status.in_(("FAILURE", "ERROR")), code == 0),
    )
    it.broken_attempts("contradicts its exit code", contradicts)


@check(3, "a run counts the tries that were recorded")
def tries_are_counted(it: Inspection) -> None:
    it.count_runs(OURS)
    fails = attempts.c.status.in_(FAILING)
    lost = sa.func.count(sa.case((attempts.c.status == "LOST", 1)))
    failed = sa.func.count(sa.case((fails, 1)))
    # The failure that ended the run was followed by no other try, and is not counted.
    last = sa.func.count(sa.case((sa.and_(fails, attempts.c.attempt == runs.c.attempt), 1)))
    counted = (runs.c.retry_count, runs.c.lost_count)
    of = (runs.c.status, *counted)
    waits = sa.and_(runs.c.status.in_(UNFINISHED), counted[0] != failed)
    ended = sa.and_(
        # Cancelled while it waited or while it ran: its last failure counts or not.
        runs.c.status.in_([status for status in FINAL if status != "CANCELLED"]),
        counted[0] != failed - last,
    )
    outside = sa.or_(counted[0] < failed - last, counted[0] > failed)
    statement = (
        sa.select(runs.c.id, *counted, failed, lost)
        .select_from(_WITH_ATTEMPTS)
        .where(it.made, OURS)
        .group_by(runs.c.id, *of)
        .having(sa.or_(counted[1] != lost, outside, waits, ended))
    )
    for run, *counts in it.rows(statement):
        it.breach(
            "run {} counts {} failures and {} losses; {} and {} were recorded".format(run, *counts)
        )


@check(3, "a result was written by the worker that had claimed the attempt")
def no_stale_worker(it: Inspection) -> None:
    it.count_attempts()
    later = attempts.alias("later")
    spoke = sa.exists().where(
        later.c.dispatch_id == attempts.c.dispatch_id,
        later.c.attempt > attempts.c.attempt,
        later.c.claimed_at <= attempts.c.claimed_at,
    )
    it.broken_attempts("was claimed after the next one", spoke)
    foreign = sa.and_(
        attempts.c.attempt == runs.c.attempt,
        runs.c.status.in_(FINAL),
        attempts.c.worker_id != runs.c.worker_id,
    )
    it.broken_attempts("is of another worker than its run", foreign)


CHECKS = (
    one_result,
    all_results,
    success_is_completed,
    exit_codes_agree,
    tries_are_counted,
    no_stale_worker,
)
