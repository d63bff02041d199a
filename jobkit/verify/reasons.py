"""Law 9: a fault is a message."""

from __future__ import annotations

import sqlalchemy as sa

from jobkit.models import attempts, runs
from jobkit.states import FINAL
from jobkit.verify.inspection import OURS, Inspection, check


@check(9, "what did not complete says why")
def faults_are_told(it: Inspection) -> None:
    faults = runs.c.status.in_([status for status in FINAL if status != "COMPLETED"])
    it.count_runs(faults)
    silent = sa.and_(runs.c.reason.is_(None), runs.c.error_message.is_(None))
    it.broken_runs("does not say why", sa.and_(faults, silent, OURS))
    mute = sa.and_(attempts.c.status != "SUCCESS", attempts.c.error_message.is_(None))
    it.broken_attempts("does not say why", mute)


CHECKS = (faults_are_told,)
