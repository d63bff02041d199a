"""One database and its connections, whichever of the two it is."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, make_url

from jobkit.clock import Clock, ServerClock, SystemClock
from jobkit.db import postgres, sqlite
from jobkit.db.pulse import Pulse
from jobkit.errors import BadInput, DatabaseUnavailable
from jobkit.watchdog import Watchdog

DEADLINE_SECONDS = 30.0
# What PostgreSQL says when the same statement may succeed later: the connection went away, the
# server stops, starts, only reads for now or has no room, two transactions met, or there are too
# many connections or locks.
_TRANSIENT = ("08", "57P01", "57P02", "57P03", "40001", "40P01", "53", "55P03", "25006", "58030")
_AWAY = (
    sa.exc.OperationalError,
    sa.exc.InterfaceError,
    sa.exc.TimeoutError,
    sqlite3.OperationalError,  # of a BEGIN, which goes to the driver
)


_WAYS_OUT = {
    "disk is full|No space left": "Make room on its disk.",
    "too many (clients|connections)|connection slots": (
        "Close connections that nobody needs, or let the server have more."
    ),
    "lock timeout": "Somebody holds a table for long: end that, or try again when it is done.",
    "read-only|during recovery": "Promote it, or name in JOBKIT_DB_URL the server that writes.",
}


class Database:
    """One database and its connections; `write()` and `read()` open transactions on it."""

    def __init__(self, url: str, *, wakeups: bool = True) -> None:
        self.url = parse_url(url)
        self.wakeups = wakeups
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.name = self.url.render_as_string(hide_password=True)
        self.engine = (
            sqlite.open_file(self.url) if self.is_sqlite else postgres.open_server(self.url)
        )
        self.pulse = Pulse(self.engine)
        self._watchdog = Watchdog()
        self.engine.update_execution_options(jobkit_wakeups=wakeups)
        self.clock: Clock = SystemClock() if self.is_sqlite else ServerClock(self.server_now)

    def write(
        self, *, takes_long: bool = False, lazily: bool = False
    ) -> AbstractContextManager[Connection]:
        """Open a transaction that writes; committed at the end, rolled back by an error.

        After 30 s without an end its connection is held to be dead, unless it `takes_long`.
        `lazily`: its commit does not wait for the disk. When the power fails it may be undone, with
        all that was committed after it; a later commit that does wait makes it durable as well.
        Who commits many so calls `empty_log` between them, or the next of the others has to.
        """
        return self._transaction(True, takes_long, lazily)

    def read(self, *, takes_long: bool = False) -> AbstractContextManager[Connection]:
        """Open a transaction that only reads: all its statements see one snapshot."""
        return self._transaction(False, takes_long)

    def empty_log(self) -> None:
        """Let a SQLite file take what its log holds. Waits for the disk; others write meanwhile."""
        if self.is_sqlite:
            sqlite.empty_log(self.engine)

    def filling(self) -> AbstractContextManager[None]:
        """Let the transaction of the block fill a database that nobody else uses yet, faster.

        What it writes is believed to keep the tables' checks of words.
        """
        return sqlite.filling(self.engine) if self.is_sqlite else nullcontext()

    @contextmanager
    def _transaction(
        self, writes: bool, takes_long: bool, lazily: bool = False
    ) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                if not (writes or self.is_sqlite):
                    connection.execution_options(isolation_level="REPEATABLE READ")
                with self._guarded(connection, takes_long), connection.begin():
                    if self.is_sqlite:
                        sqlite.begin(connection, writes, lazily=lazily)
                    elif lazily:
                        connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
                    yield connection
        except _AWAY as error:
            raise self._unavailable(error) from error
        except sa.exc.DBAPIError as error:
            if error.connection_invalidated or _is_transient(error.orig):
                raise self._unavailable(error) from error
            raise

    def _guarded(self, connection: Connection, takes_long: bool) -> AbstractContextManager[None]:
        if self.is_sqlite or takes_long:
            return nullcontext()
        driver: Any = connection.connection.driver_connection
        return self._watchdog.guard(driver.fileno(), DEADLINE_SECONDS)

    def close(self) -> None:
        """Close every pooled connection, and that of the pulse."""
        self.pulse.close()
        self.engine.dispose()

    def driver_arguments(self) -> dict[str, Any]:
        """Return what the driver opens a connection of its own with, outside of the pool."""
        _, named = self.engine.dialect.create_connect_args(self.url)
        return dict(named)

    def server_now(self) -> datetime:
        """Ask a PostgreSQL server for its present instant."""
        with self.read() as connection:
            naive = connection.execute(sa.text("SELECT clock_timestamp() AT TIME ZONE 'UTC'"))
            moment: datetime = naive.scalar_one()
            return moment.replace(tzinfo=UTC)

    def _unavailable(self, error: Exception) -> DatabaseUnavailable:
        said = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        password = self.url.password
        if password:
            said = said.replace(password, "***")
        return DatabaseUnavailable(
            f"The database {self.name} cannot be used now: {said}.", _way_out(said)
        )


def _way_out(said: str) -> str:
    for pattern, words in _WAYS_OUT.items():
        if re.search(pattern, said):
            return words
    return "Check that it runs and that JOBKIT_DB_URL names it."


def _is_transient(error: BaseException | None) -> bool:
    state = getattr(error, "sqlstate", None)
    return bool(state) and str(state).startswith(_TRANSIENT)


# libpq's way to name a server and its standbys: postgresql://user@a:5432,b:5432/database
_SEVERAL = re.compile(r"(postgres[^:]*://(?:.*@)?)([^/?@]+,[^/?@]+)(/.*)")


def parse_url(url: str) -> URL:
    """Read the URL of a database; BadInput for what is none, or of another system."""
    try:
        parsed = _several_hosts(url) or make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise BadInput(
            "JOBKIT_DB_URL is no database URL.",
            "Write sqlite:///jobkit.db or postgresql://user:password@host/database.",
        ) from None
    if parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg2"):
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise BadInput(
            f"jobkit runs on SQLite and PostgreSQL, not on {parsed.drivername}.",
            "Write sqlite:///jobkit.db or postgresql://user:password@host/database.",
        )
    return _hiding(parsed)


def _hiding(url: URL) -> URL:
    """Bring a password to where it is hidden when the URL is shown; BadInput where none could be.

    SQLAlchemy hides what stands between the user and the host, and nothing else.
    """
    if "@" in (url.host or ""):
        raise BadInput(
            "The password in JOBKIT_DB_URL holds an @, and what follows it looks like the host.",
            "Write %40 for it, as in postgresql://user:pass%40word@host/database.",
        )
    if "sslpassword" in url.query:
        raise BadInput(
            "JOBKIT_DB_URL holds an sslpassword, which would be shown with it.",
            "Put it into ~/.pg_service.conf, and write postgresql://?service=NAME.",
        )
    if (given := url.query.get("password")) is None:
        return url
    password = given if isinstance(given, str) else given[-1]
    return url.difference_update_query(["password"]).set(password=password)


def _several_hosts(url: str) -> URL | None:
    """Read a URL with several hosts and ports, which SQLAlchemy takes as parameters only."""
    found = _SEVERAL.fullmatch(url)
    if found is None:
        return None
    before, hosts, after = found.groups()
    return make_url(before + after).update_query_dict({"host": hosts.split(",")})
