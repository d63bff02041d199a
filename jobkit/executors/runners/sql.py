"""Runs a file of SQL: `python sql.py FILE NAME`.

DuckDB in memory, or the database whose URL the secret NAME of a first line `-- connection: NAME`
holds: PostgreSQL, SQLite or a DuckDB file. Each statement commits by itself, as in the shells of
these databases, unless the file says BEGIN. Parameters of JOBKIT_PARAMS are bound where `$name`
stands. The result of the last statement that has one goes to `result.parquet` in JOBKIT_ARTIFACTS,
and its first rows are printed. A statement that fails ends the file with exit code 1.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import re
import sqlite3
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SHOWN_ROWS = 20
SHOWN_WIDTH = 60
INSTALL = "Run: pip install 'jobkit[{}]'"
_CONNECTION = re.compile(r"\s*--[ \t]*connection:[ \t]*(\S+)[ \t]*(?:\r?\n|$)")
_SKIPPED = r"""'(?:[^']|'')*' | "(?:[^"]|"")*" | --[^\n]* | /\*.*?\*/"""
_FOUND = r"""(?<![\w$]) \$(?P<name>[^\W\d]\w*) | (?P<end> ; )"""
_ESCAPED = r"""(?<![\w$]) [eE]'(?:[^'\\]|''|\\.)*'"""
_DOLLARED = r"""(?<![\w$]) \$(?P<tag>(?:[^\W\d]\w*)?)\$.*?\$(?P=tag)\$"""
_SQLITE_TOKEN = re.compile(f"{_SKIPPED} | {_FOUND}", re.VERBOSE | re.DOTALL)
_POSTGRES_TOKEN = re.compile(
    f"{_ESCAPED} | {_DOLLARED} | {_SKIPPED} | {_FOUND}", re.VERBOSE | re.DOTALL
)
_PLAIN = (
    bool,
    int,
    float,
    str,
    bytes,
    decimal.Decimal,
    datetime.date,
    datetime.time,
    datetime.timedelta,
)
# Types of PostgreSQL's catalogue by their numbers, for columns in which every value is NULL.
_POLARS_TYPES = {
    16: "Boolean",
    20: "Int64",
    21: "Int16",
    23: "Int32",
    700: "Float32",
    701: "Float64",
    1082: "Date",
    1083: "Time",
    1114: "Datetime",
    1184: "Datetime",
    1186: "Duration",
    17: "Binary",
}


class SqlError(Exception):
    """What is wrong, for the author of the file; `line` counts from 1, None for all of it."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class Statement(NamedTuple):
    """One statement of a file."""

    text: str
    line: int
    """Where its first word stands, from 1."""
    names: tuple[str, ...]
    """Parameters, in the order in which they first appear."""


@dataclass(frozen=True)
class Result:
    """What a query gave; all of it lies in the file, if there is one."""

    columns: tuple[str, ...]
    count: int
    """Rows."""
    first: list[tuple[Any, ...]]
    """Its first rows."""


def main(path: Path, name: str) -> int:
    """Run the file and return the exit code."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        params = json.loads(os.environ.get("JOBKIT_PARAMS") or "{}")
        result = run(text, params, _result_path())
    except SqlError as error:
        where = f"{name}, line {error.line}" if error.line else name
        return _fail(f"{where}: {error}")
    except UnicodeDecodeError:
        return _fail(f"{name} is not text in UTF-8.")
    if result is None:
        _print("No statement had a result.")
    else:
        show(result)
        _print(f"::metric rows {result.count}")
    return 0


def run(text: str, params: Mapping[str, Any], keep_at: Path | None) -> Result | None:
    """Run all statements of a text and keep the last result; SqlError for what fails."""
    url = _url(text)
    scheme, _, rest = url.partition(":")
    scheme = scheme.partition("+")[0]
    if scheme in ("postgresql", "postgres"):
        return run_postgres(f"postgresql:{rest}", text, params, keep_at)
    file = rest.removeprefix("///") or ":memory:"
    if scheme == "sqlite":
        return run_sqlite(file, text, params, keep_at)
    if scheme == "duckdb":
        return run_duckdb(file, text, params, keep_at)
    raise SqlError(f"The connection's URL begins with {scheme!r}: {_WHICH}", 1)


