"""Totals of what happened to runs, and up to which run they are counted."""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

TYPES = {
    "sqlite": {"big": "INTEGER", "real": "FLOAT", "at": "DATETIME"},
    "postgresql": {"big": "BIGINT", "real": "DOUBLE PRECISION", "at": "TIMESTAMP"},
}
STATEMENTS = (
    """
    CREATE TABLE metric_totals (
        metric TEXT NOT NULL,
        queue TEXT NOT NULL,
        label TEXT NOT NULL,
        value {real} NOT NULL,
        PRIMARY KEY (metric, queue, label)
    )""",
    """
    CREATE TABLE metric_marks (
        name TEXT NOT NULL PRIMARY KEY,
        at {at} NOT NULL,
        run_id {big} NOT NULL
    )""",
)


def upgrade() -> None:
    types = TYPES[op.get_bind().dialect.name]
    for statement in STATEMENTS:
        op.execute(statement.format(**types))
