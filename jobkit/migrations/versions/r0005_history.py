"""What a cache of the history goes by: which history it is, and what was cleaned up of it."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TYPES = {
    "sqlite": {"big": "INTEGER", "at": "DATETIME"},
    "postgresql": {"big": "BIGINT", "at": "TIMESTAMP"},
}

STATEMENT = """
    CREATE TABLE job_history (
        identity TEXT NOT NULL PRIMARY KEY,
        cleaned_runs {big} NOT NULL DEFAULT 0,
        cleaned_until {at}
    )"""


def upgrade() -> None:
    connection = op.get_bind()
    op.execute(STATEMENT.format(**TYPES[connection.dialect.name]))
    made = sa.text("INSERT INTO job_history (identity) VALUES (:identity)")
    connection.execute(made, {"identity": uuid.uuid4().hex})
