"""Whether anything was committed since the last look, told without reading a table."""

from __future__ import annotations

import logging
import secrets
import threading
from typing import Any

from sqlalchemy.engine import Engine

log = logging.getLogger("jobkit.pulse")

# The number of commits by others on SQLite; on PostgreSQL which transactions have begun and which
# of them have not ended.
_STATES = {"sqlite": "PRAGMA data_version", "postgresql": "SELECT pg_current_snapshot()::text"}


class Pulse:
    """Counts the states of a database that somebody saw, whoever committed them.

    A heartbeat of a worker is a commit too: the same text says that nothing changed, another one
    only that something may have. It holds a connection of its own, which writes nothing.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._name = secrets.token_hex(3)  # no text of another process is like ours
        self._connection: Any = None
        self._seen: Any = None
        self._count = 0

    def read(self) -> str:
        """Return a text that stays the same while nothing is committed.

        While the database is away each answer is another.
        """
        with self._lock:
            seen = self._look()
            if seen is None or seen != self._seen:
                self._count += 1
            self._seen = seen
            return f"{self._name}{self._count}"

    def close(self) -> None:
        """Let go of the connection."""
        with self._lock:
            self._let_go()

    def _look(self) -> Any:
        try:
            cursor = (self._connection or self._open()).cursor()
            cursor.execute(_STATES[self._engine.dialect.name])
            found = cursor.fetchone()[0]
            cursor.close()
        except Exception as error:  # noqa: BLE001 - drivers differ; pages say what is wrong
            log.debug("no pulse for now: %s", error)
            self._let_go()
            return None
        return found

    def _open(self) -> Any:
        connection = self._engine.raw_connection()
        driver: Any = connection.driver_connection
        connection.detach()  # from the pool, whose connections are not held so long
        self._connection = connection
        if self._engine.dialect.name == "postgresql":
            driver.autocommit = True
        return connection

    def _let_go(self) -> None:
        held, self._connection = self._connection, None
        if held is not None:
            held.close()
