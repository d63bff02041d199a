"""Law 6: never early."""

from __future__ import annotations

import sqlalchemy as sa

from jobkit.models import attempts, runs
from jobkit.verify.inspection import OURS, TRIED, Inspection, check


@check(6, "nothing started early")
def never_early(it: Inspection) -> None:
    it.count_attempts()
    columns = (attempts.c.dispatch_id, attempts.c.attempt, attempts.c.claimed_at)
    early = sa.or_(
        attempts.c.claimed_at < runs.c.scheduled_for, attempts.c.claimed_at < attempts.c.queued_at
    )
    statement = sa.select(*columns).select_from(TRIED).where(it.made, OURS, early)
    for run, number, claimed_at in it.rows(statement):
        it.breach(f"attempt {number} of run {run} was claimed at {claimed_at}, before it was due")


@check(6, "no slot was made a run before it came")
def never_made_early(it: Inspection) -> None:
    scheduled = sa.and_(runs.c.trigger == "schedule", OURS)
    it.count_runs(scheduled)
    early = sa.and_(scheduled, runs.c.created_at < runs.c.scheduled_for)
    it.broken_runs("was made before its slot", early)


CHECKS = (never_early, never_made_early)
