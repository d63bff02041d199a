"""Workers say how far the clock of their machine is from the database's."""

from __future__ import annotations

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE worker_registration ADD COLUMN clock_ahead_seconds DOUBLE PRECISION")
