"""A month of N attempts leaves the tables while another process claims: how long a claim waits.

    uv run python -m benchmarks.archive --on sqlite --attempts 100000
    uv run python -m benchmarks.archive --on postgresql --attempts 100000

The baseline deletes the same runs, attempts and output of a second copy by three bare statements in
one transaction. Each line: seconds in all, attempts a second, and of the claims meanwhile the
median, the 99th percentile and the longest, in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

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


def fill(kit: Kit, count: int, now: datetime) -> None:
    """Make a month of history, and runs that wait in a queue of their own."""
    generate(kit.database, attempts=count, months=0.95, now=now)
    kit.add_job("bench", "any.py", queue="bench", overlap="allow")
    kit.submit_many("bench", [{}] * WAITING)


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


def measure(on: str, count: int) -> None:
    now = datetime(2026, 2, 28, 12, tzinfo=UTC)
    before = datetime(2026, 3, 1, tzinfo=UTC)
    for what in ("nobody", "archive", "bare DELETE"):
        with database(on) as (url, folder), opened(url, folder) as kit:
            fill(kit, count, now)
            steps: list[tuple[float, str]] = []
            with Claimer(url) as claimer:
                began = time.perf_counter()
                if what == "nobody":
                    time.sleep(5)
                elif what == "archive":
                    kit.archive.run(
                        before,
                        str(folder / "archive"),
                        reached=lambda step, at=steps: at.append((time.perf_counter(), step)),
                    )
                else:
                    bare_delete(kit.database, before)
                seconds = time.perf_counter() - began
            tell(what, count, seconds, claimer.took)
            for at, step in steps:
                if step in ("staged", "written", "listed", "dropped", "removed"):
                    print(f"    {step:<10} {at - began:8.1f} s")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"peak memory of this process: {peak:.0f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--attempts", type=int, default=1_000_000)
    parser.add_argument("--claim", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.claim:
        claim_until_told(given.claim)
    else:
        measure(given.on, given.attempts)
