"""All copies of one database's history on this machine, and the engine that reads them."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from jobkit.analytics.hot import Folder, State, earliest
from jobkit.analytics.hours import Claims, Hours, Tally
from jobkit.analytics.objects import Objects
from jobkit.analytics.objects import longest as longest_of
from jobkit.analytics.shapes import ATTEMPTS, RUNS
from jobkit.analytics.snapshot import Look, Snapshot
from jobkit.analytics.window import EPOCH, Window, micros
from jobkit.db import Database
from jobkit.store import snapshots

SKEW = timedelta(days=1)
"""How far instants that different machines took may disagree before files are left out wrongly."""
MEMORY = "1GB"


@dataclass(frozen=True)
class Sources:
    """The files and frames that hold what a window asks for."""

    runs: tuple[str, ...]
    attempts: tuple[str, ...]
    fresh_runs: pl.DataFrame
    fresh_attempts: pl.DataFrame
    rows: dict[str, int]
    """Rows of runs and of attempts in them."""
    longest: timedelta
    """From claim to end, of the longest attempt."""
    first: datetime | None
    """The earliest slot, making or claim in all that is read."""
    missing: tuple[str, ...]
    """Files that could not be read."""
    is_uniform: bool = True
    """Whether every file has all columns, so that they need not be looked at one by one."""


class Shelf:
    """The cache of one database; threads may share it."""

    def __init__(self, database: Database, cache_dir: Path) -> None:
        self._database = database
        self._root = cache_dir.absolute()
        self.objects = Objects(self._root / "objects")
        self._lock = threading.Lock()
        self._last: Snapshot | None = None
        self._folder: Folder | None = None
        self._hours: Hours | None = None
        self._engine: Any = None

    def look(self, now: datetime) -> Snapshot:
        """Read what is new, and return the whole history as it is in this instant."""
        with self._lock, self._database.read(takes_long=True) as connection:
            folder = self._opened(connection)
            last = self._last
            known = last.state if last is not None else folder.load()
            if not all(folder.has(part) for part in known.parts):
                known = State()  # somebody emptied the folder
            taken = Look(connection, folder, self.objects).take(known, now, last)
            if taken.state != replace(known, since=taken.state.since):
                folder.save(taken.state)
            self._last = taken
        return taken

    def _opened(self, connection: Any) -> Folder:
        if self._folder is None:
            identity = snapshots.marks(connection).identity
            named = f"{identity} {self._database.name} {_inode(self._database)}"
            key = hashlib.sha256(named.encode()).hexdigest()[:24]
            self._folder = Folder(self._root / key)
            self._folder.path.mkdir(parents=True, exist_ok=True)
            self._template("runs", RUNS)
            self._template("attempts", ATTEMPTS)
        return self._folder

    def _template(self, kind: str, schema: dict[str, Any]) -> None:
        """Write a file without rows, which gives older files the columns that they lack."""
        path = self._root / f"{kind}-columns.parquet"
        half = path.with_name(f"half-{threading.get_ident()}-{path.name}")
        pl.DataFrame(schema=schema).write_parquet(half)
        half.replace(path)

    def sources(self, snapshot: Snapshot, window: Window) -> Sources:
        """Return what holds the rows of a window; files of the archive are fetched as needed."""
        assert self._folder is not None  # a snapshot was taken
        folder, state = self._folder, snapshot.state
        files: dict[str, list[str]] = {
            kind: [str(self._root / f"{kind}-columns.parquet")] for kind in ("runs", "attempts")
        }
        files["runs"] += [str(folder.runs_file(part)) for part in state.parts]
        files["attempts"] += [str(folder.attempts_file(part)) for part in state.parts]
        rows = {
            "runs": snapshot.runs.height + sum(part.runs for part in state.parts),
            "attempts": snapshot.attempts.height + sum(part.attempts for part in state.parts),
        }
        missing = list(snapshot.lacking)
        longest = max(state.longest, longest_of(snapshot.attempts.lazy()))
        firsts = [earliest(snapshot.runs, snapshot.attempts), *(part.first for part in state.parts)]
        is_uniform = True
        for listed in self._within(snapshot, window):
            path = self.objects.fetch(listed)
            if path is None:
                missing.append(listed.url)
                continue
            files[listed.kind].append(str(path))
            is_uniform &= self.objects.has(
                listed, path, RUNS if listed.kind == "runs" else ATTEMPTS
            )
            rows[listed.kind] += listed.rows
            if listed.kind == "attempts":
                longest = max(longest, self.objects.longest(listed, path))
                firsts.append(listed.first_at and micros(listed.first_at))
            else:
                firsts.append(self.objects.first(listed, path))
        first = min((us for us in firsts if us is not None), default=None)
        return Sources(
            tuple(files["runs"]),
            tuple(files["attempts"]),
            snapshot.runs,
            snapshot.attempts,
            rows,
            timedelta(microseconds=longest),
            None if first is None else EPOCH + timedelta(microseconds=first),
            tuple(dict.fromkeys(missing)),
            is_uniform,
        )

    @staticmethod
    def _within(snapshot: Snapshot, window: Window) -> Iterator[Any]:
        """Yield the archive's files that may hold rows of a window."""
        ended = {row.part: row.last_at for row in snapshot.archived if row.kind == "runs"}
        lacking = {row.part for row in snapshot.archived if row.url in snapshot.lacking}
        for row in snapshot.archived:
            if row.kind not in ("runs", "attempts") or row.part in lacking:
                continue  # rows of a part that lacks a file still count as those of the tables
            last = ended.get(row.part)
            is_past = window.start and last is not None and last + SKEW < window.start
            is_later = (
                window.start
                and row.kind == "attempts"
                and row.first_at
                and row.first_at >= window.end + SKEW
            )
            if row.rows and not is_past and not is_later:
                yield row

    def rolled(
        self, kind: str, snapshot: Snapshot, sources: Sources, window: Window
    ) -> tuple[Sources, tuple[str, ...]]:
        """Return the sources without the runs that a kind of roll-ups stands for, and its files.

        Those of a part of which every run ended in the window; of any other the rows count.
        """
        parts = {row.part: row for row in snapshot.archived if row.kind == "runs" and row.rows}
        replaced, files = set(), []
        for listed in snapshot.archived:
            part = parts.get(listed.part)
            if listed.kind != kind or part is None or not _is_within(part, window):
                continue
            runs = str(self.objects.path(part))
            path = self.objects.fetch(listed) if runs in sources.runs else None
            if path is not None:
                replaced.add(runs)
                files.append(str(path))
        left = tuple(file for file in sources.runs if file not in replaced)
        return replace(sources, runs=left), tuple(files)

    def tally(self, snapshot: Snapshot, sources: Sources) -> Tally | None:
        """Return what the attempts of the sources' files add up to, hour by hour."""
        assert self._folder is not None  # a snapshot was taken
        folder, parts = self._folder, snapshot.state.parts
        last = (parts[-1], str(folder.attempts_file(parts[-1]))) if parts else None
        if self._hours is None:
            self._hours = Hours(folder.path, self.objects, self.cursor)
        return self._hours.tally(sources.attempts[1:], snapshot.archived, last, sources.longest)

    def claimed(self, snapshot: Snapshot, sources: Sources, claims: Sequence[Claims]) -> Sources:
        """Return the sources without files of the archive that hold no attempt claimed then."""
        left = set()
        for row in snapshot.archived:
            if row.kind == "attempts" and row.first_at is not None:
                first, last = micros(row.first_at), micros(row.last_at)
                if not any(low <= last and first < high for low, high in claims):
                    left.add(str(self.objects.path(row)))
        kept = tuple(file for file in sources.attempts if file not in left)
        return replace(sources, attempts=kept)

    # The engine

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """Open a connection of an engine that reads files of the cache and reaches nothing else."""
        with self._lock:
            if self._engine is None:
                self._engine = self._start()
        cursor = self._engine.cursor()
        try:
            yield cursor
        finally:
            cursor.close()

    def _start(self) -> Any:
        spill = self._root / "spill"
        spill.mkdir(parents=True, exist_ok=True)
        engine = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": MEMORY,
                "temp_directory": str(spill),
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
            },
        )
        folder = str(self._root).replace("'", "''")
        engine.execute(f"SET allowed_directories = ['{folder}']")
        engine.execute("SET parquet_metadata_cache = true")
        engine.execute("SET enable_external_access = false")
        engine.execute("SET lock_configuration = true")
        return engine

    def close(self) -> None:
        """End the engine."""
        with self._lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None


class Stream:
    """A frame as DuckDB takes it, by Arrow's C interface, without pyarrow."""

    def __init__(self, frame: pl.DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(requested_schema)


def _is_within(part: Any, window: Window) -> bool:
    begins = window.start is None or part.first_at >= window.start
    return begins and bool(part.last_at < window.end)


def _inode(database: Database) -> int:
    path = database.url.database if database.is_sqlite else None
    try:
        return Path(path).stat().st_ino if path else 0
    except OSError:  # in memory
        return 0
