"""The outbox: what people are to be told, a row for each channel, and who sends it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import insert_once
from jobkit.models import notice_channels, notices
from jobkit.text import clean

SEEN_WITHIN = timedelta(days=1)
"""A channel that no scheduler has served for so long gets no notices any more."""
LONGEST_SUBJECT = 200
LONGEST_TEXT = 20_000


def serve(connection: Connection, names: Sequence[str], now: datetime) -> None:
    """Say that a scheduler sends to these channels; what is posted from now on goes there."""
    insert_once(connection, notice_channels, [{"name": name, "seen_at": now} for name in names])
    seen = notice_channels.update().where(notice_channels.c.name.in_(names)).values(seen_at=now)
    connection.execute(seen)


def served(connection: Connection, now: datetime) -> list[str]:
    """Return the names of the channels that some scheduler serves."""
    statement = (
        sa.select(notice_channels.c.name)
        .where(notice_channels.c.seen_at >= now - SEEN_WITHIN)
        .order_by(notice_channels.c.name)
    )
    return list(connection.scalars(statement))


def post(
    connection: Connection,
    now: datetime,
    *,
    key: str,
    subject: str,
    text: str,
    severity: str,
    job: str | None = None,
    run_id: int | None = None,
    available_at: datetime | None = None,
) -> None:
    """Tell people something, by every channel that is served, once for each key.

    It is sent when this transaction is durable, and not before `available_at`.
    `severity`: info, warning or critical; `run_id`: the run that it is about, if it is about one.
    """
    row = {
        "key": key,
        "subject": " ".join(clean(subject).split())[:LONGEST_SUBJECT],
        "text": clean(text)[:LONGEST_TEXT],
        "severity": severity,
        "job": job,
        "run_id": run_id,
        "created_at": now,
        "available_at": available_at or now,
    }
    insert_once(connection, notices, [row | {"channel": name} for name in served(connection, now)])


def latest(
    connection: Connection, limit: int, *, job: str | None = None, unsent: bool = False
) -> Sequence[Row[Any]]:
    """Return the notices that were posted last, the newest first; of a job, or not sent yet."""
    statement = sa.select(notices).order_by(notices.c.created_at.desc(), notices.c.id.desc())
    if job is not None:
        statement = statement.where(notices.c.job == job)
    if unsent:
        statement = statement.where(notices.c.sent_at.is_(None))
    return connection.execute(statement.limit(limit)).all()
