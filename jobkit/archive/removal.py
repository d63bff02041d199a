"""The rows of a listed part leave the tables: in short transactions, or a month at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from jobkit.archive.staging import batches
from jobkit.clock import nap, stopwatch
from jobkit.db import Database, drop_month
from jobkit.errors import DatabaseUnavailable
from jobkit.store import leaving, manifest

log = logging.getLogger("jobkit.archive")

AIM_SECONDS = 0.012
"""How long a transaction is to take: whoever claims meanwhile waits for one of them at most."""
FIRST_BATCH = 50
MOST_IN_BATCH = 2000
PAUSE_SECONDS = 0.002
"""Between two transactions: other writers of a SQLite file ask again within 0.6 ms."""
MOST_SURVIVORS = 1000
SETTLED = timedelta(days=1)


def remove(
    database: Database, part: str, month: str, file: Path, reached: Callable[[str], None]
) -> bool:
    """Remove the rows that a part's file of runs holds; False when it is being restored.

    1. On PostgreSQL, drop the partitions of a month that hold hardly anything else.
    2. Delete run by run what is left, with attempts and output, in transactions of some 12 ms.
    3. Note that nothing is left.
    """
    if not database.is_sqlite:
        _drop(database, part, month, file)
        reached("dropped")
    for ids in _paced(database, _ids(file), part):
        if ids is None:
            return False
        reached("removing")
    reached("removed")
    with database.write() as connection:
        return manifest.mark_removed(connection, part, database.clock.now())


def _ids(file: Path) -> Iterator[int]:
    for rows in batches(file, ["id"], 50_000):
        yield from (row[0] for row in rows)


def _paced(database: Database, ids: Iterator[int], part: str) -> Iterator[int | None]:
    """Delete in transactions that take about as long as they may; yield after each."""
    size = float(FIRST_BATCH)
    while chosen := _take(ids, int(size)):
        # What the disk forgets of it, it forgets of `removed_at` too, which is written later.
        with database.write(lazily=True) as connection:
            began = stopwatch()  # when it is our turn, not when we asked for it
            if not manifest.is_leaving(connection, part):
                yield None
                return
            leaving.remove(connection, chosen)
        took = stopwatch() - began
        size = min(MOST_IN_BATCH, max(1.0, size * min(2.0, AIM_SECONDS / max(took, 1e-4))))
        database.empty_log()
        yield len(chosen)
        nap(PAUSE_SECONDS)


def _take(ids: Iterator[int], count: int) -> Sequence[int]:
    return [run_id for _, run_id in zip(range(count), ids, strict=False)]


def _drop(database: Database, part: str, month: str, file: Path) -> None:
    """Drop a month's partitions, unless they hold more than a few rows that stay."""
    start = datetime.fromisoformat(f"{month}-01")
    end = (start + timedelta(days=32)).replace(day=1)
    now = database.clock.now()
    if now.replace(tzinfo=None) < end + SETTLED:
        return
    try:
        with database.write(takes_long=True) as connection:
            manifest.lock(connection)  # nobody begins to restore meanwhile
            if manifest.is_restoring(connection) or not manifest.is_leaving(connection, part):
                return
            if leaving.is_running_since(connection, end.replace(tzinfo=now.tzinfo)):
                return
            dropped = drop_month(connection, start, _id_rows(file), most_survivors=MOST_SURVIVORS)
    except DatabaseUnavailable as error:  # somebody reads the month now: its rows go one by one
        log.info("The partitions of %s stay for now. %s", month, error)
        return
    if dropped:
        log.info("dropped the partitions of %s", month)


def _id_rows(file: Path) -> Iterator[tuple[int]]:
    return ((run_id,) for run_id in _ids(file))
