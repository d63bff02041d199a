"""A PostgreSQL server: its connections, its partitions, the lock of its schema."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, Engine

from jobkit.clock import stopwatch
from jobkit.errors import BadInput

RESTED_SECONDS = 1.0
NEVER_BY_ITSELF = 1 << 30
"""After how many executions psycopg prepares what nobody asked it to prepare."""
SCHEMA_LOCK = 7018246511
TABLE_PATIENCE_SECONDS = 10
"""A lease outlasts it: nobody loses a run while a table is waited for."""
PARTITIONED = ("job_execution_logs", "job_output")


def open_server(url: URL) -> Engine:
    try:
        import psycopg  # noqa: F401
    except ImportError:
        raise BadInput(
            "PostgreSQL needs the extra postgres.", "Install it: pip install 'jobkit[postgres]'."
        ) from None
    engine = sa.create_engine(
        url,
        hide_parameters=True,  # errors and logs hold no values of rows
        pool_size=5,
        max_overflow=20,
        pool_timeout=10,
        pool_use_lifo=True,
        connect_args={
            "connect_timeout": 10,
            "prepare_threshold": None,  # PgBouncer hands each transaction another connection
            "application_name": "jobkit",
        },
    )
    sa.event.listen(engine, "connect", _meet)
    sa.event.listen(engine, "checkin", _note_use)
    sa.event.listen(engine, "checkout", _check_rested)
    return engine


def _meet(driver: Any, record: Any) -> None:
    """Let the server keep the plans of prepared statements, unless a pooler stands between.

    To plan a claim takes the server fifteen times as long as to execute it. All prepared statements
    find few rows by an index, so one plan serves every value; `Prepared` has it made anew each
    second, since one that was made for an empty table reads all of it when it is full.
    """
    asked = driver.execute("SELECT pg_backend_pid()").fetchone()
    record.info["prepares"] = asked == (driver.info.backend_pid,)
    if record.info["prepares"]:
        driver.prepare_threshold = NEVER_BY_ITSELF
        driver.execute("SET plan_cache_mode = force_generic_plan")
    driver.commit()


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


def drop_month(
    connection: Connection,
    start: datetime,
    run_ids: Iterable[tuple[int]],
    *,
    most_survivors: int,
) -> bool:
    """Drop the partitions of a month; rows of other runs than these move to the default one.

    No attempt may begin in that month any more. False when it has no partitions of its own, or
    more rows than so many would have to move. The tables are locked only for the drop itself, for
    which this transaction waits a twentieth of a second at most: it fails with a lock timeout then.
    """
    names = [f"{table}_{start:%Y%m}" for table in PARTITIONED]
    there = sa.text("SELECT to_regclass(:name)")
    if not all(connection.scalar(there, {"name": name}) for name in names):
        return False
    connection.execute(sa.text("CREATE TEMPORARY TABLE leaving (id BIGINT) ON COMMIT DROP"))
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy("COPY leaving FROM STDIN") as copy:
        for row in run_ids:
            copy.write_row(row)
    connection.execute(sa.text("ANALYZE leaving"))
    moved = 0
    for table, name in zip(PARTITIONED, names, strict=True):
        stay = (
            f"CREATE TEMPORARY TABLE staying_{table} ON COMMIT DROP AS "  # noqa: S608
            f"SELECT * FROM {name} AS held WHERE NOT EXISTS "
            "(SELECT 1 FROM leaving WHERE leaving.id = held.dispatch_id) LIMIT :most"
        )
        connection.execute(sa.text(stay), {"most": most_survivors + 1})
        moved += connection.scalar(sa.text(f"SELECT count(*) FROM staying_{table}")) or 0  # noqa: S608
    if moved > most_survivors:
        return False
    connection.execute(sa.text("SET LOCAL lock_timeout = '50ms'"))
    for table, name in zip(PARTITIONED, names, strict=True):
        connection.execute(sa.text(f"DROP TABLE {name}"))
        connection.execute(sa.text(f"INSERT INTO {table} SELECT * FROM staying_{table}"))  # noqa: S608
    return True


def _next_month(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def lock_manifest(connection: Connection) -> None:
    """Let one transaction at a time list files of the archive; those that read it go on."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("LOCK TABLE job_archives IN SHARE ROW EXCLUSIVE MODE"))


def horizon(connection: Connection) -> int:
    """Return the oldest transaction that may still change what this snapshot does not see."""
    oldest = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
    number: int = connection.execute(sa.text(oldest)).scalar_one()
    return number


def lock_schema(connection: Connection) -> None:
    """Let one process at a time change the schema; SQLite's write transaction already does.

    Who changes a table that somebody reads for long gives up: all others would wait behind it.
    """
    if connection.dialect.name == "postgresql":
        # Held to the end of the transaction only, so it is safe behind PgBouncer.
        connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})"))
        connection.execute(sa.text(f"SET LOCAL lock_timeout = '{TABLE_PATIENCE_SECONDS}s'"))
