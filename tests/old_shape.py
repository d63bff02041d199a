"""Databases of the older system, made by plain SQL, with and without each optional part."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

JOB_COLUMNS = ("id", "name", "script_path", "interval_seconds", "schedule_type", "schedule_time")
JOB_COLUMNS += ("schedule_day", "is_active", "next_run")
OPTIONAL_JOB_COLUMNS = ("script_args", "last_dispatched_at", "dispatch_lock_until")
OPTIONAL_TABLES = ("worker_registration", "job_dispatch")

JOBS: list[dict[str, Any]] = [
    {"id": 1, "name": "prices", "script_path": "/srv/jobs/prices.py", "interval_seconds": 900,
     "schedule_type": "interval", "next_run": "2026-03-02 06:07:31.250000",
     "script_args": "--region 'north east' --fast"},
    {"id": 2, "name": "rates", "script_path": "jobs/rates.py", "interval_seconds": 0,
     "schedule_type": "hourly", "schedule_time": "00:15", "next_run": "2026-03-02 06:15:00"},
    {"id": 3, "name": "ticks", "script_path": "jobs/ticks.py", "interval_seconds": 0,
     "schedule_type": "hourly", "schedule_time": "45", "next_run": "2026-03-02 06:45:00"},
    {"id": 4, "name": "report", "script_path": "jobs/report.sh", "interval_seconds": 0,
     "schedule_type": "daily", "schedule_time": "06:30", "next_run": "2026-03-02 06:30:00.000000"},
    {"id": 5, "name": "report", "script_path": "jobs/weekly.py", "interval_seconds": 0,
     "schedule_type": "weekly", "schedule_time": "09:00", "schedule_day": 0,
     "next_run": "2026-03-02 09:00:00"},
    {"id": 6, "name": "close", "script_path": "jobs/close.py", "interval_seconds": 0,
     "schedule_type": "monthly", "schedule_time": "22:00", "schedule_day": 31,
     "next_run": "2026-03-31 22:00:00", "last_dispatched_at": "2026-02-28 22:00:01"},
    {"id": 7, "name": "by hand", "script_path": "jobs/hand.py", "interval_seconds": 0,
     "schedule_type": "manual", "next_run": None},
    {"id": 8, "name": "asked for", "script_path": "jobs/asked.py", "interval_seconds": 0,
     "schedule_type": "manual", "next_run": "2026-03-02 05:59:00"},
    {"id": 9, "name": "resting", "script_path": "jobs/resting.py", "interval_seconds": 60,
     "schedule_type": "interval", "is_active": False, "next_run": "2026-01-01 00:00:00"},
]  # fmt: skip
WORDS = ("success", "FAILURE", "Error", "TIMEOUT", "running", "odd")
LOGS = [
    {"id": number, "job_id": 1 + number % 9, "status": WORDS[number % 6],
     "run_time": f"2026-02-{1 + number % 28:02d} 0{number % 10}:00:00",
     "log_output": None if number % 7 == 0 else f"line {number} é"}
    for number in range(1, 31)
]  # fmt: skip
DISPATCHES: list[dict[str, Any]] = [
    {"id": 11, "job_id": 4, "created_at": "2026-03-01 06:30:00", "status": "COMPLETED",
     "claimed_at": "2026-03-01 06:30:02", "completed_at": "2026-03-01 06:31:00",
     "worker_id": "old-1", "retry_count": 0},
    {"id": 12, "job_id": 1, "created_at": "2026-03-02 05:52:00", "status": "PENDING",
     "retry_count": 0},
    {"id": 13, "job_id": 2, "created_at": "2026-03-02 05:15:00", "status": "IN_PROGRESS",
     "claimed_at": "2026-03-02 05:15:01", "worker_id": "old-1", "retry_count": 1},
    {"id": 14, "job_id": 2, "created_at": "2026-03-02 05:16:00", "status": "IN_PROGRESS",
     "claimed_at": "2026-03-02 05:16:01", "worker_id": "old-2", "retry_count": 0},
    {"id": 15, "job_id": 3, "created_at": "2026-03-01 06:45:00", "status": "FAILED",
     "completed_at": "2026-03-01 06:46:00", "retry_count": 3, "error_message": "exit 1"},
    {"id": 16, "job_id": 3, "created_at": "2026-03-01 07:45:00", "status": "TIMEOUT",
     "completed_at": "2026-03-01 07:56:00", "retry_count": 0},
]  # fmt: skip
WORKERS = [
    {"worker_id": "old-1", "hostname": "desk", "platform": "Linux", "status": "BUSY",
     "started_at": "2026-03-01 00:00:00", "last_heartbeat": "2026-03-02 05:59:30",
     "jobs_processed": 41, "current_job_id": 2, "process_id": 4242},
]  # fmt: skip

TYPES = {
    "sqlite": {"id": "INTEGER PRIMARY KEY", "at": "DATETIME"},
    "postgresql": {"id": "SERIAL PRIMARY KEY", "at": "TIMESTAMP"},
}
CREATE = {
    "scheduled_jobs": """id {id}, name VARCHAR NOT NULL, script_path VARCHAR NOT NULL,
        interval_seconds INTEGER NOT NULL, schedule_type VARCHAR NOT NULL, schedule_time VARCHAR,
        schedule_day INTEGER, is_active BOOLEAN NOT NULL, next_run {at}""",
    "job_execution_logs": """id {id}, job_id INTEGER NOT NULL REFERENCES scheduled_jobs (id),
        run_time {at} NOT NULL, status VARCHAR NOT NULL, log_output TEXT""",
    "worker_registration": """worker_id VARCHAR PRIMARY KEY, hostname VARCHAR, platform VARCHAR,
        started_at {at}, last_heartbeat {at}, status VARCHAR, jobs_processed INTEGER,
        current_job_id INTEGER, process_id INTEGER""",
    "job_dispatch": """id {id}, job_id INTEGER NOT NULL REFERENCES scheduled_jobs (id),
        created_at {at}, claimed_at {at}, completed_at {at}, status VARCHAR, worker_id VARCHAR,
        retry_count INTEGER, error_message VARCHAR""",
}


@dataclass(frozen=True)
class Shape:
    """Which optional parts a database has."""

    columns: tuple[str, ...] = OPTIONAL_JOB_COLUMNS
    tables: tuple[str, ...] = OPTIONAL_TABLES
    extra_column: bool = False
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict, compare=False)

    def __str__(self) -> str:
        return "+".join((*self.columns, *self.tables)) or "bare"


SHAPES = [
    Shape((), ()),
    Shape(("script_args",), ()),
    Shape(("last_dispatched_at", "dispatch_lock_until"), ("job_dispatch",)),
    Shape(OPTIONAL_JOB_COLUMNS, ("worker_registration",)),
    Shape(OPTIONAL_JOB_COLUMNS, OPTIONAL_TABLES),
    Shape(OPTIONAL_JOB_COLUMNS, OPTIONAL_TABLES, extra_column=True),
]


def make_old(url: str, shape: Shape) -> None:
    """Make the database, with a version table of the older system's own."""
    engine = sa.create_engine(url)
    types = TYPES[engine.dialect.name]
    with engine.begin() as connection:
        run = connection.exec_driver_sql
        for table, columns in CREATE.items():
            if table in OPTIONAL_TABLES and table not in shape.tables:
                continue
            run(f"CREATE TABLE {table} ({columns.format(**types)})")
        for column in shape.columns:
            kind = "VARCHAR" if column == "script_args" else types["at"]
            run(f"ALTER TABLE scheduled_jobs ADD COLUMN {column} {kind}")
        if shape.extra_column:
            run("ALTER TABLE scheduled_jobs ADD COLUMN owner VARCHAR DEFAULT 'ada'")
        run("CREATE INDEX ix_scheduled_jobs_name ON scheduled_jobs (name)")
        run("CREATE INDEX ix_job_execution_logs_job_id ON job_execution_logs (job_id)")
        run("CREATE TABLE alembic_version (version_num VARCHAR(32) PRIMARY KEY)")
        run("INSERT INTO alembic_version VALUES ('deadbeef')")
        columns = (*JOB_COLUMNS, *shape.columns)
        jobs = [{"is_active": True} | job for job in JOBS]
        _insert(
            connection, "scheduled_jobs", [{key: job.get(key) for key in columns} for job in jobs]
        )
        _insert(connection, "job_execution_logs", LOGS)
        if "job_dispatch" in shape.tables:
            keys = {key for row in DISPATCHES for key in row}
            _insert(
                connection, "job_dispatch", [{k: row.get(k) for k in keys} for row in DISPATCHES]
            )
        if "worker_registration" in shape.tables:
            _insert(connection, "worker_registration", WORKERS)
        if engine.dialect.name == "postgresql":
            for table in ("scheduled_jobs", "job_execution_logs"):
                run(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))")
    engine.dispose()


def _insert(connection: sa.Connection, table: str, rows: list[dict[str, Any]]) -> None:
    names = list(rows[0])
    slots = ", ".join(f":{name}" for name in names)
    statement = sa.text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({slots})")
    connection.execute(statement, rows)
