"""The audit of an archive: every file is read and counted, and none is believed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobkit.archive.archiver import fetched
from jobkit.archive.staging import Facts, batches, doubled, look
from jobkit.db import Database
from jobkit.errors import JobkitError
from jobkit.store import leaving, manifest

BATCH = 5000


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file, or with the runs of a part."""

    month: str
    url: str
    words: str


@dataclass(frozen=True)
class Checked:
    """What was looked at, and what is wrong."""

    files: int
    runs: int
    attempts: int
    bytes: int
    faults: tuple[Fault, ...]


def check(database: Database) -> Checked:
    """Read every file of the manifest: its hash, its rows, and that no run is there twice."""
    with database.read() as connection:
        listed = manifest.listed(connection)
    faults: list[Fault] = []
    rows = {"runs": 0, "attempts": 0}
    with tempfile.TemporaryDirectory(prefix="jobkit-") as name:
        kept: list[Path] = []
        for row in listed:
            folder = Path(name) / str(row.id)
            folder.mkdir()
            try:
                path = fetched(row, folder)
                faults += _recount(row, path)
            except JobkitError as error:
                faults.append(Fault(row.month, row.url, error.message))
                continue
            if row.kind in rows:
                rows[row.kind] += row.rows
            if row.kind == "runs":
                faults += _still_there(database, row, path)
                kept.append(path)
            else:
                path.unlink()
        for run_id in doubled(kept):
            faults.append(Fault("", "", f"run {run_id} is in the archive twice"))
    return Checked(
        len(listed), rows["runs"], rows["attempts"], sum(row.bytes for row in listed), tuple(faults)
    )


def _recount(row: Any, path: Path) -> Iterator[Fault]:
    found = look(path, row.kind)
    said = Facts(row.rows, found.id_sum, row.first_id, row.last_id, row.first_at, row.last_at)
    if found != said:
        yield Fault(row.month, row.url, f"holds {found}, and the manifest says {said}")


def _still_there(database: Database, row: Any, path: Path) -> Iterator[Fault]:
    if row.removed_at is None:
        return
    count = 0
    for ids in batches(path, ["id"], BATCH):
        with database.read() as connection:
            count += len(leaving.present(connection, _flat(ids)))
    if count:
        words = f"{count} of its runs are in the tables as well"
        yield Fault(row.month, row.url, words)


def _flat(rows: Sequence[tuple[Any, ...]]) -> list[int]:
    return [row[0] for row in rows]
