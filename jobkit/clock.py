"""The one place that reads the time or waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

from jobkit.errors import DatabaseUnavailable

RELOOK_SECONDS = 60.0


class Clock(Protocol):
    """What loops are given: the date, a stopwatch, and a way to wait."""

    def now(self) -> datetime:
        """Return the present instant, aware, in UTC."""

    def elapsed(self) -> float:
        """Return seconds on a stopwatch that also counts while the machine sleeps."""

    def wait(self, event: threading.Event, seconds: float) -> bool:
        """Wait for the event, `seconds` at most; say whether it was set."""


def stopwatch() -> float:
    """Read seconds that go on while the machine sleeps; comparable among its processes."""
    # A laptop that slept an hour must see its lease gone: CLOCK_BOOTTIME counts suspended time,
    # which CLOCK_MONOTONIC does not on Linux. On macOS that one does, and time.monotonic()
    # does not; Windows has only the latter, and there it does.
    clock = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def ahead_of(now: datetime) -> float:
    """Return how many seconds this machine's date is ahead of another clock's present instant."""
    return (datetime.now(UTC) - now).total_seconds()


def nap(seconds: float) -> None:
    """Wait for so short a time that nobody needs to end it early."""
    time.sleep(seconds)


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> float:
        return stopwatch()

    def wait(self, event: threading.Event, seconds: float) -> bool:
        return event.wait(max(0.0, seconds))


class ServerClock(SystemClock):
    """A database server's clock: its last answer plus the stopwatch, asked again each minute.

    Hosts that disagree about the date then still agree about slots and leases. While the server
    is away its last answer still holds; before the first one, DatabaseUnavailable.
    """

    def __init__(self, ask: Callable[[], datetime]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        self._look_at = float("-inf")
        self._heard: tuple[datetime, float] | None = None

    def now(self) -> datetime:
        with self._lock:
            if self._heard is None or self.elapsed() > self._look_at:
                self._heard = self._look()
            server_now, heard_at = self._heard
            return server_now + timedelta(seconds=self.elapsed() - heard_at)

    def _look(self) -> tuple[datetime, float]:
        self._look_at = self.elapsed() + RELOOK_SECONDS
        try:
            # Counted from when the answer is here: a slow one must not put the clock ahead, or
            # slots would start early. It is behind by the way back at most.
            return self._ask(), self.elapsed()
        except DatabaseUnavailable:
            if self._heard is None:
                raise
            return self._heard
