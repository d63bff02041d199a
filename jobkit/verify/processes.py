"""Law 7: nothing outlives its attempt."""

from __future__ import annotations

import sqlalchemy as sa

from jobkit.executors.sweep import carriers
from jobkit.models import kept_kernels, runs, workers
from jobkit.verify.inspection import TOLERANCE, Inspection, check


@check(7, "no process of an attempt that has ended is left on this machine")
def nothing_is_left(it: Inspection) -> None:
    ours = set(it.connection.scalars(sa.select(workers.c.worker_id)))
    for pid, cookies in carriers():
        if cookies.get("JOBKIT_WORKER_ID") not in ours:
            continue
        it.checked += 1
        run, attempt = int(cookies["JOBKIT_RUN_ID"]), int(cookies["JOBKIT_ATTEMPT"])
        lives = sa.select(runs.c.id).where(
            runs.c.id == run,
            sa.or_(
                sa.and_(runs.c.attempt == attempt, runs.c.status == "IN_PROGRESS"),
                runs.c.completed_at > it.scope.now - TOLERANCE,
                # A kernel that went on belongs to the attempt that runs now.
                sa.and_(
                    runs.c.status == "IN_PROGRESS",
                    sa.exists().where(
                        kept_kernels.c.dispatch_id == run,
                        kept_kernels.c.attempt == attempt,
                        kept_kernels.c.went_on_at.is_not(None),
                    ),
                ),
            ),
        )
        if it.connection.scalar(lives) is None:
            it.breach(f"process {pid} belongs to attempt {attempt} of run {run}, which ended")


CHECKS = (nothing_is_left,)
