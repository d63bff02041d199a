"""Coverage against a slow judge that looks at each minute and each row by itself."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from types import SimpleNamespace
from typing import Any

import duckdb
import polars
from hypothesis import given, settings
from hypothesis import strategies as st

from jobkit.analytics.judging import Bounds, Known, judge
from jobkit.analytics.marks import MARKS
from jobkit.analytics.shelf import Stream
from jobkit.store.definitions import schedule_in

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
START = datetime(2026, 3, 28, 20, tzinfo=UTC)  # the clocks of Berlin change on the 29th
LENGTH = 10 * 60
END = START + LENGTH * MINUTE

Run = namedtuple(
    "Run",
    "id job_id job_version trigger status scheduled_for claimed_at completed_at retry_count "
    "lost_count reason error_message",
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])
CRONS = st.sampled_from(["*/20 * * * *", "15 */3 * * *", "30 2 * * *", "0 0 * * *"])
STATUSES = ("COMPLETED", "COMPLETED", "PENDING", "IN_PROGRESS", "FAILED", "TIMEOUT", "CANCELLED")
CLOSED = ("SKIPPED", "MISSED")


def interval(minutes: int, anchor: int) -> dict[str, Any]:
    return {
        "schedule_type": "interval",
        "interval_seconds": 60 * minutes,
        "anchor_at": (START + anchor * MINUTE).isoformat(),
    }


kinds = st.one_of(
    st.builds(interval, st.integers(7, 200), st.integers(0, 500)),
    st.builds(
        lambda cron, zone: {"schedule_type": "cron", "cron": cron, "timezone": zone}, CRONS, ZONES
    ),
    st.just({"schedule_type": "manual"}),
)
definitions = st.builds(
    lambda kind, is_active: {"timezone": "UTC", **kind, "is_active": is_active},
    kinds,
    st.sampled_from([True, True, False]),
)
changes = st.lists(
    st.tuples(st.integers(-100, LENGTH + 50), definitions), min_size=1, max_size=4
).map(lambda made: sorted(made, key=lambda item: item[0]))
rows = st.lists(
    st.one_of(
        st.tuples(
            st.integers(0, 60),
            st.just("schedule"),
            st.sampled_from(STATUSES + CLOSED),
            st.integers(0, 180),
            st.integers(0, 1),
        ),
        st.tuples(
            st.integers(0, 60),
            st.sampled_from(["backfill", "retry"]),
            st.sampled_from(STATUSES),
            st.integers(0, 180),
            st.integers(0, 1),
        ),
    ),
    max_size=30,
)
rests = st.none() | st.tuples(st.integers(-2, 10), st.integers(0, 12))


class Hot:
    """Answers SQL over runs that are just here."""

    def __init__(self, runs: list[Run]) -> None:
        columns = {
            name: polars.Series([value(run) for run in runs], dtype=kind)
            for name, (kind, value) in COLUMNS.items()
        }
        self._engine = duckdb.connect()
        self._engine.register("runs", Stream(polars.DataFrame(columns)))

    def query(self, sql: str, frames: Mapping[str, polars.DataFrame]) -> polars.DataFrame:
        for name, frame in frames.items():
            self._engine.register(name, Stream(frame))
        return polars.DataFrame(self._engine.sql(sql))


def naive(name: str) -> Callable[[Run], datetime | None]:
    def read(run: Run) -> datetime | None:
        instant: datetime | None = getattr(run, name)
        return None if instant is None else instant.replace(tzinfo=None)

    return read


MOMENT = polars.Datetime("us")
COLUMNS: dict[str, tuple[Any, Callable[[Run], Any]]] = {
    "run_id": (polars.Int64, attrgetter("id")),
    "job_id": (polars.Int64, attrgetter("job_id")),
    "job_version": (polars.Int64, attrgetter("job_version")),
    "trigger": (polars.String, attrgetter("trigger")),
    "status": (polars.String, attrgetter("status")),
    "scheduled_for": (MOMENT, naive("scheduled_for")),
    "claimed_at": (MOMENT, naive("claimed_at")),
    "completed_at": (MOMENT, naive("completed_at")),
    "retries": (polars.Int64, attrgetter("retry_count")),
    "lost": (polars.Int64, attrgetter("lost_count")),
    "reason": (polars.String, attrgetter("reason")),
    "error": (polars.String, attrgetter("error_message")),
}


def in_force(known: list[Any], slot: datetime) -> Any:
    """Return the version that a slot belongs to."""
    before = [version for version in known if version.changed_at < slot]
    return before[-1] if before else None


def comes(version: Any, slot: datetime) -> bool:
    """Whether a schedule has this slot."""
    if version.definition["schedule_type"] == "manual":
        return False
    just_before = slot - timedelta(microseconds=1)
    return bool(schedule_in(version.definition).next_after(just_before) == slot)


def each_minute(start: datetime, end: datetime) -> Iterator[datetime]:
    while start < end:
        yield start
        start += MINUTE


def is_due(known: list[Any], slot: datetime) -> bool:
    version = in_force(known, slot)
    return version is not None and version.definition["is_active"] and comes(version, slot)


def happen(
    version: int, pool: list[datetime], drawn: list[tuple[int, str, str, int, int]]
) -> list[Run]:
    """Make runs of slots, one of a schedule for each at most."""
    made: list[Run] = []
    for number, (index, trigger, status, wait, failures) in enumerate(drawn):
        slot = pool[index % len(pool)]
        if trigger == "schedule" and any(
            (run.trigger, run.scheduled_for) == ("schedule", slot) for run in made
        ):
            continue
        claimed = slot + wait * timedelta(seconds=1)
        facts = (slot, claimed, claimed + MINUTE, failures, 0, None, None)
        made.append(Run(number + 1, 1, version, trigger, status, *facts))
    return made


def sum_up(version: Any, low: datetime, high: datetime, taken: set[datetime]) -> list[Run]:
    """Make the row that stands for the missed slots of a stretch, if it has any."""
    slots = [slot for slot in each_minute(low, high) if comes(version, slot)]
    if not slots or slots[-1] in taken or slots[-1] < START:
        return []
    reason = f"{len(slots)} slots from {slots[0].isoformat()} to {slots[-1].isoformat()} passed"
    facts = (slots[-1], None, END, 0, 0, reason, None)
    return [Run(1000, 1, version.version, "schedule", "MISSED", *facts)]


FIRST_OF = (
    ("IN_PROGRESS", "running"),
    ("PENDING", "waiting"),
    ("FAILED", "failed"),
    ("TIMEOUT", "failed"),
)
OF_ITS_OWN = {"CANCELLED": "cancelled", "SKIPPED": "skipped", "MISSED": "missed"}


def slow_mark(own: Run | None, others: list[Run], bounds: Bounds) -> str | None:
    """Judge a slot by its rows; None when there is none that says something."""
    status = own.status if own else ""
    if own and status == "COMPLETED":
        if own.retry_count + own.lost_count:
            return "retried"
        return "late" if own.claimed_at - own.scheduled_for > bounds.late else "on time"
    said = {run.status for run in others}
    if "COMPLETED" in said:
        return "filled"
    for word, mark in FIRST_OF:
        if word in said | {status}:
            return mark
    return OF_ITS_OWN.get(status)


def slow_mark_without_rows(
    slot: datetime, others: list[Run], bounds: Bounds, cursor: datetime, is_summed: bool
) -> str:
    if is_summed:
        return "missed"
    if others:
        return "cancelled"
    if slot > bounds.due_since:
        return "waiting"
    if bounds.kept_since and slot < bounds.kept_since:
        return "forgotten"
    return "never dispatched"


@settings(max_examples=100)
@given(changes, rows, rests, st.integers(0, LENGTH), st.none() | st.integers(0, LENGTH))
def test_a_slow_judge_says_the_same(
    made: list[tuple[int, dict[str, Any]]],
    drawn: list[tuple[int, str, str, int, int]],
    rest: tuple[int, int] | None,
    cursor_at: int,
    kept: int | None,
) -> None:
    known = [
        SimpleNamespace(job_id=1, version=index + 1, changed_at=START + at * MINUTE, definition=it)
        for index, (at, it) in enumerate(made)
    ]
    due = {slot for slot in each_minute(START, END) if is_due(known, slot)}
    runs = happen(known[-1].version, sorted(due) or [START + HOUR], drawn)
    summed: set[datetime] = set()
    taken = {run.scheduled_for for run in runs}
    if rest is not None:
        low, high = START + rest[0] * HOUR, START + sum(rest) * HOUR
        if row := sum_up(known[-1], low, high, taken):
            runs += row
            summed = {slot for slot in each_minute(low, high) if comes(known[-1], slot)}
    kept_since = None if kept is None else START + kept * MINUTE
    bounds = Bounds(START, END, MINUTE, END - 30 * MINUTE, kept_since)
    cursor = START + cursor_at * MINUTE

    jobs: Any = (SimpleNamespace(id=1, name="a", slots_until=cursor, deleted_at=None),)
    said = judge(Hot(runs), Known(jobs, tuple(known)), bounds)  # type: ignore[arg-type]

    own = {run.scheduled_for: run for run in runs if run.trigger == "schedule"}
    expected = {}
    for slot in due | set(own) | summed:
        others = [run for run in runs if run.scheduled_for == slot and run.trigger != "schedule"]
        if START <= slot < END:
            expected[slot] = slow_mark(own.get(slot), others, bounds) or slow_mark_without_rows(
                slot, others, bounds, cursor, slot in summed
            )
    slots = [slot.replace(tzinfo=UTC) for slot in said["slot"]]
    assert len(set(slots)) == len(slots)
    assert dict(zip(slots, said["mark"], strict=True)) == expected
    assert set(said["mark"]) <= set(MARKS)
