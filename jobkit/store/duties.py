"""Housekeeping: rows with a next time; whoever moves the time does the work."""

from __future__ import annotations

from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import insert_once
from jobkit.models import duties

HEARTBEAT = "say that a scheduler is there"


def declare(connection: Connection, names: tuple[str, ...], now: datetime) -> None:
    """Add the duties that the database does not know yet, due at once."""
    insert_once(connection, duties, [{"name": name, "next_at": now} for name in names])


def due(connection: Connection, now: datetime) -> list[str]:
    """Return the names of the duties that are due."""
    return list(connection.scalars(sa.select(duties.c.name).where(duties.c.next_at <= now)))


def take(connection: Connection, name: str, now: datetime, *, every: timedelta, by: str) -> bool:
    """Take a duty that is due by moving its next time; returns whether this caller won."""
    statement = (
        duties.update()
        .where(duties.c.name == name, duties.c.next_at <= now)
        .values(next_at=now + every, taken_by=by, taken_at=now)
    )
    return connection.execute(statement).rowcount == 1


def release(connection: Connection, name: str, now: datetime) -> None:
    """Make a duty due again at once, for work that was only begun."""
    connection.execute(duties.update().where(duties.c.name == name).values(next_at=now))


def last_taken(connection: Connection, name: str) -> datetime | None:
    """Return when a duty was taken last."""
    found: datetime | None = connection.scalar(
        sa.select(duties.c.taken_at).where(duties.c.name == name)
    )
    return found
