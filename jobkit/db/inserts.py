"""Inserts of many rows that leave out what is there already."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection

from jobkit.db.prepared import Prepared


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
    if connection.dialect.name != "sqlite":
        statement, values = _columns(table, rows, returned)
        return statement.rows(connection, values)
    insert = _insert_rows(table, returned)
    if len(rows) == 1:
        return insert.rows(connection, rows[0])
    return connection.execute(insert.statement, list(rows)).all()


def insert_once(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; a repeat of rows that are already there does nothing."""
    if not rows:
        return
    if connection.dialect.name != "sqlite":
        statement, values = _columns(table, rows, ())
        statement.count(connection, values)
    else:
        _insert_rows(table, ()).each(connection, rows)


def _columns(
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    returned: tuple[sa.ColumnElement[Any], ...],
) -> tuple[Prepared, dict[str, Any]]:
    """Return the statement and its parameters for PostgreSQL, which takes them as columns.

    A thousand rows as one array a column cost it a tenth of a thousand lists of values; what is
    the same in all rows is sent once.
    """
    names = tuple(rows[0])
    columns = {name: [row[name] for row in rows] for name in names}
    varied = tuple(name for name in names if columns[name].count(columns[name][0]) != len(rows))
    varied = varied or names[:1]  # the arrays say how many rows there are
    values = {name: columns[name] if name in varied else columns[name][0] for name in names}
    return _insert_columns(table, names, varied, returned), values


@cache
def _insert_rows(table: sa.Table, returned: tuple[sa.ColumnElement[Any], ...]) -> Prepared:
    insert = sqlite.insert(table).on_conflict_do_nothing()
    return Prepared(insert.returning(*returned) if returned else insert)


@cache
def _insert_columns(
    table: sa.Table,
    names: tuple[str, ...],
    varied: tuple[str, ...],
    returned: tuple[sa.ColumnElement[Any], ...],
) -> Prepared:
    def bound(name: str) -> sa.BindParameter[Any]:
        kind = table.c[name].type
        return sa.bindparam(name, type_=_many(kind) if name in varied else kind)

    given = sa.func.unnest(*map(bound, varied)).table_valued(*varied).render_derived()
    chosen = [given.c[name] if name in varied else bound(name) for name in names]
    insert = postgresql.insert(table).from_select(names, sa.select(*chosen))
    insert = insert.on_conflict_do_nothing()
    return Prepared(insert.returning(*returned) if returned else insert)


def _many(kind: Any) -> Any:
    # One dimension: a JSON document that is a list is one value, not an array.
    return postgresql.ARRAY(kind, dimensions=1)
