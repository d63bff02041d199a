"""Databases on a bad day: a clear message, then everything goes on and nothing is lost."""

from __future__ import annotations

import itertools
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

import jobkit
from jobkit import migrations
from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.kit import Kit
from tests.postgres import Postgres, execute, start_server
from tests.proxy import FaultProxy
from tests.stage import Stage, set_stage


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of our own, which tests may starve."""
    started = start_server(always=True)
    assert started is not None
    migrations.upgrade(started.url("postgres"))
    yield started
    started.stop()


@pytest.fixture
def proxy(server: Postgres) -> Iterator[FaultProxy]:
    opened = FaultProxy(server.folder)
    yield opened
    opened.close()


@pytest.fixture
def far(proxy: FaultProxy, workplace: Path) -> Iterator[Kit]:
    """A kit behind the proxy, with one job that no other test has."""
    with jobkit.connect(proxy.url("postgres")) as kit:
        kit.add_job(workplace.parent.name, "hello.py", overlap="allow")
        yield kit


@pytest.fixture
def name(workplace: Path) -> str:
    """A job and a queue that no other test has."""
    return workplace.parent.name


def seconds(work: Callable[[], object]) -> float:
    began = time.monotonic()
    with pytest.raises(DatabaseUnavailable):
        work()
    return time.monotonic() - began


def test_a_cut_connection_is_one_clear_error_and_the_next_call_works(
    far: Kit, proxy: FaultProxy, name: str
) -> None:
    def cut_in_the_middle() -> None:
        with far.database.write() as connection:
            connection.exec_driver_sql("SELECT 1")
            proxy.cut()

    with pytest.raises(DatabaseUnavailable, match="cannot be used now"):
        cut_in_the_middle()
    assert far.submit(name).status == "PENDING"


def test_connections_that_were_cut_while_they_rested_are_no_error_at_all(
    far: Kit, proxy: FaultProxy, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.db.postgres.RESTED_SECONDS", 0.0)
    proxy.cut()
    assert far.submit(name).status == "PENDING"


def test_a_connection_into_a_black_hole_is_shut_by_the_watchdog(
    far: Kit, proxy: FaultProxy, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.db.database.DEADLINE_SECONDS", 0.5)
    proxy.hold()
    assert 0.4 < seconds(lambda: far.submit(name)) < 10
    proxy.release()
    assert far.submit(name).status == "PENDING"


def test_a_commit_that_did_not_arrive_writes_nothing(
    far: Kit, proxy: FaultProxy, name: str
) -> None:
    proxy.drop_commit()
    with pytest.raises(DatabaseUnavailable):
        far.submit(name)
    assert proxy.cuts == 1
    assert far.runs(job=name) == []


def test_an_attempt_whose_commit_was_not_answered_is_recorded_once(
    proxy: FaultProxy, name: str
) -> None:
    stage = set_stage(proxy.url("postgres"))
    stage.kit.add_job(name, "hello.py", overlap="allow", queue=name)
    run = stage.kit.submit(name)
    (claim,) = stage.claim(queue=name)
    proxy.drop_answer()
    with pytest.raises(DatabaseUnavailable):
        stage.finish(claim)
    assert proxy.cuts == 1
    assert stage.finish(claim) is False
    assert run.refresh().status == "COMPLETED"
    assert [item.status for item in run.attempts()] == ["SUCCESS"]
    stage.kit.close()


def test_a_server_that_refuses_connections_is_named(proxy: FaultProxy) -> None:
    proxy.is_refusing = True
    with pytest.raises(DatabaseUnavailable, match=r"127\.0\.0\.1"):
        jobkit.connect(proxy.url("postgres"))


def test_a_server_without_a_free_connection_is_a_clear_error_until_it_has_one(
    server: Postgres,
) -> None:
    url = server.url("postgres")
    plain = url.replace("+psycopg", "", 1)
    execute(url, "CREATE ROLE guest LOGIN CONNECTION LIMIT 2")
    execute(url, "GRANT ALL ON ALL TABLES IN SCHEMA public TO guest")
    taken = [psycopg.connect(plain, user="guest") for _ in range(2)]
    guest = Database(url.replace("jobkit@", "guest@"))
    with (
        pytest.raises(DatabaseUnavailable, match=r"too many connections.*let the server have more"),
        guest.read(),
    ):
        pass
    for connection in taken:
        connection.close()
    with guest.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar() == 1
    guest.close()


def test_a_read_only_server_takes_nothing_says_so_and_recovers(server: Postgres, name: str) -> None:
    url = server.url("postgres")
    with jobkit.connect(url) as kit:
        kit.add_job(name, "hello.py")
        execute(url, "ALTER DATABASE postgres SET default_transaction_read_only = on")
        try:
            kit.database.close()
            with pytest.raises(DatabaseUnavailable, match=r"read-only.*server that writes"):
                kit.submit(name)
        finally:
            with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute("ALTER DATABASE postgres RESET default_transaction_read_only")
        kit.database.close()
        assert kit.submit(name).status == "PENDING"


def test_a_session_that_idles_in_a_transaction_stops_no_claim(server: Postgres, name: str) -> None:
    url = server.url("postgres")
    stage = set_stage(url)
    stage.kit.add_job(name, "hello.py", overlap="allow", queue=name)
    held, *others = (stage.kit.submit(name).id for _ in range(5))
    with psycopg.connect(url.replace("+psycopg", "", 1)) as somebody:
        somebody.execute("SELECT * FROM job_dispatch WHERE id = %s FOR UPDATE", (held,))
        taken = stage.claim(limit=10, queue=name)
        assert [claim.run_id for claim in taken] == others
        assert all(stage.finish(claim) for claim in taken)
    assert [claim.run_id for claim in stage.claim(limit=10, queue=name)] == [held]
    stage.kit.close()


def test_forty_threads_on_a_pool_of_five_each_get_their_turn(stage: Stage) -> None:
    stage.kit.database.engine.pool._pool.maxsize = 5  # type: ignore[attr-defined]
    stage.job(overlap="allow")

    def work(_: int) -> int:
        return sum(stage.kit.submit("sales").id > 0 for _ in range(5))

    with ThreadPoolExecutor(40) as threads:
        assert sum(threads.map(work, range(40))) == 200
    assert len(stage.runs()) == 200


def test_sqlite_eight_writers_see_no_lock_and_wait_fairly(sqlite_database: str) -> None:
    longest: list[float] = []
    together = threading.Barrier(8)
    made = itertools.count(1)

    def write(_: int) -> int:
        slowest, count = 0.0, 0
        with jobkit.connect(sqlite_database) as kit:
            together.wait()
            until = time.monotonic() + 4
            while time.monotonic() < until or next(made) < 800:  # few turns say little of fairness
                began = time.monotonic()
                kit.submit("sales")
                slowest, count = max(slowest, time.monotonic() - began), count + 1
        longest.append(slowest)
        return count

    with jobkit.connect(sqlite_database) as kit:
        kit.add_job("sales", "hello.py", overlap="allow")
        with ThreadPoolExecutor(8) as threads:
            counts = list(threads.map(write, range(8)))
        assert len(kit.runs(job="sales", limit=1_000_000)) == sum(counts)
    assert min(counts) * 4 > max(counts), counts
    assert max(longest) < 5, longest


def test_a_full_sqlite_file_is_a_clear_error_and_loses_nothing(sqlite_database: str) -> None:
    with jobkit.connect(sqlite_database) as kit:
        kit.add_job("sales", "hello.py", overlap="allow")
        kit.submit("sales")
        # The pages that a file may have stand for the room on its disk.
        _limit_pages(kit, 1)
        with pytest.raises(DatabaseUnavailable, match=r"full.*Make room"):
            kit.submit_many("sales", [{"text": "x" * 1000}] * 500)
        _limit_pages(kit, 1_000_000)
        assert len(kit.runs(job="sales")) == 1
        assert kit.submit("sales").status == "PENDING"
        assert all(not finding.breaches for finding in kit.verify())


def _limit_pages(kit: Kit, count: int) -> None:
    connections = [kit.database.engine.raw_connection() for _ in range(3)]
    for connection in connections:
        driver = connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        driver.execute(f"PRAGMA max_page_count = {count}")
        connection.close()


def test_a_watchdog_lets_quick_work_alone(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobkit.db.database.DEADLINE_SECONDS", 1.0)
    stage.job(overlap="allow")
    for _ in range(3):
        stage.kit.submit("sales")
        threading.Event().wait(0.4)
    assert stage.states() == ["PENDING"] * 3
