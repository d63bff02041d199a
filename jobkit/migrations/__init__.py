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
    *("0011", "0012", "0013", "0014", "0015", "0016", "0017"),
)
# The oldest program that goes on with a database of the newest revision: the last release. All
# revisions since then only add what it need not know. A revision that takes away, renames or
# narrows something moves this to itself; tests/test_rolling.py knows, and runs that program.
WORKS_FROM = "0017"
# From this one on a database holds that itself, for programs which do not know its revision.
_SAYS_IT = "0013"
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
    def is_ahead(self) -> bool:
        """Whether a newer program upgraded it in a way that this one may go on."""
        return self.revision is not None and self.revision not in REVISIONS

    @property
    def lets_others_go_on(self) -> bool:
        """Whether programs that use it now may do so while it is upgraded, and after that."""
        return self.revision in REVISIONS[REVISIONS.index(WORKS_FROM) :]

    @property
    def stops_others(self) -> bool:
        """Whether an upgrade stops the programs that use it now."""
        return self.revision in REVISIONS and not self.lets_others_go_on

    @property
    def is_empty(self) -> bool:
        return self.revision is None and not self.adoptable


def standing(database: db.Database) -> Standing:
    """Look where a database stands; DatabaseRefused when it is too new for this program."""
    with database.read() as connection:
        return standing_in(connection)


def upgrade(url: str, max_retries: int = 3, to: str = REVISIONS[-1]) -> Standing:
    """Bring the database to a revision, this program's by default; a repeat changes nothing.

    In one transaction:

    1. One process at a time changes the schema.
    2. Refuse what is too new for this program; leave alone what is newer and works with it.
    3. Run the revisions that are missing; the first one adopts an older system's tables.
    4. Write down which programs may go on with it.
    5. Make this month's partitions.

    Returns how the database stood before. `max_retries` is for jobs that are adopted.
    """
    database = db.Database(url)
    try:
        now = database.clock.now()
        with database.write(takes_long=True) as connection:
            db.lock_schema(connection)
            before = standing_in(connection)
            if not (before.is_current or before.is_ahead):
                _run(connection, now, max_retries, to)
                _declare(connection, to)
            db.ensure_partitions(connection, now)
        return before
    finally:
        database.close()


def ensure(database: db.Database) -> None:
    """Create the tables of an empty database; refuse one that a person must upgrade."""
    now = standing(database)
    if now.is_current or now.is_ahead:
        return
    if not now.is_empty:
        found = f"is at revision {now.revision}" if now.revision else "is of the older system"
        raise DatabaseRefused(
            f"The database {database.name} {found}, and this program needs {now.head}.",
            "Run: jobkit db upgrade (programs that use it may go on)"
            if now.lets_others_go_on
            else "Stop what uses it, then run: jobkit db upgrade",
        )
    upgrade(database.url.render_as_string(hide_password=False))


def standing_in(connection: Connection) -> Standing:
    """Look where the database of a connection stands; DatabaseRefused when it is too new."""
    tables = set(sa.inspect(connection).get_table_names())
    revision = works_from = None
    if VERSION_TABLE in tables:
        row = connection.execute(sa.text(f"SELECT * FROM {VERSION_TABLE}")).mappings().first()
        if row is not None:
            revision, works_from = row["version_num"], row.get("works_from")
    if revision is not None and not {revision, works_from} & set(REVISIONS):
        suits = f", which works with programs from revision {works_from} on" if works_from else ""
        raise DatabaseRefused(
            f"The database is at revision {revision}{suits}. This program is of {REVISIONS[-1]}: "
            "a newer jobkit upgraded the database.",
            "Upgrade jobkit on this machine: pip install --upgrade jobkit",
        )
    adoptable = {} if revision else _older_tables(connection, tables)
    return Standing(revision, REVISIONS[-1], adoptable)


def _declare(connection: Connection, revision: str) -> None:
    """Write down the oldest program that may go on with a database of this revision."""
    if revision >= _SAYS_IT:
        statement = f"UPDATE {VERSION_TABLE} SET works_from = :works_from"
        connection.execute(sa.text(statement), {"works_from": min(WORKS_FROM, revision)})


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
