"""A schedule and its slots, in UTC."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from datetime import time as TimeOfDay  # noqa: N812 - `time` is a field of Schedule
from functools import lru_cache
from itertools import islice, takewhile
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from jobkit.errors import BadInput
from jobkit.schedule import cron as crons
from jobkit.schedule.calendar import EPOCH, Calendar, Days, stamp
from jobkit.text import duration

SCHEDULE_TYPES = (
    "interval",
    "hourly",
    "daily",
    "weekly",
    "monthly",
    "cron",
    "once",
    "manual",
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)")
_MINUTE = re.compile(r"(?:\d{1,2}:)?([0-5]?\d)")


@dataclass(frozen=True)
class Schedule:
    """When a job comes due. Instants are aware; slots are in UTC, each at most once."""

    type: str
    timezone: str = "UTC"
    interval_seconds: int | None = None
    anchor: datetime | None = None
    """Interval slots are anchor + k x interval; of `once` it is the only slot."""
    cron: str | None = None
    time: str | None = None
    """`HH:MM`; of `hourly` only the minute counts."""
    day: int | None = None
    """`weekly`: 0 = Monday; `monthly`: 1 to 31, the last day where the month lacks it."""
    starts_at: datetime | None = None
    ends_at: datetime | None = None
    """No slot before the one or after the other."""

    def validate(self) -> None:
        """Raise BadInput that names what is wrong."""
        if self.type not in SCHEDULE_TYPES:
            raise BadInput(f"{self.type!r} is no schedule.", f"Use: {', '.join(SCHEDULE_TYPES)}.")
        zone_of(self.timezone)
        if self.type == "interval" and (self.interval_seconds or 0) < 1:
            raise BadInput(
                f"An interval of {self.interval_seconds} s never comes.", "Use a second or more."
            )
        if self.type == "once" and self.anchor is None:
            raise BadInput("A schedule for once names no instant.", "Give one in ISO 8601.")
        self.calendar()
        if self.starts_at and self.ends_at and self.starts_at > self.ends_at:
            raise BadInput(
                f"The schedule starts at {self.starts_at} and ends before, at {self.ends_at}.",
                "Exchange them.",
            )

    def next_after(self, after: datetime) -> datetime | None:
        """Return the first slot after an instant, or None."""
        if self.starts_at is not None and after < self.starts_at:
            after = self.starts_at - timedelta(microseconds=1)
        slot = self._unbounded_after(after)
        return None if slot is None or self._has_ended(slot) else slot

    def slots(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the slots in (after, until], oldest first."""
        after, until = self._clip(after, until)
        calendar = self.calendar()
        if calendar is not None:
            yield from takewhile(lambda slot: slot <= until, calendar.after(after))
            return
        while (slot := self.next_after(after)) is not None and slot <= until:
            yield slot
            after = slot

    def stamps(self, after: datetime, until: datetime) -> list[int]:
        """Return the slots in (after, until] as microseconds since 1970, oldest first.

        The same as `slots`, at a twentieth of its cost: reports look at a month of many jobs.
        """
        after, until = self._clip(after, until)
        if after >= until:
            return []
        calendar = self.calendar()
        if calendar is not None:
            return calendar.stamps(after, until)
        if self.type != "interval":
            return [stamp(slot) for slot in self.slots(after, until)]
        first, last = self._interval_index(after) + 1, self._interval_index(until)
        step = (self.interval_seconds or 1) * 1_000_000
        anchor = stamp(self.anchor or EPOCH)
        return list(range(anchor + first * step, anchor + last * step + 1, step))

    def newest(self, after: datetime, until: datetime, count: int) -> list[datetime]:
        """Return the newest `count` slots in (after, until], oldest first, whatever the gap."""
        after, until = self._clip(after, until)
        if after >= until or count < 1:
            return []
        calendar = self.calendar()
        if calendar is not None:
            return list(islice(calendar.before(until, after), count))[::-1]
        if self.type != "interval":
            return list(self.slots(after, until))[-count:]
        last = self._interval_index(until)
        first = max(self._interval_index(after) + 1, last - count + 1)
        return [self._interval_slot(index) for index in range(first, last + 1)]

    def count(self, after: datetime, until: datetime) -> int:
        """Count the slots in (after, until], whatever the gap."""
        after, until = self._clip(after, until)
        if after >= until:
            return 0
        calendar = self.calendar()
        if calendar is not None:
            return calendar.count(after, until)
        if self.type != "interval":
            return len(list(self.slots(after, until)))
        return self._interval_index(until) - self._interval_index(after)

    def describe(self) -> str:
        """Say the schedule in words, without its zone."""
        match self.type:
            case "interval":
                return f"every {duration(timedelta(seconds=self.interval_seconds or 0))}"
            case "hourly":
                return f"hourly at minute {self._times()[0].minute:02d}"
            case "daily":
                return f"daily at {self._times()[0]:%H:%M}"
            case "weekly":
                return f"weekly on {WEEKDAYS[(self.day or 0) % 7]} at {self._times()[0]:%H:%M}"
            case "monthly":
                day = self.day or 1
                or_last = ", or the last day," if day > 28 else ""
                return f"monthly on day {day}{or_last} at {self._times()[0]:%H:%M}"
            case "cron":
                return _cron_words(self.cron or "")
            case "once":
                return f"once at {self.anchor:%Y-%m-%d %H:%M:%S %Z}"
        return "on demand"

    def _has_ended(self, slot: datetime) -> bool:
        return self.ends_at is not None and slot > self.ends_at

    def _clip(self, after: datetime, until: datetime) -> tuple[datetime, datetime]:
        if self.starts_at is not None:
            after = max(after, self.starts_at - timedelta(microseconds=1))
        return after, until if self.ends_at is None else min(until, self.ends_at)

    def _unbounded_after(self, after: datetime) -> datetime | None:
        if self.type == "interval":
            try:
                return self._interval_slot(self._interval_index(after) + 1)
            except OverflowError:
                return None
        if self.type == "once":
            return self.anchor if self.anchor is not None and self.anchor > after else None
        calendar = self.calendar()
        return None if calendar is None else next(calendar.after(after), None)

    def _interval_index(self, instant: datetime) -> int:
        step = timedelta(seconds=self.interval_seconds or 1)
        return (instant - (self.anchor or EPOCH)) // step

    def _interval_slot(self, index: int) -> datetime:
        step = timedelta(seconds=self.interval_seconds or 1)
        return ((self.anchor or EPOCH) + index * step).astimezone(UTC)

    def calendar(self) -> Calendar | None:
        """Return the times of days that it consists of; None for one that follows no calendar."""
        if self.type == "cron":
            return crons.parse(self.cron or "", zone_of(self.timezone))
        if self.type not in ("hourly", "daily", "weekly", "monthly"):
            return None
        return Calendar(
            days=_days(self.type, self.day),
            times=self._times(),
            zone=zone_of(self.timezone),
            is_wildcard=self.type == "hourly",
        )

    def _times(self) -> tuple[TimeOfDay, ...]:
        return _times(self.type, self.time)


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """Return a time zone; BadInput names the nearest one when there is none of that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, available_timezones(), 1, 0.5)
        hint = f"Did you mean {near[0]}?" if near else "Write one like Europe/Paris."
        raise BadInput(f"{name!r} is no time zone.", hint) from None


@lru_cache(maxsize=256)
def _days(type_: str, day: int | None) -> Days:
    if type_ == "weekly":
        if day is not None and not 0 <= day <= 6:
            raise BadInput(f"{day} is no weekday.", "Use 0 (Monday) to 6 (Sunday).")
        return Days(of_week=frozenset({((day or 0) + 1) % 7}))
    if type_ == "monthly":
        if day is not None and not 1 <= day <= 31:
            raise BadInput(f"{day} is no day of a month.", "Use 1 to 31.")
        return Days(of_month=frozenset({day or 1}), clamp=True)
    return Days()


@lru_cache(maxsize=4096)
def _times(type_: str, text: str | None) -> tuple[TimeOfDay, ...]:
    if type_ == "hourly":
        minute = _MINUTE.fullmatch(text or "0")
        if minute is None:
            raise BadInput(f"{text!r} is no minute of an hour.", "Use 0 to 59.")
        return tuple(TimeOfDay(hour, int(minute[1])) for hour in range(24))
    found = _TIME.fullmatch(text or "00:00")
    if found is None:
        raise BadInput(f"{text!r} is no time of day.", "Write it as HH:MM, like 06:30.")
    return (TimeOfDay(int(found[1]), int(found[2])),)


@lru_cache(maxsize=1024)
def _cron_words(expression: str) -> str:
    # Heavy to import, and only people read words.
    from cron_descriptor import FormatError, Options, get_description

    options = Options()
    options.use_24hour_time_format = True
    try:
        words: str = get_description(crons.NAMES.get(expression.lower(), expression), options)
    except FormatError:
        return expression
    return words[:1].lower() + words[1:]
