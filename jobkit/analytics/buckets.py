"""Time cut into equal parts, as the calendar of a zone has them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from zoneinfo import ZoneInfo

from jobkit import text
from jobkit.analytics.window import EPOCH, Window, micros
from jobkit.errors import BadInput

DAY_US = 86_400_000_000
MOST = 100_000
_DAY = timedelta(days=1)
_WORDS = {"1d": ("days", 1), "1w": ("weeks", 7), "7d": ("weeks", 7), "1mo": ("months", 31)}


@dataclass(frozen=True)
class Buckets:
    """Parts of a window: `size` microseconds from local midnight on, local days, weeks or months.

    A day on which the clocks change is one of 23 or 25 hours, and has as many hourly buckets.
    """

    unit: str
    size: int
    window: Window
    """One with a start."""

    @classmethod
    def read(cls, every: str | timedelta, window: Window) -> Buckets:
        """Read `"15m"`, `"1h"`, `"1d"`, `"1w"` or `"1mo"`; BadInput for what divides no day."""
        if isinstance(every, str) and every in _WORDS:
            unit, days = _WORDS[every]
            buckets = cls(unit, days * DAY_US, window)
        else:
            length = text.parse_duration(every) if isinstance(every, str) else every
            size = length // timedelta(microseconds=1)
            if size < 1_000_000 or DAY_US % size:
                raise BadInput(
                    f"every={every!r} does not divide a day.",
                    "Write a duration that does, like 15m or 1h, or 1d, 1w or 1mo.",
                )
            buckets = cls("days" if size == DAY_US else "time", size, window)
        buckets._check()
        return buckets

    def _check(self) -> None:
        length = micros(self.window.end) - micros(self._start)
        if length // self.size > MOST:
            raise BadInput(
                f"The window holds more than {MOST} such buckets.",
                "Take longer ones, or less time.",
            )

    @property
    def _start(self) -> datetime:
        return self.window.start or self.window.end

    def edges(self) -> list[datetime]:
        """Return where the buckets that touch the window begin, in UTC, and where the last ends."""
        return [EPOCH + timedelta(microseconds=us) for us in self.edges_us()]

    def edges_us(self) -> list[int]:
        """Return the same in microseconds since 1970."""
        until = micros(self.window.end)
        starts = self._calendar(micros(self._start), until)
        if self.unit == "time":
            pairs = pairwise(starts)
            steps = [edge for low, high in pairs for edge in range(low, high, self.size)]
            starts = [*steps, starts[-1]]
        first = bisect_right(starts, micros(self._start)) - 1
        last = bisect_left(starts, until)
        return starts[first : last + 1]

    def sql(self, us: str) -> str:
        """Return SQL for the start of the bucket that an instant, in microseconds, lies in."""
        if self.is_plain:
            return f"({us} - {us} % {self.size})"
        day = f"(({us} + {self.offset(us)}) // {DAY_US})"
        if self.unit == "weeks":
            day = f"({day} - ({day} + 3) % 7)"
        if self.unit == "months":
            first = f"date_trunc('month', DATE '1970-01-01' + {day}::INTEGER)::DATE"
            day = f"datediff('day', DATE '1970-01-01', {first})"
        start = f"({day} * {DAY_US} - {self._midnight_offset(day)})"
        if self.unit != "time":
            return start
        return f"({us} - ({us} - {start}) % {self.size})"

    @property
    def is_plain(self) -> bool:
        """Whether the buckets are multiples of their size in UTC."""
        if self.unit not in ("time", "days"):
            return False
        return all(offset % self.size == 0 for _, offset in self.offsets)

    @cached_property
    def offsets(self) -> list[tuple[int, int]]:
        """The zone's offsets, in microseconds, and from when on each holds."""
        zone = ZoneInfo(self.window.zone)
        at, end = self._start - 32 * _DAY, self.window.end + 32 * _DAY
        found = [(micros(at), _offset_us(zone, at))]
        while self.window.zone != "UTC" and at < end:
            later = at + _DAY
            offset = _offset_us(zone, later)
            if offset != found[-1][1]:
                found.append((micros(_change(zone, at, later)), offset))
            at = later
        return found

    def offset(self, us: str) -> str:
        return _case([(f"{us} < {since}", before) for since, before in self._changes()], self._last)

    def _midnight_offset(self, day: str) -> str:
        """Return SQL for the offset at a day's beginning."""
        days = [(f"{day} <= {last}", before) for last, before in self._old_days()]
        return _case(days, self._last)

    def _old_days(self) -> list[tuple[int, int]]:
        """Return the days of changes, each with the offset that it begins with."""
        pairs = pairwise(self.offsets)
        return [((since + after) // DAY_US, before) for (_, before), (since, after) in pairs]

    def _changes(self) -> list[tuple[int, int]]:
        pairs = pairwise(self.offsets)
        return [(since, before) for (_, before), (since, _) in pairs]

    @property
    def _last(self) -> int:
        return self.offsets[-1][1]

    # The same in Python, for the edges

    def _calendar(self, low: int, high: int) -> list[int]:
        """Return the beginnings of days, weeks or months, from the last before `low` on."""
        offset = next((before for since, before in self._changes() if low < since), self._last)
        day = (low + offset) // DAY_US
        if self.unit == "weeks":
            day -= (day + 3) % 7
        if self.unit == "months":
            day -= (EPOCH + day * _DAY).day - 1
        starts = [self._midnight(day)]
        while starts[-1] < high:
            day += self._days_from(day)
            starts.append(self._midnight(day))
        return starts

    def _days_from(self, day: int) -> int:
        if self.unit == "months":
            first = EPOCH + day * _DAY
            return ((first + 32 * _DAY).replace(day=1) - first).days
        return 7 if self.unit == "weeks" else 1

    def _midnight(self, day: int) -> int:
        offset = next((before for last, before in self._old_days() if day <= last), self._last)
        return day * DAY_US - offset


def _case(branches: list[tuple[str, int]], otherwise: int) -> str:
    if not branches:
        return f"({otherwise})"
    whens = " ".join(f"WHEN {condition} THEN {value}" for condition, value in branches)
    return f"(CASE {whens} ELSE {otherwise} END)"


def _offset_us(zone: ZoneInfo, at: datetime) -> int:
    offset = at.astimezone(zone).utcoffset() or timedelta(0)
    return offset // timedelta(microseconds=1)


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """Find the second at which a zone's offset changes between two instants."""
    before = _offset_us(zone, low)
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if _offset_us(zone, middle) == before:
            low = middle
        else:
            high = middle
    return high
