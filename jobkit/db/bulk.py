"""Many rows at once: each database's fastest way in, and tables whose indexes wait meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

ROWS_A_STATEMENT = 100
"""To begin and end a statement costs SQLite a third of what a row does."""

_INDEXES = {
    "sqlite": "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL "
    "AND tbl_name = :name",
    "postgresql": "SELECT i.relname, replace(pg_get_indexdef(x.indexrelid), ' ON ONLY ', ' ON ') "
    "FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid "
    "WHERE x.indrelid = CAST(:name AS regclass) AND NOT EXISTS ("
    "SELECT 1 FROM pg_constraint c WHERE c.conindid = x.indexrelid)",
}


def copy_rows(
    connection: Connection, table: sa.Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert rows as the database keeps them: instants as text in naive UTC, JSON as text."""
    driver: Any = connection.connection.driver_connection
    names = ", ".join(columns)
    if connection.dialect.name == "sqlite":
        _insert(driver, f"{table.name} ({names})", len(columns), rows)
        return
    statement = f"COPY {table.name} ({names}) FROM STDIN"
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        write = copy.write_row
        for row in rows:
            write(row)


def _insert(driver: Any, into: str, width: int, rows: Sequence[Sequence[Any]]) -> None:
    marks = f"({', '.join('?' * width)})"
    whole = len(rows) - len(rows) % ROWS_A_STATEMENT
    many = (
        list(chain.from_iterable(rows[at : at + ROWS_A_STATEMENT]))
        for at in range(0, whole, ROWS_A_STATEMENT)
    )
    begun = f"INSERT INTO {into} VALUES "  # noqa: S608 - names of ours
    driver.executemany(begun + ", ".join([marks] * ROWS_A_STATEMENT), many)
    driver.executemany(begun + marks, rows[whole:])


@contextmanager
def without_indexes(connection: Connection, *tables: sa.Table) -> Iterator[None]:
    """Drop the indexes of tables that nobody else uses now, and make them again afterwards.

    To build an index once costs a fraction of keeping it up row by row. What a constraint needs
    stays.
    """
    asked = sa.text(_INDEXES[connection.dialect.name])
    found = [row for table in tables for row in connection.execute(asked, {"name": table.name})]
    for name, _ in found:
        connection.execute(sa.text(f"DROP INDEX {name}"))
    yield
    for _, definition in found:
        connection.exec_driver_sql(definition)


def continue_ids(connection: Connection, table: sa.Table) -> None:
    """Let new rows go on after the highest id that was given; SQLite does so by itself."""
    if connection.dialect.name == "postgresql":
        highest = sa.select(sa.func.coalesce(sa.func.max(table.c.id), 1)).scalar_subquery()
        sequence = sa.func.pg_get_serial_sequence(table.name, "id")
        connection.execute(sa.select(sa.func.setval(sequence, highest)))
