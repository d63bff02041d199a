"""With a million finished runs, each hot query touches only what it returns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

import jobkit
from jobkit import evaluation, scheduler
from jobkit.db import Database
from jobkit.kit import Kit
from jobkit.models import jobs
from jobkit.settings import load
from jobkit.store import alerts, claims, clocks, definitions, dispatch, history, workers
from tests.stage import MONDAY

MILLION = 1_000_000
SERIES = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count})",
    "postgresql": "WITH s(n) AS (SELECT generate_series(1, {count}))",
}
RUNS = """
    INSERT INTO job_dispatch (job_id, status, created_at, completed_at, available_at, claimed_at,
        scheduled_for, job_version, attempt, worker_id, lane, trigger)
    {series} SELECT n - n / 500 * 500, CASE WHEN n / 50 * 50 = n THEN 'FAILED' ELSE 'COMPLETED' END,
        at, at, at, at, at, 1, 1, 'w1', 0, 'schedule'
    FROM (SELECT n, {at} AS at FROM s) AS t
"""
AT = {
    "sqlite": "strftime('%Y-%m-%d %H:%M:%S.000000', 1769904000 + n, 'unixepoch')",
    "postgresql": "TIMESTAMP '2026-02-01' + n * INTERVAL '1 second'",
}
INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE tbl_name = 'job_dispatch' "
    "AND type = 'index' AND sql IS NOT NULL",
    "postgresql": "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'job_dispatch' "
    "AND right(indexname, 5) <> '_pkey'",
}


# A file that is thrown away needs no journal, which would write each page twice.
CARELESS = (
    "journal_mode = OFF",
    "synchronous = OFF",
    "temp_store = MEMORY",
    "cache_size = -300000",
)


@pytest.fixture
def big(database: str) -> Iterator[Database]:
    filling = Database(database)
    _fill(filling)
    filling.close()
    opened = Database(database)
    yield opened
    opened.close()


def _fill(database: Database) -> None:
    dialect = database.engine.dialect.name
    if database.is_sqlite:
        with closing(database.engine.raw_connection()) as raw:
            for pragma in CARELESS:
                raw.cursor().execute(f"PRAGMA {pragma}")
    series = SERIES[dialect].format(count=MILLION)
    with database.write(takes_long=True) as connection:
        # An index that is made when the rows are there is sorted once.
        indexes = connection.exec_driver_sql(INDEXES[dialect]).all()
        for name, _ in indexes:
            connection.exec_driver_sql(f"DROP INDEX {name}")
        connection.exec_driver_sql(RUNS.format(series=series, at=AT[dialect]))
        for _, statement in indexes:
            connection.exec_driver_sql(statement)
        connection.exec_driver_sql("ANALYZE")


class Plans:
    """Runs statements and keeps the plan of each."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.found: list[tuple[str, str]] = []
        self._is_sqlite = connection.dialect.name == "sqlite"
        sa.event.listen(connection.engine, "before_cursor_execute", self._explain)

    def _explain(self, conn: Any, cursor: Any, statement: str, parameters: Any, *more: Any) -> None:
        if statement.startswith(("EXPLAIN", "SAVEPOINT", "NOTIFY")) or conn is not self.connection:
            return
        if more[-1]:  # many sets of values
            parameters = parameters[0]
        words = "EXPLAIN QUERY PLAN " if self._is_sqlite else "EXPLAIN "
        raw = conn.connection.dbapi_connection.cursor()
        raw.execute(words + statement, parameters)
        column = 3 if self._is_sqlite else 0
        self.found += [(str(row[column]), statement) for row in raw.fetchall()]

    def scans(self) -> list[str]:
        """Return the steps that read the whole of `job_dispatch`."""
        sa.event.remove(self.connection.engine, "before_cursor_execute", self._explain)
        pattern = (
            r"^SCAN job_dispatch(?! USING)" if self._is_sqlite else r"Seq Scan on job_dispatch"
        )
        # The newest runs of all are read from the end of the table, and only so many.
        return [
            statement
            for step, statement in self.found
            if re.search(pattern, step) and "WHERE" in statement
        ]


def test_hot_queries_use_their_indexes(big: Database) -> None:
    now = MONDAY
    settings = load()
    with big.write() as connection:
        plans = Plans(connection)
        claims.claim(
            connection,
            now,
            worker_id="w",
            queue="default",
            lease=timedelta(minutes=1),
            limit=10,
        )
        claims.is_due(connection, "default", now)
        claims.next_available(connection, ["default"], now)
        claims.wishes(connection, "w")
        claims.renew(
            connection,
            now,
            worker_id="w",
            lease=timedelta(minutes=1),
            held=[(1, 1), (2, 1)],
            status="BUSY",
            processed=0,
        )
        scheduler.tick(connection, now, settings)
        claims.expire(connection, now)
        dispatch.next_due(connection)
        history.listed(connection, limit=50)
        history.listed(connection, job_ids=[7], limit=50)
        history.listed(connection, statuses=["FAILED"], limit=50)
        history.listed(connection, since=now - timedelta(minutes=5), limit=50)
        history.run(connection, 5)
        history.waiting(connection)
        history.counts(connection, now)
        history.clean_up(connection, now, keep=timedelta(days=3650))
        workers.listed(connection)
        definitions.listed(connection)
        assert plans.scans() == []
        assert len(plans.found) > 30


def test_a_look_at_what_is_watched_uses_indexes(big: Database) -> None:
    now = MONDAY
    watched = {"late": 900.0, "running": 3600.0, "failed": True, "short": True, "failures": 3}
    rows = [
        {
            "id": number, "name": f"job {number}", "script_path": "hello.py", "slots_until": now,
            "created_at": now, "alerts": watched, "is_active": True,
        }
        for number in range(500)
    ]  # fmt: skip
    with big.write() as connection:
        connection.execute(jobs.insert(), rows)
        connection.exec_driver_sql("ANALYZE")
    with big.write() as connection:
        plans = Plans(connection)
        alerts.unfinished(connection)
        alerts.ended(connection, now - timedelta(minutes=1))
        alerts.runs_of(connection, [1, 2, 3])
        alerts.newest(connection, 7)
        alerts.decided(connection, 7, 11)
        alerts.last_success(connection, 7)
        alerts.told_until(connection, ["job:7:failed"])
        alerts.overdue(connection, now)
        alerts.outcomes(connection, now - timedelta(hours=1))
        clocks.due(connection, now)
        evaluation.look_at_jobs(connection, now, load())
        evaluation.look_at_installation(connection, now, load())
        assert plans.scans() == []
        assert len(plans.found) > 30


def test_an_idle_tick_takes_no_longer_with_more_jobs_that_are_not_due_and_more_runs_that_wait(
    sqlite_database: str, workplace: Path
) -> None:
    steps = []
    with jobkit.connect(sqlite_database) as kit:
        for count in (10, 500):
            for number in range(count):
                kit.add_job(f"{count} {number}", "hello.py", every="1d")
            kit.submit_many(f"{count} 0", [{}] * count)
            steps.append(_steps_of_a_tick(kit))
    assert steps[1] < steps[0] * 1.1


def _steps_of_a_tick(kit: Kit) -> int:
    taken: list[None] = []
    with kit.database.write() as connection:
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(lambda: taken.append(None), 1)
        scheduler.tick(connection, kit.clock.now(), kit.settings)
        driver.set_progress_handler(None, 1)
    return len(taken)
