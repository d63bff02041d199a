"""The days on which the clocks change: against cronsim as a model, and by cronie's rules."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim

from jobkit.schedule import Schedule, clocks
from tests.test_schedule import slots, utc

# Half an hour on Lord Howe, at midnight in Cairo and Santiago, never in Kolkata.
ZONES = (
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Santiago",
    "Asia/Kolkata",
    "UTC",
)
EXPRESSIONS = (
    "* * * * *",
    "*/7 * * * *",
    "*/30 * * * *",
    "15 * * * *",
    "*/20 1-3 * * *",
    "0 */2 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "0 1 * * *",
    "30 1 * * *",
    "59 1 * * *",
    "0 2 * * *",
    "30 2 * * *",
    "15 3 * * *",
    "0,30 1,2 * * *",
    "5 0-4 * * *",
    "30 2 * * 0",
    "0 12 1 * *",
)


# cronsim 2.8 leaves out 02:00 on the night on which Lord Howe goes back from 02:00 to 01:30,
# though that time comes, once: the literal case is below.
KNOWN_TO_DIFFER = {("0 */2 * * *", "Australia/Lord_Howe")}
COMPARED = [
    (expression, zone)
    for expression in EXPRESSIONS
    for zone in ZONES
    if (expression, zone) not in KNOWN_TO_DIFFER
]


def changes(zone: str) -> Iterator[datetime]:
    """Yield the days of 2026 and 2027 in which the clocks change."""
    day, place = datetime(2026, 1, 1, tzinfo=UTC), ZoneInfo(zone)
    while day.year < 2028:
        after = day + timedelta(days=1)
        if day.astimezone(place).utcoffset() != after.astimezone(place).utcoffset():
            yield day
        day = after


def model(expression: str, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """Return cronsim's slots in (start, end], in UTC; one that maps to the last is the same."""
    found = CronSim(expression, start.astimezone(ZoneInfo(zone)))
    inside = takewhile(lambda slot: slot <= end, (slot.astimezone(UTC) for slot in found))
    return sorted(set(inside))


@pytest.mark.parametrize(("expression", "zone"), COMPARED)
def test_slots_around_each_change_are_those_of_an_independent_model(
    expression: str, zone: str
) -> None:
    schedule = Schedule("cron", zone, cron=expression)
    days = list(changes(zone)) or [datetime(2026, 3, 29, tzinfo=UTC)]
    for day in days:
        start, end = day - timedelta(days=2), day + timedelta(days=2)
        expected = model(expression, zone, start, end)
        assert list(schedule.slots(start, end)) == expected
        assert schedule.count(start, end) == len(expected)
        assert schedule.newest(start, end, 10_000) == expected


@pytest.mark.parametrize(
    ("expression", "zone", "after", "expected"),
    [
        # A fixed time in the gap comes once, at the first minute after it.
        (
            "30 1 * * *",
            "Europe/London",
            "2026-03-28 02:00",
            ["2026-03-29 01:00", "2026-03-30 00:30"],
        ),
        # Two fixed times of one gap come together, as one slot.
        ("15,45 1 * * *", "Europe/London", "2026-03-29 00:00", ["2026-03-29 01:00"]),
        # One that comes twice counts the first time.
        (
            "30 1 * * *",
            "Europe/London",
            "2026-10-24 12:00",
            ["2026-10-25 00:30", "2026-10-26 01:30"],
        ),
        # A wildcard follows elapsed time through both passes of the hour.
        (
            "*/30 * * * *",
            "Europe/London",
            "2026-10-25 00:00",
            ["2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:30", "2026-10-25 02:00"],
        ),
        # In the gap a wildcard has nothing to come.
        (
            "*/30 1-2 * * *",
            "Europe/London",
            "2026-03-29 00:00",
            ["2026-03-29 01:00", "2026-03-29 01:30", "2026-03-30 00:00"],
        ),
        # The half hour before 02:00 comes twice on Lord Howe; 02:00 itself comes once.
        (
            "0 */2 * * *",
            "Australia/Lord_Howe",
            "2026-04-04 12:30",
            ["2026-04-04 13:00", "2026-04-04 15:30", "2026-04-04 17:30"],
        ),
        # Midnight does not exist in Cairo on this day.
        ("0 0 * * *", "Africa/Cairo", "2026-04-23 12:00", ["2026-04-23 22:00", "2026-04-24 21:00"]),
        # Samoa left out a whole day: a correction of the clock, not a change to make up for.
        ("0 9 * * *", "Pacific/Apia", "2011-12-29 12:00", ["2011-12-29 19:00", "2011-12-30 19:00"]),
    ],
)
def test_the_rules_of_cronie(expression: str, zone: str, after: str, expected: list[str]) -> None:
    assert slots(Schedule("cron", zone, cron=expression), after, len(expected)) == expected


