"""What lists show of jobs, however many there are: some of them, their last runs, how many."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import Prepared
from jobkit.models import jobs, runs

SORTS = ("name", "next", "latest")


@dataclass(frozen=True)
class Wanted:
    """Which jobs are wanted; what is None matters not."""

    text: str | None = None
    """In the name or the path of the script, whatever its case."""
    tag: str | None = None
    queue: str | None = None
    state: str | None = None
    """active, paused, or a status that the job's newest run has."""


_LISTED = jobs.c.deleted_at.is_(None)
_NEWEST: sa.ColumnElement[str] = (
    sa.select(runs.c.status)
    .where(runs.c.job_id == jobs.c.id)
    .order_by(runs.c.id.desc())
    .limit(1)
    .scalar_subquery()
)
_ORDERS: dict[str, tuple[Any, ...]] = {
    "name": (jobs.c.name,),
    "next": (sa.case((jobs.c.is_active, 0), else_=1), jobs.c.next_run.nulls_last(), jobs.c.name),
    "latest": (jobs.c.last_dispatched_at.desc().nulls_last(), jobs.c.name),
}


def listed(
    connection: Connection, wanted: Wanted, *, sort: str, limit: int, offset: int
) -> Sequence[Row[Any]]:
    """Return some of the jobs that match, in the order of their name, next slot or last one."""
    statement = _matching(sa.select(jobs), wanted).order_by(*_ORDERS[sort])
    return connection.execute(statement.limit(limit).offset(offset)).all()


def count(connection: Connection, wanted: Wanted) -> int:
    """Return how many jobs match."""
    counted = _matching(sa.select(sa.func.count()).select_from(jobs), wanted)
    found: int = connection.execute(counted).scalar_one()
    return found


def names(connection: Connection, wanted: Wanted) -> list[str]:
    """Return the names of all jobs that match, in order."""
    return list(connection.scalars(_matching(sa.select(jobs.c.name), wanted).order_by(jobs.c.name)))


def _matching(statement: sa.Select[Any], wanted: Wanted) -> sa.Select[Any]:
    statement = statement.where(_LISTED)
    if wanted.text is not None:
        said = [
            column.icontains(wanted.text, autoescape=True)
            for column in (jobs.c.name, jobs.c.script_path)
        ]
        statement = statement.where(sa.or_(*said))
    if wanted.tag is not None:
        # Tags hold no quotes, so the quoted one is found as it is written.
        tags = sa.type_coerce(jobs.c.tags, sa.Text)
        statement = statement.where(tags.contains(f'"{wanted.tag}"', autoescape=True))
    if wanted.queue is not None:
        statement = statement.where(jobs.c.queue == wanted.queue)
    if wanted.state in ("active", "paused"):
        is_active = jobs.c.is_active
        statement = statement.where(is_active if wanted.state == "active" else sa.not_(is_active))
    elif wanted.state is not None:
        statement = statement.where(_NEWEST.in_((wanted.state,)))
    return statement


def tags(connection: Connection) -> list[str]:
    """Return all tags that jobs have."""
    given = sa.select(jobs.c.tags).where(_LISTED, jobs.c.tags.is_not(None))
    found = connection.scalars(given.distinct())  # many jobs have the same
    return sorted({tag for own in found for tag in own})


def counts(connection: Connection) -> tuple[int, int]:
    """Return how many jobs there are, and how many of them are active."""
    counted = sa.select(
        sa.func.count(), sa.func.coalesce(sa.func.sum(sa.case((jobs.c.is_active, 1), else_=0)), 0)
    ).where(_LISTED)
    total, active = connection.execute(counted).one()
    return total, active


def upcoming(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Return the jobs whose slots come next, the soonest first."""
    statement = (
        sa.select(jobs)
        .where(jobs.c.is_active, _LISTED, jobs.c.next_run.is_not(None))
        .order_by(jobs.c.next_run, jobs.c.name)
    )
    return connection.execute(statement.limit(limit)).all()


def names_of(connection: Connection, ids: Iterable[int]) -> dict[int, str]:
    """Return the names of jobs by their ids, without those that were deleted."""
    found = sa.select(jobs.c.id, jobs.c.name).where(jobs.c.id.in_(sorted(set(ids))), _LISTED)
    return {job_id: name for job_id, name in connection.execute(found)}


def last_runs(connection: Connection, job_id: int, limit: int) -> list[Any]:
    """Return when a job's newest runs were claimed and ended, the newest first."""
    found: list[Any] = _LAST.rows(connection, {"job": job_id, "most": limit})
    return found


def timeline(connection: Connection, since: datetime, limit: int) -> list[Any]:
    """Return when the newest `limit` runs made since then were claimed and ended, newest first."""
    found: list[Any] = _TIMELINE.rows(connection, {"since": since, "most": limit})
    return found


_RUN = sa.select(
    runs.c.id,
    runs.c.job_id,
    runs.c.status,
    runs.c.created_at,
    runs.c.claimed_at,
    runs.c.completed_at,
).limit(sa.bindparam("most"))
_LAST = Prepared(_RUN.where(runs.c.job_id == sa.bindparam("job")).order_by(runs.c.id.desc()))
_TIMELINE = Prepared(
    _RUN.where(runs.c.created_at >= sa.bindparam("since")).order_by(runs.c.created_at.desc())
)
