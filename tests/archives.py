"""A history with months that are over, what it holds, and an archiver that dies where it is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import sqlalchemy as sa

from jobkit.db import Database
from jobkit.kit import Kit
from jobkit.models import archives, attempts, output, runs
from jobkit.testing import ManualClock
from jobkit.testing.history import generate
from tests.stage import MONDAY

NOW = MONDAY
ATTEMPTS = 400
DIE = """
import os, signal, sys
from datetime import datetime
import jobkit
from jobkit.testing import connect_at

url, to, step, times, what = sys.argv[1:]
left = int(times)

def reached(name):
    global left
    if name == step:
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

kit, _ = connect_at(url, datetime.fromisoformat("{now}"))
if what == "run":
    kit.archive.run(to=to, reached=reached)
else:
    kit.archive.restore(what, reached=reached)
"""


def live(kit: Kit, attempts: int = ATTEMPTS, seed: int = 3) -> None:
    """Fill a database with three months, and stop its clock at their end."""
    kit.clock = kit.database.clock = ManualClock(NOW)
    generate(kit.database, attempts=attempts, months=3, now=NOW, seed=seed, output_bytes=120)


def contents(database: Database) -> dict[str, list[str]]:
    """Return every column of every run, attempt and chunk; `born` is not part of the history."""
    with database.read() as connection:
        return {
            table.name: [
                repr(tuple(row))
                for row in connection.execute(
                    sa.select(*(column for column in table.c if column.name != "born")).order_by(
                        *order
                    )
                )
            ]
            for table, order in (
                (runs, (runs.c.id,)),
                (attempts, (attempts.c.id,)),
                (output, (output.c.dispatch_id, output.c.attempt, output.c.seq)),
            )
        }


def counted(kit: Kit) -> dict[int, int]:
    """Return how often each run is there, as a reader of manifest and tables in one snapshot sees.

    Reads the files by DuckDB, and leaves out of the tables what parts hold that leave or return.
    """
    import duckdb

    with kit.database.read() as connection:
        hot = set(connection.scalars(sa.select(runs.c.id)))
        files = connection.execute(sa.select(archives).where(archives.c.kind == "runs")).all()
    seen: dict[int, int] = {}
    for file in files:
        path = file.url.removeprefix("file://")
        ids = [row[0] for row in duckdb.sql(f"SELECT id FROM '{path}'").fetchall()]
        for run_id in ids:
            seen[run_id] = seen.get(run_id, 0) + 1
        if file.removed_at is None:
            hot -= set(ids)
    for run_id in hot:
        seen[run_id] = seen.get(run_id, 0) + 1
    return seen


def run_until(url: str, to: Path, step: str, *, times: int = 1, what: str = "run") -> int:
    """Archive, or restore a month, in a process that is killed when it reaches a step."""
    script = DIE.replace("{now}", NOW.isoformat())
    done = subprocess.run(
        [sys.executable, "-c", script, url, str(to), step, str(times), what],
        env=os.environ,
        capture_output=True,
        timeout=120,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr.decode())
    return done.returncode
