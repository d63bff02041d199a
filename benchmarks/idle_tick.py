"""What an idle tick of the scheduler costs with ever more active jobs, none of which is due.

    uv run python -m benchmarks.idle_tick --on sqlite
    uv run python -m benchmarks.idle_tick --on postgresql

Printed are the time of a tick, what the database counts as read for it (PostgreSQL: rows of tables
and entries of indexes; SQLite: steps of its virtual machine), and at the end the plan of the
statement that finds due jobs.
"""

from __future__ import annotations

import time
from collections import Counter
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from benchmarks.stand import chosen, database, opened, show
from jobkit import scheduler
from jobkit.kit import Kit
from jobkit.models import jobs

SIZES = (100, 1_000, 10_000, 100_000)
TICKS = 300
COUNTED = 100
READ = """
SELECT relname, seq_tup_read FROM pg_stat_user_tables
UNION ALL SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes
"""


def add_jobs(kit: Kit, first: int, count: int) -> None:
    """Add jobs that are due in an hour, without the history that `Kit.add_job` keeps."""
    now = kit.clock.now()
    same = {
        "script_path": "any.py",
        "schedule_type": "interval",
        "interval_seconds": 3600,
        "anchor_at": now,
        "slots_until": now,
        "next_run": now + timedelta(hours=1),
        "created_at": now,
    }
    rows = [same | {"name": f"job {number}"} for number in range(first, first + count)]
    with kit.database.write(takes_long=True) as connection:
        connection.execute(jobs.insert(), rows)


def tick(kit: Kit) -> float:
    """Do an idle tick; milliseconds."""
    began = time.perf_counter()
    with kit.database.write() as connection:
        done = scheduler.tick(connection, kit.clock.now(), kit.settings)
    assert not done.dispatched
    return (time.perf_counter() - began) * 1000


def steps(kit: Kit) -> str:
    """Say how many steps of SQLite's virtual machine a tick takes."""
    taken = 0

    def count() -> None:
        nonlocal taken
        taken += 1

    with kit.database.write() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(count, 1)
        scheduler.tick(connection, kit.clock.now(), kit.settings)
        driver.set_progress_handler(None, 1)
    return f"{taken} steps"


def rows_read(kit: Kit) -> str:
    """Say how many rows and entries of indexes PostgreSQL reads for a tick."""
    before = _read_so_far(kit)
    for _ in range(COUNTED):
        tick(kit)
    read = _read_so_far(kit)
    read.subtract(before)
    named = {name: count for name, count in read.items() if count}
    shown = [f"{count / COUNTED:g} of {name}" for name, count in sorted(named.items())]
    return ", ".join(shown) or "nothing"


def _read_so_far(kit: Kit) -> Counter[str]:
    with kit.database.engine.connect() as connection:
        connection.execute(sa.text("SELECT pg_stat_force_next_flush()"))
        connection.commit()
        return Counter({name: count for name, count in connection.execute(sa.text(READ))})


def plan(kit: Kit) -> list[str]:
    """Return how the database finds the jobs that are due."""
    seen: list[tuple[str, Any]] = []

    def hear(_c: Any, _cursor: Any, text: str, values: Any, _x: Any, _many: bool) -> None:
        if "scheduled_jobs" in text:
            seen.append((text, values))

    engine = kit.database.engine
    sa.event.listen(engine, "before_cursor_execute", hear)
    tick(kit)
    sa.event.remove(engine, "before_cursor_execute", hear)
    explain = "EXPLAIN QUERY PLAN " if kit.database.is_sqlite else "EXPLAIN (COSTS OFF) "
    text, values = seen[0]
    with kit.database.read() as connection:
        return [str(row[-1]) for row in connection.exec_driver_sql(explain + text, values)]


def main() -> None:
    """Measure."""
    with database(chosen(__doc__).on) as (url, folder), opened(url, folder) as kit:
        made = 0
        for size in SIZES:
            add_jobs(kit, made, size - made)
            made = size
            if not kit.database.is_sqlite:
                with kit.database.engine.connect() as connection:
                    connection.execution_options(isolation_level="AUTOCOMMIT")
                    connection.execute(sa.text("VACUUM ANALYZE"))
            for _ in range(20):
                tick(kit)
            name = f"idle tick, {size:,} active jobs"
            show(name, "ms", [tick(kit) for _ in range(TICKS)])
            print(f"{'':34} reads  {(steps if kit.database.is_sqlite else rows_read)(kit)}")
        print("jobs that are due are found by", *plan(kit), sep="\n  ")


if __name__ == "__main__":
    main()
