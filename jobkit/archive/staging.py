"""Rows of one part on their way: from the database into slices on disk, and into Parquet files.

DuckDB and polars are imported when a staging is opened: only an archiver pays for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from jobkit.archive import frames, places
from jobkit.archive.frames import ATTEMPT_COLUMNS, OUTPUT_COLUMNS, RUN_COLUMNS
from jobkit.errors import ArchiveDamaged, BadInput
from jobkit.store.leaving import Rows

MEMORY, MUCH_MEMORY = "160MB", "400MB"
"""Of DuckDB; the other one for rows that weigh more than `HEAVY`."""
HEAVY = 8192
GROUP_BYTES = 32 << 20
LEAST_GROUP = 2048
THREADS = 2
ROW_GROUPS = {"runs": 61_440, "attempts": 20_480}
"""Rows: what two threads hold at once of each has to fit the memory."""
COLUMNS = {"runs": RUN_COLUMNS, "attempts": ATTEMPT_COLUMNS}
_INSTANT = {"runs": "completed_at", "attempts": "claimed_at"}


@dataclass(frozen=True)
class Facts:
    """What a file holds, as its reading back says it."""

    rows: int
    id_sum: int
    first_id: int | None
    last_id: int | None
    first_at: datetime | None
    last_at: datetime | None


@dataclass(frozen=True)
class File:
    """A file that was written here, what the manifest is to say of it, and its place's key."""

    kind: str
    key: str
    path: Path
    facts: Facts
    bytes: int
    sha256: str


class Slices:
    """Rows of a kind on disk, in the order in which they came, and what they add up to."""

    def __init__(self, folder: Path, kind: str) -> None:
        folder.mkdir()
        self._folder, self._at = folder, _INSTANT[kind]
        self.paths: list[Path] = []
        self._rows = self._id_sum = self._bytes = 0
        self._bounds: list[tuple[int, datetime]] = []

    def add(self, frame: Any) -> None:
        """Keep a frame; what it costs to write and read it once more is little."""
        path = self._folder / f"{len(self.paths)}.parquet"
        frame.write_parquet(path, compression="lz4", statistics=False)
        self.paths.append(path)
        if len(frame):
            ids, instants = frame["id"], frame[self._at]
            self._rows += len(frame)
            self._bytes += frame.estimated_size()
            self._id_sum += int(ids.sum())
            ends = [(ids.min(), instants.min()), (ids.max(), instants.max())]
            columns = list(zip(*self._bounds, *ends, strict=True))
            self._bounds = [tuple(map(min, columns)), tuple(map(max, columns))]

    @property
    def facts(self) -> Facts:
        if not self._bounds:
            return Facts(0, 0, None, None, None, None)
        (first, first_at), (last, last_at) = self._bounds
        instants = [at.replace(tzinfo=UTC) for at in (first_at, last_at)]
        return Facts(self._rows, self._id_sum, first, last, *instants)

    @property
    def row_bytes(self) -> int:
        """About how much a row holds."""
        return self._bytes // max(1, self._rows)

    @property
    def relation(self) -> str:
        return _relation(self.paths)


