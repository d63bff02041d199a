"""Copies of a SQLite file: taken while programs use it, and put back in one transaction.

All goes through SQLite itself: a file that is copied or swapped while somebody has it open is
destroyed, its log with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection

from jobkit.clock import stopwatch
from jobkit.db.sqlite import BUSY_SECONDS
from jobkit.errors import BackupFailed, BadInput

PAGES = 256
"""So many are copied between two looks at whether anybody wants this thread: 1 MB."""

DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def file_of(url: URL) -> Path | None:
    """Return the file of a database; None of PostgreSQL, and of what lives in memory."""
    named = url.database
    if url.get_backend_name() != "sqlite" or named in (None, "", ":memory:"):
        return None
    return None if named.startswith("file:") else Path(named).absolute()


def take(source: Path, target: Path) -> None:
    """Copy a file that others go on writing to another, which holds nothing yet.

    It is the state of one instant, that of the first read. Without the transaction around it every
    commit of another program would begin the copy anew, and a busy database never be copied.
    """
    with _told(target), closing(_open(source)) as busy, closing(_open(target, make=True)) as copy:
        busy.execute("BEGIN")
        busy.execute("SELECT count(*) FROM sqlite_master").fetchone()
        busy.backup(copy, pages=PAGES, sleep=0.01, progress=_patience())
        busy.execute("ROLLBACK")
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, that may lie where nobody writes


def put_back(copy: Path, target: Path) -> None:
    """Let a database hold what a copy holds, in one transaction: who reads sees all or nothing."""
    with _told(target), closing(_open(copy)) as source, closing(_open(target, make=True)) as live:
        live.execute("PRAGMA journal_mode = WAL")
        live.execute("PRAGMA synchronous = FULL")
        source.backup(live, pages=-1, sleep=0.01, progress=_patience())
        live.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def fault_of(path: Path) -> str | None:
    """Say what is wrong with a file, None when it is a whole database.

    BackupFailed when it cannot be read for another reason.
    """
    try:
        with closing(_open(path, only_reads=True)) as opened:
            found = opened.execute("PRAGMA integrity_check(5)").fetchall()
    except sqlite3.Error as error:
        if _code(error) in DAMAGED:
            return str(error)
        raise BackupFailed(
            f"{path} cannot be read: {error}.", "Check its permissions, and who uses it."
        ) from error
    said = [str(row[0]) for row in found]
    return None if said == ["ok"] else "; ".join(said)


def is_in_use(path: Path) -> bool:
    """Whether a program has the file open: who uses a WAL holds a lock as long as it is open."""
    with closing(_open(path)) as opened:
        opened.execute("PRAGMA busy_timeout = 0")
        try:
            opened.execute("PRAGMA journal_mode = DELETE").fetchall()
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY:
                raise
            return True
    return False


@contextmanager
def opened(path: Path) -> Iterator[Connection]:
    """Open a file that nobody else writes, in one transaction, without making it a WAL's."""
    engine = sa.create_engine("sqlite://", creator=lambda: _open(path), poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("BEGIN")
        yield connection


def ids_given(connection: Connection) -> dict[str, int]:
    """Return the last id that each table has given out, deleted rows included."""
    if not sa.inspect(connection).has_table("sqlite_sequence"):
        return {}
    found = connection.execute(sa.text("SELECT name, seq FROM sqlite_sequence"))
    return {row.name: row.seq for row in found}


def give_no_id_again(connection: Connection, given: dict[str, int]) -> None:
    """Let each table go on after these ids."""
    behind = "UPDATE sqlite_sequence SET seq = :seq WHERE name = :name AND seq < :seq"
    for name, seq in given.items():
        connection.execute(sa.text(behind), {"name": name, "seq": seq})


def _open(path: Path, *, only_reads: bool = False, make: bool = False) -> sqlite3.Connection:
    mode = "ro" if only_reads else "rwc" if make else "rw"
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_SECONDS)
    connection.execute("PRAGMA trusted_schema = OFF")
    return connection


def _patience() -> Callable[[int, int, int], None]:
    """Return what gives up when others hold the lock for too long: Python itself would not."""
    until = stopwatch() + BUSY_SECONDS

    def look(status: int, _left: int, _of: int) -> None:
        nonlocal until
        if status not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            until = stopwatch() + BUSY_SECONDS
        elif stopwatch() > until:
            raise sqlite3.OperationalError(f"others write without a pause of {BUSY_SECONDS} s")

    return look


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """Say which file could not be written, or is none."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        if _code(error) in DAMAGED:
            raise BadInput(
                f"The database is damaged: {error}.", "Restore a backup: jobkit db restore FILE"
            ) from error
        raise BackupFailed(
            f"{target} could not be written: {error}.",
            "Nothing was changed. Make room on its disk, or wait until the database is less busy.",
        ) from error


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
