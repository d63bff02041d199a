"""Pages of jobs and runs that go on after a mark, so that what is new meanwhile shifts none."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.errors import BadInput
from jobkit.models import jobs as job_table
from jobkit.models import runs as run_table
from jobkit.store.history import with_names
from jobkit.text import iso, parse_instant

Mark = tuple[datetime, int]
MOST_ID = (1 << 63) - 1


def mark(run: Any) -> str:
    """Return the mark after which the runs older than this one come."""
    return f"{iso(run.created_at)}_{run.id}"


def read_mark(text: str) -> Mark:
    """Read a mark; BadInput for what is none."""
    instant, _, number = text.rpartition("_")
    if not number.isascii() or not number.isdecimal() or len(number) > 19:
        raise BadInput(f"{text!r} is no mark of a page.", "Take `next` of the page before.")
    if int(number) > MOST_ID:
        raise BadInput(f"{text!r} is no mark of a page.", "Take `next` of the page before.")
    return parse_instant(instant), int(number)


def runs(
    connection: Connection,
    *,
    job_id: int | None = None,
    statuses: Sequence[str] = (),
    since: datetime | None = None,
    after: Mark | None = None,
    limit: int,
) -> Sequence[Row[Any]]:
    """Return runs, the newest first: those after a mark, if it is given."""
    which, statement = run_table.c, with_names()
    if job_id is not None:
        statement = statement.where(which.job_id == job_id)
    if statuses:
        statement = statement.where(which.status.in_(statuses))
    if since is None:
        if after is not None:
            statement = statement.where(which.id < after[1])
        statement = statement.order_by(which.id.desc())
    else:
        # In the order of the index that finds them: by id the whole table might be read.
        statement = statement.where(which.created_at >= since)
        if after is not None:
            place = sa.tuple_(sa.literal(after[0], which.created_at.type), after[1])
            statement = statement.where(sa.tuple_(which.created_at, which.id) < place)
        statement = statement.order_by(which.created_at.desc(), which.id.desc())
    return connection.execute(statement.limit(limit)).all()


def jobs(
    connection: Connection,
    *,
    words: str | None = None,
    is_active: bool | None = None,
    after: str | None = None,
    limit: int,
) -> Sequence[Row[Any]]:
    """Return jobs that are not deleted, by name: those after a name, if it is given."""
    which = job_table.c
    statement = sa.select(job_table).where(which.deleted_at.is_(None))
    if words:
        statement = statement.where(which.name.icontains(words, autoescape=True))
    if is_active is not None:
        statement = statement.where(which.is_active == is_active)
    if after is not None:
        statement = statement.where(which.name > after)
    return connection.execute(statement.order_by(which.name).limit(limit)).all()
