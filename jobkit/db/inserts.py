"""Inserts of many rows that leave out what is there already."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection


def insert_new(
    connection: Connection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    returned: tuple[sa.ColumnElement[Any], ...],
) -> Sequence[sa.Row[Any]]:
    """Insert rows with the same keys, leaving out those that a unique constraint already holds.

    Returns columns of the rows that this caller inserted, in any order.
    """
    if not rows:
        return []
    statement, values = _insert(connection.dialect.name, table, rows, returned)
    return connection.execute(statement, values).all()


def insert_once(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; a repeat of rows that are already there does nothing."""
    if rows:
        connection.execute(*_insert(connection.dialect.name, table, rows, ()))


def _insert(
    dialect: str,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    returned: tuple[sa.ColumnElement[Any], ...],
) -> tuple[Any, Any]:
    """Return the statement and its parameters: PostgreSQL takes columns, SQLite rows.

    A thousand rows as one array a column cost PostgreSQL a tenth of a thousand lists of values;
    what is the same in all rows is sent once.
    """
    if dialect == "sqlite":
        return _insert_rows(table, returned), list(rows)
    names = tuple(rows[0])
    columns = {name: [row[name] for row in rows] for name in names}
    varied = tuple(name for name in names if columns[name].count(columns[name][0]) != len(rows))
    varied = varied or names[:1]  # the arrays say how many rows there are
    values = {name: columns[name] if name in varied else columns[name][0] for name in names}
    return _insert_columns(table, names, varied, returned), values


@cache
def _insert_rows(table: sa.Table, returned: tuple[sa.ColumnElement[Any], ...]) -> Any:
    insert = sqlite.insert(table).on_conflict_do_nothing()
    return insert.returning(*returned) if returned else insert


@cache
def _insert_columns(
    table: sa.Table,
    names: tuple[str, ...],
    varied: tuple[str, ...],
    returned: tuple[sa.ColumnElement[Any], ...],
) -> Any:
    def bound(name: str) -> sa.BindParameter[Any]:
        kind = table.c[name].type
        return sa.bindparam(name, type_=_many(kind) if name in varied else kind)

    given = sa.func.unnest(*map(bound, varied)).table_valued(*varied).render_derived()
    chosen = [given.c[name] if name in varied else bound(name) for name in names]
    insert = postgresql.insert(table).from_select(names, sa.select(*chosen))
    insert = insert.on_conflict_do_nothing()
    return insert.returning(*returned) if returned else insert


def _many(kind: Any) -> Any:
    # One dimension: a JSON document that is a list is one value, not an array.
    return postgresql.ARRAY(kind, dimensions=1)
