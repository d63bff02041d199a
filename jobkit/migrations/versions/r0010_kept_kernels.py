"""Kernels that wait after a cell that failed, and what is asked of them."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

TYPES = {
    "sqlite": {"big": "INTEGER", "at": "DATETIME"},
    "postgresql": {"big": "BIGINT", "at": "TIMESTAMP"},
}
TABLE = """
    CREATE TABLE kept_kernels (
        dispatch_id {big} NOT NULL,
        attempt INTEGER NOT NULL,
        worker_id TEXT NOT NULL,
        hostname TEXT NOT NULL,
        process_id INTEGER,
        connection_file TEXT NOT NULL,
        cell INTEGER NOT NULL,
        cells INTEGER NOT NULL,
        source TEXT NOT NULL,
        error TEXT NOT NULL,
        measures TEXT NOT NULL,
        started_at {at} NOT NULL,
        failed_at {at} NOT NULL,
        kept_until {at} NOT NULL,
        wish TEXT CHECK (wish IN ('go on', 'let go')),
        wished_at {at},
        wished_by TEXT,
        correction TEXT,
        went_on_at {at},
        PRIMARY KEY (dispatch_id, attempt)
    )"""


def upgrade() -> None:
    op.execute(TABLE.format(**TYPES[op.get_bind().dialect.name]))
