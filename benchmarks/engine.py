"""How fast the engine is, beside raw SQL that does the same, in one run.

    uv run python -m benchmarks.engine --on sqlite
    uv run python -m benchmarks.engine --on postgresql

Each measure is taken several times, in turn with its baseline; printed are medians and the spread.
Databases are as durable as in production: SQLite with synchronous FULL, PostgreSQL as it is.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import sqlalchemy as sa

from benchmarks.stand import chosen, database, measure, opened
from jobkit import scheduler
from jobkit.kit import Kit
from jobkit.store import claims, definitions
from jobkit.store.claims import Claim, Result
from jobkit.wakeups import Watch

BATCH = 100
CLAIM = """
UPDATE job_dispatch SET status = 'IN_PROGRESS', worker_id = 'raw', claimed_at = {mark},
 lease_until = {mark}, attempt = attempt + 1 WHERE id IN (SELECT id FROM job_dispatch
 WHERE status = 'PENDING' AND queue = 'default' ORDER BY priority DESC, available_at, id
 LIMIT {mark} {skip}) RETURNING id, job_id, available_at
"""
END = "UPDATE job_dispatch SET status = 'COMPLETED', completed_at = {mark} WHERE id {which}"
LOG = (
    "INSERT INTO job_execution_logs"
    " (run_time, status, attempt, claimed_at, dispatch_id, job_id, queued_at)"
)


def _raw_sqlite(driver: Any, now: datetime, batch: int) -> None:
    at = now.isoformat(" ", "microseconds")
    driver.execute("BEGIN IMMEDIATE")
    taken = driver.execute(CLAIM.format(mark="?", skip=""), (at, at, batch)).fetchall()
    driver.execute("COMMIT")
    driver.execute("BEGIN IMMEDIATE")
    driver.executemany(END.format(mark="?", which="= ?"), [(at, row[0]) for row in taken])
    values = " VALUES (?, 'SUCCESS', 1, ?, ?, ?, ?)"
    driver.executemany(LOG + values, [(at, at, *row) for row in taken])
    driver.execute("COMMIT")


def _raw_postgres(driver: Any, now: datetime, batch: int) -> None:
    claim = CLAIM.format(mark="%s", skip="FOR UPDATE SKIP LOCKED")
    taken = driver.execute(claim, (now, now, batch)).fetchall()
    driver.commit()
    columns = [list(column) for column in zip(*taken, strict=True)]
    driver.execute(END.format(mark="%s", which="= ANY (%s)"), (now, columns[0]))
    values = (
        " SELECT %s, 'SUCCESS', 1, %s, * FROM unnest(%s::bigint[], %s::bigint[], %s::timestamp[])"
    )
    driver.execute(LOG + values, (now, now, *columns))
    driver.commit()


class Bench:
    """One database and the measures on it."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.rng = random.Random(1)

    def fill(self, count: int) -> None:
        self.kit.submit_many("any", [{}] * count)

    def add_jobs(self, count: int) -> None:
        """Add hourly jobs in one transaction."""
        now = self.kit.clock.now()
        author = definitions.Author("bench", "benchmarks")
        with self.kit.database.write(takes_long=True) as connection:
            for number in range(count):
                values = {
                    "name": f"job {number}",
                    "script_path": "any.py",
                    "schedule_type": "interval",
                    "interval_seconds": 3600,
                    "anchor_at": now,
                    "slots_until": now,
                    "next_run": now + timedelta(hours=1),
                    "created_at": now,
                    "overlap_policy": "allow",
                }
                definitions.insert(connection, values, now, author)

    def claim_and_finish(self, count: int = 20_000, batch: int = BATCH) -> float:
        """Claim in one thread and finish in groups in another, as a worker does; pairs a second."""
        self.fill(count)
        return self.drain(count, batch)

    def drain(self, count: int, batch: int = BATCH) -> float:
        """The same with what waits already, which is as many."""
        taken: SimpleQueue[list[Claim]] = SimpleQueue()
        began = time.perf_counter()
        claiming = threading.Thread(target=self._claim_all, args=(batch, taken))
        claiming.start()
        ended = 0
        while ended < count:
            ended += self.finish(taken.get())
        claiming.join()
        return count / (time.perf_counter() - began)

    def _claim_all(self, batch: int, taken: SimpleQueue[list[Claim]]) -> None:
        while claimed := self.claim(batch):
            taken.put(claimed)

    def claim(self, limit: int) -> list[Claim]:
        """Claim so many runs as a worker does."""
        database = self.kit.database
        with database.write() as connection:
            return claims.claim(
                connection,
                database.clock.now(),
                worker_id="bench",
                queue="default",
                lease=timedelta(minutes=1),
                limit=limit,
            )

    def finish(self, claimed: list[Claim]) -> int:
        """Finish claims in one group; returns how many."""
        database = self.kit.database
        with database.write() as connection:
            now = database.clock.now()
            done = [(claim, Result("exit", now, now, 0)) for claim in claimed]
            return len(claims.finish(connection, done, now, self.rng))

    def raw_claim_and_finish(self, count: int = 20_000, batch: int = BATCH) -> float:
        """The same by the driver and SQL written for it, without fence, states or retries."""
        self.fill(count)
        with closing(self.kit.database.engine.raw_connection()) as connection:
            driver: Any = connection.driver_connection
            is_sqlite = self.kit.database.is_sqlite
            began = time.perf_counter()
            for _ in range(count // batch):
                now = self.kit.clock.now().replace(tzinfo=None)
                (_raw_sqlite if is_sqlite else _raw_postgres)(driver, now, batch)
            return count / (time.perf_counter() - began)

    def dispatch(self, count: int = 10_000) -> float:
        """Dispatch so many jobs that come due in one second; seconds."""
        database, now = self.kit.database, self.kit.clock.now()
        with database.write() as connection:
            connection.execute(sa.text("DELETE FROM job_dispatch"))
            due = {"now": (now - timedelta(seconds=1)).replace(tzinfo=None)}
            connection.execute(
                sa.text(
                    "UPDATE scheduled_jobs SET next_run = :now, anchor_at = :now, "
                    "slots_until = :before WHERE schedule_type = 'interval'"
                ).bindparams(
                    sa.bindparam("now", type_=sa.DateTime()),
                    sa.bindparam("before", type_=sa.DateTime()),
                ),
                due | {"before": due["now"] - timedelta(minutes=1)},
            )
        began = time.perf_counter()
        made = 0
        while True:
            with database.write() as connection:
                done = scheduler.tick(connection, now, self.kit.settings)
            made += len(done.dispatched)
            if not done.again:
                break
        assert made == count, made
        return time.perf_counter() - began

    def submit(self, count: int = 300) -> float:
        """Submit runs one by one; runs a second."""
        began = time.perf_counter()
        for _ in range(count):
            self.kit.submit("any")
        return count / (time.perf_counter() - began)

    def submit_many(self, count: int = 20_000) -> float:
        """Submit runs in one call; runs a second."""
        began = time.perf_counter()
        self.fill(count)
        return count / (time.perf_counter() - began)

    def wake_up(self, count: int = 50) -> float:
        """From a commit to the wake-up of somebody who waits; milliseconds, the 98th percentile."""
        woken, ready, over = (threading.Event() for _ in range(3))
        heard: list[float] = []
        taken: list[float] = []

        def wait() -> None:
            with closing(Watch(self.kit.database)) as watch:
                watch.wait(threading.Event(), 0.1)
                while not over.is_set():
                    ready.set()
                    watch.wait(threading.Event(), 1)
                    heard.append(time.perf_counter())
                    woken.set()

        thread = threading.Thread(target=wait)
        thread.start()
        for _ in range(count):
            ready.wait()
            ready.clear()
            time.sleep(0.02)
            woken.clear()
            self.kit.submit("any")
            began = time.perf_counter()
            woken.wait(10)
            taken.append(max(0.0, heard[-1] - began) * 1000)
        over.set()
        self.kit.submit("any")
        thread.join()
        return statistics.quantiles(taken, n=50)[-1]


def run(url: str, folder: Path) -> None:
    """Measure on one database."""
    with opened(url, folder) as kit:
        bench = Bench(kit)
        kit.add_job("any", "any.py", overlap="allow")
        measure(
            "claim and finish",
            "1/s",
            ("jobkit", bench.claim_and_finish),
            ("raw SQL", bench.raw_claim_and_finish),
        )
        measure("submit, one by one", "1/s", ("jobkit", bench.submit))
        measure("submit_many, 20,000", "1/s", ("jobkit", bench.submit_many))
        measure("wake-up after a commit", "ms", ("jobkit", bench.wake_up))
        bench.add_jobs(10_000)
        measure("dispatch 10,000 due jobs", "s", ("jobkit", bench.dispatch))


def main() -> None:
    """Measure."""
    with database(chosen(__doc__).on) as (url, folder):
        run(url, folder)


if __name__ == "__main__":
    main()
