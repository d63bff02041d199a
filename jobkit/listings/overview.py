"""What is seen of a database at the first glance."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from jobkit.portraits import Numbers
from jobkit.store import board, history, workers

if TYPE_CHECKING:
    from jobkit.kit import Kit

LATE = timedelta(minutes=1)


def numbers(kit: Kit) -> Numbers:
    """Return how many jobs, runs and workers there are, and the last run that failed."""
    now = kit.clock.now()
    alive = now - kit.settings.worker_offline_threshold
    with kit.database.read() as connection:
        jobs, active = board.counts(connection)
        running, waiting, late = history.waiting_counts(connection, now, LATE)
        listed = workers.listed(connection)
    online = [row for row in listed if row.status in workers.ONLINE and row.last_heartbeat >= alive]
    return Numbers(
        jobs=jobs,
        paused=jobs - active,
        waiting=waiting,
        running=running,
        late=late,
        workers=len(online),
        slots=sum(row.slots for row in online),
        failed=kit.runs.last_failure,
        as_of=now,
    )
