"""Who did what, from where; rows are only added, and sealed into a chain of hashes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit import chain
from jobkit.chain import Link
from jobkit.db import Prepared
from jobkit.models import audit, audit_head
from jobkit.text import clean

LONGEST = 300
LONGEST_ABOUT = 2000
SEALED_AT_ONCE = 1000
_INSERT = Prepared(audit.insert())


@dataclass(frozen=True)
class Sieve:
    """Which rows are wanted; what is None matters not."""

    who: str | None = None
    what: str | None = None
    about: str | None = None
    """Some of its text; so are the two before."""
    face: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    """Only rows with smaller ids."""


def note(
    connection: Connection,
    now: datetime,
    *,
    who: str,
    what: str,
    about: str = "",
    face: str = "",
    address: str = "",
) -> None:
    """Add a row, in the transaction of what it tells. It is sealed later: see `seal`."""
    words = {"who": who, "what": what, "face": face, "address": address}
    cut = {name: clean(text)[:LONGEST] for name, text in words.items()}
    _INSERT.count(connection, {"at": now, **cut, "about": clean(about)[:LONGEST_ABOUT]})


def seal(connection: Connection) -> int:
    """Give the rows that have none their place in the chain and their hash; returns how many.

    At most 1,000 at once. While somebody else does it there is nothing to do: 0.

    A row that is not seen yet, because its transaction goes on, gets a later place: no row waits
    for another's commit, and none is left out.
    """
    head = connection.execute(sa.select(audit_head).with_for_update(skip_locked=True)).one_or_none()
    if head is None:
        return 0
    fresh = sa.select(audit).where(audit.c.sha256.is_(None)).order_by(audit.c.id)
    rows = connection.execute(fresh.limit(SEALED_AT_ONCE)).all()
    if not rows:
        return 0
    sealed, sha256 = [], head.sha256
    for number, row in enumerate(rows, head.number + 1):
        sha256 = chain.forge(sha256, chain.content(number, row))
        sealed.append({"of": row.id, "number": number, "sha256": sha256})
    connection.execute(audit.update().where(audit.c.id == sa.bindparam("of")), sealed)
    last = {"number": head.number + len(rows), "sha256": sha256}
    connection.execute(audit_head.update().values(last))
    return len(rows)


def links(connection: Connection, after: int = 0) -> Generator[Link]:
    """Yield what is sealed, in the order of the chain, after the link of a number."""
    previous = chain.ORIGIN
    if after:
        hashed = sa.select(audit.c.sha256).where(audit.c.number == after)
        previous = connection.scalar(hashed) or previous
    statement = sa.select(audit).where(audit.c.number > after).order_by(audit.c.number)
    with connection.execute(statement.execution_options(yield_per=1000)) as rows:
        yield from chain.links(rows, previous)


def head(connection: Connection) -> Row[Any]:
    """Return the number and the hash of the last link."""
    return connection.execute(sa.select(audit_head)).one()


def unsealed(connection: Connection) -> int:
    """Return how many rows are not sealed yet."""
    count = sa.select(sa.func.count()).select_from(audit).where(audit.c.sha256.is_(None))
    return connection.scalar(count) or 0


def listed(connection: Connection, wanted: Sieve, limit: int) -> Sequence[Row[Any]]:
    """Return the rows that match, those added last first."""
    statement = sa.select(audit).where(*_conditions(wanted)).order_by(audit.c.id.desc())
    return connection.execute(statement.limit(limit)).all()


def _conditions(wanted: Sieve) -> Iterator[sa.ColumnElement[bool]]:
    for column, words in ((audit.c.who, wanted.who), (audit.c.what, wanted.what),
                          (audit.c.about, wanted.about)):  # fmt: skip
        if words:
            yield column.icontains(words, autoescape=True)
    if wanted.face:
        yield audit.c.face == wanted.face
    if wanted.since is not None:
        yield audit.c.at >= wanted.since
    if wanted.until is not None:
        yield audit.c.at < wanted.until
    if wanted.before is not None:
        yield audit.c.id < wanted.before
