"""How long coverage takes: 100 hourly jobs over 30 days, cold and from the cache.

    uv run python -m benchmarks.coverage --on sqlite
    uv run python -m benchmarks.coverage --on postgresql

Each job has one run and one attempt a slot; one slot in fifty has no row, one in thirty failed.
Cold: an empty cache folder. From the cache: a new `kit.log("30d").coverage()` when nothing is new,
and after a hundred new runs. The baseline is one plain count of the window's runs by status.
"""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import jobkit
from benchmarks.stand import chosen, database, opened
from jobkit.kit import Kit
from jobkit.models import attempts, jobs, runs, versions

JOBS, DAYS, ROUNDS = 100, 30, 7
MINUTE = timedelta(minutes=1)
BATCH = 2_000


def fill(kit: Kit) -> int:
    """Write the history; returns how many runs it has."""
    now = kit.clock.now()
    start = now - timedelta(days=DAYS)
    for number in range(JOBS):
        kit.add_job(f"job {number:03d}", "any.py", cron=f"{number % 60} * * * *", tz="Europe/Paris")
    with kit.database.write(takes_long=True) as connection:
        connection.execute(versions.update().values(changed_at=start))
        connection.execute(jobs.update().values(slots_until=now))
    made: list[dict[str, Any]] = []
    for job in kit.jobs:
        slots = kit_slots(kit, job.name, start)
        made += [row(job.id, slot) for number, slot in enumerate(slots) if number % 50]
    write(kit, made)
    return len(made)


def kit_slots(kit: Kit, name: str, start: Any) -> list[Any]:
    from jobkit.store import definitions

    with kit.database.read() as connection:
        schedule = definitions.schedule_of(definitions.by_name(connection, name))
    return list(schedule.slots(start, kit.clock.now() - 2 * MINUTE))


def row(job_id: int, slot: Any) -> dict[str, Any]:
    return {
        "job_id": job_id,
        "status": "FAILED" if (slot.hour + job_id) % 30 == 0 else "COMPLETED",
        "trigger": "schedule",
        "scheduled_for": slot,
        "created_at": slot,
        "available_at": slot,
        "claimed_at": slot + timedelta(seconds=job_id % 90),
        "completed_at": slot + 2 * MINUTE,
        "attempt": 1,
        "job_version": 1,
        "worker_id": "w1",
    }


def write(kit: Kit, made: list[dict[str, Any]]) -> None:
    with kit.database.write(takes_long=True) as connection:
        for at in range(0, len(made), BATCH):
            connection.execute(runs.insert(), made[at : at + BATCH])
        rows = connection.execute(sa.select(runs.c.id, runs.c.job_id, runs.c.claimed_at)).all()
        tried = [
            {
                "job_id": job_id,
                "dispatch_id": run_id,
                "attempt": 1,
                "status": "SUCCESS",
                "run_time": claimed_at,
                "claimed_at": claimed_at,
                "started_at": claimed_at,
                "finished_at": claimed_at + MINUTE,
                "log_output": "done\n",
            }
            for run_id, job_id, claimed_at in rows
        ]
        for at in range(0, len(tried), BATCH):
            connection.execute(attempts.insert(), tried[at : at + BATCH])


def count(kit: Kit) -> int:
    since = kit.clock.now() - timedelta(days=DAYS)
    statement = (
        sa.select(runs.c.status, sa.func.count())
        .where(runs.c.scheduled_for >= since)
        .group_by(runs.c.status)
    )
    with kit.database.read() as connection:
        return sum(found for _, found in connection.execute(statement))


def cover(kit: Kit) -> int:
    found = kit.log(f"{DAYS}d").coverage()
    assert len(found.figures) == JOBS
    return len(found)


def timed(call: Callable[[], object], times: int = ROUNDS) -> list[float]:
    """Milliseconds of each call."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        took.append((time.perf_counter() - began) * 1000)
    return took


def cold(url: str, folder: Path) -> float:
    """Milliseconds of the first coverage with an empty cache; the libraries are imported."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    with jobkit.connect(url) as fresh:
        return timed(lambda: cover(fresh), 1)[0]


def said(name: str, took: list[float]) -> None:
    middle = statistics.median(took)
    print(f"{name:34} ms     {middle:.0f} ({min(took):.0f} to {max(took):.0f})", flush=True)


def write_runs(kit: Kit, new: list[dict[str, Any]]) -> None:
    with kit.database.write() as connection:
        connection.execute(runs.insert(), new)


def main() -> None:
    """Measure."""
    with database(chosen(__doc__).on) as (url, folder):
        os.environ["JOBKIT_CACHE_DIR"] = str(folder / "cache")
        with opened(url, folder) as kit:
            total = fill(kit)
            print(f"{JOBS} hourly jobs over {DAYS} days, {total:,} runs")
            cover(kit)  # imports
            said("baseline: one count by status", timed(lambda: count(kit)))
            said("cold, bar 1,500", [cold(url, folder) for _ in range(3)])
            cover(kit)
            said("from the cache, bar 200", timed(lambda: cover(kit)))
            later = kit.clock.now() + timedelta(days=1)
            write_runs(kit, [row(1, later + number * MINUTE) for number in range(100)])
            said("after 100 new runs", timed(lambda: cover(kit), 1))


if __name__ == "__main__":
    main()
