"""Reports of small made-up histories: the edges that a generated history seldom has."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import jobkit
from jobkit.kit import Kit
from jobkit.models import attempts, jobs, runs, workers
from jobkit.testing import ManualClock
from tests import referee
from tests.referee import QUESTIONS, Asked, Tables

START = datetime(2026, 3, 28, 22, tzinfo=UTC)
"""In the night after it the clocks of Berlin go forward."""
MINUTE = timedelta(minutes=1)
LENGTH = 14 * 60
NOW = START + (LENGTH + 180) * MINUTE
ASKED = (
    Asked(START, START + LENGTH * MINUTE, NOW, "1h", "Europe/Berlin", timedelta(hours=3)),
    Asked(START + 90 * MINUTE, NOW, NOW, "1d", "Europe/Berlin", timedelta(hours=2)),
)
TRACE = 'Traceback:\n  File "/x/load.py", line 3, in load\n    go()\nKeyError: {0}\n'

minutes = st.one_of(st.sampled_from([0, 60, 90, 120, LENGTH]), st.integers(-60, LENGTH + 60))
"""Where instants lie: often on the borders of buckets and of the window, and equal."""
names = st.sampled_from(["w1", "w1", "w2", "gone", None])
waits = st.one_of(st.none(), st.sampled_from([0, 0, 1, 30, -5]))
lasting = st.one_of(st.sampled_from([0, 0, 60, -3]), st.integers(0, 5 * 60))
Try = tuple[int, int | None, int | None, str, str | None, str | None]


@dataclass(frozen=True)
class Made:
    """A run and its attempts, in minutes after START."""

    job: int
    slot: int | None
    tries: tuple[tuple[int, int | None, int | None, int, str, str | None, str | None], ...]
    """Claim, wait before it, start after it, length, status, worker, output."""
    status: str
    again: int
    lost: int


tries = st.tuples(
    minutes, waits, st.sampled_from([0, 0, 1, None]), lasting,
    st.sampled_from(["SUCCESS", "SUCCESS", "FAILURE", "ERROR", "TIMEOUT", "CANCELLED", "LOST",
                     "RELEASED"]),
    names, st.sampled_from([None, "said", TRACE.format("'a'"), TRACE.format("'b'") + "bye"]),
)  # fmt: skip
ended = st.sampled_from(
    ["COMPLETED", "COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "MISSED", "SKIPPED", "PENDING",
     "IN_PROGRESS"]
)  # fmt: skip
made = st.builds(
    Made, st.integers(0, 1), st.one_of(st.none(), minutes),
    st.lists(tries, max_size=3).map(lambda found: tuple(sorted(found, key=lambda t: t[0]))),
    ended, st.integers(0, 2), st.sampled_from([0, 0, 1]),
)  # fmt: skip
adopted = st.lists(tries, max_size=2)
ONE = (0, 1, 0, 0, "SUCCESS", "w1", None)


def instant(minute: int) -> datetime:
    return START + minute * MINUTE


def write(kit: Kit, histories: list[Made], strays: list[Any]) -> None:
    """Replace all rows by these."""
    run_rows: list[dict[str, Any]] = []
    attempt_rows: list[dict[str, Any]] = []
    taken: set[tuple[int, int | None]] = set()

    def attempt(job: int, run: int | None, number: int | None, slot: Any, a: Any) -> None:
        claim, wait, start, long, status, worker, said = a
        started = None if start is None else instant(claim + start)
        attempt_rows.append({
            "id": len(attempt_rows) + 1, "job_id": job + 1, "run_time": instant(claim),
            "status": status, "dispatch_id": run, "attempt": number, "worker_id": worker,
            "scheduled_for": slot, "claimed_at": instant(claim),
            "queued_at": None if wait is None else instant(claim - wait), "started_at": started,
            "finished_at": None if start is None and status == "LOST"
            else instant(claim + (start or 0) + long),
            "exit_code": 3 if status == "FAILURE" else None, "log_output": said,
            "signal": 9 if status == "FAILURE" and worker == "w2" else None,
            "error_message": "no python 3.11 here" if status == "ERROR" else None,
        })  # fmt: skip

    for number, one in enumerate(histories, 1):
        # A clock may claim two minutes too early, not hours.
        behind = one.slot
        if one.slot is not None and one.tries:
            behind = min(one.slot, one.tries[0][0] + 2)
        slot = None if behind is None else instant(behind)
        again = "backfill" if (one.job, behind) in taken else "schedule"
        taken.add((one.job, behind))
        is_open = one.status in ("PENDING", "IN_PROGRESS")
        first = one.tries[0][0] if one.tries else one.slot or 5
        claim = one.tries[-1][0] if one.tries else first
        last = one.tries[-1] if one.tries else (first, 0, 0, 0, "", None, None)
        end = last[0] + (last[2] or 0) + last[3]
        for index, each in enumerate(one.tries, 1):
            attempt(one.job, number, index, slot, each)
        holds = one.status == "IN_PROGRESS"
        is_claimed = holds or (bool(one.tries) and not is_open)
        run_rows.append({
            "id": number, "job_id": one.job + 1, "status": one.status,
            "created_at": instant(min(first, first if one.slot is None else one.slot)),
            "available_at": instant(first), "scheduled_for": slot,
            "trigger": "manual" if slot is None else again,
            "claimed_at": instant(claim + 1 if holds else claim) if is_claimed else None,
            "completed_at": None if is_open else instant(end),
            "worker_id": (last[5] or "w1") if is_claimed else None,
            "attempt": len(one.tries) + holds, "queue": "heavy" if one.job else "default",
            "retry_count": one.again, "lost_count": one.lost,
            "lease_until": NOW if holds else None,
        })  # fmt: skip
    for each in strays:
        attempt(0, None, None, None, each)
    with kit.database.write() as connection:
        for table, rows in ((attempts, attempt_rows), (runs, run_rows)):
            connection.execute(table.delete())
            if rows:
                connection.execute(table.insert(), rows)


@pytest.fixture
def small(kit: Kit) -> Iterator[Kit]:
    """Two jobs and two workers, of which one has four slots."""
    kit.clock = kit.database.clock = ManualClock(NOW)
    for name in ("load", "send"):
        kit.add_job(name, "hello.py", every="1h")
    row = {"started_at": START, "last_heartbeat": NOW}
    with kit.database.write() as connection:
        connection.execute(jobs.update().values(script_path="/x/load.py"))
        tagged = jobs.update().where(jobs.c.name == "load").values(tags=["x", "of two"])
        connection.execute(tagged)
        named = [{"worker_id": "w1", "slots": 4, **row}, {"worker_id": "w2", "slots": 1, **row}]
        connection.execute(workers.insert(), named)
    return kit


EDGES: list[tuple[list[Made], list[Any]]] = [
    ([], []),
    ([Made(0, 0, (ONE,), "COMPLETED", 0, 0)], []),
    # Equal instants and no length, at the borders of the window and of an hour.
    ([Made(0, at, ((at, 0, 0, 0, "SUCCESS", "w1", None),) * 2, "COMPLETED", 1, 0)
      for at in (0, 60, LENGTH)], []),
    # Many buckets, and one that ends where the window begins.
    ([Made(1, 0, ((-60, 0, 0, LENGTH + 200, "SUCCESS", "w1", None),), "COMPLETED", 0, 0),
      Made(1, -60, ((-60, 0, 0, 60, "SUCCESS", "w2", None),), "COMPLETED", 0, 0)], []),
    # Clocks that went back, over the borders of the window too.
    ([Made(0, 60, ((61, -5, 0, -3, "SUCCESS", "w1", None),), "COMPLETED", 0, 0),
      Made(0, 0, ((1, 0, 0, -3, "SUCCESS", "w1", None),), "COMPLETED", 0, 0),
      Made(0, LENGTH, ((LENGTH, 0, 1, -3, "SUCCESS", "w1", None),), "COMPLETED", 0, 0)], []),
    # What runs, what waits for its second try, and rows of an older system.
    ([Made(0, 60, (ONE,), "IN_PROGRESS", 1, 0),
      Made(0, 120, ((121, 1, 0, 5, "FAILURE", "w1", TRACE),), "PENDING", 1, 0)],
     [(30, None, 0, 20, "SUCCESS", None, None), (30, None, None, 0, "FAILURE", None, None)]),
]  # fmt: skip


def disagreements(kit: Kit, at: Asked, cache: Path) -> list[str]:
    """Say where reports and engines differ."""
    said, tables = [], Tables(kit)
    url = kit.database.url.render_as_string(hide_password=False)
    with jobkit.connect(url, cache_dir=str(cache)) as fresh:
        fresh.clock = fresh.database.clock = kit.clock
        log = fresh.log((at.start, at.end), tz=at.zone)
        for question in QUESTIONS:
            found = referee.in_jobkit(log, question, at)
            for engine, answer in (
                (kit.database.name, referee.in_the_database(kit, question, at)),
                ("duckdb", referee.in_duckdb(tables, question, at)),
                ("polars", referee.in_polars(tables, question, at)),
            ):
                told = referee.differences(found, answer)
                said += [f"{question.name}, {engine}: {line}" for line in told]
    return said


@settings(
    max_examples=8,
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(made, max_size=6), adopted, st.sampled_from(ASKED))
def test_small_histories_are_told_as_every_engine_finds_them(
    small: Kit,
    tmp_path_factory: pytest.TempPathFactory,
    histories: list[Made],
    strays: list[Any],
    at: Asked,
) -> None:
    write(small, histories, strays)
    assert disagreements(small, at, tmp_path_factory.mktemp("cache")) == []


for _histories, _strays in EDGES:
    test_small_histories_are_told_as_every_engine_finds_them = example(
        _histories, _strays, ASKED[0]
    )(test_small_histories_are_told_as_every_engine_finds_them)
