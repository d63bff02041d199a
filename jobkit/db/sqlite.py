"""A SQLite file: how it is opened, how writers take turns, and where it must not lie."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from jobkit.clock import nap, stopwatch
from jobkit.errors import BadInput, DatabaseRefused

BUSY_SECONDS = 10
NAP_SECONDS = (0.0002, 0.0006)
LAZILY = ("synchronous = NORMAL", "wal_autocheckpoint = 0", "cache_size = -16384")
DURABLY = ("synchronous = FULL", "wal_autocheckpoint = 1000", "cache_size = -2000")
"""How transactions are committed; the first leave their pages in the log, see `empty_log`."""


def open_file(url: URL) -> Engine:
    if url.database and url.database != ":memory:" and not url.database.startswith("file:"):
        path = Path(url.database).absolute()
        refuse_shared_folder(path)
        if not path.parent.is_dir():
            raise BadInput(
                f"The folder of the database, {path.parent}, does not exist.",
                "Create it or name another place in JOBKIT_DB_URL.",
            )
        url = url.set(database=str(path))
        # The connection used last: it knows the pages that it has just written.
        engine = sa.create_engine(
            url, hide_parameters=True, pool_size=20, max_overflow=80, pool_use_lifo=True
        )
    else:
        engine = sa.create_engine(
            url,
            hide_parameters=True,
            poolclass=sa.pool.StaticPool,
            connect_args={"check_same_thread": False},
        )
    sa.event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: sqlite3.Connection, record: Any) -> None:
    connection.isolation_level = None  # transactions are begun by `begin`, not by a guess
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
    record.info["waits"] = BUSY_SECONDS
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def begin(connection: Connection, writes: bool, *, lazily: bool = False) -> None:
    # Not by an event: one listener makes SQLAlchemy call all its hooks at every statement.
    pooled = connection.connection
    driver: Any = pooled.dbapi_connection
    # SQLite's own wait is unfair: of two busy writers one got a single turn in 4 s. Asking again
    # after a short while, never the same, gives every writer its turn. A read may meet a recovery.
    if pooled.info.get("lazily", False) != lazily:
        for pragma in LAZILY if lazily else DURABLY:
            driver.execute(f"PRAGMA {pragma}")
        pooled.info["lazily"] = lazily
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


def empty_log(engine: Engine) -> None:
    """Move what the log holds into the file, as far as readers let it; writers go on meanwhile."""
    with engine.connect() as connection:
        driver: Any = connection.connection.dbapi_connection
        driver.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _take_turn(driver: Any, *, is_last: bool = False) -> bool:
    # A deferred transaction that writes after reading gets "locked" at once, whatever the timeout.
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or is_last:
            raise
        return False
    return True


FILLING = (
    "busy_timeout = 0",
    "journal_mode = DELETE",  # new pages are written once, and not to a log before
    "cache_size = -65536",
    "threads = 2",
    "ignore_check_constraints = ON",
)


@contextmanager
def filling(engine: Engine) -> Iterator[None]:
    """Let the one connection of the block fill a file that nobody else uses yet, at a lower cost.

    It stays whole in a crash, as ever. Where somebody else has the file open, its log stays in use.
    """
    if not isinstance(engine.pool, sa.pool.QueuePool):  # it lives in memory, and in one connection
        yield
        return
    engine.dispose()  # a connection that rests has the file open as well
    try:
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            for pragma in FILLING:
                with suppress(sqlite3.OperationalError):
                    driver.execute(f"PRAGMA {pragma}")
        yield
    finally:
        engine.dispose()


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
