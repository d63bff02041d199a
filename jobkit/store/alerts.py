"""Alerts: what fires, and what has to be read to tell.

Whoever looks takes the mark first and holds it to the end of the transaction: one looks at a time.
Every change is one guarded statement besides, and its row count says who won.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.alerting import DECIDED, FAILURES, Finding
from jobkit.db import LaterBy, OneOf, Prepared, Utc, insert_new, insert_once
from jobkit.errors import NotFound
from jobkit.models import (
    alert_marks,
    alert_mutes,
    alerts,
    jobs,
    runs,
    workers,
)
from jobkit.states import EXTERNAL_QUEUE
from jobkit.store.definitions import SCHEDULE
from jobkit.store.dispatch import IN_PROGRESS, PENDING

ALL = "all"
"""The scope of a mute of everything."""
ENDED = "runs that ended"
MOST_STALE = 500
MOST_RUNS = 50_000
NEWEST = 200
"""Of a job, so many of its newest runs are looked at for what is done."""
MOST_COUNTED = 10_000

_OPEN = alerts.c.resolved_at.is_(None)
# As the index has it: to SQLite `is_active = 1` is another condition, and it would read all jobs.
_WATCHED = sa.and_(jobs.c.alerts.is_not(None), sa.text("is_active"), jobs.c.deleted_at.is_(None))
_AT = sa.bindparam("at", type_=Utc())
_RUN = (
    runs.c.id,
    runs.c.job_id,
    runs.c.status,
    runs.c.trigger,
    runs.c.attempt,
    runs.c.scheduled_for,
    runs.c.created_at,
    runs.c.claimed_at,
    runs.c.completed_at,
    runs.c.reason,
    runs.c.error_message,
    runs.c.params,
)


def scope_of(job_id: int | None) -> str:
    """Return the scope of a mute: of a job, or of everything."""
    return ALL if job_id is None else f"job:{job_id}"


# Taking the turn


def take_mark(connection: Connection, now: datetime, name: str = ENDED) -> datetime:
    """Move the mark to now and return where it was; others who look wait for this transaction."""
    insert_once(connection, alert_marks, [{"name": name, "at": now}])
    mine = sa.select(alert_marks.c.at).where(alert_marks.c.name == name).with_for_update()
    before: datetime = connection.execute(mine).scalar_one()
    set_mark(connection, now, name)
    return before


def set_mark(connection: Connection, at: datetime, name: str = ENDED) -> None:
    """Move a mark that is taken, also back: what was not done is to be looked at again."""
    connection.execute(alert_marks.update().where(alert_marks.c.name == name).values(at=at))


# What is read


def opened(connection: Connection) -> Sequence[Row[Any]]:
    """Return the alerts that are open, the oldest first."""
    return connection.execute(sa.select(alerts).where(_OPEN).order_by(alerts.c.id)).all()


def told_until(connection: Connection, keys: Sequence[str]) -> dict[str, datetime]:
    """Return up to which slot, or end of a run, each key was told."""
    found: dict[str, datetime] = {}
    for key in keys:
        at = _TOLD.scalar(connection, {"key": key})
        if at is not None:
            found[key] = at
    return found


_TOLD = Prepared(
    sa.select(sa.func.max(alerts.c.about_at, type_=Utc())).where(
        alerts.c.key == sa.bindparam("key")
    )
)


def watched(connection: Connection, job_ids: Iterable[int]) -> dict[int, Any]:
    """Return what a look reads of jobs, deleted ones too: their rules and their schedules."""
    rows = _JOBS.rows(connection, {"ids": sorted(job_ids)})
    return {row.id: row for row in rows}


_JOBS = Prepared(
    sa.select(
        jobs.c.id,
        jobs.c.name,
        jobs.c.alerts,
        jobs.c.is_active,
        jobs.c.deleted_at,
        *(jobs.c[name] for name in SCHEDULE),
    ).where(OneOf(jobs.c.id, "ids"))
)


def unfinished(connection: Connection, limit: int = MOST_RUNS) -> list[Any]:
    """Return the unfinished runs of jobs that are watched for being late or running long."""
    return _UNFINISHED.rows(connection, {"most": limit})


_UNFINISHED = Prepared(
    sa.select(*_RUN, jobs.c.alerts)
    .select_from(jobs.join(runs, runs.c.job_id == jobs.c.id))
    .where(
        _WATCHED,
        sa.or_(
            jobs.c.alerts.like(sa.literal_column("'%\"late\"%'")),
            jobs.c.alerts.like(sa.literal_column("'%\"running\"%'")),
        ),
        runs.c.status.in_((PENDING, IN_PROGRESS)),
    )
    .limit(sa.bindparam("most"))
)


def ended(connection: Connection, after: datetime, limit: int = MOST_RUNS) -> list[Any]:
    """Return runs that ended after an instant, those that may tell something, oldest first.

    What failed, was missed or began late; all of jobs that are watched for being short, or have an
    open alert.
    """
    return _ENDED.rows(connection, {"at": after, "most": limit})


_HAS_OPEN = sa.exists().where(alerts.c.job_id == runs.c.job_id, _OPEN)
_ENDED = Prepared(
    sa.select(*_RUN)
    .select_from(runs.join(jobs, jobs.c.id == runs.c.job_id))
    .where(
        runs.c.completed_at > _AT,
        _WATCHED,
        sa.or_(
            runs.c.status.in_([sa.literal_column(f"'{it}'") for it in (*FAILURES, "MISSED")]),
            jobs.c.alerts.like(sa.literal_column("'%\"short\"%'")),
            sa.and_(
                jobs.c.alerts.like(sa.literal_column("'%\"late\"%'")),
                runs.c.attempt == 1,
                LaterBy(runs.c.claimed_at, runs.c.scheduled_for, 1),
            ),
            _HAS_OPEN,
        ),
    )
    .order_by(runs.c.completed_at, runs.c.id)
    .limit(sa.bindparam("most"))
)


def runs_of(connection: Connection, run_ids: Sequence[int]) -> dict[int, Any]:
    """Return runs by their ids; those that are gone are left out."""
    if not run_ids:
        return {}
    return {row.id: row for row in _RUNS_OF.rows(connection, {"ids": list(run_ids)})}


_RUNS_OF = Prepared(sa.select(*_RUN).where(OneOf(runs.c.id, "ids")))


def newest(connection: Connection, job_id: int, limit: int = NEWEST) -> list[Any]:
    """Return the newest runs of a job, the newest first."""
    return _NEWEST.rows(connection, {"of": job_id, "most": limit})


_NEWEST = Prepared(
    sa.select(*_RUN)
    .where(runs.c.job_id == sa.bindparam("of"))
    .order_by(runs.c.id.desc())
    .limit(sa.bindparam("most"))
)


def decided(connection: Connection, job_id: int, limit: int) -> list[Any]:
    """Return the newest runs of a job that succeeded or failed, the newest first."""
    return _DECIDED.rows(connection, {"of": job_id, "most": limit})


_IS_DECIDED = runs.c.status.in_([sa.literal_column(f"'{it}'") for it in DECIDED])
_DECIDED = Prepared(
    sa.select(*_RUN)
    .where(runs.c.job_id == sa.bindparam("of"), _IS_DECIDED)
    .order_by(runs.c.id.desc())
    .limit(sa.bindparam("most"))
)


def last_success(connection: Connection, job_id: int) -> datetime | None:
    """Return when a job's newest run that succeeded ended."""
    found: datetime | None = _LAST_SUCCESS.scalar(connection, {"of": job_id})
    return found


