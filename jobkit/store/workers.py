"""Workers: their rows, from registration to OFFLINE."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import insert_once
from jobkit.errors import NotFound
from jobkit.models import workers

ONLINE = ("IDLE", "BUSY", "DRAINING")


def register(connection: Connection, now: datetime, worker: Mapping[str, Any]) -> None:
    """Add the row of a worker that starts; a repeat after a lost answer does nothing."""
    insert_once(connection, workers, [{**worker, "started_at": now, "last_heartbeat": now}])


def sign_off(connection: Connection, now: datetime, worker_id: str, processed: int) -> None:
    """Mark a worker that ends as OFFLINE, with the final number of its runs."""
    connection.execute(
        workers.update()
        .where(workers.c.worker_id == worker_id)
        .values(status="OFFLINE", last_heartbeat=now, current_job_id=None, jobs_processed=processed)
    )


def mark_offline(connection: Connection, now: datetime, *, threshold: timedelta) -> int:
    """Mark workers without a recent heartbeat as OFFLINE; returns how many."""
    statement = (
        workers.update()
        .where(workers.c.status.in_(ONLINE), workers.c.last_heartbeat < now - threshold)
        .values(status="OFFLINE", current_job_id=None)
    )
    return connection.execute(statement).rowcount


def ask_to_drain(connection: Connection, now: datetime, name: str) -> int:
    """Ask the workers of this name or identity to stop claiming and end; returns how many."""
    named = sa.or_(workers.c.worker_id == name, workers.c.worker_id.like(name + "-%"))
    statement = (
        workers.update().where(named, workers.c.status.in_(ONLINE)).values(drain_requested_at=now)
    )
    count = connection.execute(statement).rowcount
    if count == 0:
        raise NotFound(f"No worker named {name!r} is online.", "See them all: jobkit workers")
    return count


def listed(connection: Connection) -> Sequence[Row[Any]]:
    """Return the rows of all workers, those online first, the newest first."""
    offline = sa.case((workers.c.status == "OFFLINE", 1), else_=0)
    statement = sa.select(workers).order_by(offline, workers.c.started_at.desc())
    return connection.execute(statement).all()


def seen_since(connection: Connection, instant: datetime) -> list[str]:
    """Return the identities of the workers that are online and beat after an instant."""
    statement = sa.select(workers.c.worker_id).where(
        workers.c.status.in_(ONLINE), workers.c.last_heartbeat >= instant
    )
    return list(connection.scalars(statement.order_by(workers.c.worker_id)))


def forget(connection: Connection, now: datetime, *, keep: timedelta) -> int:
    """Delete workers that have been OFFLINE for long; returns how many."""
    statement = workers.delete().where(
        workers.c.status == "OFFLINE", workers.c.last_heartbeat < now - keep
    )
    return connection.execute(statement).rowcount
