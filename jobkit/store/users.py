"""Users of the portal and the browsers in which they are signed in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import Prepared, insert_new
from jobkit.errors import Conflict, NotFound
from jobkit.models import sessions, tokens, users


def insert(connection: Connection, values: Mapping[str, Any]) -> Row[Any]:
    """Add a user; Conflict when the name is taken."""
    made = insert_new(connection, users, [dict(values)], tuple(users.c))
    if not made:
        raise Conflict(
            f"A user named {values['name']!r} exists.", "Choose another name, or change that user."
        )
    return made[0]


def listed(connection: Connection) -> Sequence[Row[Any]]:
    """Return the rows of all users, by name."""
    return connection.execute(sa.select(users).order_by(users.c.name)).all()


def count(connection: Connection) -> int:
    """Return how many users may sign in."""
    may_enter = (users.c.disabled_at.is_(None), users.c.is_service.is_(False))
    return connection.scalar(sa.select(sa.func.count()).select_from(users).where(*may_enter)) or 0


def find(connection: Connection, name: str) -> Row[Any] | None:
    """Return the row of a user, if there is one."""
    return connection.execute(sa.select(users).where(users.c.name == name)).one_or_none()


def by_name(connection: Connection, name: str) -> Row[Any]:
    """Return the row of a user; NotFound otherwise."""
    found = find(connection, name)
    if found is None:
        raise NotFound(f"There is no user named {name!r}.", "See them all: jobkit user list")
    return found


def by_subject(connection: Connection, subject: str) -> Row[Any] | None:
    """Return the row of whom a provider knows by a name of its own, if they were here."""
    return connection.execute(sa.select(users).where(users.c.subject == subject)).one_or_none()


def change(connection: Connection, user_id: int, values: Mapping[str, Any]) -> None:
    """Write changed values of a user."""
    connection.execute(users.update().where(users.c.id == user_id).values(**values))


def delete(connection: Connection, user_id: int) -> None:
    """Delete a user with their sessions and tokens."""
    end_sessions(connection, user_id)
    connection.execute(tokens.delete().where(tokens.c.user_id == user_id))
    connection.execute(users.delete().where(users.c.id == user_id))


def other_admins(connection: Connection, user_id: int) -> int:
    """Return how many admins there are besides a user; two callers do not both count each other."""
    statement = (
        sa.select(users.c.id)
        .where(
            users.c.role == "admin", users.c.disabled_at.is_(None), users.c.is_service.is_(False)
        )
        .with_for_update()
    )
    return sum(found != user_id for found in connection.scalars(statement))


def open_session(connection: Connection, values: Mapping[str, Any]) -> None:
    """Keep a session that begins."""
    connection.execute(sessions.insert().values(**values))


def session(connection: Connection, sha256: str) -> Any:
    """Return a session with its user's name and role; None when the user may not sign in."""
    found = _SESSION.rows(connection, {"of": sha256})
    return found[0] if found else None


_SESSION = Prepared(
    sa.select(
        sessions.c.sha256,
        sessions.c.user_id,
        sessions.c.created_at,
        sessions.c.seen_at,
        users.c.name,
        users.c.role,
    )
    .join_from(sessions, users, users.c.id == sessions.c.user_id)
    .where(sessions.c.sha256 == sa.bindparam("of"), users.c.disabled_at.is_(None))
)


def see(connection: Connection, sha256: str, now: datetime) -> None:
    """Note that a session is used."""
    connection.execute(sessions.update().where(sessions.c.sha256 == sha256).values(seen_at=now))


def sessions_of(connection: Connection, user_id: int) -> Sequence[Row[Any]]:
    """Return the sessions of a user, the one that was used last first."""
    statement = sa.select(sessions).where(sessions.c.user_id == user_id)
    return connection.execute(statement.order_by(sessions.c.seen_at.desc())).all()


def end_session(connection: Connection, sha256: str) -> None:
    """End one session."""
    connection.execute(sessions.delete().where(sessions.c.sha256 == sha256))


def end_sessions(connection: Connection, user_id: int, but: str | None = None) -> int:
    """End the sessions of a user, all or all but one; returns how many."""
    statement = sessions.delete().where(sessions.c.user_id == user_id)
    if but is not None:
        statement = statement.where(sessions.c.sha256 != but)
    return connection.execute(statement).rowcount


def end_old_sessions(
    connection: Connection, now: datetime, *, idle: timedelta, longest: timedelta
) -> int:
    """End the sessions that nobody used for long, and those that began long ago."""
    is_old = sa.or_(sessions.c.seen_at < now - idle, sessions.c.created_at < now - longest)
    return connection.execute(sessions.delete().where(is_old)).rowcount