_LAST_SUCCESS = Prepared(
    sa.select(runs.c.completed_at)
    .where(
        runs.c.job_id == sa.bindparam("of"),
        runs.c.status == sa.literal_column("'COMPLETED'"),
        runs.c.completed_at.is_not(None),
    )
    .order_by(runs.c.id.desc())
    .limit(1)
)


# What is read of the installation


def last_heartbeat(connection: Connection) -> datetime | None:
    """Return when any worker was heard last."""
    found: datetime | None = connection.scalar(
        sa.select(sa.func.max(workers.c.last_heartbeat, type_=Utc()))
    )
    return found


def jobs_since(connection: Connection) -> datetime | None:
    """Return when the oldest job that is active was made."""
    found: datetime | None = connection.scalar(
        sa.select(sa.func.min(jobs.c.created_at, type_=Utc())).where(
            sa.text("is_active"), jobs.c.deleted_at.is_(None)
        )
    )
    return found


def overdue(connection: Connection, before: datetime) -> tuple[int, Any]:
    """Return how many runs were due by an instant and wait, 10,000 at most, and the oldest."""
    waits = sa.and_(
        runs.c.status == PENDING,
        runs.c.available_at <= before,
        runs.c.queue != EXTERNAL_QUEUE,  # they wait for no worker, and have a deadline
    )
    some = sa.select(runs.c.id).where(waits).limit(MOST_COUNTED).subquery()
    count = connection.scalar(sa.select(sa.func.count()).select_from(some)) or 0
    if not count:
        return 0, None
    first = sa.select(*_RUN, runs.c.available_at).where(waits)
    return count, connection.execute(
        first.order_by(runs.c.available_at, runs.c.id).limit(1)
    ).one_or_none()


