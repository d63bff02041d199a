"""Rules that hold for every schedule and every gap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from jobkit.schedule import MISFIRE_POLICIES, Schedule, look

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/London", "Australia/Lord_Howe", "America/New_York", "Asia/Kolkata")
PATIENCE = timedelta(seconds=70)

instants = st.integers(0, 2 * 365 * 86400).map(lambda seconds: START + timedelta(seconds=seconds))
gaps = st.integers(0, 4 * 86400).map(lambda seconds: timedelta(seconds=seconds))
minutes = st.sampled_from(["0", "*/7", "*/20", "15,45", "30", "5-9"])
hours = st.sampled_from(["*", "*/3", "1-3", "2", "0,12"])
days = st.sampled_from([("*", "*", "*"), ("1,15", "*", "*"), ("*", "*", "1-5"), ("13", "*", "fri")])
crons = st.builds(
    lambda minute, hour, day, zone: Schedule("cron", zone, cron=" ".join((minute, hour, *day))),
    minutes,
    hours,
    days,
    st.sampled_from(ZONES),
)
intervals = st.builds(
    lambda seconds, anchor: Schedule("interval", interval_seconds=seconds, anchor=anchor),
    st.integers(30, 100_000),
    instants,
)
calendars = st.builds(
    lambda kind, zone, hour, day: Schedule(kind, zone, time=f"{hour:02d}:30", day=day),
    st.sampled_from(["hourly", "daily", "weekly", "monthly"]),
    st.sampled_from(ZONES),
    st.integers(0, 23),
    st.integers(1, 6),
)
schedules = st.one_of(crons, intervals, calendars)


@settings(max_examples=150)
@given(schedules, instants, gaps)
def test_next_newest_and_count_agree(schedule: Schedule, start: datetime, gap: timedelta) -> None:
    end = start + gap
    slots = list(schedule.slots(start, end))
    assert slots == sorted(set(slots))
    assert all(start < slot <= end for slot in slots)
    assert schedule.count(start, end) == len(slots)
    assert schedule.newest(start, end, 7) == slots[-7:]
    assert [EPOCH + timedelta(microseconds=at) for at in schedule.stamps(start, end)] == slots
    following = schedule.next_after(end)
    assert following is not None
    assert following > end


@given(intervals, instants)
def test_an_interval_never_drifts(schedule: Schedule, start: datetime) -> None:
    slot = schedule.next_after(start)
    assert slot is not None
    assert schedule.anchor is not None
    step = timedelta(seconds=schedule.interval_seconds or 0)
    assert (slot - schedule.anchor) % step == timedelta(0)
    assert slot - start <= step


@settings(max_examples=200)
@given(
    schedules,
    instants,
    gaps,
    st.sampled_from(MISFIRE_POLICIES),
    st.integers(0, 3 * 86400).map(lambda seconds: timedelta(seconds=seconds)),
)
def test_a_look_at_a_gap_forgets_no_slot_and_doubles_none(
    schedule: Schedule, cursor: datetime, gap: timedelta, policy: str, window: timedelta
) -> None:
    now = cursor + gap
    found = look(schedule, cursor, now, policy=policy, window=window, patience=PATIENCE)
    expected = list(schedule.slots(cursor, now))
    listed = sorted((*found.run, *found.missed))
    assert len(listed) == len(set(listed))
    assert not set(found.run) & set(found.missed)
    counted = len(listed) + (found.rest.count if found.rest else 0)
    left = [slot for slot in expected if slot > found.cursor]
    assert counted + len(left) == len(expected)
    assert set(listed) <= set(expected)
    assert found.next_run == schedule.next_after(found.cursor)
    assert len(found.missed) <= 1000
    assert all(now - slot <= window or policy == "skip" for slot in found.run)
    if policy != "all":
        assert left == []
        assert len(found.run) <= 1
    if policy == "skip":
        assert all(now - slot <= PATIENCE for slot in found.run)
    if policy == "latest" and expected and now - expected[-1] <= window:
        assert found.run == (expected[-1],)


@given(intervals, instants, gaps)
def test_looking_again_and_again_drains_a_gap_under_all(
    schedule: Schedule, cursor: datetime, gap: timedelta
) -> None:
    now, run = cursor + gap, []
    week = timedelta(days=7)
    position = cursor
    while True:
        found = look(schedule, position, now, policy="all", window=week, patience=PATIENCE)
        if found.cursor == position:
            break
        assert len(found.run) <= 100
        run += found.run
        position = found.cursor
    assert run == list(schedule.slots(cursor, now))
