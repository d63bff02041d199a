"""What a scrape of `/metrics` costs, and a look that counts for it, with ever more history.

    uv run python -m benchmarks.metrics --on sqlite
    uv run python -m benchmarks.metrics --on postgresql

Eight queues with totals of every kind, 20 workers, 200 runs that wait. Printed are milliseconds of
this process's CPU and of the wall; on PostgreSQL the server's own work is in the latter alone. At
the end stand the plans of all that reads runs: no step of them may be a scan of the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from benchmarks.stand import chosen, database, opened, show
from jobkit.db import copy_rows
from jobkit.db.bulk import continue_ids
from jobkit.kit import Kit
from jobkit.models import runs
from jobkit.states import FINAL, TRIGGERS
from jobkit.store import tallies, workers

ROUNDS = 200
LOOKS = 20
STEP = 20_000
QUEUES = 8
WAITING = 200
FRESH = tallies.MOST_READ
SAME = {
    "job_id": 1, "retry_count": 1, "priority": 0, "max_retries": 3, "retry_delay_seconds": 30,
    "on_worker_lost": "retry", "lost_count": 1,
}  # fmt: skip
COLUMNS = (
    *("id", "status", "trigger", "queue", "created_at", "available_at", "claimed_at"),
    *("completed_at", "scheduled_for", "attempt", *SAME),
)


def row(run_id: int, made: datetime, ended: datetime | None) -> tuple[Any, ...]:
    """Return a run as the database keeps it; without an end it waits."""
    claimed = made if ended is not None else None
    instants = (made, made, claimed, ended)
    shown = [it and it.replace(tzinfo=None).isoformat(" ", "microseconds") for it in instants]
    status = FINAL[run_id % len(FINAL)] if ended is not None else "PENDING"
    trigger = TRIGGERS[1 + run_id % (len(TRIGGERS) - 1)]  # no slots: one job has all of them
    queue = f"queue {run_id % QUEUES}"
    return (run_id, status, trigger, queue, *shown, None, int(ended is not None), *SAME.values())


class History:
    """Runs that were made, in the order of their ids."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.size = 0

    def add(self, count: int, age: timedelta, spread: int, *, is_ended: bool = True) -> None:
        """Add runs made so long ago or earlier by `spread` seconds, and ended at once."""
        for begun in range(0, count, STEP):
            now = self.kit.clock.now()
            rows = []
            for _ in range(min(STEP, count - begun)):
                self.size += 1
                made = now - age - timedelta(seconds=self.size % spread)
                rows.append(row(self.size, made, made if is_ended else None))
            with self.kit.database.write(takes_long=True) as connection:
                copy_rows(connection, runs, COLUMNS, rows)
        with self.kit.database.write() as connection:
            continue_ids(connection, runs)


def add_workers(kit: Kit) -> None:
    """Add workers that are online."""
    for number in range(20):
        known = {
            "worker_id": f"w{number}", "hostname": "host", "platform": "Linux", "process_id": 1,
            "queues": "default", "slots": 4, "version": "0",
        }  # fmt: skip
        with kit.database.write() as connection:
            workers.register(connection, kit.clock.now(), known)


def settle(kit: Kit) -> None:
    """Let PostgreSQL know its tables, as it does by itself after a while."""
    if not kit.database.is_sqlite:
        with kit.database.engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.execute(sa.text("VACUUM ANALYZE"))


def look(kit: Kit) -> bool:
    """Count, as a scheduler does."""
    with kit.database.write() as connection:
        return tallies.count(connection, kit.clock.now())


def measure(
    name: str,
    times: int,
    work: Callable[[], object],
    before: Callable[[], object] = lambda: None,
) -> None:
    """Print what some work takes of the CPU and of the wall, without what is done before it."""
    cpu, wall = [], []
    for _ in range(times):
        before()
        used, began = time.process_time(), time.perf_counter()
        work()
        cpu.append((time.process_time() - used) * 1000)
        wall.append((time.perf_counter() - began) * 1000)
    show(name, "ms CPU", cpu)
    show("", "ms", wall)


def plans(kit: Kit, work: Callable[[], object]) -> list[str]:
    """Return how the database finds the runs that some work reads."""
    seen: list[tuple[str, Any]] = []

    def hear(_c: Any, _cursor: Any, text: str, values: Any, _x: Any, _many: bool) -> None:
        if "FROM job_dispatch" in text:
            seen.append((text, values))

    sa.event.listen(kit.database.engine, "before_cursor_execute", hear)
    work()
    sa.event.remove(kit.database.engine, "before_cursor_execute", hear)
    explain = "EXPLAIN QUERY PLAN " if kit.database.is_sqlite else "EXPLAIN (COSTS OFF) "
    found = []
    for text, values in seen:
        with kit.database.read() as connection:
            driver: Any = connection.connection.dbapi_connection
            cursor = driver.cursor()
            cursor.execute(explain + text, values)
            found += [str(step[-1]) for step in cursor.fetchall()]
    return found


def main() -> None:
    """Measure."""
    asked = chosen(__doc__, runs=1_000_000)
    with database(asked.on) as (url, folder), opened(url, folder) as kit:
        kit.add_job("any", "any.py")
        add_workers(kit)
        history, meter, work = History(kit), kit.meter(), partial(look, kit)
        history.add(WAITING, timedelta(minutes=5), 60, is_ended=False)
        look(kit)
        for size in (10_000, asked.runs // 10, asked.runs):
            history.add(size - history.size, timedelta(days=2), 86_400 * 300)
            settle(kit)
            print(f"{history.size:,} runs")
            fresh = partial(history.add, FRESH, tallies.LAG, 1)
            measure(f"a look that counts {FRESH:,}", LOOKS, work, fresh)
            measure("a look that finds nothing", ROUNDS, work)
            measure("a scrape", ROUNDS, meter.exposition)
        print(
            "runs are found by",
            *plans(kit, meter.exposition),
            *plans(kit, lambda: look(kit)),
            sep="\n  ",
        )


if __name__ == "__main__":
    main()
