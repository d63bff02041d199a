"""Who asks: what versions and runs record of the person, the face and the machine."""

from __future__ import annotations

import getpass
import socket
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


def of(name: str, source: str) -> Author:
    """Return who changes a job, by which face of jobkit, on which machine."""
    return Author(name, f"{source} on {socket.gethostname()}")


def note(kit: Kit, connection: Connection, what: str, about: str) -> None:
    """Record in the audit what the person who asks has done."""
    audit.note(connection, kit.clock.now(), who=kit.user, what=what, about=about)