_WHICH = "it must be postgresql, sqlite or duckdb."


def _url(text: str) -> str:
    found = _CONNECTION.match(text)
    if not found:
        return "duckdb:///:memory:"
    name = found[1]
    if not re.fullmatch(r"[\w.-]+", name) or name.startswith("."):
        raise SqlError(f"{name!r} is no name of a secret.", 1)
    secret = Path(os.environ.get("JOBKIT_SECRETS", ""), name)
    try:
        url = secret.read_text().strip()
    except OSError:
        raise SqlError(
            f"The job has no secret {name!r}. Name it in the job's secrets, and keep the URL of "
            "the connection in it on the worker.",
            1,
        ) from None
    if ":" not in url:
        raise SqlError(f"The secret {name!r} is no URL of a connection: {_WHICH}", 1)
    return url


def _result_path() -> Path | None:
    artifacts = os.environ.get("JOBKIT_ARTIFACTS")
    return Path(artifacts, "result.parquet") if artifacts else None


# DuckDB


def run_duckdb(
    file: str, text: str, params: Mapping[str, Any], keep_at: Path | None
) -> Result | None:
    """Run by DuckDB: the result goes through a temporary table, which may exceed the memory."""
    try:
        import duckdb
    except ImportError:
        raise SqlError(f"DuckDB is missing here. {INSTALL.format('analytics')}") from None
    base = 1
    try:
        with closing(duckdb.connect(file)) as connection:
            found = connection.extract_statements(text)
            queries = [index for index, item in enumerate(found) if _is_query(item)]
            last_query = queries[-1] if queries else -1
            result, end = None, 0
            for index, statement in enumerate(found):
                base, end = _located(text, statement.query, end)
                values = _chosen(sorted(statement.named_parameters), params, base)
                if index == last_query:
                    result = _keep_duckdb(connection, statement.query, values, keep_at)
                    continue
                connection.execute(statement, values or None)
                if index > last_query and _has_rows(statement, connection):
                    result = Keeping(keep_at).rows(connection, [])
            _check_any(found)
            return result
    except duckdb.Error as error:
        raise _duckdb_error(text, str(error), base) from None


def _is_query(statement: Any) -> bool:
    """Say whether a table can be made of a statement's result: not of SHOW or DESCRIBE."""
    word = statement.query[_blank(statement.query) :].lstrip("(")[:6].upper()
    is_select: bool = statement.type.name == "SELECT"
    return is_select and word.startswith(("SELECT", "WITH", "FROM", "VALUES"))


def _has_rows(statement: Any, connection: Any) -> bool:
    names = [column[0] for column in connection.description or ()]
    return statement.type.name == "SELECT" or names not in ([], ["Count"], ["Success"])


def _located(text: str, query: str, start: int) -> tuple[int, int]:
    """Return the line of a statement's first word and where the statement ends in the text."""
    at = max(text.find(query, start), start)
    return text.count("\n", 0, at + _blank(query)) + 1, at + len(query)


def _blank(text: str) -> int:
    """Return the length of the white space and comments that a text begins with."""
    found = re.match(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/|;)*", text, re.DOTALL)
    return found.end() if found else 0


def _keep_duckdb(
    connection: Any, query: str, values: dict[str, Any], keep_at: Path | None
) -> Result:
    body = query.strip().rstrip(";")
    statement = connection.extract_statements(f"CREATE TEMP TABLE jobkit_result AS\n{body}\n")[0]
    connection.execute(statement, values or None)
    if keep_at:
        part = keep_at.with_name(f".{keep_at.name}.part")
        target = str(part).replace("'", "''")
        connection.execute(f"COPY temp.jobkit_result TO '{target}' (FORMAT parquet)")
        part.replace(keep_at)
    (count,) = connection.execute("SELECT count(*) FROM temp.jobkit_result").fetchone()
    first = connection.execute(f"FROM temp.jobkit_result LIMIT {SHOWN_ROWS}")
    columns = tuple(column[0] for column in first.description)
    return Result(columns, count, first.fetchall())


