"""Quiet hours: when people are not to be told what can wait. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


@dataclass(frozen=True)
class QuietHours:
    """From one time of day to another, in a zone; over midnight where the end is not later."""

    start: time
    end: time
    zone: str

    def end_after(self, now: datetime) -> datetime | None:
        """Return when the quiet hours end that an instant is in; None when it is in none."""
        local = now.astimezone(ZoneInfo(self.zone))
        clock = local.time()
        over_midnight = self.end <= self.start
        if over_midnight:
            is_quiet = clock >= self.start or clock < self.end
        else:
            is_quiet = self.start <= clock < self.end
        if not is_quiet:
            return None
        day = local.date() + timedelta(days=int(over_midnight and clock >= self.start))
        return datetime.combine(day, self.end, ZoneInfo(self.zone)).astimezone(UTC)


def parse(written: str, zone: str) -> QuietHours:
    """Read `22:00-07:00`, or `22:00-07:00 Europe/Paris`; ValueError for anything else."""
    hours, _, named = written.strip().partition(" ")
    start, _, end = hours.partition("-")
    try:
        read = QuietHours(time.fromisoformat(start), time.fromisoformat(end), named.strip() or zone)
        ZoneInfo(read.zone)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        read = None
    if read is None or read.start == read.end:
        raise ValueError(f"{written!r} is not like 22:00-07:00 or 22:00-07:00 Europe/Paris")
    return read
