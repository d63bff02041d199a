"""The texts of scripts, so that what changed since a job last worked can be shown."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TYPES = {"sqlite": {"at": "DATETIME"}, "postgresql": {"at": "TIMESTAMP"}}

TABLE = """
    CREATE TABLE script_texts (
        sha256 TEXT NOT NULL PRIMARY KEY,
        text TEXT NOT NULL,
        seen_at {at} NOT NULL
    )"""


def upgrade() -> None:
    op.execute(TABLE.format(**TYPES[op.get_bind().dialect.name]))