def test_daily_is_a_fixed_time_and_hourly_a_wildcard() -> None:
    daily = Schedule("daily", "Europe/London", time="01:30")
    assert slots(daily, "2026-10-24 12:00", 2) == ["2026-10-25 00:30", "2026-10-26 01:30"]
    hourly = Schedule("hourly", "Europe/London", time="30")
    assert slots(hourly, "2026-10-25 00:00", 3) == [
        "2026-10-25 00:30",
        "2026-10-25 01:30",
        "2026-10-25 02:30",
    ]


def test_intervals_do_not_know_the_clocks_of_people() -> None:
    schedule = Schedule(
        "interval", "Europe/London", interval_seconds=3600, anchor=utc("2026-01-01")
    )
    assert len(list(schedule.slots(utc("2026-03-29"), utc("2026-03-30")))) == 24


FORWARD = "the clocks go forward from 02:00 to 03:00"
BACK = "the clocks go back from 03:00 to 02:00"


@pytest.mark.parametrize(
    ("timing", "after", "said"),
    [
        (
            {"type": "daily", "time": "02:30"}, "2026-03-28T00:00",
            ["", f"moved, as 02:30 does not exist that day: {FORWARD}", ""],
        ),
        ({"type": "daily", "time": "06:30"}, "2026-03-28T12:00", [f"{FORWARD} before it", "", ""]),
        (
            {"type": "hourly", "time": "30"}, "2026-03-29T00:00",
            ["", f"before it, 02:30 does not exist that day: {FORWARD}", ""],
        ),
        (
            {"type": "cron", "cron": "*/10 * * * *"}, "2026-03-29T00:45",
            ["", f"before it, 02:00, 02:10, 02:20 and 3 more do not exist that day: {FORWARD}", ""],
        ),
        (
            {"type": "daily", "time": "02:30"}, "2026-10-24T12:00",
            ["once only, though 02:30 comes twice that day", f"{BACK} before it", ""],
        ),
        (
            {"type": "hourly", "time": "30"}, "2026-10-25T00:00",
            ["", f"repeated, as 02:30 comes twice that day: {BACK}", ""],
        ),
        ({"type": "interval", "interval_seconds": 86400}, "2026-03-28T12:00",
         ["", f"{FORWARD} before it", ""]),
        ({"type": "daily", "time": "02:30"}, "2026-05-01T00:00", ["", "", ""]),
    ],
)  # fmt: skip
def test_what_a_change_of_the_clocks_does_to_a_slot_is_said(
    timing: dict[str, Any], after: str, said: list[str]
) -> None:
    schedule = Schedule(timezone="Europe/Berlin", **timing)
    start = datetime.fromisoformat(after).replace(tzinfo=UTC)
    found = [schedule.next_after(start)]
    while len(found) < 3:
        found.append(schedule.next_after(found[-1]))
    assert clocks.notes(schedule, start, found) == said


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_what_is_said_of_the_clocks_fits_the_slots_of_a_year(zone: str, expression: str) -> None:
    schedule = Schedule(type="cron", cron=expression, timezone=zone)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    found = list(schedule.slots(start, start + timedelta(days=365)))[:20_000]
    times = schedule.calendar().times
    for slot, note in zip(found, clocks.notes(schedule, start, found), strict=True):
        local = slot.astimezone(ZoneInfo(zone))
        assert note.startswith("moved") == (local.time() not in times), note
        assert note.startswith("repeated") == bool(local.fold), note
