"""The schema's history: `upgrade` brings a database to this program's revision."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit import db
from jobkit.errors import DatabaseRefused

REVISIONS = (
    *("0001", "0002", "0003", "0004", "0005", "0006", "0007", "0008", "0009", "0010"),
    "0011",
    "0012",
)
# The system that jobkit carries on may keep Alembic's own table name for itself.
VERSION_TABLE = "jobkit_alembic_version"


@dataclass(frozen=True)
class Standing:
    """Where a database stands: its revision, this program's, and the older system's tables."""

    revision: str | None
    head: str
    adoptable: dict[str, int]
    """Tables of the older system with their row counts, if this database was never upgraded."""

    @property
    def is_current(self) -> bool:
        return self.revision == self.head

    @property
    def is_empty(self) -> bool:
        return self.revision is None and not self.adoptable


def standing(database: db.Database) -> Standing:
    """Look where a database stands; DatabaseRefused when it is newer than this program."""
    with database.read() as connection:
        return _standing(connection)


def upgrade(url: str, max_retries: int = 3, to: str = REVISIONS[-1]) -> Standing:
    """Bring the database to a revision, this program's by default; a repeat changes nothing.

    In one transaction:

    1. One process at a time changes the schema.
    2. Refuse what is newer than this program.
    3. Run the revisions that are missing; the first one adopts an older system's tables.
    4. Make this month's partitions.

    Returns how the database stood before. `max_retries` is for jobs that are adopted.
    """
    database = db.Database(url)
    try:
        now = database.clock.now()
        with database.write(takes_long=True) as connection:
            db.lock_schema(connection)
            before = _standing(connection)
            if not before.is_current:
                _run(connection, now, max_retries, to)
            db.ensure_partitions(connection, now)
        return before
    finally:
        database.close()


def ensure(database: db.Database) -> None:
    """Create the tables of an empty database; refuse one that a person must upgrade."""
    now = standing(database)
    if now.is_current:
        return
    if not now.is_empty:
        found = f"is at revision {now.revision}" if now.revision else "is of the older system"
        raise DatabaseRefused(
            f"The database {database.name} {found}, and this program needs {now.head}.",
            "Stop what uses it, then run: jobkit db upgrade",
        )
    upgrade(database.url.render_as_string(hide_password=False))


def _standing(connection: Connection) -> Standing:
    tables = set(sa.inspect(connection).get_table_names())
    revision = None
    if VERSION_TABLE in tables:
        revision = connection.scalar(sa.text(f"SELECT version_num FROM {VERSION_TABLE}"))
    if revision is not None and revision not in REVISIONS:
        raise DatabaseRefused(
            f"The database is at revision {revision}, which this program does not know: "
            "a newer jobkit made it.",
            "Upgrade jobkit on this machine: pip install --upgrade jobkit",
        )
    adoptable = {} if revision else _older_tables(connection, tables)
    return Standing(revision, REVISIONS[-1], adoptable)


def _older_tables(connection: Connection, tables: set[str]) -> dict[str, int]:
    names = ("scheduled_jobs", "job_execution_logs", "worker_registration", "job_dispatch")
    count = "SELECT count(*) FROM "
    return {name: connection.scalar(sa.text(count + name)) or 0 for name in names if name in tables}


def _run(connection: Connection, now: datetime, max_retries: int, to: str) -> None:
    # Alembic is heavy to import, and almost every start finds nothing to do.
    from alembic.config import Config
    from alembic.runtime.environment import EnvironmentContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes.update(now=now, max_retries=max_retries)
    scripts = ScriptDirectory.from_config(config)

    def missing(revision: object, _context: object) -> object:
        return scripts._upgrade_revs(to, revision)  # type: ignore[arg-type]

    with EnvironmentContext(config, scripts, fn=missing) as environment:
        environment.configure(connection=connection, version_table=VERSION_TABLE)
        environment.run_migrations()
