"""Servers and disks on bad days, with real programs: full, promoted, crowded, behind PgBouncer.

Each time the programs say what is wrong, ask again, and go on; nothing is lost or doubled.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

import jobkit
from jobkit import migrations
from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.handles import Run
from jobkit.kit import Kit
from tests.bouncer import start_bouncer
from tests.disk import Disk, make_disk
from tests.postgres import Postgres, execute, give_to_nobody, start_server
from tests.proxy import FaultProxy
from tests.test_processes import LEDGER, Processes, ended, ledger, script, until

WAITS = """#!/bin/sh
touch up
while [ ! -e go ]; do sleep 0.05; done
echo done
"""
PATIENT = {"JOBKIT_LEASE_SECONDS": "60", "WORKER_MAX_POLL_INTERVAL": "1"}
"""A run whose database is away for seconds stays its worker's."""


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server of our own."""
    started = own_server()
    migrations.upgrade(started.url("postgres"))
    yield started
    started.stop()


@pytest.fixture
def disk() -> Iterator[Disk]:
    with closing(make_disk()) as made:
        yield made


def own_server(*, wal: Path | None = None) -> Postgres:
    started = start_server(always=True, wal=wal)
    assert started is not None
    return started


@contextmanager
def programs_on(url: str, **settings: str) -> Iterator[Processes]:
    programs = Processes(url, **PATIENT | settings)
    try:
        yield programs
    finally:
        programs.end()


def waiting_run(programs: Processes, kit: Kit, workplace: Path) -> Run:
    """Submit a run whose script ends when there is a file `go`; returns it when it runs."""
    kit.add_job("waits", script(workplace, "waits.sh", WAITS), queue=workplace.parent.name)
    programs.start("worker", "--queues", workplace.parent.name)
    run = kit.submit("waits")
    until((workplace / "up").exists)
    return run


def says(programs: Processes, process: subprocess.Popen[bytes], words: str) -> Callable[[], bool]:
    def has_said() -> bool:
        assert process.poll() is None, programs.said(process)
        return words in programs.said(process)

    return has_said


def assert_nothing_broke(kit: Kit, programs: Processes) -> None:
    assert [finding.breaches for finding in kit.verify() if finding.breaches] == []
    for process in programs.started:
        assert process.poll() is None, programs.said(process)
        assert "Traceback" not in programs.said(process)


@pytest.fixture(params=["sqlite", "postgresql"])
def small_database(request: pytest.FixtureRequest, disk: Disk) -> Iterator[str]:
    """A database that lies, with all its tables, on a disk of its own."""
    if request.param == "sqlite":
        url = f"sqlite:///{disk.folder}/jobkit.db"
        migrations.upgrade(url)
        yield url
        return
    server: Postgres = request.getfixturevalue("server")
    place = disk.folder / "tables"
    place.mkdir()
    give_to_nobody(place)
    base = server.url("postgres")
    execute(base, f"CREATE TABLESPACE small LOCATION '{place}'")
    execute(base, "CREATE DATABASE small TABLESPACE small")
    migrations.upgrade(server.url("small"))
    yield server.url("small")
    execute(base, "DROP DATABASE small WITH (FORCE)")
    execute(base, "DROP TABLESPACE small")


def test_a_full_disk_is_a_clear_message_and_the_result_waits_in_memory(
    small_database: str, disk: Disk, workplace: Path
) -> None:
    full = "disk is full" if small_database.startswith("sqlite") else "No space left on device"
    spool = {"JOBKIT_SPOOL_DIR": str(disk.folder / "spool")}
    with programs_on(small_database, **spool) as programs, jobkit.connect(small_database) as kit:
        run = waiting_run(programs, kit, workplace)
        kit.add_job("filler", "hello.py", overlap="allow", queue="nobody")
        kit.add_job("each second", "hello.py", every="1s", overlap="allow", queue="nobody")
        disk.fill()
        for count in (1000, 100, 10, 1):
            with pytest.raises(DatabaseUnavailable, match=full):
                fill(kit, count)
        scheduler = programs.start("scheduler")
        (workplace / "go").touch()
        until(says(programs, programs.started[0], "waits in memory"))
        until(says(programs, scheduler, full))
        assert not ended(run)
        disk.free()
        until(lambda: ended(run))
        assert [item.status for item in run.attempts()] == ["SUCCESS"]
        until(lambda: len(kit.runs(job="each second")) > 1)
        assert_nothing_broke(kit, programs)


def test_a_log_without_room_crashes_the_server_and_the_result_waits(
    disk: Disk, workplace: Path
) -> None:
    place = disk.folder / "wal"
    place.mkdir()
    give_to_nobody(place)
    server = own_server(wal=place)
    url = server.url("postgres")
    migrations.upgrade(url)
    try:
        with programs_on(url) as programs, jobkit.connect(url) as kit:
            run = waiting_run(programs, kit, workplace)
            kit.add_job("filler", "hello.py", overlap="allow", queue="nobody")
            disk.fill()
            with pytest.raises(DatabaseUnavailable, match="cannot be used now"):
                fill(kit, 2000, written := [])
            assert "PANIC" in (server.folder / "log").read_text("utf-8")
            (workplace / "go").touch()
            until(says(programs, programs.started[0], "1 results wait"))
            disk.free()
            if not server.is_running:
                server.start()
            until(lambda: is_back(kit))
            until(lambda: ended(run))
            assert [item.status for item in run.attempts()] == ["SUCCESS"]
            there = {run.id for run in kit.runs(job="filler", limit=1_000_000)}
            assert there.issuperset(written)
            assert_nothing_broke(kit, programs)
    finally:
        server.stop()


def fill(kit: Kit, count: int, made: list[int] | None = None) -> None:
    """Make so many runs at once, again and again; `made` takes what was acknowledged."""
    while True:
        ids = kit.submit_many("filler", [{"text": "x" * 500}] * count)
        if made is not None:
            made += ids


def is_back(kit: Kit) -> bool:
    with suppress(DatabaseUnavailable):
        kit.submit("filler")
        return True
    return False


def test_a_standby_only_reads_until_it_is_promoted_and_then_all_goes_on(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    primary = own_server()
    proxy, other = FaultProxy(primary.folder), FaultProxy(primary.folder)
    migrations.upgrade(primary.url("postgres"))
    standby = primary.make_standby()
    other.lead_to(standby.folder)
    url = proxy.url("postgres")
    either = url.replace(
        "/postgres?", f",{other.address}/postgres?target_session_attrs=read-write&"
    )
    try:
        with programs_on(url) as programs, jobkit.connect(either) as kit:
            run = waiting_run(programs, kit, workplace)
            note = script(workplace, "note.sh", LEDGER)
            for number in range(3):
                kit.add_job(f"note {number}", note, every="1s", overlap="queue", misfire="all")
            scheduler = programs.start("scheduler")
            at_two = programs.start("worker", JOBKIT_DB_URL=either)
            until(lambda: len(ledger(workplace)) > 3)
            primary.halt()
            proxy.lead_to(standby.folder)
            (workplace / "go").touch()
            with pytest.raises(DatabaseUnavailable, match="read-only"):
                kit.submit("waits")
            for process in (programs.started[0], scheduler, at_two):
                until(says(programs, process, "read-only"))
            execute(standby.url("postgres"), "SELECT pg_promote()")
            until(lambda: is_status(kit, run.id, "COMPLETED"))
            assert [item.status for item in kit.attempts(run.id)] == ["SUCCESS"]
            before = len(ledger(workplace))
            until(lambda: len(ledger(workplace)) > before + 3)
            for number in range(3):
                kit.job(f"note {number}").pause()
            until(lambda: not kit.queue())
            assert set(Counter(ledger(workplace)).values()) == {1}
            assert_nothing_broke(kit, programs)
    finally:
        for opened in (proxy, other):
            opened.close()
        standby.stop()
        primary.stop()


def is_status(kit: Kit, run_id: int, status: str) -> bool:
    with suppress(DatabaseUnavailable):
        return kit.run(run_id).status == status
    return False


@pytest.fixture
def crowded(server: Postgres) -> Iterator[str]:
    """A server that has few connections to give."""
    server.halt()
    server.start(max_connections="12")
    yield server.url("postgres")
    server.halt()
    server.start()


def test_a_server_without_a_free_connection_is_waited_for(crowded: str, workplace: Path) -> None:
    taken: list[psycopg.Connection[object]] = []
    with programs_on(crowded) as programs, jobkit.connect(crowded) as kit:
        run = waiting_run(programs, kit, workplace)
        kit.add_job("each second", "hello.py", every="1s", queue=run.queue)
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            take_all(crowded, taken)
        with pytest.raises(DatabaseUnavailable, match="too many clients"):
            jobkit.connect(crowded)
        scheduler = programs.start("scheduler")
        until(says(programs, scheduler, "too many clients"))
        (workplace / "go").touch()
        for connection in taken:
            connection.close()
        until(lambda: ended(run))
        assert [item.status for item in run.attempts()] == ["SUCCESS"]
        until(lambda: len(kit.runs(job="each second", status="COMPLETED")) > 1)
        assert_nothing_broke(kit, programs)


def take_all(url: str, taken: list[psycopg.Connection[object]]) -> None:
    while True:
        taken.append(psycopg.connect(url.replace("+psycopg", "", 1)))


def test_behind_pgbouncer_all_polls_says_so_once_and_doubles_nothing(
    server: Postgres, workplace: Path
) -> None:
    name = "bounced"
    execute(server.url("postgres"), f"CREATE DATABASE {name}")
    with closing(start_bouncer(server)) as bouncer:
        url = bouncer.url(name)
        with closing(Database(url)) as pooled, pooled.write() as connection:
            assert not connection.connection.info["prepares"]  # the next one has another server
        migrations.upgrade(url)
        with programs_on(url) as programs, jobkit.connect(url) as kit:
            note = script(workplace, "note.sh", LEDGER)
            for number in range(5):
                kit.add_job(f"note {number}", note, every="1s", overlap="allow", misfire="all")
            for kind in ("scheduler", "worker") * 2:
                programs.start(kind)
            for process in programs.started:
                until(says(programs, process, "brings no wake-ups"))
            before = len(ledger(workplace))
            until(lambda: len(ledger(workplace)) > before + 20)
            for job in kit.jobs:
                job.pause()
            until(lambda: not kit.queue())
            assert {run.status for run in kit.runs(limit=10_000)} == {"COMPLETED"}
            assert set(Counter(ledger(workplace)).values()) == {1}
            assert len(ledger(workplace)) == len(kit.runs(limit=10_000))
            for process in programs.started:
                assert programs.said(process).count("brings no wake-ups") == 1
            assert_nothing_broke(kit, programs)
