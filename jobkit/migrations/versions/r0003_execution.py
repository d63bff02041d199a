"""How a job is executed, what an attempt ran on, and what it left: artifacts, results, metrics."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TYPES = {
    "sqlite": {"big": "INTEGER", "at": "DATETIME", "real": "FLOAT"},
    "postgresql": {"big": "BIGINT", "at": "TIMESTAMP", "real": "DOUBLE PRECISION"},
}

COLUMNS = {
    "scheduled_jobs": (
        "kind TEXT",
        "source TEXT",
        "python TEXT",
        "memory_limit_bytes {big}",
        "nice INTEGER",
        "working_dir TEXT",
        "variables TEXT",
        "secrets TEXT",
        "isolation TEXT CHECK (isolation IN ('warm', 'fresh'))",
    ),
    "job_dispatch": ("progress {real}", "progress_text TEXT"),
    "job_execution_logs": (
        "signal INTEGER",
        "metrics TEXT",
        "result TEXT",
        "provenance TEXT",
    ),
}

TABLES = (
    """
    CREATE TABLE job_artifacts (
        dispatch_id {big} NOT NULL,
        attempt INTEGER NOT NULL,
        name TEXT NOT NULL,
        size_bytes {big} NOT NULL,
        sha256 TEXT NOT NULL,
        media_type TEXT NOT NULL,
        url TEXT NOT NULL,
        created_at {at} NOT NULL,
        PRIMARY KEY (dispatch_id, attempt, name)
    )""",
    """
    CREATE TABLE package_sets (
        sha256 TEXT NOT NULL PRIMARY KEY,
        packages TEXT NOT NULL,
        seen_at {at} NOT NULL
    )""",
)


def upgrade() -> None:
    types = TYPES[op.get_bind().dialect.name]
    for table, columns in COLUMNS.items():
        for column in columns:
            op.execute(f"ALTER TABLE {table} ADD COLUMN {column.format(**types)}")
    for statement in TABLES:
        op.execute(statement.format(**types))
