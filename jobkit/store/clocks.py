"""Clocks of jobs that are watched: when each is to be looked at for what did not happen.

A job that is well costs nothing until its time has come: only then its last success is looked up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.alerting import CLOCKS
from jobkit.db import OneOf, Prepared, Utc, insert_once
from jobkit.models import alert_clocks

MOST_DUE = 2000
_AT = sa.bindparam("at", type_=Utc())


def wind(connection: Connection, job: Any, now: datetime, *, has_new_slots: bool) -> None:
    """Have the clocks of a job that was changed looked at with the next look.

    A job that is not watched, is paused or is deleted has none; those that are new count from now,
    and with `has_new_slots` those of slots do, too.
    """
    rules = job.alerts if job.is_active and job.deleted_at is None else None
    wanted = [kind for kind in CLOCKS if kind in (rules or {})]
    gone = [kind for kind in CLOCKS if kind not in wanted]
    if has_new_slots:
        gone.append("done-by")
    mine = alert_clocks.c.job_id == job.id
    connection.execute(alert_clocks.delete().where(mine, alert_clocks.c.kind.in_(gone)))
    connection.execute(alert_clocks.update().where(mine).values(due_at=now))
    rows = [{"job_id": job.id, "kind": kind, "since_at": now, "due_at": now} for kind in wanted]
    insert_once(connection, alert_clocks, rows)


def due(connection: Connection, now: datetime) -> list[Any]:
    """Return the clocks whose time has come, the longest ago first."""
    return _DUE.rows(connection, {"at": now, "most": MOST_DUE})


_DUE = Prepared(
    sa.select(alert_clocks)
    .where(alert_clocks.c.due_at <= _AT)
    .order_by(alert_clocks.c.due_at)
    .limit(sa.bindparam("most"))
)


def of_jobs(connection: Connection, job_ids: Iterable[int]) -> dict[int, dict[str, Row[Any]]]:
    """Return the clocks of jobs, by job and kind."""
    statement = sa.select(alert_clocks).where(OneOf(alert_clocks.c.job_id, "ids"))
    found: dict[int, dict[str, Row[Any]]] = {}
    for row in connection.execute(statement, {"ids": sorted(job_ids)}):
        found.setdefault(row.job_id, {})[row.kind] = row
    return found


def set_clocks(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set when clocks are due again: `of`, `named`, `since_at`, `due_at`."""
    _SET_CLOCK.each(connection, rows)


_SET_CLOCK = Prepared(
    alert_clocks.update()
    .where(
        alert_clocks.c.job_id == sa.bindparam("of"), alert_clocks.c.kind == sa.bindparam("named")
    )
    .values(
        since_at=sa.bindparam("since_at", type_=Utc()), due_at=sa.bindparam("due_at", type_=Utc())
    )
)
