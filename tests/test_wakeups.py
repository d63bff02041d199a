"""Wake-ups: somebody's commit ends a wait long before the poll interval does."""

from __future__ import annotations

import select
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

import jobkit
from jobkit import wakeups
from jobkit.db import Database
from jobkit.kit import Kit
from jobkit.wakeups import Alarm, Watch
from tests.postgres import execute
from tests.test_processes import Processes, processes, until

__all__ = ["processes"]

LONG = 60.0


@pytest.fixture(autouse=True)
def wakeups_on(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What these tests are about, also where all others run without."""
    monkeypatch.delenv("JOBKIT_WAKEUPS", raising=False)


@pytest.fixture
def watch(kit: Kit) -> Iterator[Watch]:
    with closing(Watch(kit.database)) as opened:
        opened.wait(threading.Event(), 0.1)  # from here on it listens
        yield opened


def test_a_commit_of_another_connection_ends_the_wait(watch: Watch, database: str) -> None:
    with jobkit.connect(database) as other:
        other.add_job("hello", "hello.py")
        began = time.monotonic()
        assert watch.wait(threading.Event(), LONG)
        assert time.monotonic() - began < LONG / 2


def test_a_commit_from_before_anybody_listened_is_no_wait(kit: Kit) -> None:
    with closing(Watch(kit.database)) as late:
        assert late.wait(threading.Event(), LONG)
        assert not late.wait(threading.Event(), 0.1)


def test_without_a_commit_the_wait_lasts(watch: Watch) -> None:
    began = time.monotonic()
    assert not watch.wait(threading.Event(), 0.3)
    assert time.monotonic() - began >= 0.3


def test_a_stop_ends_the_wait(watch: Watch) -> None:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    assert not watch.wait(stop, LONG)
    assert time.monotonic() - began < LONG / 2


def test_an_alarm_ends_the_wait_at_once_and_can_be_set_again(watch: Watch) -> None:
    with closing(Alarm()) as alarm:
        for _ in range(3):
            threading.Timer(0.05, alarm.set).start()
            began = time.monotonic()
            assert not watch.wait(alarm, LONG)
            assert time.monotonic() - began < wakeups.SLICE_SECONDS
            alarm.clear()
        assert not watch.wait(alarm, 0.1)


def test_an_alarm_that_was_set_before_somebody_waits_is_seen() -> None:
    with closing(Alarm()) as alarm:
        alarm.set()
        assert select.select([alarm], [], [], 0)[0]
        alarm.clear()
        assert not select.select([alarm], [], [], 0)[0]


def test_a_connection_that_breaks_costs_a_poll_and_is_made_again(
    postgres_database: str,
) -> None:
    opened = Database(postgres_database)
    with closing(Watch(opened)) as watch:
        watch.wait(threading.Event(), 0.1)
        execute(
            postgres_database,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE query = 'LISTEN jobkit' AND datname = current_database()",
        )
        assert not watch.wait(threading.Event(), 0.2)
        watch.wait(threading.Event(), 0.1)
        with jobkit.connect(postgres_database) as other:
            other.add_job("hello", "hello.py")
        assert watch.wait(threading.Event(), LONG)
    opened.close()


def test_switched_off_nothing_wakes_and_nobody_is_told(database: str) -> None:
    opened = Database(database, wakeups=False)
    with closing(Watch(opened)) as watch, jobkit.connect(database) as other:
        other.add_job("hello", "hello.py")
        assert not watch.wait(threading.Event(), 0.3)
        assert watch._source is None
    opened.close()


def test_a_listener_that_hears_nothing_says_so_and_polls(
    postgres_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(wakeups, "PING_SECONDS", 0.2)
    # Behind PgBouncer in transaction mode the session that listens is somebody else's.
    monkeypatch.setattr(wakeups, "notify", lambda _: None)
    opened = Database(postgres_database)
    with closing(Watch(opened)) as watch:
        began = time.monotonic()
        assert not watch.wait(threading.Event(), 0.5)
        assert not watch.wait(threading.Event(), 0.1)
        assert time.monotonic() - began >= 0.6
    with closing(Watch(opened)) as another:
        assert not another.wait(threading.Event(), 0.1)
    assert caplog.text.count("Polling instead") == 1
    opened.close()


def test_everything_works_at_poll_speed_without_wake_ups(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    kit.add_job("each second", "hello.py", every="1s")
    off = {"JOBKIT_WAKEUPS": "off"}
    processes.start("scheduler", **off)
    processes.start("worker", **off)
    run = kit.submit("each second")
    until(lambda: run.refresh().status == "COMPLETED")
    until(lambda: len(kit.runs(status="COMPLETED")) >= 4)


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_without_inotify_the_version_of_the_file_is_looked_at(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wakeups, "_bell", lambda _: None)
    opened = Database(sqlite_database)
    with closing(Watch(opened)) as watch, jobkit.connect(sqlite_database) as other:
        watch.wait(threading.Event(), 0.1)
        other.add_job("hello", "hello.py")
        assert watch.wait(threading.Event(), LONG)
    opened.close()


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_a_commit_that_is_long_on_its_way_to_the_disk_is_seen(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Database(sqlite_database)
    with closing(Watch(opened)) as watch, closing(Alarm()) as alarm:
        watch.wait(alarm, 0.1)
        reaches_disk_at = time.monotonic() + 0.5
        monkeypatch.setattr(
            watch._source, "_version", lambda: int(time.monotonic() > reaches_disk_at)
        )
        watch.wait(alarm, 0.01)  # the file is at version 0 from here on
        with (Path(sqlite_database.removeprefix("sqlite:///") + "-wal")).open("ab") as wal:
            wal.write(b"half a commit")
        assert watch.wait(alarm, LONG)
        assert time.monotonic() - reaches_disk_at < wakeups.SETTLED_SECONDS
    opened.close()


def test_a_waiting_person_hears_of_the_end_at_once(kit: Kit, database: str) -> None:
    kit.add_job("hello", "hello.py")
    run = kit.submit("hello")
    waited = threading.Thread(target=run.cancel)
    threading.Timer(0.2, waited.start).start()
    with pytest.raises(jobkit.JobFailed, match="CANCELLED"):
        run.wait(timeout=LONG)
    until(lambda: not waited.is_alive())
