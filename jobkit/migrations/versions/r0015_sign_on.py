"""People whom another provider knows, accounts of services, and tokens for some jobs only."""

from __future__ import annotations

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

NO = {"sqlite": "0", "postgresql": "FALSE"}
STATEMENTS = (
    "ALTER TABLE portal_users ADD COLUMN subject TEXT",
    "ALTER TABLE portal_users ADD COLUMN is_service BOOLEAN NOT NULL DEFAULT {no}",
    "CREATE UNIQUE INDEX ix_portal_users_subject ON portal_users (subject)",
    "ALTER TABLE portal_tokens ADD COLUMN jobs TEXT",
)


def upgrade() -> None:
    no = NO[op.get_bind().dialect.name]
    for statement in STATEMENTS:
        op.execute(statement.format(no=no))
