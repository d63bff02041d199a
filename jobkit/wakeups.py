"""Wake-ups: somebody's commit ends a wait. They are hints: who waits also polls.

PostgreSQL: LISTEN on a connection of its own. SQLite: inotify on the WAL on Linux, elsewhere
`PRAGMA data_version` twenty times a second.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import select
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Protocol

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import Database, Prepared, touch

log = logging.getLogger("jobkit.wakeups")

CHANNEL = "jobkit"
LOOK_SECONDS = 0.05
SLICE_SECONDS = 0.25
PING_SECONDS = 2.0
COMMIT_SECONDS = 0.001
SETTLED_SECONDS = 1.0
_IN_MODIFY = 0x002
_IN_CREATE = 0x100


_NOTIFY = Prepared(sa.text(f"NOTIFY {CHANNEL}"))


def notify(connection: Connection) -> None:
    """Wake those who wait, when this transaction commits; on SQLite they see the commit itself."""
    wanted = connection.get_execution_options().get("jobkit_wakeups", True)
    if wanted and connection.dialect.name == "postgresql":
        _NOTIFY.count(connection, {})


class Alarm(threading.Event):
    """An event that ends a wait for commits at once; any other is looked at four times a second.

    `close` it when nobody waits any more.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changing = threading.RLock()  # a signal may set it while it is set
        self._sockets: tuple[socket.socket, socket.socket] | None = None

    def fileno(self) -> int:
        """Return what can be read while the event is set."""
        with self._changing:
            if self._sockets is None:
                self._sockets = socket.socketpair()
                for end in self._sockets:
                    end.setblocking(False)
                if self.is_set():
                    self._ring()
            return self._sockets[0].fileno()

    def set(self) -> None:
        with self._changing:
            super().set()
            self._ring()

    def clear(self) -> None:
        with self._changing:
            super().clear()
            if self._sockets is not None:
                with contextlib.suppress(BlockingIOError):
                    while self._sockets[0].recv(1 << 10):
                        pass

    def close(self) -> None:
        """Let go of what made it readable; it goes on as any other event."""
        with self._changing:
            for end in self._sockets or ():
                end.close()
            self._sockets = None

    def _ring(self) -> None:
        if self._sockets is not None:
            with contextlib.suppress(BlockingIOError):  # full: it is readable already
                self._sockets[1].send(b"!")


