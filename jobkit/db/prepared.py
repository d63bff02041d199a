"""Statements that are run often: compiled once for each database, and run by its driver.

SQLAlchemy Core looks up, binds, wraps and unwraps at every execution, which costs several times
what the statement itself does. What does not change from one execution to the next is done here
once: the text, the order of the parameters, how values are turned into the driver's and back.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.clock import stopwatch

PLAN_SECONDS = 1.0
Process = Callable[[Any], Any]


class Prepared:
    """A statement of Core, run by the driver; errors are those that Core raises.

    Which values an UPDATE or INSERT sets is told by the parameters, as with Core: each set of
    their names is compiled once. No list of values may be among them (`IN` of many): see `OneOf`.
    """

    def __init__(self, statement: Any) -> None:
        self.statement = statement
        self._texts: dict[tuple[str, tuple[str, ...]], _Text] = {}

    def rows(self, connection: Connection, values: Mapping[str, Any] = {}) -> list[Any]:
        """Run it; return its rows, which have the names of their columns."""
        text = self._text(connection, tuple(values))
        return text.read(_run(connection, text.sql, text.bound(values)))

    def batches(
        self, connection: Connection, size: int, values: Mapping[str, Any] = {}
    ) -> Iterator[list[tuple[Any, ...]]]:
        """Run it; yield its rows as the driver gives them, so many at a time.

        However many they are, few are held at once. A million rows of another kind cost as much
        to make as to read.
        """
        text = self._text(connection, tuple(values))
        driver: Any = connection.connection.dbapi_connection
        named = {} if connection.dialect.name == "sqlite" else {"name": f"rows_{id(text)}"}
        cursor = driver.cursor(**named)
        try:
            cursor.execute(text.sql, text.bound(values))
            while rows := cursor.fetchmany(size):
                yield rows
        except _driver_error(connection) as error:
            connection._handle_dbapi_exception(error, text.sql, None, cursor, None)
        finally:
            cursor.close()

    def scalar(self, connection: Connection, values: Mapping[str, Any] = {}) -> Any:
        """Run it; return the first column of its first row, None without one."""
        rows = self.rows(connection, values)
        return rows[0][0] if rows else None

    def count(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Run it; return how many rows it wrote."""
        text = self._text(connection, tuple(values))
        written: int = _run(connection, text.sql, text.bound(values)).rowcount
        return written

    def each(self, connection: Connection, many: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each set of values, which all have the same names."""
        if many:
            text = self._text(connection, tuple(many[0]))
            _run(connection, text.sql, [text.bound(values) for values in many], is_many=True)

    def _text(self, connection: Connection, names: tuple[str, ...]) -> _Text:
        key = connection.dialect.name, names
        if (text := self._texts.get(key)) is None:
            text = self._texts[key] = _Text(self.statement, connection.dialect, names)
        return text


class _Text:
    """A statement in the words of one database, with its way in and its way out."""

    def __init__(self, statement: Any, dialect: sa.Dialect, names: Iterable[str]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=list(names))
        self.sql = str(compiled)
        self._order: Sequence[str] | None = compiled.positiontup
        # The text has other names where a driver could not read ours.
        self._shown: Mapping[str, str] = compiled.escaped_bind_names or {}
        self._in: dict[str, Process | None] = {
            name: parameter.type.dialect_impl(dialect).bind_processor(dialect)
            for name, parameter in compiled.binds.items()
        }
        own = {
            name: parameter.effective_value
            for name, parameter in compiled.binds.items()
            if not parameter.required
        }
        for column in (*compiled.insert_prefetch, *compiled.update_prefetch):
            own[column.key] = column.default.arg
        self._own = {name: self._turned(name, value) for name, value in own.items()}
        columns = getattr(statement, "exported_columns", None) or ()
        self._columns = [
            (column.key, column.type.dialect_impl(dialect), dialect) for column in columns
        ]
        self._row: Any = None
        self._out: list[tuple[int, Process]] = []

    def _turned(self, name: str, value: Any) -> Any:
        process = self._in[name]
        return value if process is None else process(value)

    def bound(self, values: Mapping[str, Any]) -> Any:
        """Return the parameters as the driver takes them: in their order, or by their names."""
        given = self._own | {name: self._turned(name, values[name]) for name in values}
        if self._order is not None:
            return [given[name] for name in self._order]
        return {self._shown.get(name, name): given[name] for name in self._in}

    def read(self, cursor: Any) -> list[Any]:
        """Return the rows of a cursor that has run it."""
        if self._row is None:
            self._describe(cursor)
        found = cursor.fetchall()
        if not self._out:
            return list(map(self._row._make, found))
        rows = []
        for values in map(list, found):
            for index, process in self._out:
                values[index] = process(values[index])
            rows.append(self._row._make(values))
        return rows

    def _describe(self, cursor: Any) -> None:
        codes = [column[1] for column in cursor.description]
        processes = [
            kind.result_processor(dialect, code)
            for (_, kind, dialect), code in zip(self._columns, codes, strict=True)
        ]
        self._out = [(at, process) for at, process in enumerate(processes) if process is not None]
        self._row = _row_of([name for name, _, _ in self._columns])


def _driver_error(connection: Connection) -> type[Exception]:
    error: type[Exception] = connection.dialect.dbapi.Error  # type: ignore[union-attr]
    return error


def _row_of(names: Sequence[str]) -> Any:
    return namedtuple("Row", names, rename=True)


def _run(connection: Connection, sql: str, values: Any, *, is_many: bool = False) -> Any:
    pooled = connection.connection
    driver: Any = pooled.dbapi_connection
    cursor = driver.cursor()
    for told in connection.dispatch.before_cursor_execute:
        sql, values = told(connection, cursor, sql, values, None, is_many)
    try:
        if is_many:
            cursor.executemany(sql, values)
        elif pooled.info.get("prepares"):
            # Another text is another plan.
            cursor.execute(f"{sql} -- {stopwatch() // PLAN_SECONDS}", values, prepare=True)
        else:
            cursor.execute(sql, values)
    except Exception as error:  # noqa: BLE001 - raised again, by Core
        # As Core does: an error of its own kind, and a connection that is dead is not used again.
        connection._handle_dbapi_exception(error, sql, values, cursor, None)
    for told in connection.dispatch.after_cursor_execute:
        told(connection, cursor, sql, values, None, is_many)
    return cursor
