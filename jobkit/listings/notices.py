"""Notices: what people were told, what waits to be sent, and what nobody took."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from jobkit.errors import BadInput
from jobkit.run import own_fields
from jobkit.store import notices

if TYPE_CHECKING:
    from jobkit.kit import Kit

MOST = 1000
STATES = ("sent", "waiting", "given up")


@dataclass(frozen=True)
class Notice:
    """What people are told by one channel, as it was when it was read."""

    id: int
    key: str
    channel: str
    """Its name; its address is known to the schedulers alone."""
    subject: str
    text: str
    severity: str
    """info, warning or critical."""
    job: str | None
    run_id: int | None
    created_at: datetime
    available_at: datetime
    """When it is tried next, while it waits."""
    tries: int
    sent_at: datetime | None
    given_up_at: datetime | None
    error: str | None
    """Why the last try failed."""

    @property
    def state(self) -> str:
        """sent, waiting or given up."""
        if self.sent_at is not None:
            return "sent"
        return "waiting" if self.given_up_at is None else "given up"

    def __repr__(self) -> str:
        said = f": {self.error}" if self.error else ""
        return f"<Notice {self.id} to {self.channel}, {self.state}: {self.subject}{said}>"


class Notices:
    """The notices: iterate over the last ones, or ask for those of a job or in a state."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __call__(
        self, *, job: str | None = None, state: str | None = None, limit: int = 100
    ) -> list[Notice]:
        """Return notices, the newest first; `state`: sent, waiting or given up."""
        if not 1 <= limit <= MOST:
            raise BadInput(f"limit={limit} is out of bounds.", f"Use 1 to {MOST}.")
        if state not in (None, *STATES):
            raise BadInput(f"{state!r} is no state of a notice.", f"Use: {', '.join(STATES)}.")
        with self._kit.database.read() as connection:
            rows = notices.latest(connection, limit, job=job, state=state)
        return [Notice(**own_fields(Notice, row)) for row in rows]

    def __iter__(self) -> Iterator[Notice]:
        return iter(self())

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<Notices: nobody was told anything>"

    def channels(self) -> list[str]:
        """Return the names of the channels that schedulers send to."""
        with self._kit.database.read() as connection:
            return notices.served(connection, self._kit.clock.now())
