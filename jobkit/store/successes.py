"""The last successes of a job: how long they took, as far as is needed to say what is usual."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import Utc
from jobkit.expectation import LEAST, MOST, Expectation, expectation
from jobkit.models import attempts, runs

MONTH = timedelta(days=30.4375)
LOOKED_AT = 5 * MOST
"""Among so many, those with the same parameters are looked for: a bound on what a look costs."""


def usual(
    connection: Connection,
    job_id: int,
    *,
    params: Mapping[str, Any] | None = None,
    before: datetime | None = None,
) -> Expectation:
    """Return what the last 200 successes of a job say.

    `params`: of those runs only that had exactly these, where 8 of them succeeded.
    `before`: of attempts that were claimed before this instant.
    """
    asked: dict[str, Any] = {"of": job_id, "most": MOST if params is None else LOOKED_AT}
    if before is not None:
        asked["before"] = before
    statement = _STATEMENTS[params is not None, before is not None]
    rows = connection.execute(statement, asked).all()
    if params is not None:
        same = [row for row in rows if (row.params or {}) == params]
        if LEAST <= len(same) < len(rows):
            source = "successes with the same parameters"
            return expectation(map(_seconds, same[:MOST]), source, _monthly(rows))
    return expectation(map(_seconds, rows[:MOST]), monthly=_monthly(rows))


def _monthly(rows: Sequence[Row[Any]]) -> float | None:
    """Return how many of these, the newest first, there are in a month."""
    if len(rows) < 2 or not (span := rows[0].claimed_at - rows[-1].claimed_at):
        return None
    monthly: float = (len(rows) - 1) * (MONTH / span)
    return monthly


def _seconds(row: Row[Any]) -> float:
    seconds: float = (row.finished_at - (row.started_at or row.claimed_at)).total_seconds()
    return max(seconds, 0.0)


def _statement(with_params: bool, bounded: bool) -> sa.Select[Any]:
    columns = [attempts.c.claimed_at, attempts.c.started_at, attempts.c.finished_at]
    source: Any = attempts
    if with_params:
        columns.append(runs.c.params)
        source = attempts.outerjoin(runs, runs.c.id == attempts.c.dispatch_id)
    statement = sa.select(*columns).select_from(source)
    statement = statement.where(
        attempts.c.job_id == sa.bindparam("of"),
        attempts.c.status == sa.literal_column("'SUCCESS'", sa.Text),
        attempts.c.finished_at.is_not(None),
    )
    if bounded:
        statement = statement.where(attempts.c.claimed_at < sa.bindparam("before", type_=Utc()))
    return statement.order_by(attempts.c.claimed_at.desc()).limit(sa.bindparam("most"))


_STATEMENTS = {
    (with_params, bounded): _statement(with_params, bounded)
    for with_params in (False, True)
    for bounded in (False, True)
}
