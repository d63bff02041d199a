"""Who did what in the portal; rows are only added."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.models import audit
from jobkit.text import clean

LONGEST = 300


def note(
    connection: Connection,
    now: datetime,
    *,
    who: str,
    what: str,
    about: str = "",
    address: str = "",
) -> None:
    """Add a row."""
    words = {"who": who, "what": what, "about": about, "address": address}
    cut = {name: clean(text)[:LONGEST] for name, text in words.items()}
    connection.execute(audit.insert().values(at=now, **cut))


def latest(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Return the rows that were added last, the newest first."""
    statement = sa.select(audit).order_by(audit.c.at.desc(), audit.c.id.desc()).limit(limit)
    return connection.execute(statement).all()
