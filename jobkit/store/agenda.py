"""What a scheduler has to do, read in one statement: most ticks find nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import Prepared, Utc
from jobkit.store import claims, dispatch


@dataclass(frozen=True)
class Agenda:
    """What is there to do."""

    next_due: datetime | None
    """When the next job comes due, or came due."""
    has_lapsed: bool
    """Whether the lease of a run ran out."""
    has_expired: bool
    """Whether a run was not started in time."""


def look(connection: Connection, now: datetime, *, grace: timedelta) -> Agenda:
    """Return what is there to do at this instant; `grace`: how long a lapsed lease still counts."""
    at = {"at": now, "lapsed_at": now - grace}
    return Agenda(*_AGENDA.rows(connection, at)[0])


_AGENDA = Prepared(
    sa.select(
        dispatch.NEXT_DUE.scalar_subquery(),
        sa.exists().where(claims.lapsed(sa.bindparam("lapsed_at", type_=Utc()))),
        sa.exists().where(claims.EXPIRED),
    )
)
