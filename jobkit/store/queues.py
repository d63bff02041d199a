"""Queues: what stands between a run that waits and a worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.hindrance import Other, Scene, Server
from jobkit.models import runs, workers
from jobkit.states import EXTERNAL_QUEUE, worker_name
from jobkit.store import successes
from jobkit.store.dispatch import IN_PROGRESS, PENDING
from jobkit.store.workers import ONLINE

LOOKED_AT = 20
"""Of so many runs that hold a slot, the expected ends are looked up."""


def scene(
    connection: Connection, run: Row[Any], now: datetime, *, offline_after: timedelta, zone: str
) -> Scene:
    """Return what stands around a run that waits."""
    servers = _servers(connection, now, offline_after)
    serving = [worker_id for worker_id, it in servers.items() if run.queue in it.queues]
    return Scene(
        now=now,
        run_id=run.id,
        queue=run.queue,
        available_at=run.available_at,
        attempt=run.attempt,
        error=run.error_message or "",
        start_until=run.start_until,
        backfill_id=run.backfill_id,
        before=_before(connection, run, now),
        servers=tuple(servers.values()),
        ahead=_ahead(connection, run, now),
        ends_at=_first_end(connection, serving, now),
        zone=zone,
        is_external=run.queue == EXTERNAL_QUEUE,
    )


def depths(connection: Connection, now: datetime) -> Sequence[Row[Any]]:
    """Return for each queue that has unfinished runs how many wait, are due and run.

    Without what runs elsewhere: no worker is to come for that.

    Rows of `queue, waiting, due, running, oldest_at`: since when the oldest is due.
    """
    is_due = sa.and_(runs.c.status == PENDING, runs.c.available_at <= now)
    counted = {"waiting": runs.c.status == PENDING, "due": is_due}
    counted["running"] = runs.c.status == IN_PROGRESS
    columns: list[Any] = [
        sa.func.sum(sa.case((condition, 1), else_=0)).label(name)
        for name, condition in counted.items()
    ]
    columns.append(sa.func.min(sa.case((is_due, runs.c.available_at))).label("oldest_at"))
    statement = (
        sa.select(runs.c.queue, *columns)
        .where(runs.c.status.in_((PENDING, IN_PROGRESS)), runs.c.queue != EXTERNAL_QUEUE)
        .group_by(runs.c.queue)
    )
    return connection.execute(statement).all()


def _servers(connection: Connection, now: datetime, offline_after: timedelta) -> dict[str, Server]:
    """Return the workers, by their identity, that are online and beat.

    A dead one stays BUSY until a scheduler notices.
    """
    held = (
        sa.select(sa.func.count())
        .where(runs.c.worker_id == workers.c.worker_id, runs.c.status == IN_PROGRESS)
        .correlate(workers)
        .scalar_subquery()
    )
    statement = (
        sa.select(workers, held.label("held"))
        .where(workers.c.status.in_(ONLINE), workers.c.last_heartbeat >= now - offline_after)
        .order_by(workers.c.started_at)
    )
    return {
        row.worker_id: Server(
            worker_name(row.worker_id),
            tuple(row.queues.split(",")),
            row.slots,
            row.held,
            row.status == "DRAINING" or row.drain_requested_at is not None,
        )
        for row in connection.execute(statement)
    }


def _before(connection: Connection, run: Row[Any], now: datetime) -> Other | None:
    """Return the run of the same lane that runs, or goes first there, as the claim sees it."""
    if run.lane is None:
        return None
    lane = (runs.c.job_id == run.job_id, runs.c.lane == run.lane, runs.c.id != run.id)
    busy = sa.select(runs).where(*lane, runs.c.status == IN_PROGRESS).limit(1)
    first = connection.execute(busy).one_or_none()
    if first is None:
        retries = runs.c.attempt > 0 if run.trigger != "manual" else sa.false()
        earlier = sa.or_(
            runs.c.priority > run.priority,
            sa.and_(runs.c.priority == run.priority, runs.c.id < run.id),
        )
        waits = (
            sa.select(runs)
            .where(
                *lane,
                runs.c.status == PENDING,
                runs.c.queue == run.queue,
                earlier,
                sa.or_(_is_claimable(now), retries),
            )
            .order_by(runs.c.priority.desc(), runs.c.id)
            .limit(1)
        )
        first = connection.execute(waits).one_or_none()
    if first is None:
        return None
    return Other(
        first.id,
        first.status,
        first.available_at,
        worker_name(first.worker_id or ""),
        _expected_end(connection, first, now),
        first.cancel_requested_at is not None,
        first.backfill_id,
    )


def _is_claimable(now: datetime) -> sa.ColumnElement[bool]:
    in_time = sa.or_(runs.c.start_until.is_(None), runs.c.start_until >= now, runs.c.attempt > 0)
    return sa.and_(runs.c.available_at <= now, in_time)


def _ahead(connection: Connection, run: Row[Any], now: datetime) -> int:
    """Return how many due runs of the queue a worker takes before this one."""
    same_time = sa.and_(runs.c.available_at == run.available_at, runs.c.id < run.id)
    sooner = sa.or_(runs.c.available_at < run.available_at, same_time)
    first = sa.or_(runs.c.priority > run.priority, sa.and_(runs.c.priority == run.priority, sooner))
    statement = sa.select(sa.func.count()).where(
        runs.c.queue == run.queue, runs.c.status == PENDING, _is_claimable(now), first
    )
    return connection.scalar(statement) or 0


def _first_end(connection: Connection, worker_ids: Sequence[str], now: datetime) -> datetime | None:
    """Return when the first of the runs that these workers hold is expected to end."""
    statement = (
        sa.select(runs)
        .where(runs.c.worker_id.in_(worker_ids), runs.c.status == IN_PROGRESS)
        .order_by(runs.c.claimed_at)
        .limit(LOOKED_AT)
    )
    held = connection.execute(statement).all()
    ends = [end for row in held if (end := _expected_end(connection, row, now)) is not None]
    return min(ends, default=None)


def _expected_end(connection: Connection, run: Row[Any], now: datetime) -> datetime | None:
    if run.status != "IN_PROGRESS" or run.claimed_at is None:
        return None
    usual = successes.usual(connection, run.job_id, params=run.params or {}, before=run.claimed_at)
    return usual.about(run.status, run.claimed_at, max(now - run.claimed_at, timedelta(0))).ends_at
