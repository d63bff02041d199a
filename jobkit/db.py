"""The database: all that differs between SQLite and PostgreSQL lives here."""

from __future__ import annotations

import json
import logging
import random
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.ext.compiler import compiles

from jobkit.clock import Clock, ServerClock, SystemClock, nap, stopwatch
from jobkit.errors import BadInput, DatabaseRefused, DatabaseUnavailable
from jobkit.text import clean
from jobkit.watchdog import Watchdog

log = logging.getLogger("jobkit.db")

BUSY_SECONDS = 10
NAP_SECONDS = (0.0002, 0.0006)
RESTED_SECONDS = 1.0
DEADLINE_SECONDS = 30.0
SCHEMA_LOCK = 7018246511
PARTITIONED = ("job_execution_logs", "job_output")
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


class _InstantText(sqlite.DATETIME):
    """An instant as SQLAlchemy writes it, `2026-03-02 06:00:00.000000`, in a tenth of the time."""

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[datetime | None], str | None]:
        return lambda naive: None if naive is None else naive.isoformat(" ", "microseconds")


_WAYS_OUT = {
    "disk is full|No space left": "Make room on its disk.",
    "too many (clients|connections)|connection slots": (
        "Close connections that nobody needs, or let the server have more."
    ),
    "read-only|during recovery": "Promote it, or name in JOBKIT_DB_URL the server that writes.",
}


class Utc(sa.types.TypeDecorator[datetime]):
    """An instant: naive UTC in the database, where both engines sort it well; aware in Python."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        kind = _InstantText if dialect.name == "sqlite" else sa.DateTime
        return dialect.type_descriptor(kind())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise BadInput(f"{value!r} names no time zone.", "Give an aware datetime.")
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        return value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class JsonText(sa.types.TypeDecorator[Any]):
    """A JSON document, kept as text that psql, sqlite3 and DuckDB read alike."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else clean(json.dumps(value, ensure_ascii=False))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class Database:
    """One database and its connections; `write()` and `read()` open transactions on it."""

    def __init__(self, url: str, *, wakeups: bool = True) -> None:
        self.url = _parse(url)
        self.wakeups = wakeups
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.name = self.url.render_as_string(hide_password=True)
        self.engine = _sqlite_engine(self.url) if self.is_sqlite else _postgres_engine(self.url)
        self._watchdog = Watchdog()
        self.engine.update_execution_options(jobkit_wakeups=wakeups)
        self.clock: Clock = SystemClock() if self.is_sqlite else ServerClock(self._server_now)

    def write(self, *, takes_long: bool = False) -> AbstractContextManager[Connection]:
        """Open a transaction that writes; committed at the end, rolled back by an error.

        After 30 s without an end its connection is held to be dead, unless it `takes_long`.
        """
        return self._transaction(True, takes_long)

    def read(self, *, takes_long: bool = False) -> AbstractContextManager[Connection]:
        """Open a transaction that only reads: all its statements see one snapshot."""
        return self._transaction(False, takes_long)

    @contextmanager
    def _transaction(self, writes: bool, takes_long: bool) -> Iterator[Connection]:
        try:
            with self.engine.connect() as connection:
                if not (writes or self.is_sqlite):
                    connection.execution_options(isolation_level="REPEATABLE READ")
                with self._guarded(connection, takes_long), connection.begin():
                    if self.is_sqlite:
                        _begin_sqlite(connection, writes)
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
        """Close every pooled connection."""
        self.engine.dispose()

    def driver_arguments(self) -> dict[str, Any]:
        """Return what the driver opens a connection of its own with, outside of the pool."""
        _, named = self.engine.dialect.create_connect_args(self.url)
        return dict(named)

    def _server_now(self) -> datetime:
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


def _parse(url: str) -> URL:
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
    return parsed


def _several_hosts(url: str) -> URL | None:
    """Read a URL with several hosts and ports, which SQLAlchemy takes as parameters only."""
    found = _SEVERAL.fullmatch(url)
    if found is None:
        return None
    before, hosts, after = found.groups()
    return make_url(before + after).update_query_dict({"host": hosts.split(",")})


# SQLite


