"""Clock changes among slots: what one moves, leaves out or repeats, in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from jobkit.schedule.calendar import Calendar
from jobkit.schedule.slots import Schedule, zone_of

_LONGEST_REPEAT = timedelta(hours=3)
_NAMED = 3


@dataclass(frozen=True)
class Change:
    """A change of the clocks: what they say just before it, and at it."""

    at: datetime
    before: datetime
    after: datetime

    @property
    def is_forward(self) -> bool:
        """Whether it leaves times out; else times come twice."""
        return self.after > self.before

    def __str__(self) -> str:
        way = "forward" if self.is_forward else "back"
        return f"the clocks go {way} from {self.before:%H:%M} to {self.after:%H:%M}"


def notes(schedule: Schedule, after: datetime, slots: Sequence[datetime]) -> list[str]:
    """Say for each slot what a change of the clocks does to it; nothing where none does.

    `after`: the instant from which on `slots` are the next ones.
    """
    starts = [after, *slots]
    return [_note(schedule, before, slot) for before, slot in zip(starts, slots, strict=False)]


def _note(schedule: Schedule, before: datetime, slot: datetime) -> str:
    zone, calendar = zone_of(schedule.timezone), schedule.calendar()
    local = slot.astimezone(zone)
    if calendar is not None and _comes_twice(local):
        return _twice(calendar, local, zone)
    found = _change(zone, before, slot)
    if found is None:
        return ""
    lost = _left_out(calendar, found) if calendar is not None and found.is_forward else []
    if not lost:
        return f"{found} before it"
    is_moved = slot == found.at and local.time() not in calendar.times  # type: ignore[union-attr]
    what = "moved, as" if is_moved else "before it,"
    verb = "does" if len(lost) == 1 else "do"
    return f"{what} {_named(lost)} {verb} not exist that day: {found}"


def _twice(calendar: Calendar, local: datetime, zone: ZoneInfo) -> str:
    found = _change(zone, local.astimezone(UTC) - _LONGEST_REPEAT, local.astimezone(UTC))
    if local.fold:
        return f"repeated, as {local:%H:%M} comes twice that day: {found}"
    if calendar.is_wildcard:
        return ""
    return f"once only, though {local:%H:%M} comes twice that day"


def _comes_twice(local: datetime) -> bool:
    return local.replace(fold=0).utcoffset() != local.replace(fold=1).utcoffset()


def _left_out(calendar: Calendar, change: Change) -> list[time]:
    """Return the times of a schedule that a change leaves out."""
    if change.before.date() != change.after.date() or not calendar.days.match(change.after.date()):
        return []
    low, high = change.before.time(), change.after.time()
    return [at for at in calendar.times if low <= at < high]


def _named(times: Sequence[time]) -> str:
    said = [f"{at:%H:%M}" for at in times[:_NAMED]]
    if len(times) > _NAMED:
        return f"{', '.join(said)} and {len(times) - _NAMED} more"
    return " and ".join(filter(None, (", ".join(said[:-1]), said[-1])))


def _change(zone: ZoneInfo, low: datetime, high: datetime) -> Change | None:
    """Return the change between two instants after which the clocks of a zone differ."""
    offset = low.astimezone(zone).utcoffset()
    if offset == high.astimezone(zone).utcoffset():
        return None
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    at = high.replace(microsecond=0)
    after = at.astimezone(zone).replace(tzinfo=None)
    before = (at.astimezone(UTC) + (offset or timedelta())).replace(tzinfo=None)
    return Change(at, before, after)