class Staging:
    """Runs and attempts of a month in a folder, slice by slice, and the files made of them."""

    def __init__(self, folder: Path, stay: Iterable[int]) -> None:
        """Stage in a folder; what is of the runs that `stay` is left out."""
        self._duckdb, self._polars = _engines()
        self.folder = folder
        self._stay = self._polars.Series(list(stay), dtype=self._polars.Int64)
        self._slices = {kind: Slices(folder / f"staged-{kind}", kind) for kind in COLUMNS}

    def load_runs(self, batches: Iterable[Rows]) -> None:
        """Take runs as the database's driver gives them, in the order of their ends."""
        for rows in chain([()], batches):
            self._slices["runs"].add(self._leaving(frames.frame(RUN_COLUMNS, rows), "id"))

    def load_attempts(self, batches: Iterable[Rows], said: Callable[[Sequence[int]], Rows]) -> None:
        """Take attempts in the order of their claims, and what they printed: `said` reads it."""
        for rows in chain([()], batches):
            frame = self._leaving(frames.frame(ATTEMPT_COLUMNS, rows), "dispatch_id")
            for part in frames.light(frame):
                ids = part["dispatch_id"].unique().sort().to_list()
                printed = frames.frame(OUTPUT_COLUMNS, said(ids) if ids else ())
                self._slices["attempts"].add(frames.whole(part, printed))

    def counted(self, runs: int) -> None:
        """Refuse to go on unless so many runs were taken: ArchiveDamaged."""
        if (taken := self._slices["runs"].facts.rows) != runs:
            raise ArchiveDamaged(
                f"{taken} runs were read of {runs} that are to leave.",
                "Nothing left the tables. Look at the disk of this machine.",
            )

    def _leaving(self, frame: Any, of: str) -> Any:
        return frame.filter(~self._polars.col(of).is_in(self._stay.implode()))

    def write(self, month: str, part: str, rollups: Mapping[str, str]) -> list[File]:
        """Write the files of a part, read each back, and say what the manifest is to hold.

        ArchiveDamaged when what is read is not what was written.
        """
        with self._duckdb.connect(config=self._config()) as connection:
            files = [
                self._write(
                    connection,
                    kind,
                    f"{kind}/month={month}/part-{part}.parquet",
                    f"SELECT * FROM {slices.relation}",  # noqa: S608 - files of ours
                )
                for kind, slices in self._slices.items()
            ]
            of = {file.kind: _relation([file.path]) for file in files}
            for kind, question in rollups.items():
                key = f"rollups/{kind}/month={month}/part-{part}.parquet"
                files.append(self._write(connection, kind, key, question.format(**of)))
        return files

    def _config(self) -> dict[str, Any]:
        heaviest = max(slices.row_bytes for slices in self._slices.values())
        return {
            "memory_limit": MUCH_MEMORY if heaviest > HEAVY else MEMORY,
            "threads": THREADS,
            "temp_directory": str(self.folder / "spilled"),
        }

    def _row_group(self, kind: str) -> int:
        """Return how many rows a row group has: fewer where attempts printed a lot."""
        if kind not in self._slices:
            return 122_880
        fitting = GROUP_BYTES // max(1, self._slices[kind].row_bytes)
        return min(ROW_GROUPS[kind], max(LEAST_GROUP, fitting))

    def _write(self, connection: Any, kind: str, key: str, question: str) -> File:
        path = self.folder / f"{kind}.parquet"
        connection.execute(
            f"COPY ({question}) TO '{_quoted(path)}' (FORMAT parquet, COMPRESSION zstd, "
            f"PARQUET_VERSION v2, ROW_GROUP_SIZE {self._row_group(kind)})"
        )
        facts = look(path, kind)
        if kind in self._slices:
            wanted = self._slices[kind].facts
        else:
            wanted = Facts(facts.rows, 0, None, None, None, None)
        if facts != wanted:
            raise ArchiveDamaged(
                f"{path.name} holds {facts}, and {wanted} was written.",
                "Nothing left the tables. Look at the disk of this machine.",
            )
        return File(kind, key, path, facts, path.stat().st_size, places.sha256(path))


def _relation(paths: Sequence[Path]) -> str:
    listed = ", ".join(f"'{_quoted(path)}'" for path in paths)
    return f"read_parquet([{listed}], hive_partitioning = false)"


def _facts(connection: Any, kind: str, relation: str) -> Facts:
    if kind not in _INSTANT:
        (rows,) = connection.execute(f"SELECT count(*) FROM {relation}").fetchone()  # noqa: S608
        return Facts(rows, 0, None, None, None, None)
    at = _INSTANT[kind]
    rows, total, first, last, first_at, last_at = connection.execute(
        f"SELECT count(*), coalesce(sum(id), 0)::HUGEINT, min(id), max(id), min({at}), max({at}) "  # noqa: S608
        f"FROM {relation}"
    ).fetchone()
    instants = [at and at.replace(tzinfo=UTC) for at in (first_at, last_at)]
    return Facts(rows, int(total), first, last, *instants)


def look(path: Path, kind: str) -> Facts:
    """Read what a file of a kind holds; ArchiveDamaged when it is no Parquet file of ours."""
    duckdb, _ = _engines()
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        try:
            return _facts(connection, kind, f"read_parquet('{_quoted(path)}')")
        except duckdb.Error as error:
            said = str(error).partition("\n")[0]
            raise ArchiveDamaged(f"{path.name} cannot be read: {said}.", _BROKEN) from None


_BROKEN = "Bring it back from a copy; jobkit archive verify names all that are damaged."


def batches(path: Path, columns: Sequence[str], size: int) -> Iterable[list[tuple[Any, ...]]]:
    """Yield rows of a file, so many at a time, in the order of the first column."""
    duckdb, _ = _engines()
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        connection.execute(f"SET temp_directory = '{_quoted(path.parent / 'spilled')}'")
        listed = ", ".join(columns)
        try:
            found = connection.execute(
                f"SELECT {listed} FROM read_parquet('{_quoted(path)}') ORDER BY 1"  # noqa: S608
            )
            while rows := found.fetchmany(size):
                yield rows
        except duckdb.Error as error:
            said = str(error).partition("\n")[0]
            raise ArchiveDamaged(f"{path.name} cannot be read: {said}.", _BROKEN) from None


def doubled(files: Sequence[Path]) -> list[int]:
    """Return runs that files of runs hold more than once, twenty at most."""
    if not files:
        return []
    duckdb, _ = _engines()
    listed = ", ".join(f"'{_quoted(file)}'" for file in files)
    with duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{MEMORY}'")
        found = connection.execute(
            f"SELECT id FROM read_parquet([{listed}]) GROUP BY id HAVING count(*) > 1 "  # noqa: S608
            "ORDER BY id LIMIT 20"
        )
        return [run_id for (run_id,) in found.fetchall()]


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _engines() -> tuple[Any, Any]:
    try:
        import duckdb
        import polars
    except ImportError:
        raise BadInput(
            "The archive needs the extra analytics.",
            "Install it: pip install 'jobkit[analytics]'.",
        ) from None
    return duckdb, polars
