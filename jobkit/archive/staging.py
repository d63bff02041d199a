"""Rows of one part on their way: from the database into DuckDB on disk, and into Parquet files.

DuckDB and polars are imported when a staging is opened: only an archiver pays for them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa

from jobkit.archive import places
from jobkit.db import Utc
from jobkit.errors import ArchiveDamaged, BadInput
from jobkit.models import attempts, output, runs

MEMORY = "400MB"
THREADS = 2
ROW_GROUP = 122_880
RUN_COLUMNS = tuple(column for column in runs.c if column.name != "born")
ATTEMPT_COLUMNS = tuple(attempts.c)
OUTPUT_COLUMNS = tuple(column for column in output.c if column.name != "claimed_at")
STAGED: Mapping[str, tuple[sa.Column[Any], ...]] = {
    "runs": RUN_COLUMNS,
    "attempts": ATTEMPT_COLUMNS,
    "output": OUTPUT_COLUMNS,
}
_WRITTEN = {
    "runs": "SELECT * FROM runs ORDER BY completed_at, id",
    "attempts": "SELECT * FROM whole ORDER BY claimed_at, id",
}
SLICE_BYTES = 32 << 20
_CHUNKS = 'STRUCT(seq BIGINT, "at" TIMESTAMP, stream VARCHAR, "text" VARCHAR)[]'
_SHAPE = f"CREATE TABLE whole AS SELECT *, NULL::{_CHUNKS} AS output FROM attempts LIMIT 0"  # noqa: S608
_SLICES = f"""
SELECT max(dispatch_id) FROM (
    SELECT dispatch_id, sum(coalesce(length(text), 0)) OVER (ORDER BY dispatch_id) // {SLICE_BYTES}
        AS slice
    FROM attempts LEFT JOIN output USING (dispatch_id, attempt))
GROUP BY slice ORDER BY 1"""  # noqa: S608 - a number of ours
_WHOLE = """
INSERT INTO whole
SELECT attempts.*, coalesce(said.chunks, []) FROM attempts LEFT JOIN (
    SELECT dispatch_id, attempt,
        list({'seq': seq, 'at': "at", 'stream': stream, 'text': "text"} ORDER BY seq) AS chunks
    FROM output WHERE dispatch_id > $1 AND dispatch_id <= $2
    GROUP BY dispatch_id, attempt
) AS said USING (dispatch_id, attempt)
WHERE dispatch_id > $1 AND dispatch_id <= $2"""
"""Attempts with their output, slice by slice: lists of all of it would not fit the memory."""
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


class Frame:
    """Hands a polars frame to DuckDB, which then needs no other package."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, requested: Any = None) -> Any:
        return self._frame.__arrow_c_stream__(requested)


class Staging:
    """A DuckDB database in a folder that goes when the part is done."""

    def __init__(self, folder: Path) -> None:
        self._duckdb, self._polars = _engines()
        self.folder = folder
        self._connection = self._duckdb.connect(
            str(folder / "staging.duckdb"),
            config={
                "memory_limit": MEMORY,
                "threads": THREADS,
                "temp_directory": str(folder / "spilled"),
                "preserve_insertion_order": False,
            },
        )
        for name, columns in STAGED.items():
            listed = ", ".join(f'"{column.name}" {_type(column)}' for column in columns)
            self._connection.execute(f"CREATE TABLE {name} ({listed})")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def load(self, name: str, batches: Iterable[Sequence[Sequence[Any]]]) -> int:
        """Take rows as the database's driver gives them; returns how many."""
        columns, count = STAGED[name], 0
        casts = ", ".join(f'CAST("{column.name}" AS {_type(column)})' for column in columns)
        for batch in batches:
            frame = Frame(self._frame(columns, batch))
            self._connection.register("incoming", frame)
            self._connection.execute(f"INSERT INTO {name} SELECT {casts} FROM incoming")  # noqa: S608
            self._connection.unregister("incoming")
            count += len(batch)
        return count

    def keep_out(self, run_ids: Iterable[int]) -> None:
        """Take runs out again, with all that is theirs."""
        ids = list(run_ids)
        self._connection.execute("DELETE FROM runs WHERE id IN (SELECT unnest(?))", [ids])
        for name in ("attempts", "output"):
            self._connection.execute(
                f"DELETE FROM {name} WHERE dispatch_id IN (SELECT unnest(?))",  # noqa: S608
                [ids],
            )

    def count(self, name: str) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0])  # noqa: S608

    def write(self, month: str, part: str, rollups: Mapping[str, str]) -> list[File]:
        """Write the files of a part, read each back, and say what the manifest is to hold.

        ArchiveDamaged when what is read is not what was written.
        """
        self._join_output()
        files = [
            self._write(kind, f"{kind}/month={month}/part-{part}.parquet", question)
            for kind, question in _WRITTEN.items()
        ]
        of = {"runs": "runs", "attempts": "attempts"}
        for kind, question in rollups.items():
            key = f"rollups/{kind}/month={month}/part-{part}.parquet"
            files.append(self._write(kind, key, question.format(**of)))
        return files

    def _join_output(self) -> None:
        execute = self._connection.execute
        execute(_SHAPE)
        after = 0
        for (upto,) in execute(_SLICES).fetchall():
            execute(_WHOLE, [after, upto])
            after = upto

    def _write(self, kind: str, key: str, question: str) -> File:
        path = self.folder / f"{kind}.parquet"
        self._connection.execute(
            f"COPY ({question}) TO '{_quoted(path)}' (FORMAT parquet, COMPRESSION zstd, "
            f"PARQUET_VERSION v2, ROW_GROUP_SIZE {ROW_GROUP})"
        )
        facts = look(path, kind)
        if kind in _INSTANT:
            wanted = self._facts(kind, kind)
        else:
            wanted = Facts(facts.rows, 0, None, None, None, None)
        if facts != wanted:
            raise ArchiveDamaged(
                f"{path.name} holds {facts}, and {wanted} was written.",
                "Nothing left the tables. Look at the disk of this machine.",
            )
        return File(kind, key, path, facts, path.stat().st_size, places.sha256(path))

    def _facts(self, kind: str, relation: str) -> Facts:
        return _facts(self._connection, kind, relation)

    def _frame(self, columns: Sequence[sa.Column[Any]], batch: Sequence[Sequence[Any]]) -> Any:
        polars = self._polars
        values = zip(*batch, strict=True)
        return polars.DataFrame(
            [
                polars.Series(column.name, given, dtype=self._dtype(column, given), strict=False)
                for column, given in zip(columns, values, strict=True)
            ]
        )

    def _dtype(self, column: sa.Column[Any], given: Sequence[Any]) -> Any:
        if isinstance(column.type, Utc):
            # SQLite gives text, which DuckDB reads; PostgreSQL's driver gives instants.
            is_text = any(isinstance(value, str) for value in given)
            return self._polars.String if is_text else self._polars.Datetime("us")
        return getattr(self._polars, _DTYPES[_type(column)])


_DTYPES = {"BIGINT": "Int64", "DOUBLE": "Float64", "VARCHAR": "String"}


def _type(column: sa.Column[Any]) -> str:
    kind = column.type
    if isinstance(kind, Utc):
        return "TIMESTAMP"
    if isinstance(kind, sa.Integer):
        return "BIGINT"
    return "DOUBLE" if isinstance(kind, sa.Float) else "VARCHAR"


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
