"""The archive's manifest: which files hold the rows that left the tables.

Whoever reads rows of the tables and of the archive reads both in one snapshot, and leaves out of
the tables what a part holds whose `removed_at` is NULL: its rows are about to leave, or to come
back. A part that is gone was restored: its rows are in the tables under their old ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import insert_once, lock_manifest
from jobkit.models import archives


def listed(
    connection: Connection, *, month: str | None = None, kind: str | None = None
) -> Sequence[Row[Any]]:
    """Return the files in the order in which they were added; of one month, of one kind."""
    statement = sa.select(archives).order_by(archives.c.id)
    if month is not None:
        statement = statement.where(archives.c.month == month)
    if kind is not None:
        statement = statement.where(archives.c.kind == kind)
    return connection.execute(statement).all()


def parts(connection: Connection, month: str) -> set[str]:
    """Return the parts that a month has."""
    return set(connection.scalars(sa.select(archives.c.part).where(archives.c.month == month)))


def lock(connection: Connection) -> None:
    """Let one transaction at a time change what is listed; readers go on."""
    lock_manifest(connection)


def add(connection: Connection, files: Sequence[dict[str, Any]], now: datetime) -> None:
    """List the files of a part: from here on they are part of the history; a repeat does nothing.

    Each has `part`, `kind`, `month`, `url`, `rows`, `first_id`, `last_id`, `first_at`, `last_at`,
    `bytes` and `sha256`.
    """
    insert_once(connection, archives, [{**file, "created_at": now} for file in files])


def is_leaving(connection: Connection, part: str) -> bool:
    """Whether the rows of a part may be removed from the tables; keeps it so until the commit."""
    statement = sa.select(archives.c.id).where(
        archives.c.part == part,
        archives.c.removed_at.is_(None),
        archives.c.restoring_at.is_(None),
    )
    return connection.execute(statement.with_for_update(read=True)).first() is not None


def mark_removed(connection: Connection, part: str, now: datetime) -> bool:
    """Note that no row of a part is left in the tables; returns whether this caller did."""
    statement = (
        archives.update()
        .where(
            archives.c.part == part,
            archives.c.removed_at.is_(None),
            archives.c.restoring_at.is_(None),
        )
        .values(removed_at=now)
    )
    return connection.execute(statement).rowcount > 0


def begin_restore(connection: Connection, part: str, now: datetime) -> bool:
    """Note that the rows of a part come back; nobody removes them any more. False if it is gone."""
    statement = archives.update().where(archives.c.part == part)
    return connection.execute(statement.values(removed_at=None, restoring_at=now)).rowcount > 0


def is_coming_back(connection: Connection, part: str, since: datetime) -> bool:
    """Whether whoever began a restore at an instant still has it; keeps it so until the commit."""
    statement = sa.select(archives.c.id).where(
        archives.c.part == part, archives.c.restoring_at == since
    )
    return connection.execute(statement.with_for_update(read=True)).first() is not None


def is_restoring(connection: Connection) -> bool:
    """Whether the rows of any part come back now."""
    statement = sa.select(archives.c.id).where(archives.c.restoring_at.is_not(None)).limit(1)
    return connection.execute(statement).first() is not None


def give_up_restores(connection: Connection, before: datetime) -> int:
    """Let parts whose restore began long ago and never ended leave again; returns their files."""
    statement = archives.update().where(archives.c.restoring_at < before).values(restoring_at=None)
    return connection.execute(statement).rowcount


def remove(connection: Connection, part: str) -> bool:
    """Take a part off the list; returns whether it was on it."""
    statement = archives.delete().where(archives.c.part == part)
    return connection.execute(statement).rowcount > 0


def leaving(connection: Connection) -> list[tuple[datetime, datetime]]:
    """Return the spans of `completed_at` of runs that are about to leave or to come back."""
    statement = sa.select(archives.c.first_at, archives.c.last_at).where(
        archives.c.kind == "runs", archives.c.removed_at.is_(None), archives.c.rows > 0
    )
    return [(first, last) for first, last in connection.execute(statement)]


def last_end(connection: Connection) -> datetime | None:
    """Return the latest end of any archived run: what ended later is in the tables."""
    statement = sa.select(sa.func.max(archives.c.last_at)).where(archives.c.kind == "runs")
    latest: datetime | None = connection.scalar(statement)
    return latest
