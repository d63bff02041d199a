"""The doctor: silent on a sound installation, names each thing that is wrong, and never hangs."""

from __future__ import annotations

import json
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

import jobkit
from jobkit import cli, doctor, migrations
from jobkit.db import Database
from jobkit.doctor import OK, PROBLEM, WARNING, Examination
from jobkit.doctor import database as of_databases
from jobkit.doctor import machine as of_machines
from jobkit.doctor.check import Patient, check, run
from jobkit.kit import Kit
from jobkit.scheduler import Scheduler
from jobkit.settings import load
from jobkit.store import claims, workers
from jobkit.worker.heartbeat import Heartbeat, Standing
from tests.bouncer import start_bouncer
from tests.disk import make_disk
from tests.postgres import execute, start_server


def register(kit: Kit, worker_id: str = "ann-1", **row: Any) -> None:
    """Let a worker of this machine be online."""
    usual = {
        "worker_id": worker_id, "hostname": socket.gethostname(), "platform": "Linux",
        "process_id": 1, "queues": "default", "slots": 4, "version": jobkit.__version__,
    }  # fmt: skip
    with kit.database.write() as connection:
        workers.register(connection, kit.clock.now(), usual | row)


def beat(kit: Kit, worker_id: str, *, ahead: float | None) -> None:
    with kit.database.write() as connection:
        claims.renew(
            connection, kit.clock.now(), worker_id=worker_id, lease=timedelta(minutes=1), held=(),
            status="IDLE", processed=0, clock_ahead=ahead,
        )  # fmt: skip