def _duckdb_error(text: str, message: str, base: int) -> SqlError:
    """Say DuckDB's error with the line of the file, where it tells one of the statement."""
    found = re.search(r"^LINE (\d+): ", message, re.MULTILINE)
    if not found:
        return SqlError(message, base)
    told = re.sub(r"^LINE \d+: ", " " * (len(found[0])), message, flags=re.MULTILINE)
    shown = message[found.end() :].partition("\n")[0].strip(". ")
    lines = text.splitlines()
    near = [
        number for number in range(base, len(lines) + 1) if shown and shown in lines[number - 1]
    ]
    return SqlError(told, near[0] if near else base)


# Databases of others


def run_postgres(
    url: str, text: str, params: Mapping[str, Any], keep_at: Path | None
) -> Result | None:
    """Run by PostgreSQL; the rows of the last result are held in memory."""
    try:
        import psycopg
        from psycopg.types.json import Jsonb
    except ImportError:
        raise SqlError(f"psycopg is missing here. {INSTALL.format('postgres')}") from None
    keep = Keeping(keep_at)
    try:
        with psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
            last = None
            for statement in _check_any(list(split(text, _POSTGRES_TOKEN))):
                values = _chosen(statement.names, params, statement.line)
                bound = [
                    Jsonb(value) if isinstance(value, dict) else value for value in values.values()
                ]
                cursor = connection.cursor()
                try:
                    cursor.execute(_numbered(statement).encode(), bound or None)
                except psycopg.Error as error:
                    raise _postgres_error(statement, error) from None
                last = cursor if cursor.description else last
            if last is None:
                return None
            return keep.rows(last, [column.type_code for column in last.description or ()])
    except psycopg.Error as error:
        raise SqlError(str(error).strip()) from None


def _postgres_error(statement: Statement, error: Any) -> SqlError:
    position = error.diag.statement_position
    line = statement.line
    if position:
        line += _numbered(statement).count("\n", 0, int(position) - 1)
    detail = [error.diag.message_primary or str(error), error.diag.message_detail]
    hint = error.diag.message_hint
    return SqlError("\n".join([*filter(None, detail), *([f"Hint: {hint}"] if hint else [])]), line)


def _numbered(statement: Statement) -> str:
    """Write the parameters as `$1`, `$2`, as the protocol of PostgreSQL has them."""
    numbers = {name: f"${number}" for number, name in enumerate(statement.names, 1)}
    return _POSTGRES_TOKEN.sub(
        lambda found: numbers[found["name"]] if found["name"] else found[0], statement.text
    )


def run_sqlite(
    file: str, text: str, params: Mapping[str, Any], keep_at: Path | None
) -> Result | None:
    """Run by SQLite; the rows of the last result are held in memory."""
    keep = Keeping(keep_at)
    line = 1
    try:
        with closing(sqlite3.connect(file, isolation_level=None, timeout=60)) as connection:
            last = None
            for statement in _check_any(list(split(text, _SQLITE_TOKEN))):
                line = statement.line
                values = _chosen(statement.names, params, line)
                bound = {name: _for_sqlite(value) for name, value in values.items()}
                cursor = connection.execute(statement.text, bound)
                if cursor.description:
                    last = keep.rows(cursor, [])
            return last
    except sqlite3.Error as error:
        raise SqlError(str(error), line) from None