def outcomes(connection: Connection, since: datetime) -> tuple[int, int]:
    """Return how many runs succeeded or failed since an instant, and how many of them failed.

    Of the last 10,000 that ended: a bound on what a look costs.
    """
    rows = _OUTCOMES.rows(connection, {"at": since, "most": MOST_COUNTED})
    counted = {row.status: row.count for row in rows}
    failures = sum(counted.get(status, 0) for status in FAILURES)
    return failures + counted.get("COMPLETED", 0), failures


_LAST_ENDED = (
    sa.select(runs.c.status)
    .where(runs.c.completed_at > _AT)
    .order_by(runs.c.completed_at.desc())
    .limit(sa.bindparam("most"))
    .subquery()
)
_OUTCOMES = Prepared(
    sa.select(_LAST_ENDED.c.status, sa.func.count().label("count")).group_by(_LAST_ENDED.c.status)
)


# What is written


def open_(
    connection: Connection,
    now: datetime,
    key: str,
    finding: Finding,
    job_id: int | None,
    *,
    is_told: bool,
) -> Row[Any] | None:
    """Open an alert; returns its row, or None when one of that key is open already.

    `is_told`: whoever opens it tells people in the same transaction.
    """
    row = {
        "key": key,
        "kind": finding.kind,
        "severity": finding.severity,
        "job_id": job_id,
        "run_id": finding.run_id,
        "text": finding.text,
        "value": finding.value,
        "about_at": finding.about_at,
        "opened_at": now,
        "seen_at": now,
        "told_at": now if is_told else None,
    }
    made = insert_new(connection, alerts, [row], tuple(alerts.c))
    return made[0] if made else None


def see(connection: Connection, now: datetime, alert_id: int, finding: Finding) -> None:
    """Note that an alert is still so, and how it stands."""
    _SEE.count(
        connection,
        {
            "of": alert_id,
            "at": now,
            "words": finding.text,
            "value": finding.value,
            "run": finding.run_id,
            "about": finding.about_at,
        },
    )


_SEE = Prepared(
    alerts.update()
    .where(alerts.c.id == sa.bindparam("of"), _OPEN)
    .values(
        seen_at=_AT,
        text=sa.bindparam("words"),
        value=sa.bindparam("value", type_=sa.Float()),
        run_id=sa.bindparam("run", type_=alerts.c.run_id.type),
        about_at=sa.bindparam("about", type_=Utc()),
    )
)


def resolve(connection: Connection, now: datetime, alert_id: int, resolution: str) -> bool:
    """End an alert; returns whether this caller won."""
    values = {"resolved_at": now, "resolution": resolution}
    return _won(connection, alert_id, _OPEN, values)


def tell(connection: Connection, now: datetime, alert_id: int) -> bool:
    """Take it on to tell of an alert; returns whether this caller won."""
    return _won(connection, alert_id, alerts.c.told_at.is_(None), {"told_at": now})


def remind(connection: Connection, now: datetime, alert_id: int, every: timedelta) -> bool:
    """Take it on to tell once more; returns whether it is time, and this caller won."""
    last = sa.func.coalesce(alerts.c.reminded_at, alerts.c.told_at, type_=Utc())
    may = sa.and_(_OPEN, alerts.c.acknowledged_at.is_(None), last <= now - every)
    return _won(connection, alert_id, may, {"reminded_at": now})


