"""One pass of an archiver: months that are over become files, and their rows leave the tables.

A file is written here, read back, put where nothing lies yet, and read back from there. One
transaction then lists the files of a part: from that instant on they are the history, and readers
leave out the rows that are still in the tables. Those are removed afterwards, at leisure. So a
crash at any point loses and doubles nothing: before the listing there is a file that nobody knows,
which a later pass sweeps; after it there are rows that nobody counts, which a later pass removes.
"""

from __future__ import annotations

import logging
import tempfile
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy.engine import Connection

from jobkit.archive import places, removal
from jobkit.archive.frames import ATTEMPT_COLUMNS, OUTPUT_COLUMNS, RUN_COLUMNS
from jobkit.archive.places import Place
from jobkit.archive.staging import File, Staging
from jobkit.db import Database
from jobkit.errors import ArchiveDamaged, JobkitError
from jobkit.store import leaving, manifest

log = logging.getLogger("jobkit.archive")

STRAY = timedelta(days=1)
"""A file that no manifest names is swept when it is older: until then somebody may list it."""
ABANDONED = timedelta(days=1)
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Part:
    """Runs that ended in one month and were, or would be, archived together."""

    month: str
    runs: int
    attempts: int = 0
    bytes: int = 0
    part: str = ""
    """Empty in a dry run."""


@dataclass(frozen=True)
class Passed:
    """What a pass did."""

    parts: tuple[Part, ...] = ()
    removed: tuple[str, ...] = ()
    """Parts of earlier passes that were still in the tables, and left them now."""
    swept: int = 0
    """Files that no manifest named."""
    faults: tuple[str, ...] = ()
    """What could not be done; the next pass tries again."""


Note = Callable[[Connection, str, str], None]
"""Records what was done, and about what."""


def nothing(step: str) -> None:
    """Hear that a step of the protocol is reached; tests end the process there."""