def _for_sqlite(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


def split(text: str, token: re.Pattern[str]) -> Iterator[Statement]:
    """Split a text at the semicolons that end statements, not at those in texts and comments."""
    start, names = 0, dict[str, None]()
    for found in token.finditer(text):
        if found["name"]:
            names[found["name"]] = None
        elif found["end"]:
            if token is _SQLITE_TOKEN and not sqlite3.complete_statement(text[start : found.end()]):
                continue  # the body of a trigger goes on
            yield from _statement(text, start, found.start(), names)
            start, names = found.end(), {}
    yield from _statement(text, start, len(text), names)


def _statement(text: str, start: int, end: int, names: Mapping[str, None]) -> Iterator[Statement]:
    begin = start + _blank(text[start:end])
    if begin < end:
        yield Statement(text[begin:end], text.count("\n", 0, begin) + 1, tuple(names))


def _check_any(statements: list[Any]) -> list[Any]:
    if not statements:
        raise SqlError("The file has no statement.")
    return statements


def _chosen(names: Sequence[str], params: Mapping[str, Any], line: int) -> dict[str, Any]:
    missing = [name for name in names if name not in params]
    if missing:
        raise SqlError(
            f"The parameter ${missing[0]} is not given. Add it to the job's or the run's params.",
            line,
        )
    return {name: params[name] for name in names}


class Keeping:
    """Keeps rows that came through Python as Parquet."""

    def __init__(self, path: Path | None) -> None:
        """SqlError now, before anything was changed, when the library for it is missing."""
        self._path = path
        if path is not None:
            try:
                import polars  # noqa: F401
            except ImportError:
                raise SqlError(f"polars is missing here. {INSTALL.format('analytics')}") from None

    def rows(self, cursor: Any, types: Sequence[int]) -> Result:
        """Fetch all rows of a cursor and write them; `types`: PostgreSQL's, if it is its cursor."""
        columns = _distinct([column[0] for column in cursor.description])
        rows = [tuple(map(_plain, row)) for row in cursor.fetchall()]
        if self._path is not None:
            self._write(columns, rows, types)
        return Result(columns, len(rows), rows[:SHOWN_ROWS])

    def _write(
        self, columns: tuple[str, ...], rows: list[tuple[Any, ...]], types: Sequence[int]
    ) -> None:
        import polars as pl

        if self._path is None:
            return
        frame = pl.DataFrame(
            rows, schema=list(columns), orient="row", infer_schema_length=None, strict=False
        )
        for index, name in enumerate(columns):
            if frame.schema[name] == pl.Null:  # no value tells its type
                known = _POLARS_TYPES.get(types[index] if index < len(types) else 0, "String")
                frame = frame.with_columns(pl.col(name).cast(getattr(pl, known)))
        part = self._path.with_name(f".{self._path.name}.part")
        frame.write_parquet(part)
        part.replace(self._path)


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    seen: list[str] = []
    for name in names:
        unique, number = name, 0
        while unique in seen:
            number += 1
            unique = f"{name}_{number}"
        seen.append(unique)
    return tuple(seen)


def _plain(value: Any) -> Any:
    """Return what a column can hold; documents of JSON and what has no type become text."""
    if value is None or isinstance(value, _PLAIN):
        return value
    if isinstance(value, memoryview):
        return bytes(value)
    if isinstance(value, list) and not any(isinstance(item, dict) for item in value):
        return [_plain(item) for item in value]
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


# Words


def show(result: Result) -> None:
    """Print the first rows as a table, and how many there are."""
    cells = [[_word(name) for name in result.columns]]
    cells += [[_word(value) for value in row] for row in result.first]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    numeric = [
        all(isinstance(row[index], int | float | decimal.Decimal | None) for row in result.first)
        for index in range(len(widths))
    ]
    for number, line in enumerate(cells):
        padded = [
            text.rjust(width) if right and number else text.ljust(width)
            for text, width, right in zip(line, widths, numeric, strict=True)
        ]
        _print("  ".join(padded).rstrip())
        if number == 0:
            _print("  ".join("─" * width for width in widths))
    if result.count > len(result.first):
        _print("…")
    _print(f"{_count(result.count, 'row')}, {_count(len(result.columns), 'column')}")


def _word(value: Any) -> str:
    text = "NULL" if value is None else str(value)
    text = "".join(char if char.isprintable() else "␣" for char in text)
    return text if len(text) <= SHOWN_WIDTH else text[: SHOWN_WIDTH - 1] + "…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _print(text: str) -> None:
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def _fail(message: str) -> int:
    sys.stderr.buffer.write(message.encode("utf-8", "replace") + b"\n")
    sys.stderr.buffer.flush()
    return 1


if __name__ == "__main__":
    del sys.path[0]  # this folder is not the user's
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
