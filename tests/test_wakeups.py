"""Wake-ups: somebody's commit ends a wait long before the poll interval does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

import jobkit
from jobkit.db import Database, Watch
from jobkit.kit import Kit
from tests.test_processes import until

LONG = 60.0


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


def test_a_connection_that_breaks_costs_a_poll_and_is_made_again(
    postgres_database: str,
) -> None:
    opened = Database(postgres_database)
    with closing(Watch(opened)) as watch:
        watch.wait(threading.Event(), 0.1)
        watch._connection.close()
        assert not watch.wait(threading.Event(), 0.2)
        watch.wait(threading.Event(), 0.1)
        with jobkit.connect(postgres_database) as other:
            other.add_job("hello", "hello.py")
        assert watch.wait(threading.Event(), LONG)
    opened.close()


def test_a_waiting_person_hears_of_the_end_at_once(kit: Kit, database: str) -> None:
    kit.add_job("hello", "hello.py")
    run = kit.submit("hello")
    waited = threading.Thread(target=run.cancel)
    threading.Timer(0.2, waited.start).start()
    with pytest.raises(jobkit.JobFailed, match="CANCELLED"):
        run.wait(timeout=LONG)
    until(lambda: not waited.is_alive())