def _sqlite_engine(url: URL) -> Engine:
    if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
        path = Path(url.database).absolute()
        refuse_shared_folder(path)
        if not path.parent.is_dir():
            raise BadInput(
                f"The folder of the database, {path.parent}, does not exist.",
                "Create it or name another place in JOBKIT_DB_URL.",
            )
        url = url.set(database=str(path))
        engine = sa.create_engine(url, pool_size=20, max_overflow=80)
    else:
        engine = sa.create_engine(
            url, poolclass=sa.pool.StaticPool, connect_args={"check_same_thread": False}
        )
    sa.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `_begin_sqlite`, not by a guess
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    record.info["waits"] = BUSY_SECONDS
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection, writes: bool) -> None:
    # Not by an event: one listener makes SQLAlchemy call all its hooks at every statement.
    pooled = connection.connection
    driver: Any = pooled.dbapi_connection
    # SQLite's own wait is unfair: of two busy writers one got a single turn in 4 s. Asking again
    # after a short while, never the same, gives every writer its turn. A read may meet a recovery.
    waits = 0 if writes else BUSY_SECONDS
    if pooled.info["waits"] != waits:
        driver.execute(f"PRAGMA busy_timeout = {waits * 1000}")
        pooled.info["waits"] = waits
    if not writes:
        driver.execute("BEGIN")
    elif not _take_turn(driver):
        until = stopwatch() + BUSY_SECONDS
        while not _take_turn(driver, is_last=stopwatch() > until):
            nap(random.uniform(*NAP_SECONDS))  # noqa: S311 - spreads writers, guards nothing


def _take_turn(driver: Any, *, is_last: bool = False) -> bool:
    # A deferred transaction that writes after reading gets "locked" at once, whatever the timeout.
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or is_last:
            raise
        return False
    return True


_NETWORK = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "9p",
    "afs",
    "ceph",
    "fuse.sshfs",
    "fuse.glusterfs",
)
_SYNCED = (
    "dropbox",
    "onedrive",
    "google drive",
    "googledrive",
    "icloud",
    "mobile documents",
    "nextcloud",
)


def refuse_shared_folder(path: Path, mounts: str | None = None) -> None:
    """Refuse a SQLite file where its locks do not hold: network file systems and synced folders."""
    way_out = "Put it on a local disk, or use PostgreSQL: JOBKIT_DB_URL=postgresql://…"
    for part in path.parts:
        if part.lower().startswith(_SYNCED):
            raise DatabaseRefused(
                f"The SQLite file {path} lies in a cloud-sync folder ({part}), which copies it "
                "while it is written and so destroys it.",
                way_out,
            )
    kind = _file_system(path, mounts)
    if kind in _NETWORK or str(path).startswith(("\\\\", "//")):
        raise DatabaseRefused(
            f"The SQLite file {path} lies on a network file system ({kind or 'share'}), "
            "whose locks do not protect it.",
            way_out,
        )


def _file_system(path: Path, mounts: str | None) -> str:
    if mounts is None:
        table = Path("/proc/self/mounts")
        if not table.exists():
            return ""
        mounts = table.read_text("utf-8", "surrogateescape")
    kind, longest = "", -1
    for line in mounts.splitlines():
        _, point, type_, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if len(point) >= longest and path.is_relative_to(point):
            kind, longest = type_, len(point)
    return kind


# PostgreSQL


def _postgres_engine(url: URL) -> Engine:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise BadInput(
            "PostgreSQL needs the extra postgres.", "Install it: pip install 'jobkit[postgres]'."
        ) from None
    engine = sa.create_engine(
        url,
        pool_size=5,
        max_overflow=20,
        pool_timeout=10,
        connect_args={
            "connect_timeout": 10,
            "prepare_threshold": None,  # PgBouncer hands each transaction another connection
            "application_name": "jobkit",
        },
    )
    sa.event.listen(engine, "checkin", _note_use)
    sa.event.listen(engine, "checkout", _check_rested)
    return engine


def _note_use(_driver: Any, record: Any) -> None:
    record.info["used_at"] = stopwatch()


def _check_rested(driver: Any, record: Any, _proxy: object) -> None:
    """Ask a connection that has rested whether it lives; else the pool opens another."""
    # SQLAlchemy's own ping asks at each use, a round trip more for every transaction.
    if stopwatch() - record.info.get("used_at", float("inf")) < RESTED_SECONDS:
        return
    try:
        driver.execute("")
        driver.rollback()
    except Exception as error:
        raise sa.exc.DisconnectionError from error


def ensure_partitions(connection: Connection, now: datetime) -> list[str]:
    """Give the month of `now` and the next one partitions of their own (PostgreSQL only).

    A month whose rows the default partition already holds stays there. Returns what was made.
    """
    if connection.dialect.name != "postgresql":
        return []
    month = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    made = []
    for start in (month, _next_month(month)):
        made += [name for table in PARTITIONED if (name := _partition(connection, table, start))]
    return made


