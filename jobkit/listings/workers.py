"""The workers of a database, and what is asked of them by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobkit.handles import Worker, worker_of
from jobkit.store import workers
from jobkit.wakeups import notify

if TYPE_CHECKING:
    from jobkit.kit import Kit


class Workers:
    """The workers of a database: call it to list them."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __call__(self) -> list[Worker]:
        """Return all workers, those online first."""
        with self._kit.database.read() as connection:
            return [worker_of(row) for row in workers.listed(connection)]

    def drain(self, name: str) -> int:
        """Ask workers, by name or identity, to finish their runs and end; returns how many."""
        with self._kit.database.write() as connection:
            asked = workers.ask_to_drain(connection, self._kit.clock.now(), name)
            notify(connection)
        return asked
