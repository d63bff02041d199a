"""Windows of time: what a question is about, and in whose calendar."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobkit import text
from jobkit.errors import BadInput

Given = str | timedelta | Sequence[datetime | str] | None
"""`"7d"`, a timedelta, a pair of instants, or None for the whole history."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(instant: datetime) -> int:
    """Return an instant as microseconds since 1970."""
    return (instant - EPOCH) // timedelta(microseconds=1)


def naive(instant: datetime) -> datetime:
    """Return an instant as DuckDB and Parquet hold it: UTC without saying so."""
    return instant.astimezone(UTC).replace(tzinfo=None)


@dataclass(frozen=True)
class Window:
    """The time in [start, end) as a zone's calendar sees it; no start: the whole history."""

    start: datetime | None
    end: datetime
    zone: str = "UTC"

    @classmethod
    def read(cls, given: Given, now: datetime, zone: str = "UTC") -> Window:
        """Read `"7d"` up to now, a pair of instants, or None or `"all"`; BadInput otherwise.

        Instants without an offset are in the zone.
        """
        try:
            ZoneInfo(zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise BadInput(f"{zone!r} is no time zone.", "Write one like Europe/Paris.") from None
        if given is None or given == "all":
            return cls(None, now, zone)
        if isinstance(given, str):
            given = text.parse_duration(given)
        if isinstance(given, timedelta):
            return cls._checked(_before(now, given), now, zone)
        if len(given) != 2:
            raise BadInput(f"{given!r} is no window.", 'Write "7d", or two instants.')
        start, end = (_instant(item, zone) for item in given)
        return cls._checked(start, end, zone)

    @classmethod
    def _checked(cls, start: datetime, end: datetime, zone: str) -> Window:
        if start >= end:
            raise BadInput(
                f"A window from {text.iso(start)} to {text.iso(end)} is empty.",
                "Give the earlier instant first.",
            )
        return cls(start, end, zone)

    @property
    def length(self) -> timedelta | None:
        """How long it is; None for the whole history."""
        return None if self.start is None else self.end - self.start

    def before(self) -> Window:
        """Return the window of the same length that ends where this one starts."""
        if self.start is None or self.length is None:
            raise BadInput("The whole history has no time before it.", 'Give a window like "30d".')
        return Window(self.start - self.length, self.start, self.zone)

    def holds(self, column: str) -> str:
        """Return SQL that says whether a column of instants lies in the window."""
        ends = f"{column} < {literal(self.end)}"
        return ends if self.start is None else f"{column} >= {literal(self.start)} AND {ends}"

    def since(self, first: datetime) -> Window:
        """Return it with a start: of the whole history, the first instant that is known."""
        if self.start is not None:
            return self
        return Window(min(first, self.end - timedelta(microseconds=1)), self.end, self.zone)

    def __str__(self) -> str:
        start = "the first" if self.start is None else text.instant(self.start, self.zone)
        return f"{start} to {text.instant(self.end, self.zone)}"


def literal(instant: datetime) -> str:
    """Write an instant as SQL."""
    return f"TIMESTAMP '{naive(instant).isoformat(' ', 'microseconds')}'"


def _before(now: datetime, length: timedelta) -> datetime:
    try:
        return now - length
    except OverflowError:
        raise BadInput(f"{length} reaches beyond the calendar.", 'Use "all".') from None


def _instant(given: datetime | str, zone: str) -> datetime:
    if isinstance(given, str):
        return text.parse_instant(given, zone)
    if given.tzinfo is None:
        return given.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    return given.astimezone(UTC)
