"""The audit of every face: from which one, and a chain of hashes. Its rows are never changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.engine import Connection

from jobkit import chain
from jobkit.db import Utc

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

TYPES = {"sqlite": {"big": "INTEGER"}, "postgresql": {"big": "BIGINT"}}
TABLES = (
    "ALTER TABLE portal_audit ADD COLUMN face TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE portal_audit ADD COLUMN number {big}",
    "ALTER TABLE portal_audit ADD COLUMN sha256 TEXT",
    "CREATE INDEX ix_portal_audit_number ON portal_audit (number)",
    "CREATE INDEX ix_portal_audit_unsealed ON portal_audit (id) WHERE sha256 IS NULL",
    """
    CREATE TABLE audit_head (
        one INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
        number {big} NOT NULL,
        sha256 TEXT NOT NULL
    )""",
    f"INSERT INTO audit_head (one, number, sha256) VALUES (1, 0, '{'0' * 64}')",
)
REFUSED = "rows of the audit are only added, and sealed once"
SAID = ("id", "at", "who", "what", "about", "face", "address")
SAME = " AND ".join(f"NEW.{name} = OLD.{name}" for name in SAID)
# Without COALESCE, what is NULL would be neither sealing nor anything else, and pass.
IS_SEALING = f"""COALESCE(OLD.sha256 IS NULL AND OLD.number IS NULL AND {SAME}
    AND NEW.number > 0 AND length(NEW.sha256) = 64, FALSE)"""
# INSERT OR REPLACE and its like delete rows without asking the trigger of DELETE: those of INSERT
# and UPDATE look first whether there is something to replace.
SQLITE = {
    "audit_is_added": """BEFORE INSERT ON portal_audit
        WHEN NEW.sha256 IS NOT NULL OR NEW.number IS NOT NULL
        OR EXISTS (SELECT 1 FROM portal_audit WHERE id = NEW.id)""",
    "audit_is_sealed": f"""BEFORE UPDATE ON portal_audit
        WHEN NOT {IS_SEALING}
        OR EXISTS (SELECT 1 FROM portal_audit WHERE number = NEW.number)""",
    "audit_is_kept": "BEFORE DELETE ON portal_audit",
    "audit_head_grows": """BEFORE UPDATE ON audit_head
        WHEN NEW.one <> OLD.one OR NEW.number <= OLD.number""",
    "audit_head_is_one": """BEFORE INSERT ON audit_head
        WHEN EXISTS (SELECT 1 FROM audit_head)""",
    "audit_head_is_kept": "BEFORE DELETE ON audit_head",
}
POSTGRESQL = (
    f"""
    CREATE FUNCTION audit_is_only_added() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '{REFUSED}';
    END $$""",
    f"""
    CREATE TRIGGER audit_is_sealed BEFORE UPDATE ON portal_audit FOR EACH ROW
    WHEN (NOT {IS_SEALING}) EXECUTE FUNCTION audit_is_only_added()""",
    """
    CREATE TRIGGER audit_is_added BEFORE INSERT ON portal_audit FOR EACH ROW
    WHEN (NEW.sha256 IS NOT NULL OR NEW.number IS NOT NULL)
    EXECUTE FUNCTION audit_is_only_added()""",
    """
    CREATE TRIGGER audit_is_kept BEFORE DELETE OR TRUNCATE ON portal_audit
    EXECUTE FUNCTION audit_is_only_added()""",
    """
    CREATE TRIGGER audit_head_grows BEFORE UPDATE ON audit_head FOR EACH ROW
    WHEN (NEW.one <> OLD.one OR NEW.number <= OLD.number)
    EXECUTE FUNCTION audit_is_only_added()""",
    """
    CREATE TRIGGER audit_head_is_kept BEFORE DELETE OR TRUNCATE ON audit_head
    EXECUTE FUNCTION audit_is_only_added()""",
)


def upgrade() -> None:
    bind = op.get_bind()
    is_sqlite = bind.dialect.name == "sqlite"
    for statement in TABLES:
        op.execute(statement.format(**TYPES[bind.dialect.name]))
    _seal(bind)
    if not is_sqlite:
        for statement in POSTGRESQL:
            op.execute(statement)
        return
    for name, when in SQLITE.items():
        op.execute(f"CREATE TRIGGER {name} {when} BEGIN SELECT RAISE(ABORT, '{REFUSED}'); END")


def _seal(bind: Connection) -> None:
    """Chain the rows that are there."""
    audit = sa.table("portal_audit", sa.column("at", Utc), *map(sa.column, SAID[:1] + SAID[2:]))
    asked = sa.select(audit).order_by(audit.c.id)
    sha256, sealed = chain.ORIGIN, []
    for number, row in enumerate(bind.execute(asked), 1):
        sha256 = chain.forge(sha256, chain.content(number, row))
        sealed.append({"id": row.id, "number": number, "sha256": sha256})
    if sealed:
        change = "UPDATE portal_audit SET number = :number, sha256 = :sha256 WHERE id = :id"
        bind.execute(sa.text(change), sealed)
        bind.execute(
            sa.text("UPDATE audit_head SET number = :number, sha256 = :sha256"), sealed[-1]
        )