def _won(
    connection: Connection, alert_id: int, may: sa.ColumnElement[bool], values: dict[str, Any]
) -> bool:
    statement = alerts.update().where(alerts.c.id == alert_id, may).values(values)
    return connection.execute(statement).rowcount == 1


def forget(connection: Connection, before: datetime) -> int:
    """Delete alerts that were over before an instant; returns how many."""
    return connection.execute(alerts.delete().where(alerts.c.resolved_at < before)).rowcount


# What people ask


def listed(
    connection: Connection, *, job_id: int | None, is_open: bool | None, limit: int
) -> Sequence[Row[Any]]:
    """Return alerts with their job's name, the newest first."""
    statement = _named()
    if job_id is not None:
        statement = statement.where(alerts.c.job_id == job_id)
    if is_open is not None:
        statement = statement.where(_OPEN if is_open else sa.not_(_OPEN))
    return connection.execute(statement.order_by(alerts.c.id.desc()).limit(limit)).all()


def by_id(connection: Connection, alert_id: int) -> Row[Any]:
    """Return an alert with its job's name; NotFound otherwise."""
    row = connection.execute(_named().where(alerts.c.id == alert_id)).one_or_none()
    if row is None:
        raise NotFound(f"There is no alert {alert_id}.", "See them all: jobkit alert list --all")
    return row


def _named() -> sa.Select[Any]:
    joined = alerts.outerjoin(jobs, jobs.c.id == alerts.c.job_id)
    return sa.select(alerts, jobs.c.name.label("job_name")).select_from(joined)


def count_open(connection: Connection) -> int:
    """Return how many alerts are open."""
    return int(_COUNT_OPEN.scalar(connection) or 0)


_COUNT_OPEN = Prepared(sa.select(sa.func.count()).select_from(alerts).where(_OPEN))


def is_open(connection: Connection, key: str) -> bool:
    """Whether the alert of a key is open."""
    return _IS_OPEN.scalar(connection, {"key": key}) is not None


_IS_OPEN = Prepared(sa.select(alerts.c.id).where(alerts.c.key == sa.bindparam("key"), _OPEN))


def acknowledge(connection: Connection, now: datetime, alert_id: int, by: str) -> bool:
    """Note who looks after an open alert; returns whether this caller was the first."""
    may = sa.and_(_OPEN, alerts.c.acknowledged_at.is_(None))
    return _won(connection, alert_id, may, {"acknowledged_at": now, "acknowledged_by": by})


def mute(connection: Connection, now: datetime, scope: str, until: datetime, by: str) -> None:
    """Tell nothing of a scope until an instant."""
    values = {"until_at": until, "muted_at": now, "muted_by": by}
    insert_once(connection, alert_mutes, [{"scope": scope, **values}])
    connection.execute(alert_mutes.update().where(alert_mutes.c.scope == scope).values(values))


def unmute(connection: Connection, scope: str) -> bool:
    """Tell again of a scope; returns whether it was muted."""
    return connection.execute(alert_mutes.delete().where(alert_mutes.c.scope == scope)).rowcount > 0


def mutes(connection: Connection, now: datetime) -> dict[str, Row[Any]]:
    """Return the mutes that last, by their scope."""
    found = connection.execute(sa.select(alert_mutes).where(alert_mutes.c.until_at > now))
    return {row.scope: row for row in found}


def forget_mutes(connection: Connection, now: datetime) -> None:
    """Delete mutes whose time is over."""
    connection.execute(alert_mutes.delete().where(alert_mutes.c.until_at <= now))


def named_mutes(connection: Connection, now: datetime) -> Sequence[Row[Any]]:
    """Return the mutes that last, with their job's name, what ends first first."""
    of_job = sa.literal("job:").concat(sa.cast(jobs.c.id, sa.Text)) == alert_mutes.c.scope
    joined = alert_mutes.outerjoin(jobs, of_job)
    statement = (
        sa.select(alert_mutes, jobs.c.name.label("job_name"))
        .select_from(joined)
        .where(alert_mutes.c.until_at > now)
        .where(sa.or_(alert_mutes.c.scope == ALL, jobs.c.deleted_at.is_(None)))
    )
    return connection.execute(statement.order_by(alert_mutes.c.until_at)).all()
