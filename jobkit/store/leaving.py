"""Runs on their way out of the tables and back: what an archiver reads, removes and restores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import JsonText, OneOf, Prepared, Utc, insert_once
from jobkit.models import attempts, output, runs
from jobkit.states import FINAL, RUN_STATUSES

READ_ROWS = 5000
"""More at once only fill the memory: they are slower."""
Rows = Sequence[Sequence[Any]]


def _may_leave(since: datetime, before: datetime) -> sa.ColumnElement[bool]:
    """Whether a run ended in [since, before); what an older system left stays for ever."""
    return sa.and_(
        runs.c.completed_at >= since,
        runs.c.completed_at < before,
        # Not `in`: nearly all runs are final, and SQLite would go by the index of that.
        *(runs.c.status != status for status in RUN_STATUSES if status not in FINAL),
        runs.c.job_version.is_not(None),
    )


def first_end(connection: Connection, since: datetime) -> datetime | None:
    """Return when the first run ended, at or after an instant, that may leave."""
    statement = (
        sa.select(runs.c.completed_at)
        .where(runs.c.completed_at >= since, runs.c.job_version.is_not(None))
        .order_by(runs.c.completed_at)
        .limit(1)
    )
    first: datetime | None = connection.scalar(statement)
    return first


def count(
    connection: Connection, since: datetime, before: datetime, *, without: Sequence[int] = ()
) -> int:
    """Count the runs that ended in [since, before) and may leave, without some that stay."""
    counted = sa.select(sa.func.count()).select_from(runs).where(_may_leave(since, before))
    found = connection.scalar(counted) or 0
    if not found or not without:
        return found
    stay = counted.where(OneOf(runs.c.id, "of"))
    return found - (connection.scalar(stay, {"of": list(without)}) or 0)


def newest(connection: Connection, each: int) -> set[int]:
    """Return the newest runs of each job, so many of each: those stay."""
    if each == 0:
        return set()
    ids: set[int] = set()
    job = connection.scalar(sa.select(sa.func.min(runs.c.job_id)))
    # Job by job: each is one look into an index, however long the history is.
    while job is not None:
        ids.update(connection.scalars(_NEWEST, {"of": job, "most": each}))
        job = connection.scalar(_FOLLOWING, {"of": job})
    return ids


_NEWEST = (
    sa.select(runs.c.id)
    .where(runs.c.job_id == sa.bindparam("of"))
    .order_by(runs.c.id.desc())
    .limit(sa.bindparam("most"))
)
_FOLLOWING = sa.select(sa.func.min(runs.c.job_id)).where(runs.c.job_id > sa.bindparam("of"))


def read_runs(
    connection: Connection, columns: Sequence[sa.Column[Any]], since: datetime, before: datetime
) -> Iterator[Rows]:
    """Yield the runs that ended in [since, before) and may leave, in the order of their ends."""
    statement = sa.select(*_raw(columns)).where(_may_leave(since, before))
    statement = statement.order_by(runs.c.completed_at, runs.c.id)
    yield from Prepared(statement).batches(connection, READ_ROWS)


def read_attempts(
    connection: Connection, columns: Sequence[sa.Column[Any]], since: datetime, before: datetime
) -> Iterator[Rows]:
    """Yield the attempts of the runs that may leave, in the order of their claims."""
    theirs = sa.and_(runs.c.id == attempts.c.dispatch_id, _may_leave(since, before))
    at = attempts.c.claimed_at
    bounds = sa.select(sa.func.min(at), sa.func.max(at)).join_from(attempts, runs, theirs)
    first, last = connection.execute(bounds).one()
    if first is None:
        return
    # Between their bounds the index of claims gives them in their order: nothing has to be sorted.
    statement = sa.select(*_raw(columns)).where(at.between(first, last), sa.exists().where(theirs))
    statement = statement.order_by(at, attempts.c.id)
    yield from Prepared(statement).batches(connection, READ_ROWS)


def read_output(
    connection: Connection, columns: Sequence[sa.Column[Any]], run_ids: Sequence[int]
) -> Rows:
    """Return what the attempts of runs printed."""
    of = {"of": list(run_ids)}
    found = _output(tuple(columns)).batches(connection, READ_ROWS, of)
    return [row for rows in found for row in rows]


@cache
def _output(columns: tuple[sa.Column[Any], ...]) -> Prepared:
    return Prepared(sa.select(*_raw(columns)).where(OneOf(output.c.dispatch_id, "of")))


def _raw(columns: Sequence[sa.Column[Any]]) -> list[sa.ColumnElement[Any]]:
    """Select values as the driver gives them: none is read only to be written again."""
    return [sa.type_coerce(column, sa.types.NullType()) for column in columns]


def remove(connection: Connection, run_ids: Sequence[int]) -> int:
    """Delete runs with their attempts and output; returns how many runs were there."""
    of = {"of": list(run_ids)}
    _REMOVE_OUTPUT.count(connection, of)
    _REMOVE_ATTEMPTS.count(connection, of)
    return _REMOVE_RUNS.count(connection, of)


_REMOVE_OUTPUT = Prepared(output.delete().where(OneOf(output.c.dispatch_id, "of")))
_REMOVE_ATTEMPTS = Prepared(attempts.delete().where(OneOf(attempts.c.dispatch_id, "of")))
_REMOVE_RUNS = Prepared(runs.delete().where(OneOf(runs.c.id, "of")))


def bring_back(
    connection: Connection, table: sa.Table, names: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Insert archived rows under their old ids; those that are there stay as they are.

    Instants are naive UTC and JSON is text, as the files hold them.
    """
    made = [dict(zip(names, row, strict=True)) for row in rows]
    instants = [name for name in names if isinstance(table.c[name].type, Utc)]
    for row in made:
        for name in instants:
            if row[name] is not None:
                row[name] = row[name].replace(tzinfo=UTC)
    insert_once(connection, _as_kept(table), made)


def present(connection: Connection, run_ids: Sequence[int]) -> set[int]:
    """Return those of these runs that are in the table."""
    return set(connection.scalars(_PRESENT, {"of": list(run_ids)}))


_PRESENT = sa.select(runs.c.id).where(OneOf(runs.c.id, "of"))


@cache
def _as_kept(table: sa.Table) -> sa.Table:
    """Return a table whose JSON columns take text as it is."""
    columns = [
        sa.Column(column.name, sa.Text() if isinstance(column.type, JsonText) else column.type)
        for column in table.c
    ]
    return sa.Table(table.name, sa.MetaData(), *columns)


def is_running_since(connection: Connection, claimed_before: datetime) -> bool:
    """Whether a run is in progress that was claimed before an instant."""
    statement = sa.select(runs.c.id).where(
        runs.c.status == "IN_PROGRESS", runs.c.claimed_at < claimed_before
    )
    return connection.execute(statement.limit(1)).first() is not None
