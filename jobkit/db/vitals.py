"""How a database does: what stands between, what holds it back, how much is left of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection


@dataclass(frozen=True)
class Holder:
    """A transaction that is open, and keeps the rows that it may still see."""

    who: str
    """Its program, user and process, or the slot or the prepared transaction."""
    state: str
    lasts: timedelta | None
    """None when nobody says since when."""


def server(connection: Connection) -> str:
    """Return the name and version of the database."""
    if connection.dialect.name == "sqlite":
        return f"SQLite {connection.scalar(sa.text('SELECT sqlite_version()'))}"
    return f"PostgreSQL {connection.scalar(sa.text('SHOW server_version'))}"


def touch(connection: Connection) -> None:
    """Let this transaction's commit be seen by those who wait on SQLite, and change nothing."""
    if connection.dialect.name == "sqlite":
        version = connection.scalar(sa.text("PRAGMA user_version"))
        connection.exec_driver_sql(f"PRAGMA user_version = {int(version or 0)}")


def is_pooled(connection: Connection) -> bool:
    """Whether a pooler, like PgBouncer, stands between here and the server."""
    if connection.dialect.name == "sqlite":
        return False
    return not connection.connection.info.get("prepares", True)


def log_bytes(url: URL) -> int | None:
    """Return the size of a SQLite file's log; None when it has none."""
    if url.get_backend_name() != "sqlite" or not url.database:
        return None
    log = Path(f"{url.database}-wal")
    return log.stat().st_size if log.is_file() else None


_HOLDERS = """
    SELECT coalesce(nullif(application_name, ''), 'a program') || ' of ' || coalesce(usename, '?')
               || ', pid ' || pid AS who,
           coalesce(state, '?') AS state, clock_timestamp() - xact_start AS lasts
    FROM pg_stat_activity
    WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid() AND backend_type = 'client backend'
    UNION ALL
    SELECT 'the prepared transaction ' || gid, 'prepared', clock_timestamp() - prepared
    FROM pg_prepared_xacts WHERE database = current_database()
    UNION ALL
    SELECT 'the replication slot ' || slot_name, CASE WHEN active THEN 'active' ELSE 'unused' END,
           NULL
    FROM pg_replication_slots WHERE xmin IS NOT NULL AND NOT active
    ORDER BY lasts DESC NULLS LAST LIMIT 20
"""


def oldest_transactions(connection: Connection) -> list[Holder]:
    """Return what keeps dead rows from being removed, the oldest first (PostgreSQL only)."""
    if connection.dialect.name == "sqlite":
        return []
    return [Holder(*row) for row in connection.execute(sa.text(_HOLDERS))]


def dead_rows(connection: Connection) -> list[tuple[str, int, int]]:
    """Return tables with their live and dead rows, those with most dead first (PostgreSQL only)."""
    if connection.dialect.name == "sqlite":
        return []
    statement = (
        "SELECT relname, n_live_tup, n_dead_tup FROM pg_stat_user_tables "
        "ORDER BY n_dead_tup DESC LIMIT 5"
    )
    return [(name, live, dead) for name, live, dead in connection.execute(sa.text(statement))]


def ids_left(connection: Connection) -> float:
    """Return the share of transaction ids that is left before the server stops to write."""
    if connection.dialect.name == "sqlite":
        return 1.0
    used = "SELECT age(datfrozenxid) FROM pg_database WHERE datname = current_database()"
    return 1 - (connection.scalar(sa.text(used)) or 0) / 2**31
