"""The outbox: what people are to be told, a row for each channel, and who sends it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit import states
from jobkit.db import Prepared, Utc, insert_once
from jobkit.models import notice_channels, notices
from jobkit.text import clean

SEEN_WITHIN = timedelta(days=1)
"""A channel that no scheduler has served for so long gets no notices any more."""
LONGEST_SUBJECT = 200
LONGEST_TEXT = 20_000
LONGEST_ERROR = 500
RETRY_DELAY = timedelta(seconds=30)


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
    connection: Connection, limit: int, *, job: str | None = None, state: str | None = None
) -> Sequence[Row[Any]]:
    """Return the notices that were posted last, the newest first; of a job, or in a state."""
    statement = sa.select(notices).order_by(notices.c.created_at.desc(), notices.c.id.desc())
    if job is not None:
        statement = statement.where(notices.c.job == job)
    if state is not None:
        statement = statement.where(_IN[state])
    return connection.execute(statement.limit(limit)).all()


def is_due(connection: Connection, channel: str, now: datetime) -> bool:
    """Whether a channel has something to send."""
    return _NEXT.scalar(connection, {"to": channel, "at": now}) is not None


def take(connection: Connection, channel: str, now: datetime, *, lease: timedelta) -> Any:
    """Take the oldest notice that is due, for so long; None when another has taken it."""
    values = {"to": channel, "at": now, "available_at": now + lease}
    taken = _TAKE.rows(connection, values)
    return taken[0] if taken else None


def sent(connection: Connection, notice: Any, now: datetime) -> bool:
    """Write that a notice was sent; returns whether it was still this caller's."""
    return _mine(connection, notice, {"sent_at": now, "error": None})


def failed(
    connection: Connection,
    notice: Any,
    now: datetime,
    rng: random.Random,
    *,
    error: str,
    most: int,
) -> bool:
    """Let a notice wait for its next try, as a run does, or give it up after the last.

    Returns whether this caller gave it up.
    """
    said = {"error": clean(error)[:LONGEST_ERROR]}
    if notice.tries >= most:
        return _mine(connection, notice, said | {"given_up_at": now})
    wait = states.retry_delay(RETRY_DELAY, notice.tries, rng)
    _mine(connection, notice, said | {"available_at": now + wait})
    return False


def clean_up(connection: Connection, now: datetime, *, keep: timedelta) -> int:
    """Give up what no scheduler sends any more, and delete old notices; returns how many."""
    lost = notices.update().where(
        _IS_OPEN,
        notices.c.created_at < now - SEEN_WITHIN,
        notices.c.channel.not_in(served(connection, now)),
    )
    said = "no scheduler sends to this channel any more"
    connection.execute(lost.values(given_up_at=now, error=said))
    old = notices.delete().where(notices.c.created_at < now - keep, ~_IS_OPEN)
    return connection.execute(old).rowcount


def _mine(connection: Connection, notice: Any, values: dict[str, Any]) -> bool:
    statement = notices.update().where(
        notices.c.id == notice.id, notices.c.tries == notice.tries, _IS_OPEN
    )
    return connection.execute(statement.values(values)).rowcount == 1


_IS_OPEN = sa.and_(notices.c.sent_at.is_(None), notices.c.given_up_at.is_(None))
_IN = {
    "sent": notices.c.sent_at.is_not(None),
    "waiting": _IS_OPEN,
    "given up": notices.c.given_up_at.is_not(None),
}
_NEXT = Prepared(
    sa.select(notices.c.id)
    .where(
        _IS_OPEN,
        notices.c.channel == sa.bindparam("to"),
        notices.c.available_at <= sa.bindparam("at", type_=Utc()),
    )
    .order_by(notices.c.available_at, notices.c.id)
    .limit(1)
)
_TAKE = Prepared(
    notices.update()
    .where(
        notices.c.id == _NEXT.statement.with_for_update(skip_locked=True).scalar_subquery(),
        _IS_OPEN,
    )
    .values(tries=notices.c.tries + 1)
    .returning(*notices.c)
)
