"""How often a password was wrong, and until when the next guess is refused.

A guess is counted before it is looked at: guesses that come at the same time count each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import insert_once
from jobkit.models import guesses

FORGOTTEN = timedelta(days=1)
LONGEST_WAIT = timedelta(minutes=15)


def wait_after(tries: int, free: int) -> timedelta:
    """Return how long the next guess is refused after so many: 1 s after `free`, then doubled."""
    if tries < free:
        return timedelta(0)
    return min(timedelta(seconds=2.0 ** min(tries - free, 20)), LONGEST_WAIT)


def begin(connection: Connection, free: Mapping[str, int], now: datetime) -> datetime | None:
    """Count a guess for each key, if none of them is locked; else return until when.

    `free`: key -> how many guesses are not followed by a wait.
    """
    keys = sorted(free)
    insert_once(connection, guesses, [{"sha256": key, "tries": 0, "at": now} for key in keys])
    statement = sa.select(guesses).where(guesses.c.sha256.in_(keys)).order_by(guesses.c.sha256)
    rows = connection.execute(statement.with_for_update()).all()
    locked: list[datetime] = [
        row.locked_until for row in rows if row.locked_until and row.locked_until > now
    ]
    if locked:
        return max(locked)
    for row in rows:
        tries = 1 + (row.tries if now - row.at < FORGOTTEN else 0)
        values = {
            "tries": tries,
            "at": now,
            "locked_until": now + wait_after(tries, free[row.sha256]),
        }
        connection.execute(guesses.update().where(guesses.c.sha256 == row.sha256).values(**values))
    return None


def forgive(connection: Connection, wholly: Sequence[str], once: Sequence[str]) -> None:
    """Take back what a right password cost: all guesses of some keys, this one of others."""
    connection.execute(guesses.delete().where(guesses.c.sha256.in_(wholly)))
    connection.execute(
        guesses.update()
        .where(guesses.c.sha256.in_(once), guesses.c.tries > 0)
        .values(tries=guesses.c.tries - 1, locked_until=None)
    )


def forget(connection: Connection, now: datetime) -> int:
    """Delete what was counted long ago; returns how many rows."""
    return connection.execute(guesses.delete().where(guesses.c.at < now - FORGOTTEN)).rowcount
