"""How late a slot starts at calm, and how soon an idle worker has what is submitted.

    uv run python -m benchmarks.latency --on sqlite
    uv run python -m benchmarks.latency --on postgresql

A real scheduler and a real worker run beside it; a run is submitted 50 to 100 ms after the end of
the one before. An end is the claim as its row says it, a start
the slot or this machine's date before `submit` is called. (The PostgreSQL runs on this machine:
there is one clock.) The baseline is a bare insert, seen and taken by a thread that waits for it
with LISTEN, or on SQLite by looking at `PRAGMA data_version` each millisecond.
"""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import sqlalchemy as sa

from benchmarks.stand import chosen, database, opened, served, show
from jobkit.kit import Kit
from jobkit.models import runs

SLOTS = 70
FIRST = 5
"""Slots while the programs warm up."""
PAUSE = (0.05, 0.1)
LOOK_SECONDS = 0.001
TABLE = "CREATE TABLE bare (id integer PRIMARY KEY, taken_at float)"
PUT = "INSERT INTO bare (id) VALUES ({})"
TAKE = "UPDATE bare SET taken_at = 0 WHERE taken_at IS NULL RETURNING id"


def _milliseconds(start: datetime, end: datetime) -> float:
    return (end - start) / timedelta(milliseconds=1)


def lateness(kit: Kit) -> list[float]:
    """From a slot of a job that runs every second to its claim; milliseconds."""
    kit.add_job("tick", "any.py", every="1s", overlap="allow")
    time.sleep(SLOTS + FIRST)
    kit.pause("tick")
    time.sleep(1)
    claimed = sa.select(runs.c.scheduled_for, runs.c.claimed_at).where(
        runs.c.trigger == "schedule", runs.c.claimed_at.is_not(None)
    )
    with kit.database.read() as connection:
        rows = connection.execute(claimed.order_by(runs.c.id)).all()
    return [_milliseconds(*row) for row in rows[FIRST:]]


def waits(kit: Kit, count: int) -> tuple[list[float], list[float]]:
    """From submits of `any` to claims, and what the submits themselves take; milliseconds."""
    kit.submit("any")  # the first call opens a connection
    began: dict[int, datetime] = {}
    took = []
    for _ in range(count):
        time.sleep(random.uniform(*PAUSE))
        before = datetime.now(UTC)
        run = kit.submit("any")
        took.append(_milliseconds(before, datetime.now(UTC)))
        began[run.id] = before
        while not kit.run(run.id).is_final:  # else its slots may be full, and it is not idle
            time.sleep(LOOK_SECONDS * 10)
    claimed = sa.select(runs.c.id, runs.c.claimed_at).where(runs.c.trigger == "manual")
    with kit.database.read() as connection:
        rows = connection.execute(claimed).all()
    ends = {id_: at for id_, at in rows if id_ in began}
    return [_milliseconds(began[id_], at) for id_, at in ends.items()], took


def bare(count: int, put: Callable[[int], None], take: Callable[[], list[int]]) -> list[float]:
    """From a bare insert to its being taken by another thread; milliseconds."""
    began: dict[int, float] = {}
    taken: dict[int, float] = {}

    def serve() -> None:
        while len(taken) < count:
            for id_ in take():
                taken[id_] = time.perf_counter()

    thread = threading.Thread(target=serve)
    thread.start()
    for id_ in range(count):
        time.sleep(random.uniform(*PAUSE))
        began[id_] = time.perf_counter()
        put(id_)
    thread.join()
    return [(taken[id_] - began[id_]) * 1000 for id_ in began]


def bare_sqlite(folder: Path, count: int) -> list[float]:
    """The baseline on SQLite."""

    def connect() -> sqlite3.Connection:
        made = sqlite3.connect(
            folder / "bare.db", isolation_level=None, check_same_thread=False, timeout=10
        )
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA synchronous = FULL")
        return made

    with closing(connect()) as writer, closing(connect()) as reader:
        writer.execute(TABLE)
        seen = [-1]

        def take() -> list[int]:
            version = reader.execute("PRAGMA data_version").fetchone()[0]
            if version == seen[0]:
                time.sleep(LOOK_SECONDS)
                return []
            seen[0] = version
            return [row[0] for row in reader.execute(TAKE).fetchall()]

        return bare(count, lambda id_: writer.execute(PUT.format(id_)) and None, take)


def bare_postgres(url: str, count: int) -> list[float]:
    """The baseline on PostgreSQL."""
    plain = url.replace("+psycopg", "", 1)
    with psycopg.connect(plain) as writer, psycopg.connect(plain, autocommit=True) as reader:
        writer.execute(TABLE)
        writer.commit()
        reader.execute("LISTEN bare")

        def put(id_: int) -> None:
            writer.execute(PUT.format(id_))
            writer.execute("NOTIFY bare")
            writer.commit()

        def take() -> list[int]:
            list(reader.notifies(timeout=1, stop_after=1))
            return [row[0] for row in reader.execute(TAKE).fetchall()]

        return bare(count, put, take)


def main() -> None:
    """Measure."""
    given = chosen(__doc__, count=200)
    with database(given.on) as (url, folder), opened(url, folder) as kit:
        with served(kit, url, folder):
            show("lateness of a slot", "ms", lateness(kit))
            kit.add_job("any", "any.py", overlap="allow")
            waited, took = waits(kit, given.count)
            show("submit to claim", "ms", waited)
            show("of it the submit", "ms", took)
        is_sqlite = given.on == "sqlite"
        taken = bare_sqlite(folder, given.count) if is_sqlite else bare_postgres(url, given.count)
        show("bare insert to its taking", "ms", taken)


if __name__ == "__main__":
    main()
