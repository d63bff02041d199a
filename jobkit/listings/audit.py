"""The audit: who did what, when and from where; its chain, and its export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from jobkit import chain, text
from jobkit.accounts import Deed, picture
from jobkit.chain import Link
from jobkit.errors import BadInput
from jobkit.listings import author
from jobkit.store import audit

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from jobkit.kit import Kit

MOST_LISTED = 1000


@dataclass(frozen=True)
class Verdict:
    """Whether the audit is as it was written."""

    rows: int
    """How many rows were followed."""
    sha256: str
    """The hash of the last one: kept elsewhere, it holds fast all that is before it."""
    unsealed: int
    """Rows of the last seconds, which have no hash yet."""
    fault: str
    """The first broken row; empty when there is none."""


class Audit:
    """Who did what: call it to list, `export` to hand out, `verify` to follow the chain."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __call__(
        self,
        who: str | None = None,
        *,
        what: str | None = None,
        about: str | None = None,
        face: str | None = None,
        since: timedelta | datetime | str | None = None,
        until: timedelta | datetime | str | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[Deed]:
        """Return what was done, the newest first.

        `who`, `what`, `about`: some of their text; `face`: one of `command line`, `python`,
        `notebook`, `portal`, `API`; `since`, `until`: an instant or an age; `before`: only rows
        with smaller ids. BadInput names what is wrong.
        """
        if not 0 < limit <= MOST_LISTED:
            raise BadInput(f"limit={limit} is out of bounds.", f"Use 1 to {MOST_LISTED}.")
        now = self._kit.clock.now()
        span = {"since": _instant(since, now), "until": _instant(until, now)}
        wanted = audit.Sieve(who, what, about, face, before=before, **span)
        with self._kit.database.read() as connection:
            return [picture(Deed, row) for row in audit.listed(connection, wanted, limit)]

    def note(self, what: str, about: str = "", *, who: str | None = None) -> None:
        """Record what somebody did, or was refused; by default the person that this kit acts as.

        Its commit does not wait for the disk.
        """
        with self._kit.database.write(lazily=True) as connection:
            author.note(self._kit, connection, what, about, who=who)

    def seal(self) -> int:
        """Give rows that have none their hash, as schedulers do; returns how many."""
        count = 0
        while True:
            with self._kit.database.write() as connection:
                sealed = audit.seal(connection)
            count += sealed
            if sealed < audit.SEALED_AT_ONCE:
                return count

    def export(self, after: int = 0) -> Iterator[str]:
        """Yield the sealed rows as lines of JSON, with their hashes; what is not sealed yet is now.

        `after`: only what follows the row of this number.
        """
        self.seal()
        with self._kit.database.read(takes_long=True) as connection:
            for link in audit.links(connection, after):
                yield link.line

    def verify(self, exported: Iterable[str] | None = None) -> Verdict:
        """Follow the chain, reading only; the first broken row is named.

        `exported`: lines that were exported before, which are followed as well; the rows have to
        be the same still. BadInput for a line that is none.
        """
        with self._kit.database.read(takes_long=True) as connection:
            found = chain.check(audit.links(connection))
            fault = found.fault or _beheaded(connection, found)
            if exported is not None:
                fault = fault or _differing(connection, exported)
            return Verdict(found.links, found.sha256, audit.unsealed(connection), fault)


def _beheaded(connection: Connection, found: chain.Checked) -> str:
    """Say when the last rows are gone: the head knows how many there were."""
    head = audit.head(connection)
    if (head.number, head.sha256) == (found.links, found.sha256):
        return ""
    return f"the chain ends with row {found.links}, and row {head.number} was the last one"


def _differing(connection: Connection, exported: Iterable[str]) -> str:
    """Say where an export breaks, or differs from the rows that there are."""
    lines = list(_read(exported))
    if not lines:
        return ""
    if fault := chain.check(lines, is_whole=False).fault:
        return f"the export: {fault}"
    with closing(audit.links(connection, lines[0].number - 1)) as kept:
        for line in lines:
            row = next(kept, None)
            if row is None or row.sha256 != line.sha256:
                return f"row {line.number} is not what was exported"
    return ""


def _read(exported: Iterable[str]) -> Iterator[Link]:
    for number, line in enumerate(exported, 1):
        if not line.strip():
            continue
        try:
            yield chain.read(line)
        except ValueError as error:
            raise BadInput(
                f"Line {number} is not of an export: {error}.", "Make one: jobkit audit export"
            ) from None


def _instant(given: timedelta | datetime | str | None, now: datetime) -> datetime | None:
    if isinstance(given, str) and not given.strip():
        return None
    try:
        return text.parse_since(given, now)
    except BadInput:
        return text.parse_instant(str(given))
