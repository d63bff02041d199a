"""The archive's manifest: which files hold the rows that left the tables.

Whoever reads rows of the tables and of the archive reads both in one snapshot, and leaves out of
the tables what a part holds whose `removed_at` is NULL. A part that is gone was restored: its rows
are back in the tables under their old ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import insert_once
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


def add(connection: Connection, files: Sequence[dict[str, Any]], now: datetime) -> None:
    """List the files of a part: from here on they are part of the history; a repeat does nothing.

    Each has `part`, `kind`, `month`, `url`, `rows`, `first_id`, `last_id`, `first_at`, `last_at`,
    `bytes` and `sha256`.
    """
    insert_once(connection, archives, [{**file, "created_at": now} for file in files])


def mark_removed(connection: Connection, part: str, now: datetime) -> bool:
    """Note that no row of a part is left in the tables; returns whether this caller did."""
    statement = (
        archives.update()
        .where(archives.c.part == part, archives.c.removed_at.is_(None))
        .values(removed_at=now)
    )
    return connection.execute(statement).rowcount > 0


def remove(connection: Connection, part: str) -> bool:
    """Take a part off the list; returns whether it was on it."""
    statement = archives.delete().where(archives.c.part == part)
    return connection.execute(statement).rowcount > 0