def _partition(connection: Connection, table: str, start: datetime) -> str | None:
    name, end = f"{table}_{start:%Y%m}", _next_month(start)
    if connection.scalar(sa.text("SELECT to_regclass(:name)"), {"name": name}):
        return None
    held = sa.text(
        f"SELECT 1 FROM {table}_default WHERE claimed_at >= :start AND claimed_at < :end LIMIT 1"  # noqa: S608
    )
    if connection.scalar(held, {"start": start, "end": end}):
        return None
    connection.execute(sa.text("SET LOCAL lock_timeout = '2s'"))
    connection.execute(
        sa.text(
            f"CREATE TABLE {name} PARTITION OF {table} "
            f"FOR VALUES FROM ('{start.isoformat()}') TO ('{end.isoformat()}')"
        )
    )
    return name


def _next_month(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


# One text of SQL for both


class Ids(sa.types.TypeDecorator[Sequence[int]]):
    """Many ids as one parameter: an array, or on SQLite a JSON document."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        many = sa.Text() if dialect.name == "sqlite" else postgresql.ARRAY(sa.BigInteger())
        return dialect.type_descriptor(many)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return json.dumps(value) if dialect.name == "sqlite" else value


class OneOf(sa.sql.functions.FunctionElement[bool]):
    """Whether a column holds one of many ids.

    One parameter, however many they are: a list of them is a new text of SQL for each count.
    """

    type = sa.Boolean()
    inherit_cache = True

    def __init__(self, column: sa.ColumnElement[Any], parameter: str) -> None:
        super().__init__(column, sa.bindparam(parameter, type_=Ids()))

    def self_group(self, against: Any = None) -> Any:
        """It is a comparison: SQLite need not compare it with 1, which no index could serve."""
        return self


@compiles(OneOf)
def _one_of(element: OneOf, compiler: Any, **more: Any) -> str:
    column, ids = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} = ANY ({ids})"


@compiles(OneOf, "sqlite")
def _one_of_json(element: OneOf, compiler: Any, **more: Any) -> str:
    column, ids = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - compiled parts


def insert_new(
    connection: Connection,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    returned: tuple[sa.ColumnElement[Any], ...],
) -> Sequence[sa.Row[Any]]:
    """Insert rows with the same keys, leaving out those that a unique constraint already holds.

    Returns columns of the rows that this caller inserted, in any order.
    """
    if not rows:
        return []
    statement, values = _insert(connection.dialect.name, table, rows, returned)
    return connection.execute(statement, values).all()


def insert_once(connection: Connection, table: sa.Table, rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows; a repeat of rows that are already there does nothing."""
    if rows:
        connection.execute(*_insert(connection.dialect.name, table, rows, ()))


def _insert(
    dialect: str,
    table: sa.Table,
    rows: Sequence[dict[str, Any]],
    returned: tuple[sa.ColumnElement[Any], ...],
) -> tuple[Any, Any]:
    """Return the statement and its parameters: PostgreSQL takes columns, SQLite rows.

    A thousand rows as one array a column cost PostgreSQL a tenth of a thousand lists of values;
    what is the same in all rows is sent once.
    """
    if dialect == "sqlite":
        return _insert_rows(table, returned), list(rows)
    names = tuple(rows[0])
    columns = {name: [row[name] for row in rows] for name in names}
    varied = tuple(name for name in names if columns[name].count(columns[name][0]) != len(rows))
    varied = varied or names[:1]  # the arrays say how many rows there are
    values = {name: columns[name] if name in varied else columns[name][0] for name in names}
    return _insert_columns(table, names, varied, returned), values


@cache
def _insert_rows(table: sa.Table, returned: tuple[sa.ColumnElement[Any], ...]) -> Any:
    insert = sqlite.insert(table).on_conflict_do_nothing()
    return insert.returning(*returned) if returned else insert


@cache
def _insert_columns(
    table: sa.Table,
    names: tuple[str, ...],
    varied: tuple[str, ...],
    returned: tuple[sa.ColumnElement[Any], ...],
) -> Any:
    def bound(name: str) -> sa.BindParameter[Any]:
        kind = table.c[name].type
        return sa.bindparam(name, type_=_many(kind) if name in varied else kind)

    given = sa.func.unnest(*map(bound, varied)).table_valued(*varied).render_derived()
    chosen = [given.c[name] if name in varied else bound(name) for name in names]
    insert = postgresql.insert(table).from_select(names, sa.select(*chosen))
    insert = insert.on_conflict_do_nothing()
    return insert.returning(*returned) if returned else insert


def _many(kind: Any) -> Any:
    # One dimension: a JSON document that is a list is one value, not an array.
    return postgresql.ARRAY(kind, dimensions=1)


def lock_schema(connection: Connection) -> None:
    """Let one process at a time change the schema; SQLite's write transaction already does."""
    if connection.dialect.name == "postgresql":
        # Held to the end of the transaction only, so it is safe behind PgBouncer.
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
