"""Times of days in a time zone, and the UTC instants at which they come.

Around a change of the clocks the rules are cronie's. A fixed time that the change leaves out comes
once, at the first minute after the gap; one that comes twice counts the first time. A wildcard
schedule follows elapsed time: nothing comes in a gap, and an hour that comes twice counts twice. A
change of three hours or more is a correction of the clock: what it leaves out does not come.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)
DAY_MICROSECONDS = DAY // MICROSECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = EPOCH.toordinal()
LONGEST_CHANGE = timedelta(hours=3)
YEARS_AHEAD = 8
# The 29th of February is at most eight years away, and the days of the week repeat in 28.
DAYS_AHEAD = YEARS_AHEAD * 366 + 1
LAST_DAY = 31


@dataclass(frozen=True)
class Days:
    """Which days: of months, of the month, of the week (0 = Sunday, as cron counts)."""

    months: frozenset[int] = frozenset(range(1, 13))
    of_month: frozenset[int] = frozenset(range(1, 32))
    of_week: frozenset[int] = frozenset(range(7))
    either: bool = False
    """Both kinds of day are named, and one of them is enough: cron's rule."""
    clamp: bool = False
    """A day that the month lacks means its last one."""

    def match(self, day: date) -> bool:
        """Say whether a day is one of these."""
        if day.month not in self.months:
            return False
        in_month = day.day in self.of_month or (self.clamp and self._stands_in(day))
        in_week = day.isoweekday() % 7 in self.of_week
        return (in_month or in_week) if self.either else (in_month and in_week)

    def _stands_in(self, day: date) -> bool:
        is_last = (day + DAY).day == 1
        return is_last and max(self.of_month) > day.day


@dataclass(frozen=True)
class Calendar:
    """Times of certain days in a zone."""

    days: Days
    times: tuple[time, ...]
    """Sorted."""
    zone: ZoneInfo
    is_wildcard: bool

    def after(self, instant: datetime) -> Iterator[datetime]:
        """Yield the instants after one, in order, until eight years pass without any."""
        last = instant
        day = _shift(instant.astimezone(self.zone).date(), -1)
        empty = 0
        while day is not None and empty <= DAYS_AHEAD:
            empty += 1
            if self.days.match(day):
                for slot in self._of_day(day, last):
                    if slot > last:
                        last, empty = slot, 0
                        yield slot
            day = _shift(day, 1)

    def before(self, instant: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the instants in (until, instant], the newest first."""
        first = until.astimezone(self.zone).date() - DAY
        day: date | None = instant.astimezone(self.zone).date()
        last = instant + timedelta(microseconds=1)
        while day is not None and day >= first:
            if self.days.match(day):
                for slot in reversed(list(self._of_day(day))):
                    if until < slot < last:
                        last = slot
                        yield slot
            day = _shift(day, -1)

    def count(self, after: datetime, until: datetime) -> int:
        """Count the instants in (after, until] without making those of whole ordinary days."""
        first = after.astimezone(self.zone).date()
        last = until.astimezone(self.zone).date()
        total, day = 0, _shift(first, -1)
        while day is not None and day <= last:
            if self.days.match(day):
                inside = first < day < last - DAY
                if inside and _ordinary_offset(self.zone, day) is not None:
                    total += len(self.times)
                else:
                    total += sum(after < slot <= until for slot in self._of_day(day))
            day = _shift(day, 1)
        return total

    def stamps(self, after: datetime, until: datetime) -> list[int]:
        """Return the instants in (after, until] as microseconds since 1970: many at little cost."""
        low, high = stamp(after), stamp(until)
        found: list[int] = []
        day: date | None = _shift(after.astimezone(self.zone).date(), -1)
        last = until.astimezone(self.zone).date()
        while day is not None and day <= last:
            if self.days.match(day):
                of_day = self._stamps_of_day(day)
                after_ = found[-1] if found else low
                is_whole = of_day and after_ < of_day[0] and of_day[-1] <= high
                found += of_day if is_whole else [at for at in of_day if after_ < at <= high]
            day = _shift(day, 1)
        return found

    def _stamps_of_day(self, day: date) -> list[int]:
        offset = _ordinary_offset(self.zone, day)
        if offset is None:
            return [stamp(slot) for slot in _day_of_change(self, day)]
        start = (day.toordinal() - EPOCH_DAY) * DAY_MICROSECONDS - offset // MICROSECOND
        return [start + time_ for time_ in _since_midnight(self.times)]

    def _of_day(self, day: date, after: datetime | None = None) -> Iterator[datetime]:
        """Yield the instants of a day in order; on ordinary days only those after one."""
        offset = _ordinary_offset(self.zone, day)
        if offset is None:
            slots = _day_of_change(self, day)
            yield from slots if after is None else slots[bisect_right(slots, after) :]
            return
        start = 0 if after is None else self._start(day, after.replace(tzinfo=None) + offset)
        for index in range(start, len(self.times)):
            yield (datetime.combine(day, self.times[index]) - offset).replace(tzinfo=UTC)

    def _start(self, day: date, local: datetime) -> int:
        if local.date() == day:
            return bisect_left(self.times, local.time())
        return len(self.times) if local.date() > day else 0

    def of_changed_time(self, day: date, at: time) -> list[datetime]:
        """Map a local time of a day on which the clocks change."""
        local = datetime.combine(day, at, tzinfo=self.zone)
        first, second = local, local.replace(fold=1)
        change = (second.utcoffset() or timedelta()) - (first.utcoffset() or timedelta())
        if change < timedelta(0):  # it comes twice
            both = [first.astimezone(UTC), second.astimezone(UTC)]
            return both if self.is_wildcard else both[:1]
        if change == timedelta(0):
            return [first.astimezone(UTC)]
        if self.is_wildcard or change >= LONGEST_CHANGE:
            return []
        return [_end_of_gap(self.zone, second.astimezone(UTC), first.astimezone(UTC))]


def stamp(instant: datetime) -> int:
    """Return an instant as microseconds since 1970."""
    return (instant - EPOCH) // MICROSECOND


@lru_cache(maxsize=4096)
def _since_midnight(times: tuple[time, ...]) -> tuple[int, ...]:
    return tuple(
        ((at.hour * 60 + at.minute) * 60 + at.second) * 1_000_000 + at.microsecond for at in times
    )


@lru_cache(maxsize=512)
def _day_of_change(calendar: Calendar, day: date) -> tuple[datetime, ...]:
    slots = {slot for at in calendar.times for slot in calendar.of_changed_time(day, at)}
    return tuple(sorted(slots))


def _shift(day: date, by: int) -> date | None:
    try:
        return day + by * DAY
    except OverflowError:
        return None


@lru_cache(maxsize=65536)
def _ordinary_offset(zone: ZoneInfo, day: date) -> timedelta | None:
    """Return a day's offset from UTC, or None when the clocks change within it."""
    start = datetime.combine(day, time(), tzinfo=zone)
    try:
        end = datetime.combine(day + DAY, time(), tzinfo=zone)
    except OverflowError:
        return start.utcoffset()
    offsets = {edge.replace(fold=fold).utcoffset() for edge in (start, end) for fold in (0, 1)}
    return offsets.pop() if len(offsets) == 1 else None


def _end_of_gap(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """Find the instant at which the clocks jump: the first one with the later offset."""
    before = low.astimezone(zone).utcoffset()
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == before:
            low = middle
        else:
            high = middle
    whole = high.replace(second=0, microsecond=0)
    return whole if high - whole < timedelta(seconds=2) else whole + timedelta(minutes=1)
