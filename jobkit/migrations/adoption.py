"""Adopt the tables of the older system: every row and every value is kept, in the new shape.

The older system wrote naive UTC instants, status words in either case, and daily, weekly and
monthly times in UTC. Its tables are set aside, the new ones made and filled, the old ones dropped,
all in the one transaction of the upgrade. A column that jobkit does not know is carried along.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import Utc

TABLES = ("job_execution_logs", "job_dispatch", "worker_registration", "scheduled_jobs")
SCHEDULE_TYPES = "'interval', 'hourly', 'daily', 'weekly', 'monthly', 'cron', 'once', 'manual'"
DEFINITION = (
    "name",
    "script_path",
    "script_args",
    "schedule_type",
    "interval_seconds",
    "schedule_time",
    "schedule_day",
    "timezone",
    "anchor_at",
    "queue",
    "priority",
    "max_retries",
    "retry_delay_seconds",
    "misfire_policy",
    "misfire_window_seconds",
    "overlap_policy",
    "on_worker_lost",
    "is_active",
)
EPOCH = "'1970-01-01 00:00:00.000000'"


@dataclass(frozen=True)
class Older:
    """A table of the older system that was set aside, and its columns with their types."""

    name: str
    columns: dict[str, Any]

    @property
    def aside(self) -> str:
        return f"older_{self.name}"


def set_aside(connection: Connection) -> dict[str, Older]:
    """Rename the older tables, so that the new ones can take their names."""
    inspector = sa.inspect(connection)
    there = set(inspector.get_table_names())
    older = {}
    for name in TABLES:
        if name not in there:
            continue
        columns = {column["name"]: column["type"] for column in inspector.get_columns(name)}
        older[name] = Older(name, columns)
        for index in inspector.get_indexes(name):
            if not index.get("duplicates_constraint"):
                connection.execute(sa.text(f'DROP INDEX "{index["name"]}"'))
        connection.execute(sa.text(f"ALTER TABLE {name} RENAME TO {older[name].aside}"))
    return older


def adopt(connection: Connection, older: dict[str, Older], now: datetime, max_retries: int) -> None:
    """Fill the new tables from the ones set aside, then drop those.

    1. Jobs, their runs, attempts and workers are copied, each value in the new shape.
    2. Jobs of one name get different ones; a manual job that was asked to run gets its run.
    3. Each job's definition becomes version 1.
    4. The tables set aside are dropped.
    """
    values = {"now": now, "max_retries": max_retries}
    copies = (
        ("scheduled_jobs", _job_values),
        ("job_dispatch", _run_values),
        ("job_execution_logs", _attempt_values),
        ("worker_registration", _worker_values),
    )
    for name, expressions in copies:
        if name in older:
            _copy(connection, older[name], expressions(_Reader(connection, older[name])), values)
    if "scheduled_jobs" in older:
        _tell_names_apart(connection)
        _run_what_was_asked(connection, values)
        _write_versions(connection, values)
    for name in TABLES:
        if name in older:
            connection.execute(sa.text(f"DROP TABLE {older[name].aside}"))
    _continue_ids(connection, older)


class _Reader:
    """Writes the SQL that reads one older column in the new shape, or a default where it lacks."""

    def __init__(self, connection: Connection, older: Older) -> None:
        self.is_sqlite = connection.dialect.name == "sqlite"
        self.columns = older.columns

    def value(self, column: str, default: str = "NULL") -> str:
        if column not in self.columns:
            return default
        return f"coalesce({column}, {default})" if default != "NULL" else column

    def instant(self, column: str, default: str = "NULL") -> str:
        """SQLite holds text with and without a fraction: six digits make it sort."""
        if column not in self.columns:
            return default
        if self.is_sqlite:
            plain = f"replace(replace(replace({column}, 'T', ' '), '+00:00', ''), 'Z', '')"
            fraction = f"CASE WHEN instr({column}, '.') = 0 THEN '.000000' ELSE '000000' END"
            read = f"substr({plain} || {fraction}, 1, 26)"
        elif getattr(self.columns[column], "timezone", False):
            read = f"({column} AT TIME ZONE 'UTC')"
        else:
            read = f"CAST({column} AS TIMESTAMP)"
        return read if default == "NULL" else f"coalesce({read}, {default})"

    def word(self, column: str, allowed: str, default: str) -> str:
        if column not in self.columns:
            return default
        return f"CASE WHEN upper({column}) IN ({allowed}) THEN upper({column}) ELSE {default} END"


def _job_values(read: _Reader) -> dict[str, str]:
    kind = read.value("schedule_type", "'interval'")
    next_run = read.instant("next_run")
    return {
        "id": "id",
        "name": "name",
        "script_path": "script_path",
        "script_args": read.value("script_args"),
        "interval_seconds": read.value("interval_seconds"),
        "schedule_type": f"CASE WHEN lower({kind}) IN ({SCHEDULE_TYPES}) "
        f"THEN lower({kind}) ELSE 'manual' END",
        "schedule_time": read.value("schedule_time"),
        "schedule_day": read.value("schedule_day"),
        "is_active": read.value("is_active", "TRUE"),
        "next_run": next_run,
        "last_dispatched_at": read.instant("last_dispatched_at"),
        "dispatch_lock_until": read.instant("dispatch_lock_until"),
        # Slots count from the last one; with the cursor just before `next_run` that one is next.
        "anchor_at": f"coalesce({next_run}, :now)" if next_run != "NULL" else ":now",
        "slots_until": ":now",
        "created_at": ":now",
        "max_retries": ":max_retries",
    }


def _run_values(read: _Reader) -> dict[str, str]:
    words = "'PENDING', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'TIMEOUT', 'CANCELLED'"
    status = read.word("status", words, "'FAILED'")
    created = read.instant("created_at", ":now")
    newest = (
        "(SELECT max(other.id) FROM older_job_dispatch AS other WHERE "
        "other.job_id = older_job_dispatch.job_id AND upper(other.status) = 'IN_PROGRESS')"
    )
    return {
        "id": "id",
        "job_id": "job_id",
        "status": status,
        "created_at": created,
        "claimed_at": read.instant("claimed_at"),
        "completed_at": read.instant("completed_at"),
        "worker_id": read.value("worker_id"),
        "retry_count": read.value("retry_count", "0"),
        "error_message": read.value("error_message"),
        "available_at": created,
        "attempt": f"CASE WHEN {status} = 'PENDING' THEN 0 ELSE 1 END",
        # Nobody renews these: the first rescue gives them back.
        "lease_until": f"CASE WHEN {status} = 'IN_PROGRESS' THEN :now END",
        "lane": f"CASE WHEN {status} = 'IN_PROGRESS' AND id <> {newest} THEN NULL ELSE 0 END",
        "max_retries": ":max_retries",
        "reason": "'adopted'",
    }


def _attempt_values(read: _Reader) -> dict[str, str]:
    words = "'SUCCESS', 'FAILURE', 'ERROR', 'TIMEOUT', 'CANCELLED', 'LOST', 'RELEASED'"
    kept = read.instant("run_time", EPOCH if read.is_sqlite else f"TIMESTAMP {EPOCH}")
    unknown = f"CASE WHEN upper(status) NOT IN ({words}) THEN 'adopted with status ' || status END"
    return {
        "id": "id",
        "job_id": "job_id",
        "run_time": kept,
        "status": read.word(
            "status", words, "CASE WHEN upper(status) = 'RUNNING' THEN 'LOST' ELSE 'ERROR' END"
        ),
        "log_output": read.value("log_output"),
        "claimed_at": kept,
        "started_at": kept,
        "error_message": unknown,
    }


def _worker_values(read: _Reader) -> dict[str, str]:
    return {
        "worker_id": "worker_id",
        "hostname": read.value("hostname", "''"),
        "platform": read.value("platform", "''"),
        "started_at": read.instant("started_at", ":now"),
        "last_heartbeat": read.instant("last_heartbeat", ":now"),
        "status": read.word("status", "'IDLE', 'BUSY', 'DRAINING', 'OFFLINE'", "'OFFLINE'"),
        "jobs_processed": read.value("jobs_processed", "0"),
        "current_job_id": read.value("current_job_id"),
        "process_id": read.value("process_id"),
    }


def _copy(
    connection: Connection, older: Older, expressions: dict[str, str], values: dict[str, Any]
) -> None:
    known = {column["name"] for column in sa.inspect(connection).get_columns(older.name)}
    for column, type_ in older.columns.items():
        if column not in known:
            kind = type_.compile(connection.dialect)
            connection.execute(sa.text(f'ALTER TABLE {older.name} ADD COLUMN "{column}" {kind}'))
            expressions[f'"{column}"'] = f'"{column}"'
        elif column not in expressions:
            expressions[column] = column
    _execute(
        connection,
        f"INSERT INTO {older.name} ({', '.join(expressions)}) "
        f"SELECT {', '.join(expressions.values())} FROM {older.aside}",
        values,
    )


def _tell_names_apart(connection: Connection) -> None:
    connection.execute(
        sa.text(
            "UPDATE scheduled_jobs SET name = name || ' (' || id || ')' WHERE EXISTS ("
            "SELECT 1 FROM scheduled_jobs AS first "
            "WHERE first.name = scheduled_jobs.name AND first.id < scheduled_jobs.id)"
        )
    )


def _run_what_was_asked(connection: Connection, values: dict[str, Any]) -> None:
    """The older system asked for a run of a manual job by setting its `next_run`."""
    asked = "schedule_type = 'manual' AND next_run IS NOT NULL"
    _execute(
        connection,
        "INSERT INTO job_dispatch (job_id, status, created_at, trigger, available_at, lane, "
        "max_retries, reason) SELECT id, 'PENDING', :now, 'manual', next_run, 0, :max_retries, "
        f"'adopted' FROM scheduled_jobs WHERE is_active AND {asked}",
        values,
    )
    connection.execute(sa.text(f"UPDATE scheduled_jobs SET next_run = NULL WHERE {asked}"))


def _write_versions(connection: Connection, values: dict[str, Any]) -> None:
    """Each job as it is becomes its version 1; its cursor stands just before its next slot."""
    jobs = sa.table("scheduled_jobs", *_columns("id", *DEFINITION), *_instants("slots_until"))
    versions = sa.table(
        "job_versions",
        *_columns("job_id", "version", "change", "changed_by", "changed_from", "definition"),
        *_instants("changed_at"),
    )
    next_run = sa.column("next_run", Utc)
    for job in connection.execute(sa.select(jobs, next_run).order_by(jobs.c.id)).all():
        if job.next_run is not None:
            cursor = job.next_run - timedelta(microseconds=1)
            update = jobs.update().where(jobs.c.id == job.id)
            connection.execute(update.values(slots_until=cursor))
        definition = {name: getattr(job, name) for name in DEFINITION}
        definition["is_active"] = bool(definition["is_active"])
        connection.execute(
            versions.insert().values(
                job_id=job.id,
                version=1,
                change="adopted",
                changed_at=values["now"],
                changed_by="jobkit db upgrade",
                changed_from="the older system",
                definition=json.dumps(definition, ensure_ascii=False, default=_iso),
            )
        )


def _columns(*names: str) -> list[sa.ColumnClause[Any]]:
    return [sa.column(name, Utc if name == "anchor_at" else None) for name in names]


def _instants(*names: str) -> list[sa.ColumnClause[Any]]:
    return [sa.column(name, Utc) for name in names]


def _iso(value: datetime) -> str:
    return value.isoformat()


def _continue_ids(connection: Connection, older: dict[str, Older]) -> None:
    """New rows go on after the adopted ids; SQLite does so by itself."""
    if connection.dialect.name != "postgresql":
        return
    for name in older:
        if name != "worker_registration":
            connection.execute(
                sa.text(
                    f"SELECT setval(pg_get_serial_sequence('{name}', 'id'), "
                    f"greatest((SELECT max(id) FROM {name}), 1))"
                )
            )


def _execute(connection: Connection, statement: str, values: dict[str, Any]) -> None:
    used = {name: value for name, value in values.items() if f":{name}" in statement}
    typed = [sa.bindparam(name, type_=Utc()) for name in used if name == "now"]
    connection.execute(sa.text(statement).bindparams(*typed), used)