@pytest.fixture
def sound(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """An installation in which all is as it should be."""
    kit.add_job("sales", "hello.py", every="5m")
    Scheduler(kit.database, kit.settings).step()
    register(kit)
    monkeypatch.setattr(of_machines, "zone_version", lambda: f"{datetime.now(UTC).year}a")
    if kit.database.is_sqlite:
        Path(kit.database.url.database or "").chmod(0o600)
    return kit


def seen(found: Examination) -> set[tuple[str, str]]:
    """Return the check and the grade of what is not fine."""
    return {(item.check, item.grade) for item in found if item.grade != OK}


def told(found: Examination, name: str) -> str:
    return " | ".join(str(item) for item in found if item.check == name)


def without_wakeups(kit: Kit) -> set[tuple[str, str]]:
    """Return what is not fine where the tests run without wake-ups."""
    return set() if kit.settings.wakeups else {("wake-ups", WARNING)}


def contents(kit: Kit) -> dict[str, list[Any]]:
    with kit.database.read() as connection:
        tables = sa.inspect(connection).get_table_names()
        return {
            name: list(map(tuple, connection.execute(sa.text(f"SELECT * FROM {name}"))))
            for name in tables
        }


def test_a_sound_installation_is_well_and_nothing_is_changed(sound: Kit) -> None:
    before = contents(sound)
    found = sound.doctor()
    assert seen(found) == without_wakeups(sound), found
    assert found.is_well
    assert contents(sound) == before
    names = {item.check for item in found}
    assert {"database", "schema", "wake-ups", "scheduler", "workers", "queues", "scripts"} <= names
    assert ("log" if sound.database.is_sqlite else "old transactions") in names
    assert ("heard after" in told(found, "wake-ups")) is sound.settings.wakeups
    assert repr(found).startswith(f"Doctor on {sound.url}")
    assert "ok" in found._repr_html_()


def nothing_runs(kit: Kit) -> None:
    with kit.database.write() as connection:
        connection.execute(sa.text("DELETE FROM scheduler_duties"))
        connection.execute(sa.text("DELETE FROM worker_registration"))


def silent_worker(kit: Kit) -> None:
    old = kit.clock.now() - 2 * kit.settings.worker_offline_threshold
    with kit.database.write() as connection:
        connection.execute(workers.workers.update().values(last_heartbeat=old))


def script_gone(kit: Kit) -> None:
    Path("hello.py").unlink()


def queue_unserved(kit: Kit) -> None:
    kit.edit("sales", queue="etl")


def other_version(kit: Kit) -> None:
    register(kit, "bob-1", version="0.0.1")


def clock_ahead(kit: Kit) -> None:
    beat(kit, "ann-1", ahead=95.0)


def clock_behind(kit: Kit) -> None:
    beat(kit, "ann-1", ahead=-3.0)


FAULTS: dict[str, tuple[Callable[[Kit], None], dict[str, tuple[str, str]]]] = {
    "no program runs": (
        nothing_runs,
        {
            "scheduler": (PROBLEM, "no slot of 1 active jobs"),
            "workers": (PROBLEM, "jobkit worker"),
            "queues": (PROBLEM, "the queue default"),
            "scripts": (OK, "1 active jobs"),
        },
    ),
    "a worker was killed": (
        silent_worker,
        {
            "workers": (WARNING, "ann gave no heartbeat"),
            "queues": (PROBLEM, "No worker serves"),
        },
    ),
    "a script is gone": (script_gone, {"scripts": (PROBLEM, "sales: The script hello.py does")}),
    "a queue has no worker": (queue_unserved, {"queues": (PROBLEM, "--queues etl")}),
    "a worker is older": (other_version, {"versions": (WARNING, "bob of 0.0.1")}),
    "a clock is wrong": (clock_ahead, {"clocks of workers": (PROBLEM, "1 min 35 s ahead")}),
    "a clock is off": (clock_behind, {"clocks of workers": (WARNING, "3 s behind")}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_with_programs_and_jobs_is_named(sound: Kit, fault: str) -> None:
    break_it, expected = FAULTS[fault]
    break_it(sound)
    found = sound.doctor()
    for name, (grade, words) in expected.items():
        graded = " | ".join(
            str(item) for item in found if item.check == name and item.grade == grade
        )
        assert words in graded, found
    assert found.is_well is not any(grade == PROBLEM for grade, _ in expected.values())


def test_a_heartbeat_says_how_far_the_clock_is(kit: Kit) -> None:
    register(kit)
    heart = Heartbeat(
        kit.database,
        every=timedelta(seconds=10),
        lease=timedelta(minutes=1),
        standing=lambda: Standing("ann-1", [], "IDLE", 0),
        learned=lambda *_: None,
    )
    heart.beat()
    with kit.database.read() as connection:
        (row,) = workers.listed(connection)
    assert row.clock_ahead_seconds == pytest.approx(0, abs=2)


def test_settings_that_contradict_each_other_are_told(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_SLOTTS", "8")
    monkeypatch.setenv("REFLEX_DB_URL", "sqlite:///old.db")
    monkeypatch.setenv("JOBKIT_DB_URL", "sqlite:///new.db")
    monkeypatch.setenv("JOBKIT_SECRET_SLOTS", "a secret is no setting")
    chosen = load(
        worker_offline_threshold="15s", kill_grace="20s", worker_poll_interval="2m",
        job_timeout_threshold="2h", host="0.0.0.0", preload=("no_such_module",),
        dispatch_lock_duration="300", cache_dir=workplace / "cache",
        spool_dir=workplace / "cache" / "spool",
    )  # fmt: skip
    found = told(doctor.examine(chosen), "settings")
    for words in (
        "WORKER_OFFLINE_THRESHOLD", "ignores TERM", "WORKER_MAX_POLL_INTERVAL",
        "shown as running long", "JOBKIT_CACHE_DIR", "in the clear", "no_such_module",
        "Did you mean JOBKIT_SLOTS?", "name two databases", "DISPATCH_LOCK_DURATION",
    ):  # fmt: skip
        assert words in found
    assert "a secret" not in found
    assert "SECRET_SLOTS" not in found


def test_a_database_that_is_not_there_yet_is_not_made(workplace: Path) -> None:
    found = doctor.examine(load(db_url="sqlite:///later.db"))
    assert "jobkit up makes it" in told(found, "database file")
    assert found.is_well
    assert not Path("later.db").exists()


def test_a_database_of_an_older_revision_is_told_to_be_upgraded(empty_database: str) -> None:
    migrations.upgrade(empty_database, to="0012")
    found = doctor.examine(load(db_url=empty_database))
    assert "jobkit db upgrade" in told(found, "schema")
    assert not found.is_well
    assert not told(found, "scheduler"), "nothing can be asked of it"
    with closing(Database(empty_database)) as opened:
        assert migrations.standing(opened).revision == "0012"


def test_a_file_in_a_synced_folder_is_a_problem(workplace: Path) -> None:
    Path("Dropbox").mkdir()
    migrations.upgrade("sqlite:///moved.db")
    Path("moved.db").rename("Dropbox/jobkit.db")
    found = doctor.examine(load(db_url="sqlite:///Dropbox/jobkit.db"))
    assert "cloud-sync folder" in told(found, "database file")
    assert not found.is_well


def test_a_damaged_file_is_a_finding_and_the_machine_is_still_looked_at(workplace: Path) -> None:
    Path("jobkit.db").write_text("no database\n" * 999, "utf-8")
    found = doctor.examine(load())
    assert "file is not a database" in told(found, "database")
    assert told(found, "disk space")


def test_a_server_that_refuses_and_one_that_says_nothing_are_findings(workplace: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        url = f"postgresql://ann:secret@127.0.0.1:{port}/jobs"
        found = doctor.examine(load(db_url=url), limit=2)
    assert "no answer within 2 s" in told(found, "database")
    found = doctor.examine(load(db_url=url))
    assert "cannot be used now" in told(found, "database")
    assert "secret" not in repr(found)


def test_a_check_that_fails_or_hangs_is_a_finding(workplace: Path) -> None:
    @check("broken")
    def broken(_this: object, _patient: Patient) -> Iterator[Any]:
        raise ValueError("a surprise")
        yield

    with socket.create_server(("127.0.0.1", 0)) as mute:

        @check("hanging")
        def hanging(_this: object, _patient: Patient) -> Iterator[Any]:
            mute.accept()[0].close()
            yield

        found = run((broken, hanging), Patient(load(), datetime.now(UTC)), limit=0.5)
        socket.create_connection(mute.getsockname()).close()
    assert [item.grade for item in found] == [PROBLEM, PROBLEM]
    assert "a surprise" in found[0].words
    assert "no answer within 0.5 s" in found[1].words


def test_missing_time_zones_and_old_ones_are_told(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_machines, "zone_version", lambda: "2019b")
    found = doctor.examine(load())
    assert ("time zones", WARNING) in seen(found)
    monkeypatch.setattr(of_machines, "PROBED_ZONE", "Atlantis/Capital")
    assert "pip install tzdata" in told(doctor.examine(load()), "time zones")


def test_folders_that_cannot_be_written_or_that_all_can_read_are_told(workplace: Path) -> None:
    (workplace / "secrets").mkdir(mode=0o755)
    (workplace / "file").write_text("", "utf-8")
    chosen = load(
        secrets_dir=workplace / "secrets",
        spool_dir=workplace / "file" / "spool",
        script_roots=(workplace / "nowhere",),
    )
    found = doctor.examine(chosen)
    assert "is no folder" in told(found, "folders")
    assert "nowhere, which is no folder" in told(found, "script roots")


def test_a_full_disk_is_a_problem(workplace: Path) -> None:
    with closing(make_disk()) as disk:
        chosen = load(spool_dir=disk.folder / "spool")
        assert ("disk space", PROBLEM) not in seen(doctor.examine(chosen))
        disk.fill()
        found = doctor.examine(chosen)
        assert ("disk space", PROBLEM) in seen(found)
        assert str(disk.folder) in told(found, "disk space")


def test_a_long_log_is_told(sqlite_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_databases, "LARGE_LOG", 1 << 20)
    file = sqlite_database.removeprefix("sqlite:///")
    with closing(sqlite3.connect(file)) as reader, closing(sqlite3.connect(file)) as writer:
        reader.execute("BEGIN").execute("SELECT count(*) FROM scheduled_jobs").fetchone()
        writer.execute("CREATE TABLE ballast AS SELECT zeroblob(2000000) AS block")
        found = doctor.examine(load(db_url=sqlite_database))
    assert "has been reading for long" in told(found, "log")


def test_what_a_server_suffers_from_is_told(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_databases, "ahead_of", lambda _now: -40.0)
    monkeypatch.setattr(of_databases, "dead_rows", lambda _: [("job_dispatch", 10, 500_000)])
    monkeypatch.setattr(of_databases, "ids_left", lambda _: 0.1)
    monkeypatch.setattr(of_databases, "probe", lambda _: None)
    monkeypatch.setattr(of_databases, "SLOW_SECONDS", 0.0)
    found = doctor.examine(load(db_url=postgres_database, wakeups=True))
    assert "clock is 40 s behind the database's" in told(found, "clock")
    assert {("clock", PROBLEM), ("dead rows", PROBLEM), ("wake-ups", WARNING)} <= seen(found)
    assert "VACUUM job_dispatch" in told(found, "dead rows")
    assert ("database", WARNING) in seen(found)


def test_a_transaction_that_is_left_open_is_named(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_databases, "LONG", timedelta(0))
    url = postgres_database.replace("+psycopg", "", 1)
    with psycopg.connect(url, application_name="forgotten report") as left_open:
        left_open.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        left_open.execute("SELECT count(*) FROM scheduled_jobs")
        found = doctor.examine(load(db_url=postgres_database))
    assert "forgotten report" in told(found, "old transactions")
    assert ("old transactions", WARNING) in seen(found)


def test_pgbouncer_in_transaction_mode_is_seen(workplace: Path) -> None:
    server = start_server(always=True)
    assert server is not None
    try:
        execute(server.url("postgres"), "CREATE DATABASE bounced")
        migrations.upgrade(server.url("bounced"))
        assert "Nothing stands between" in told(
            doctor.examine(load(db_url=server.url("bounced"))), "pooler"
        )
        with closing(start_bouncer(server)) as bouncer:
            found = doctor.examine(load(db_url=bouncer.url("bounced")))
        assert "a pooler in transaction mode drops them" in told(found, "wake-ups")
        assert "PgBouncer" in told(found, "pooler")
    finally:
        server.stop()


def test_the_command_prints_findings_and_ends_with_1_when_something_is_wrong(
    sound: Kit, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = sound.database.url.render_as_string(hide_password=False)
    monkeypatch.setenv("JOBKIT_DB_URL", url)
    for arguments, code in ((["doctor"], 0), (["doctor", "--json"], 0)):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert (ended.value.code or 0) == code
    assert "are of version" in capsys.readouterr().out
    script_gone(sound)
    with pytest.raises(SystemExit) as ended:
        cli.main(["doctor", "--json"])
    assert ended.value.code == 1
    document = json.loads(capsys.readouterr().out)
    assert document["findings"][0]["grade"] == PROBLEM
    assert document["findings"][0]["advice"]
