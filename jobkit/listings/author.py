"""Who asks: what versions, runs and the audit record of the person, the face and the machine."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jobkit.store import audit
from jobkit.store.definitions import Author

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from jobkit.kit import Kit


def user() -> str:
    """Return the name that the operating system knows this person by."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"


def here() -> str:
    """Return the person at this machine and the machine, like `anna@laptop`."""
    return f"{user()}@{socket.gethostname()}"


def of(name: str, source: str) -> Author:
    """Return who changes a job, by which face of jobkit, on which machine."""
    return Author(name, f"{source} on {socket.gethostname()}")


def note(
    kit: Kit, connection: Connection, what: str, about: str = "", *, who: str | None = None
) -> None:
    """Record in the audit what was done, in the transaction that does it.

    `who`: somebody else than the person that the kit acts as.
    """
    audit.note(
        connection,
        kit.clock.now(),
        who=who if who is not None else kit.who,
        what=what,
        about=about,
        face=kit.source,
        address=kit.address,
    )
    kit.has_noted = True


def numbers(what: str, ids: Sequence[int]) -> str:
    """Name rows by their ids: `run 5`, `runs 5, 7`, `runs 5 to 900 (896)`."""
    if len(ids) == 1:
        return f"{what} {ids[0]}"
    if len(ids) > 100:
        return f"{what}s {ids[0]} to {ids[-1]} ({len(ids)})"
    return f"{what}s {', '.join(map(str, ids))}"
