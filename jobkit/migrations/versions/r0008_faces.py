"""What people say of a job besides its schedule: tags, parameters, and how its notebook is kept."""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

REAL = {"sqlite": "FLOAT", "postgresql": "DOUBLE PRECISION"}
COLUMNS = (
    "tags TEXT",
    "signature TEXT",
    "defined_in TEXT",
    "cell_timeout_seconds {real}",
    "keep_outputs INTEGER",
    "keep_kernel_seconds {real}",
)


def upgrade() -> None:
    real = REAL[op.get_bind().dialect.name]
    for column in COLUMNS:
        op.execute(f"ALTER TABLE scheduled_jobs ADD COLUMN {column.format(real=real)}")
