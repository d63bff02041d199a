"""For tests: a clock that a test turns, and a kit that goes by it."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from jobkit.kit import Kit, connect


class ManualClock:
    """A clock that stands still until it is turned; waiting turns it."""

    def __init__(self, now: datetime) -> None:
        self._began = now
        self._now = now

    def now(self) -> datetime:
        return self._now

    def elapsed(self) -> float:
        return (self._now - self._began).total_seconds()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        self.turn(timedelta(seconds=max(0.0, seconds)))
        return event.is_set()

    def turn(self, by: timedelta) -> datetime:
        """Move on by a duration; returns the new instant."""
        self._now += by
        return self._now

    def turn_to(self, instant: datetime) -> datetime:
        """Move to an instant."""
        self._now = instant
        return instant


def connect_at(url: str, now: datetime) -> tuple[Kit, ManualClock]:
    """Open a kit that goes by a manual clock, which stands at `now`."""
    kit, clock = connect(url), ManualClock(now)
    kit.clock = kit.database.clock = clock
    return kit, clock
