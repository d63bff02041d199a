"""The way back: the rows of a part return to the tables, and its files leave the manifest.

Until its last transaction the part alone counts, so that readers see each run once at any instant.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from jobkit.archive.archiver import Note, fetched
from jobkit.archive.frames import ATTEMPT_COLUMNS, RUN_COLUMNS
from jobkit.archive.staging import batches
from jobkit.clock import nap
from jobkit.db import Database, ensure_partitions
from jobkit.errors import ArchiveConflict, BadInput
from jobkit.models import attempts, output, runs
from jobkit.store import leaving, manifest
from jobkit.store.leaving import Rows

BATCH = 200
PAUSE_SECONDS = 0.002
_OUTPUT = ("dispatch_id", "attempt", "seq", "claimed_at", "at", "stream", "text")


def restore(database: Database, part: str, note: Note, reached: Callable[[str], None]) -> int:
    """Bring back the rows of a part; returns how many runs it has. A repeat goes on with it.

    1. Note in the manifest that its rows come back: nobody removes them any more.
    2. Insert what is not there, in short transactions.
    3. Take the part off the manifest.

    BadInput when it is gone, or when somebody else restores it since a later instant.
    """
    now = database.clock.now()
    with tempfile.TemporaryDirectory(prefix="jobkit-") as name:
        folder = Path(name)
        with database.read() as connection:
            listed = [row for row in manifest.listed(connection) if row.part == part]
        of_kind = {row.kind: row for row in listed}
        if "runs" not in of_kind or "attempts" not in of_kind:
            raise BadInput(f"There is no part {part} in the archive.", "See: jobkit archive verify")
        files = {kind: fetched(of_kind[kind], folder) for kind in ("runs", "attempts")}
        with database.write() as connection:
            manifest.begin_restore(connection, part, now)
            note(connection, "restored a month", f"{of_kind['runs'].month}, part {part}")
            ensure_partitions(
                connection,
                datetime.fromisoformat(f"{of_kind['runs'].month}-01").replace(tzinfo=UTC),
            )
        reached("begun")
        _bring_back(database, part, now, files, reached)
        with database.write() as connection:
            if not manifest.is_coming_back(connection, part, now):
                raise _taken(part)
            manifest.remove(connection, part)
        reached("restored")
    return int(of_kind["runs"].rows)


def _bring_back(
    database: Database,
    part: str,
    since: datetime,
    files: dict[str, Path],
    reached: Callable[[str], None],
) -> None:
    # Attempts and their output first: a run that is there has all that is its own.
    writers = (("attempts", ATTEMPT_COLUMNS, _write_attempts), ("runs", RUN_COLUMNS, _write_runs))
    for kind, columns, write in writers:
        names = [column.name for column in columns]
        asked = [*names, "output"] if kind == "attempts" else names
        for rows in batches(files[kind], asked, BATCH):
            with database.write(lazily=True) as connection:
                if not manifest.is_coming_back(connection, part, since):
                    raise _taken(part)
                write(connection, names, rows)
            database.empty_log()
            reached("restoring")
            nap(PAUSE_SECONDS)


def _write_attempts(connection: Connection, names: list[str], rows: Rows) -> None:
    leaving.bring_back(connection, output, _OUTPUT, list(_chunks(names, rows)))
    leaving.bring_back(connection, attempts, names, [row[:-1] for row in rows])


def _write_runs(connection: Connection, names: list[str], rows: Rows) -> None:
    leaving.bring_back(connection, runs, names, rows)
    ids = [row[0] for row in rows]
    missing = set(ids) - leaving.present(connection, ids)
    if missing:
        raise ArchiveConflict(
            f"Run {min(missing)} cannot come back: another run has its slot.",
            "The archive still holds it. Delete the other run first.",
        )


def _chunks(names: list[str], rows: Rows) -> Iterator[tuple[Any, ...]]:
    run, attempt, claimed = (names.index(name) for name in ("dispatch_id", "attempt", "claimed_at"))
    for row in rows:
        for chunk in row[-1]:
            said = (chunk["seq"], row[claimed], chunk["at"], chunk["stream"], chunk["text"])
            yield (row[run], row[attempt], *said)


def _taken(part: str) -> BadInput:
    return BadInput(
        f"Somebody else restores part {part} now.", "Let them end, and look: jobkit archive verify"
    )
