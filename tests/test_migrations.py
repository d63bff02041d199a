"""The schema: made once, by any number of processes, and refused when it is newer."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

import jobkit
from jobkit import migrations, models
from jobkit.db import Database, ensure_partitions
from jobkit.errors import DatabaseRefused
from tests.stage import MONDAY


def test_the_revisions_are_those_of_the_scripts() -> None:
    config = Config()
    config.set_main_option("script_location", os.fspath(next(iter(migrations.__path__))))
    config.set_main_option("path_separator", "os")
    scripts = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(scripts)) == migrations.REVISIONS


def test_the_migrated_tables_have_the_columns_that_the_models_name(database: str) -> None:
    opened = Database(database)
    found = sa.inspect(opened.engine)
    for table in models.SQLModel.metadata.sorted_tables:
        migrated = {column["name"]: column for column in found.get_columns(table.name)}
        assert set(migrated) == {column.name for column in table.columns}, table.name
        for column in table.columns:
            assert migrated[column.name]["nullable"] == column.nullable or column.primary_key, (
                column
            )
    opened.close()


def test_several_processes_upgrade_at_once(empty_database: str) -> None:
    command = [sys.executable, "-m", "jobkit", "db", "upgrade"]
    environment = os.environ | {"JOBKIT_DB_URL": empty_database}
    started = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE) for _ in range(4)]
    for process in started:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 0, said.decode()
    with jobkit.connect(empty_database) as kit:
        assert list(kit.jobs) == []


def test_a_second_upgrade_changes_nothing(database: str) -> None:
    opened = Database(database)
    before = _shape(opened)
    assert migrations.upgrade(database).is_current
    assert _shape(opened) == before
    opened.close()


def _shape(opened: Database) -> dict[str, list[str]]:
    found = sa.inspect(opened.engine)
    return {
        name: sorted(str(index["name"]) for index in found.get_indexes(name))
        for name in found.get_table_names()
    }


def test_a_database_of_a_newer_program_is_refused(database: str) -> None:
    opened = Database(database)
    with opened.write() as connection:
        connection.execute(
            sa.text(
                f"UPDATE {migrations.VERSION_TABLE} SET version_num = '9999', works_from = '9999'"
            )
        )
    opened.close()
    for act in (migrations.upgrade, jobkit.connect):
        with pytest.raises(DatabaseRefused, match=r"9999.*Upgrade jobkit"):
            act(database)


def test_a_database_one_step_behind_is_refused_until_it_is_upgraded(empty_database: str) -> None:
    database = empty_database
    migrations.upgrade(database, to=migrations.REVISIONS[-2])
    with pytest.raises(DatabaseRefused, match="jobkit db upgrade"):
        jobkit.connect(database)
    assert migrations.upgrade(database).revision == migrations.REVISIONS[-2]
    jobkit.connect(database).close()


def test_postgresql_cleans_the_tables_that_change_often_early(postgres_database: str) -> None:
    opened = Database(postgres_database)
    with opened.read() as connection:
        asked = sa.text("SELECT reloptions::text FROM pg_class WHERE relname = 'job_dispatch'")
        options = connection.scalar(asked)
    assert "fillfactor=80" in options
    assert "autovacuum_vacuum_scale_factor=0.01" in options
    opened.close()


def test_status_columns_refuse_other_words(database: str) -> None:
    opened = Database(database)
    statement = "INSERT INTO job_dispatch (job_id, status, trigger, created_at, available_at) "
    statement += "VALUES (1, 'DONE', 'manual', '2026-03-02 06:00:00', '2026-03-02 06:00:00')"
    with opened.read() as connection, pytest.raises(sa.exc.IntegrityError, match=r"(?i)check"):
        connection.execute(sa.text(statement))
    opened.close()


def test_postgresql_has_a_partition_for_this_month_the_next_and_the_rest(
    postgres_database: str,
) -> None:
    opened = Database(postgres_database)
    with opened.write() as connection:
        made = ensure_partitions(connection, MONDAY)
        assert made == [
            "job_execution_logs_202603", "job_output_202603",
            "job_execution_logs_202604", "job_output_202604",
        ]  # fmt: skip
        assert ensure_partitions(connection, MONDAY) == []
        assert _partition_of(connection, MONDAY) == "job_output_202603"
        assert _partition_of(connection, MONDAY + timedelta(days=400)) == "job_output_default"
        # The rows of the default partition stay there; its month gets no partition any more.
        assert "job_output_202704" not in ensure_partitions(
            connection, MONDAY + timedelta(days=400)
        )
    opened.close()


def _partition_of(connection: sa.Connection, claimed_at: object) -> str:
    row = {
        "dispatch_id": 1, "attempt": 1, "seq": 0, "claimed_at": claimed_at,
        "at": MONDAY, "stream": "output", "text": "x",
    }  # fmt: skip
    connection.execute(models.output.insert().values(row))
    found = sa.select(sa.text("tableoid::regclass::text")).select_from(models.output)
    name: str = connection.scalars(found.where(models.output.c.claimed_at == claimed_at)).one()
    return name
