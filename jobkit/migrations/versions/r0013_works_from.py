"""A database says which programs may go on with it, to those that do not know its revision."""

from __future__ import annotations

from alembic import op

from jobkit.migrations import VERSION_TABLE

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"ALTER TABLE {VERSION_TABLE} ADD COLUMN works_from TEXT")
