"""Tokens of scripts, of which only hashes are kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import Prepared
from jobkit.errors import Conflict, NotFound
from jobkit.models import tokens, users


def _with_users(*columns: Any) -> sa.Select[Any]:
    return sa.select(*(columns or tuple(tokens.c)), users.c.name.label("user_name")).join_from(
        tokens, users, users.c.id == tokens.c.user_id, isouter=True
    )


def insert(connection: Connection, values: Mapping[str, Any]) -> Row[Any]:
    """Add a token; Conflict when a token of that name is in use."""
    named = sa.select(tokens.c.id).where(
        tokens.c.name == values["name"], tokens.c.revoked_at.is_(None)
    )
    if connection.scalar(named) is not None:
        raise Conflict(
            f"A token named {values['name']!r} is in use.", "Revoke it, or choose another name."
        )
    made = connection.scalar(tokens.insert().values(**values).returning(tokens.c.id))
    return connection.execute(_with_users().where(tokens.c.id == made)).one()


def listed(connection: Connection, user_id: int | None = None) -> Sequence[Row[Any]]:
    """Return the tokens that were not revoked, all or those of a user, by name."""
    statement = _with_users().where(tokens.c.revoked_at.is_(None)).order_by(tokens.c.name)
    if user_id is not None:
        statement = statement.where(tokens.c.user_id == user_id)
    return connection.execute(statement).all()


def by_secret(connection: Connection, sha256: str) -> Any:
    """Return a token that was not revoked, with the name and role of whose it is, if any.

    None also when that user is disabled.
    """
    found = _SHOWN.rows(connection, {"of": sha256})
    return found[0] if found else None


_SHOWN = Prepared(
    _with_users(
        tokens.c.id,
        tokens.c.name,
        tokens.c.role,
        tokens.c.expires_at,
        tokens.c.used_at,
        tokens.c.user_id,
        tokens.c.jobs,
        users.c.role.label("user_role"),
    ).where(
        tokens.c.sha256 == sa.bindparam("of"),
        tokens.c.revoked_at.is_(None),
        users.c.disabled_at.is_(None),
    )
)


def see(connection: Connection, token_id: int, now: datetime) -> None:
    """Note that a token is used."""
    connection.execute(tokens.update().where(tokens.c.id == token_id).values(used_at=now))


def revoke(connection: Connection, name: str, now: datetime, user_id: int | None = None) -> None:
    """Let nobody in by a token any more; NotFound when none of that name is in use."""
    statement = (
        tokens.update()
        .where(tokens.c.name == name, tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    if user_id is not None:
        statement = statement.where(tokens.c.user_id == user_id)
    if connection.execute(statement).rowcount == 0:
        raise NotFound(f"No token named {name!r} is in use.", "See them all: jobkit token list")