@dataclass(frozen=True)
class Archiver:
    """Where a pass archives to, what it leaves in the tables, and what it writes besides."""

    database: Database
    place: Place
    keep_runs: int
    rollups: Mapping[str, str]
    """SQL by the kind it is listed under; see `jobkit.analytics.rollups`."""
    note: Note
    """Records in the audit, in the transaction that lists a part."""
    reached: Callable[[str], None] = nothing

    def run(self, before: datetime) -> Passed:
        """Archive the runs that ended before an instant.

        1. Remove from the tables what earlier passes listed and did not finish.
        2. Month by month: write, put, list and remove a part.
        3. Sweep files that no manifest names.

        BadInput without the extra analytics, ArchiveUnavailable when the place does not answer.
        """
        removed, faults = self._resume()
        made = []
        for since, upto in self._months(before):
            part = self._archive(since, upto)
            if part is not None:
                made.append(part)
        return Passed(tuple(made), tuple(removed), self._sweep(), tuple(faults))

    def plan(self, before: datetime) -> Passed:
        """Say what a pass would archive."""
        with self.database.read(takes_long=True) as connection:
            stay = sorted(leaving.newest(connection, self.keep_runs))
            parts = [
                Part(f"{since:%Y-%m}", count)
                for since, upto in self._months(before)
                if (count := leaving.count(connection, since, upto, without=stay))
            ]
        return Passed(tuple(parts))

    def _months(self, before: datetime) -> list[tuple[datetime, datetime]]:
        """Return the bounds of the months, up to an instant, in which runs ended that may leave."""
        found, since = [], LONG_AGO
        with self.database.read(takes_long=True) as connection:
            while (first := leaving.first_end(connection, since)) is not None and first < before:
                start = first.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
                since = (start + timedelta(days=32)).replace(day=1)
                found.append((start, min(since, before)))
        return found

    def _resume(self) -> tuple[list[str], list[str]]:
        removed, faults = [], []
        now = self.database.clock.now()
        with self.database.write() as connection:
            manifest.give_up_restores(connection, now - ABANDONED)
        with self.database.read() as connection:
            pending = [
                row
                for row in manifest.listed(connection, kind="runs")
                if row.removed_at is None and row.restoring_at is None
            ]
        for row in pending:
            try:
                with tempfile.TemporaryDirectory(prefix="jobkit-") as folder:
                    file = fetched(row, Path(folder))
                    if removal.remove(self.database, row.part, row.month, file, self.reached):
                        removed.append(row.part)
            except JobkitError as error:
                faults.append(f"The rows of {row.month}, part {row.part}, stay. {error}")
                log.warning("%s", faults[-1])
        return removed, faults

    def _archive(self, since: datetime, upto: datetime) -> Part | None:
        """Archive a month as one part; None when nothing is to leave, or somebody else was here."""
        month, part = f"{since:%Y-%m}", str(uuid.uuid4())
        with tempfile.TemporaryDirectory(prefix="jobkit-") as folder:
            staged = self._stage(Path(folder), since, upto, month)
            if staged is None:
                return None
            staging, seen = staged
            self.reached("staged")
            files = staging.write(month, part, self.rollups)
            self.reached("written")
            for file in files:
                self._put(file, Path(folder))
                self.reached(f"put {file.kind}")
            if not self._list(part, month, files, seen):
                log.info("%s was archived or restored by somebody else meanwhile", month)
                return None
            self.reached("listed")
            made = _part(month, part, files)
            removal.remove(self.database, part, month, files[0].path, self.reached)
        log.info("archived %d runs of %s", made.runs, month)
        return made

    def _stage(
        self, folder: Path, since: datetime, upto: datetime, month: str
    ) -> tuple[Staging, set[str]] | None:
        """Read a month in one snapshot; returns it with the parts that it had then.

        None when nothing is to leave, or the rows of another part are still on their way.
        """
        with self.database.read(takes_long=True) as connection:
            listed = manifest.listed(connection, month=month)
            if any(row.removed_at is None for row in listed):
                return None
            stay = sorted(leaving.newest(connection, self.keep_runs))
            wanted = leaving.count(connection, since, upto, without=stay)
            if not wanted:
                return None
            staging = Staging(folder, stay)
            staging.load_runs(leaving.read_runs(connection, RUN_COLUMNS, since, upto))
            staging.counted(wanted)
            staging.load_attempts(
                leaving.read_attempts(connection, ATTEMPT_COLUMNS, since, upto),
                partial(leaving.read_output, connection, OUTPUT_COLUMNS),
            )
        return staging, {row.part for row in listed}

    def _put(self, file: File, folder: Path) -> None:
        """Put a file where it is to lie, and look whether it lies there as it was written."""
        self.place.put(file.key, file.path)
        self.reached(f"half put {file.kind}")
        back = folder / "back.parquet"
        self.place.fetch(file.key, back)
        if places.sha256(back) != file.sha256:
            raise ArchiveDamaged(
                f"{self.place.address(file.key)} is not what was written there.",
                f"Nothing left the tables. Look at {self.place.url}.",
            )
        back.unlink()

    def _list(self, part: str, month: str, files: list[File], seen: set[str]) -> bool:
        """List the files of a part, unless a part of the month came or went since the snapshot."""
        now = self.database.clock.now()
        with self.database.write() as connection:
            manifest.lock(connection)
            if manifest.parts(connection, month) == seen:
                rows = [_row(file, part, month, self.place) for file in files]
                manifest.add(connection, rows, now)
                count = sum(row["rows"] for row in rows if row["kind"] == "runs")
                self.note(connection, "archived runs", f"{count} of {month}, part {part}")
                return True
        for file in files:
            self.place.delete(file.key)
        return False

    def _sweep(self) -> int:
        """Delete files that no manifest names, when they are old enough to be nobody's."""
        stale = self.database.clock.now() - STRAY
        things = [thing for thing in self.place.things() if thing.written_at < stale]
        with self.database.read() as connection:
            known = {row.url for row in manifest.listed(connection)}
        strays = [thing for thing in things if self.place.address(thing.key) not in known]
        for thing in strays:
            self.place.delete(thing.key)
        return len(strays)


def fetched(row: Any, folder: Path) -> Path:
    """Copy a listed file here; ArchiveDamaged unless it is the one that was written."""
    path = folder / f"{row.kind}.parquet"
    places.fetch(row.url, path)
    if path.stat().st_size != row.bytes or places.sha256(path) != row.sha256:
        raise ArchiveDamaged(
            f"{row.url} is damaged: it is not the file that was written.",
            "Bring it back from a copy; jobkit archive verify names all that are damaged.",
        )
    return path


def _row(file: File, part: str, month: str, place: Place) -> dict[str, Any]:
    facts = file.facts
    return {
        "part": part,
        "kind": file.kind,
        "month": month,
        "url": place.address(file.key),
        "rows": facts.rows,
        "first_id": facts.first_id,
        "last_id": facts.last_id,
        "first_at": facts.first_at,
        "last_at": facts.last_at,
        "bytes": file.bytes,
        "sha256": file.sha256,
    }


def _part(month: str, part: str, files: list[File]) -> Part:
    rows = {file.kind: file.facts.rows for file in files}
    return Part(month, rows["runs"], rows["attempts"], sum(file.bytes for file in files), part)
