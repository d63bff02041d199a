"""Missed slots: what one tick does with the slots that passed since the cursor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from jobkit.schedule.slots import Schedule

MISFIRE_POLICIES = ("latest", "all", "skip")
MOST_RUN = 100
MOST_MISSED = 1000


@dataclass(frozen=True)
class Rest:
    """Missed slots that get no row each: how many, the first and the last."""

    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True)
class Gap:
    """What becomes of the slots in (cursor, now]."""

    run: tuple[datetime, ...]
    """Oldest first."""
    missed: tuple[datetime, ...]
    """The newest 1,000 at most, oldest first."""
    rest: Rest | None
    cursor: datetime
    """The last slot that was looked at."""
    next_run: datetime | None


def look(
    schedule: Schedule,
    cursor: datetime,
    now: datetime,
    *,
    policy: str,
    window: timedelta,
    patience: timedelta,
) -> Gap:
    """Decide what to do with the slots in (cursor, now], however many there are.

    1. Slots older than `window` are missed.
    2. Of the others `latest` runs the newest, `all` runs each, oldest first and at most 100 now,
       `skip` runs the newest if it is not older than `patience`; what is not run is missed.
    3. The newest 1,000 of the missed are listed, the rest is counted.
    4. The cursor moves to the last slot that was looked at.
    """
    edge = max(cursor, _before(now, window))
    if policy == "all":
        run = tuple(islice(schedule.slots(edge, now), MOST_RUN))
    else:
        youngest = edge if policy == "latest" else max(edge, _before(now, patience))
        run = tuple(schedule.newest(youngest, now, 1))
    # What is not run lies before what is: all of it is missed.
    until = _just_before(run[0]) if run else now
    missed = schedule.newest(cursor, until, MOST_MISSED + 1)
    rest = _rest(schedule, cursor, missed) if len(missed) > MOST_MISSED else None
    listed = tuple(missed[-MOST_MISSED:])
    looked_at = (*listed[-1:], *run[-1:])
    moved = max(looked_at, default=cursor)
    return Gap(run, listed, rest, moved, schedule.next_after(moved))


def _rest(schedule: Schedule, cursor: datetime, missed: list[datetime]) -> Rest | None:
    last = missed[0]
    first = schedule.next_after(cursor)
    assert first is not None
    return Rest(schedule.count(cursor, last), first, last)


def _before(now: datetime, by: timedelta) -> datetime:
    """Return the instant just before the oldest slot that is not older than `by`."""
    return _just_before(now - by)


def _just_before(instant: datetime) -> datetime:
    return instant - timedelta(microseconds=1)
