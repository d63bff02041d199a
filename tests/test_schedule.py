"""Schedules: each type, its bounds, and what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobkit.errors import BadInput
from jobkit.schedule import Schedule


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def slots(schedule: Schedule, after: str, count: int) -> list[str]:
    found: list[str] = []
    at = utc(after)
    for _ in range(count):
        slot = schedule.next_after(at)
        if slot is None:
            break
        found.append(slot.strftime("%Y-%m-%d %H:%M:%S").removesuffix(":00"))
        at = slot
    return found


ANCHOR = utc("2026-03-02 06:00:07")


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        (
            Schedule("interval", interval_seconds=900, anchor=ANCHOR),
            "2026-03-02 06:20",
            ["2026-03-02 06:30:07", "2026-03-02 06:45:07"],
        ),
        (Schedule("hourly", time="00:15"), "2026-03-02 06:15", ["2026-03-02 07:15"]),
        (Schedule("hourly", time="45"), "2026-03-02 06:15", ["2026-03-02 06:45"]),
        (Schedule("daily", time="06:30"), "2026-02-28 06:30", ["2026-03-01 06:30"]),
        (
            Schedule("daily", "Europe/Paris", time="06:30"),
            "2026-03-02 00:00",
            ["2026-03-02 05:30"],
        ),
        (Schedule("weekly", time="09:00", day=0), "2026-03-02 08:59", ["2026-03-02 09:00"]),
        (Schedule("weekly", time="09:00", day=6), "2026-03-02 09:00", ["2026-03-08 09:00"]),
        (
            Schedule("monthly", time="22:00", day=31),
            "2026-01-31 22:00",
            ["2026-02-28 22:00", "2026-03-31 22:00", "2026-04-30 22:00"],
        ),
        (Schedule("monthly", time="22:00", day=30), "2028-02-01", ["2028-02-29 22:00"]),
        (
            Schedule("cron", cron="*/15 8-18 * * 1-5"),
            "2026-03-06 18:40",
            ["2026-03-06 18:45", "2026-03-09 08:00"],
        ),
        (Schedule("cron", cron="0 0 13 * fri"), "2026-02-12", ["2026-02-13", "2026-02-20"]),
        (Schedule("cron", cron="0 0 */2 * mon"), "2026-03-01", ["2026-03-09", "2026-03-23"]),
        (Schedule("cron", cron="0 0 * * 7"), "2026-03-02", ["2026-03-08"]),
        (Schedule("cron", cron="0 0 29 2 *"), "2026-03-01", ["2028-02-29"]),
        (Schedule("cron", cron="@daily"), "2026-03-02 00:00", ["2026-03-03"]),
        (Schedule("cron", cron="0 0 31 * *"), "2026-03-31", ["2026-05-31"]),
        (Schedule("once", anchor=ANCHOR), "2026-03-02", ["2026-03-02 06:00:07"]),
        (Schedule("once", anchor=ANCHOR), "2026-03-02 06:00:07", []),
        (Schedule("manual"), "2026-03-02", []),
        (
            Schedule("daily", time="06:30", ends_at=utc("2026-03-03 06:30")),
            "2026-03-02",
            ["2026-03-02 06:30", "2026-03-03 06:30"],
        ),
        (
            Schedule("daily", time="06:30", starts_at=utc("2026-04-01 06:30")),
            "2026-03-02",
            ["2026-04-01 06:30"],
        ),
    ],
)
def test_the_next_slots(schedule: Schedule, after: str, expected: list[str]) -> None:
    schedule.validate()
    found = slots(schedule, after, len(expected) or 1)
    assert [slot.removesuffix(" 00:00") for slot in found] == expected


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (Schedule("interval", interval_seconds=5400), "every 1 h 30 min"),
        (Schedule("hourly", time="00:05"), "hourly at minute 05"),
        (Schedule("daily", time="06:30"), "daily at 06:30"),
        (Schedule("weekly", time="09:00", day=2), "weekly on Wednesday at 09:00"),
        (Schedule("monthly", time="9:00", day=3), "monthly on day 3 at 09:00"),
        (Schedule("cron", cron="*/15 * * * *"), "every 15 minutes"),
        (Schedule("cron", cron="30 14 * * 1-5"), "at 14:30, Monday through Friday"),
        (Schedule("once", anchor=ANCHOR), "once at 2026-03-02 06:00:07 UTC"),
        (Schedule("manual"), "on demand"),
    ],
)
def test_a_schedule_in_words(schedule: Schedule, words: str) -> None:
    assert schedule.describe() == words


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"type": "yearly"}, "'yearly' is no schedule"),
        ({"type": "cron", "cron": "R * * * *"}, "'R', which is not understood"),
        ({"type": "cron", "cron": "H 0 * * *"}, "'H', which is not understood"),
        ({"type": "cron", "cron": "0 * * * * *"}, "6 fields, not 5"),
        ({"type": "cron", "cron": "* * *"}, "3 fields, not 5"),
        ({"type": "cron", "cron": ""}, "0 fields, not 5"),
        ({"type": "cron", "cron": "61 * * * *"}, "out of range"),
        ({"type": "cron", "cron": "*/0 * * * *"}, "step '0'"),
        ({"type": "cron", "cron": "0 0 30 2 *"}, "no slot within 8 years"),
        ({"type": "cron", "cron": "@often"}, "no name of a schedule"),
        ({"type": "cron", "cron": "1," * 200 + "1 * * * *"}, "too long"),
        ({"type": "daily", "time": "25:00"}, "'25:00' is no time of day"),
        ({"type": "hourly", "time": "75"}, "'75' is no minute"),
        ({"type": "weekly", "time": "09:00", "day": 7}, "7 is no weekday"),
        ({"type": "monthly", "time": "09:00", "day": 32}, "32 is no day of a month"),
        ({"type": "interval", "interval_seconds": 0}, "never comes"),
        ({"type": "once"}, "names no instant"),
        ({"type": "daily", "timezone": "Europe/Pariss"}, "Did you mean Europe/Paris"),
    ],
)
def test_what_is_wrong_is_named_with_the_way_out(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as error:
        Schedule(**given).validate()
    assert error.value.hint


def test_slots_near_the_end_of_the_calendar_just_end() -> None:
    end = datetime.max.replace(tzinfo=UTC)
    assert Schedule("daily", time="09:00").next_after(end) is None
    assert Schedule("interval", interval_seconds=60, anchor=ANCHOR).next_after(end) is None


def test_ten_years_of_minutes_are_counted_and_only_the_newest_are_made() -> None:
    schedule = Schedule("cron", "Europe/London", cron="* * * * *")
    start, end = utc("2016-01-01"), utc("2026-01-01")
    assert schedule.count(start, end) == 3653 * 24 * 60
    newest = schedule.newest(start, end, 3)
    assert newest == [end - timedelta(minutes=2), end - timedelta(minutes=1), end]
