"""Whether runs are made and executed: a scheduler was seen lately, and a worker is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

POLLS = 3
"""A scheduler that missed so many polls is gone."""


@dataclass(frozen=True)
class Health:
    """What can be told of the other programs from the database."""

    scheduler_seen_at: datetime | None
    has_scheduler: bool
    workers_online: int

    @property
    def is_ready(self) -> bool:
        """Whether a run that is due now would be made and executed."""
        return self.has_scheduler and self.workers_online > 0

    @classmethod
    def judge(
        cls,
        now: datetime,
        *,
        scheduler_seen_at: datetime | None,
        poll: timedelta,
        heartbeats: Sequence[datetime],
        threshold: timedelta,
    ) -> Health:
        """Judge by when the scheduler and each worker that has not left were seen last."""
        has_scheduler = scheduler_seen_at is not None and now - scheduler_seen_at <= POLLS * poll
        online = sum(now - beat <= threshold for beat in heartbeats)
        return cls(scheduler_seen_at, has_scheduler, online)
