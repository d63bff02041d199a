"""What happened since somebody looked last: runs that were made, and runs that ended, in order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import Prepared
from jobkit.models import archives, runs


@dataclass(frozen=True)
class Mark:
    """The last run that was looked at, by an instant of it and its id."""

    at: datetime
    run_id: int = 0


def made(connection: Connection, after: Mark, until: datetime, limit: int) -> list[Any]:
    """Return runs that were made after a mark and by an instant, the oldest first."""
    return _MADE.rows(connection, _bounds(after, until, limit))


def ended(connection: Connection, after: Mark, until: datetime, limit: int) -> list[Any]:
    """Return runs that ended after a mark and by an instant, the oldest first."""
    return _ENDED.rows(connection, _bounds(after, until, limit))


def archived_bytes(connection: Connection) -> int:
    """Return the bytes of all files of the archive."""
    return int(connection.scalar(sa.select(sa.func.coalesce(sa.func.sum(archives.c.bytes), 0))))


def _bounds(after: Mark, until: datetime, limit: int) -> dict[str, Any]:
    return {"at": after.at, "run": after.run_id, "until": until, "most": limit}


def _between(column: sa.Column[Any], *columns: sa.Column[Any]) -> Prepared:
    at = sa.bindparam("at", type_=column.type)
    is_after = sa.or_(column > at, runs.c.id > sa.bindparam("run"))
    return Prepared(
        sa.select(runs.c.id, column.label("at"), *columns)
        .where(column >= at, is_after, column <= sa.bindparam("until", type_=column.type))
        .order_by(column, runs.c.id)
        .limit(sa.bindparam("most"))
    )


_MADE = _between(runs.c.created_at, runs.c.trigger, runs.c.queue)
_ENDED = _between(
    runs.c.completed_at,
    runs.c.status,
    runs.c.queue,
    runs.c.trigger,
    runs.c.scheduled_for,
    runs.c.available_at,
    runs.c.claimed_at,
    runs.c.attempt,
    runs.c.retry_count,
    runs.c.lost_count,
)
