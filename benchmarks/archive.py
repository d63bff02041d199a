"""A month of N attempts leaves the tables while another process claims: how long a claim waits.

    uv run python -m benchmarks.archive --on sqlite --attempts 1000000
    uv run python -m benchmarks.archive --on postgresql --attempts 100000

The history is made beside its limit: the same rows again by bare inserts (SQLite) or COPY
(PostgreSQL), without an index. The archive's baseline is a bare export of the three tables of a
second copy to files and three bare DELETE in one transaction. Each line: seconds in all, attempts a
second, and of the claims meanwhile the median, the 99th percentile and the longest, in
milliseconds. The archive is a process of its own: its peak memory, and its processor time.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

import jobkit
from benchmarks.stand import database, opened
from jobkit.db import Database
from jobkit.kit import Kit
from jobkit.models import attempts, output, runs
from jobkit.store import claims
from jobkit.testing.history import generate

LEASE = timedelta(hours=1)
WAITING = 20_000
PAUSE_SECONDS = 0.002
NOW = datetime(2026, 2, 28, 12, tzinfo=UTC)
BEFORE = datetime(2026, 3, 1, tzinfo=UTC)
STEPS = ("staged", "written", "listed", "dropped", "removed")


def claim_until_told(url: str) -> None:
    """Claim one run after the other until stdin ends; print the seconds that each took."""
    took = []
    with jobkit.connect(url) as kit:
        print("ready", flush=True)
        import threading

        told = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), told.set()), daemon=True).start()
        while not told.is_set():
            began = time.perf_counter()
            with kit.database.write() as connection:
                claims.claim(
                    connection,
                    kit.clock.now(),
                    worker_id="claimer",
                    queue="bench",
                    lease=LEASE,
                    limit=1,
                )
            took.append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)
    print(json.dumps(took))


class Claimer:
    """A process that claims while the block runs."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.took: list[float] = []

    def __enter__(self) -> Claimer:
        command = [sys.executable, "-m", "benchmarks.archive", "--claim", self._url]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()
        return self

    def __exit__(self, *_: object) -> None:
        said, _errors = self._process.communicate("")
        self.took = json.loads(said)


ROOT = Path(__file__).parent.parent


def fill(kit: Kit, count: int, now: datetime) -> float:
    """Make a month of history, and runs that wait in a queue of their own; seconds of the first."""
    began = time.perf_counter()
    generate(kit.database, attempts=count, months=0.95, now=now)
    took = time.perf_counter() - began
    kit.add_job("bench", "any.py", queue="bench", overlap="allow")
    kit.submit_many("bench", [{}] * WAITING)
    return took


def bare_inserts(url: str) -> float:
    """Write the rows of a history once more with nothing but the driver; seconds of that."""
    took = 0.0
    with (
        jobkit.connect(url) as kit,
        kit.database.read(takes_long=True) as reading,
        kit.database.write(takes_long=True) as writing,
    ):
        source: Any = reading.connection.driver_connection
        driver: Any = writing.connection.driver_connection
        for table in (runs, attempts, output):
            copy = f"bare_{table.name}"
            made = f"CREATE TABLE {copy} AS SELECT * FROM {table.name} LIMIT 0"
            writing.execute(sa.text(made))
            found = source.execute(f"SELECT * FROM {table.name}")
            while rows := found.fetchmany(20_000):
                began = time.perf_counter()
                _insert(driver, copy, rows, is_sqlite=kit.database.is_sqlite)
                took += time.perf_counter() - began
        began = time.perf_counter()
    return took + time.perf_counter() - began


def _insert(driver: Any, table: str, rows: list[Any], *, is_sqlite: bool) -> None:
    if is_sqlite:
        marks = ", ".join("?" * len(rows[0]))
        driver.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        return
    with driver.cursor() as cursor, cursor.copy(f"COPY {table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def bare_export(opened_: Database, folder: Path) -> None:
    """Write the three tables to files as they are: by COPY, or row by row where there is none."""
    with opened_.read(takes_long=True) as connection:
        driver: Any = connection.connection.driver_connection
        for table in (runs, attempts, output):
            with (folder / f"{table.name}.csv").open("w", encoding="utf-8", newline="") as file:
                if opened_.is_sqlite:
                    csv.writer(file).writerows(driver.execute(f"SELECT * FROM {table.name}"))
                    continue
                asked = f"COPY {table.name} TO STDOUT (FORMAT csv)"
                with driver.cursor() as cursor, cursor.copy(asked) as copy:
                    for piece in copy:
                        file.write(bytes(piece).decode())


def bare_delete(opened_: Database, before: datetime) -> None:
    """Delete what the archiver would, in one transaction."""
    gone = sa.select(runs.c.id).where(
        runs.c.completed_at < before, runs.c.completed_at.is_not(None)
    )
    with opened_.write(takes_long=True) as connection:
        for table in (output, attempts):
            connection.execute(table.delete().where(table.c.dispatch_id.in_(gone)))
        connection.execute(runs.delete().where(runs.c.id.in_(gone)))


def tell(what: str, count: int, seconds: float, took: list[float]) -> None:
    ordered = sorted(took)
    p99 = ordered[int(len(ordered) * 0.99)]
    print(
        f"{what:<14} {seconds:8.1f} s {count / seconds:10.0f}/s   claims {len(took):6}: "
        f"{statistics.median(took) * 1000:6.1f} {p99 * 1000:7.1f} {ordered[-1] * 1000:8.1f} ms"
    )


def archive(url: str, folder: Path) -> None:
    """Archive all that is over; print when each step was reached, and what it cost."""
    steps: list[tuple[float, str]] = []
    with jobkit.connect(url) as kit:
        began = time.perf_counter()
        kit.archive.run(
            BEFORE,
            str(folder / "archive"),
            reached=lambda step: steps.append((time.perf_counter() - began, step)),
        )
    usage = resource.getrusage(resource.RUSAGE_SELF)
    told = [(at, step) for at, step in steps if step in STEPS]
    cpu = usage.ru_utime + usage.ru_stime
    print(json.dumps({"steps": told, "peak": usage.ru_maxrss / 1024, "cpu": cpu}))


def in_a_process(url: str, folder: Path) -> str:
    command = [sys.executable, "-m", "benchmarks.archive", "--archive", url, str(folder)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def measure(on: str, count: int) -> None:
    for what in ("nobody", "archive", "bare"):
        with database(on) as (url, folder), opened(url, folder) as kit:
            made = fill(kit, count, NOW)
            if what == "nobody":
                print(f"history made   {made:8.1f} s {count / made:10.0f}/s")
                bare = bare_inserts(url)
                print(f"bare inserts   {bare:8.1f} s {count / bare:10.0f}/s")
            said = None
            with Claimer(url) as claimer:
                began = time.perf_counter()
                if what == "nobody":
                    time.sleep(10)
                elif what == "archive":
                    said = json.loads(in_a_process(url, folder))
                else:
                    bare_export(kit.database, folder)
                    print(f"bare export    {time.perf_counter() - began:8.1f} s")
                    bare_delete(kit.database, BEFORE)
                seconds = time.perf_counter() - began
            tell(what, count, seconds, claimer.took)
            if said:
                for at, step in said["steps"]:
                    print(f"    {step:<10} {at:8.1f} s")
                print(f"    peak memory {said['peak']:.0f} MB, processor {said['cpu']:.1f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--claim", help=argparse.SUPPRESS)
    parser.add_argument("--archive", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.claim:
        claim_until_told(given.claim)
    elif given.archive:
        archive(given.archive[0], Path(given.archive[1]))
    else:
        measure(given.on, given.attempts)