class Source(Protocol):
    """Where wake-ups come from."""

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait for a commit or `stop`, at most `seconds`; say whether a commit came."""

    def close(self) -> None:
        """Let go of what it holds."""


class Watch:
    """Waits for somebody's commit. A wake-up may come for nothing; a missed one costs a poll."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._source: Source | None = None

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait `seconds` at most, or until a commit or `stop`; say whether a commit woke us."""
        clock = self._database.clock
        until = clock.elapsed() + seconds
        while not stop.is_set() and (left := until - clock.elapsed()) > 0:
            if not self._database.wakeups:
                clock.wait(stop, left)
                return False
            try:
                if self._source is not None:
                    if self._source.wait(stop, left):
                        return True
                elif self._open():
                    return True  # what was committed before it listened is there to be seen
            except Exception as error:  # noqa: BLE001 - drivers differ; polling goes on without it
                log.debug("no wake-ups for now: %s", error)
                self.close()
                clock.wait(stop, left)
        return False

    def close(self) -> None:
        """Close the connection that listens."""
        source, self._source = self._source, None
        if source is not None:
            with contextlib.suppress(Exception):
                source.close()

    def _open(self) -> bool:
        """Begin to listen; say whether commits are heard."""
        if self._database.is_sqlite:
            self._source = Commits(self._database)
            return True
        self._source = Channel(self._database)
        is_heard = self._source.is_heard()
        if not is_heard:
            self._database.wakeups = False  # nobody who waits on it asks or says it again
            log.warning(
                "%s brings no wake-ups: NOTIFY is not heard, as behind PgBouncer in "
                "transaction mode. Polling instead.",
                self._database.name,
            )
        return is_heard


def probe(database: Database, seconds: float = PING_SECONDS) -> float | None:
    """Commit something that changes nothing; return after how many seconds it was heard.

    None when it was not heard within so many seconds. Any commit meanwhile counts as well.
    """
    source: Commits | Channel = Commits(database) if database.is_sqlite else Channel(database)
    stop = Alarm()
    try:
        began = database.clock.elapsed()
        with database.write() as connection:
            touch(connection)
            notify(connection)
        return database.clock.elapsed() - began if source.wait(stop, seconds) else None
    finally:
        stop.close()
        source.close()


class Channel:
    """Notifications of PostgreSQL, on a connection outside of the pool."""

    def __init__(self, database: Database) -> None:
        import psycopg

        self._database = database
        arguments = {"connect_timeout": 10} | database.driver_arguments()
        self._connection = psycopg.connect(**arguments, autocommit=True)
        self._connection.execute(f"LISTEN {CHANNEL}")

    def is_heard(self) -> bool:
        """Whether a notification of another connection arrives here."""
        with self._database.write() as connection:
            notify(connection)
        return self._hear(PING_SECONDS)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        return _is_readable(self._connection, stop, seconds) and self._hear(0)

    def _hear(self, seconds: float) -> bool:
        heard = self._connection.notifies(timeout=seconds, stop_after=1)
        return any(True for _ in heard)

    def close(self) -> None:
        self._connection.close()


class Commits:
    """Commits to a SQLite file, by any process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Any = database.engine.raw_connection()
        self._seen = self._version()
        self._bell = _bell(database)
        self._rang_at = float("-inf")

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        clock = self._database.clock
        if self._bell is None:
            clock.wait(stop, min(seconds, LOOK_SECONDS))
            return self._is_changed()
        until = clock.elapsed() + seconds
        while not (stop.is_set() or self._is_changed()):
            now = clock.elapsed()
            if now >= until:
                return False
            if self._bell.wait(stop, min(until - now, self._pause(now - self._rang_at))):
                self._rang_at = clock.elapsed()
        return not stop.is_set()

    @staticmethod
    def _pause(since_ring: float) -> float:
        """Return for how long there is nothing to look at, when it rang so many seconds ago.

        What is written to the WAL can be seen only when it has reached the disk, and nothing rings
        then: two commits may have rung together, the first be seen and the second not yet.
        """
        if since_ring > SETTLED_SECONDS:
            return float("inf")
        return max(COMMIT_SECONDS, since_ring / 10)

    def _is_changed(self) -> bool:
        seen, self._seen = self._seen, self._version()
        return seen != self._seen

    def _version(self) -> int:
        cursor = self._connection.cursor()
        version: int = cursor.execute("PRAGMA data_version").fetchone()[0]
        cursor.close()
        return version

    def close(self) -> None:
        self._connection.close()
        if self._bell is not None:
            self._bell.close()


class Bell:
    """Rings when a file's WAL is written to: inotify on its folder (Linux)."""

    def __init__(self, file: Path) -> None:
        self._wal = os.fsencode(f"{file.name}-wal")
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify is not available")
        folder = os.fsencode(file.parent)
        if libc.inotify_add_watch(self._fd, folder, _IN_MODIFY | _IN_CREATE) < 0:
            self.close()
            raise OSError(ctypes.get_errno(), "inotify has no watch left")

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Wait until it rings, for `stop`, or for so long; say whether it rang."""
        if not _is_readable(self._fd, stop, seconds):
            return False
        # Each event holds the name of its file: what else is written in the folder is no ring.
        return self._wal in os.read(self._fd, 1 << 16)

    def close(self) -> None:
        os.close(self._fd)


def _is_readable(source: Any, stop: threading.Event, seconds: float) -> bool:
    """Wait until a source can be read, for `stop`, or for so long; say whether it can."""
    if isinstance(stop, Alarm):
        return source in select.select([source, stop], [], [], seconds)[0]
    return source in select.select([source], [], [], min(seconds, SLICE_SECONDS))[0]


def _bell(database: Database) -> Bell | None:
    if sys.platform != "linux" or database.url.database in (None, "", ":memory:"):
        return None
    try:
        return Bell(Path(str(database.url.database)).absolute())
    except (OSError, AttributeError) as error:
        log.debug("%s; looking twenty times a second", error)
        return None
