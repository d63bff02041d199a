"""A job may leave its timeout to what its attempts usually take: `timeout_policy` is `auto`."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE scheduled_jobs ADD COLUMN timeout_policy TEXT "
        "CHECK (timeout_policy IN ('auto'))"
    )
