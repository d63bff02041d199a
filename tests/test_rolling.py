"""A rolling upgrade: the database first, while programs of the last release go on with it."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

import jobkit
from jobkit import migrations
from jobkit.cli import database as database_commands
from jobkit.cli import main
from jobkit.cli.commands import app
from jobkit.db import Database, postgres
from jobkit.errors import DatabaseRefused, DatabaseUnavailable
from jobkit.migrations import REVISIONS, VERSION_TABLE, WORKS_FROM
from tests.releases import unpack
from tests.stage import set_stage
from tests.test_processes import LEDGER, SOON, Processes, ledger, script, until

UNTOLD = "0012"
"""The last revision of databases that do not say which programs may go on with them."""


def execute(url: str, *statements: str) -> None:
    opened = Database(url)
    with opened.write() as connection:
        for statement in statements:
            connection.execute(sa.text(statement))
    opened.close()


def take_a_step(url: str, works_from: str) -> None:
    """Upgrade a database as a newer program would that adds a column and a table."""
    execute(
        url,
        "ALTER TABLE job_dispatch ADD COLUMN of_tomorrow TEXT",
        "CREATE TABLE made_tomorrow (id INTEGER PRIMARY KEY)",
        f"UPDATE {VERSION_TABLE} SET version_num = '9999', works_from = '{works_from}'",
    )


def version(url: str) -> tuple[str, str]:
    opened = Database(url)
    with opened.read() as connection:
        found = connection.execute(sa.text(f"SELECT version_num, works_from FROM {VERSION_TABLE}"))
        number, works_from = found.one()
    opened.close()
    return number, works_from


def test_an_upgraded_database_says_which_programs_may_go_on(empty_database: str) -> None:
    migrations.upgrade(empty_database, to=UNTOLD)
    assert not migrations.upgrade(empty_database, to=WORKS_FROM).lets_others_go_on
    assert version(empty_database) == (WORKS_FROM, WORKS_FROM)
    assert migrations.upgrade(empty_database).lets_others_go_on
    assert version(empty_database) == (REVISIONS[-1], WORKS_FROM)


def test_a_program_goes_on_with_a_newer_database_that_allows_it(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    take_a_step(database, works_from=REVISIONS[-1])
    stage = set_stage(database)
    stage.job()
    stage.kit.submit("sales")
    stage.register()
    assert stage.finish(stage.claim_one())
    assert stage.states() == ["COMPLETED"]
    assert not any(finding.broken for finding in stage.kit.verify())
    stage.kit.close()
    monkeypatch.setenv("JOBKIT_DB_URL", database)
    for command in ("upgrade", "check"):
        with pytest.raises(SystemExit) as ended:
            main(["db", command])
        assert ended.value.code == 0
        said = "".join(capsys.readouterr())
        assert f"is at revision 9999, newer than this program's {REVISIONS[-1]}" in said
    assert version(database) == ("9999", REVISIONS[-1])


def test_a_person_is_asked_before_an_upgrade_that_others_do_not_survive(
    empty_sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_commands, "_is_terminal", lambda: True)
    migrations.upgrade(empty_sqlite, to=UNTOLD)
    call = ["--db", empty_sqlite, "db", "upgrade"]
    refused = CliRunner().invoke(app, call, input="n\n")
    assert refused.exit_code == 1
    assert "cannot go on after this upgrade" in refused.output
    assert CliRunner().invoke(app, call, input="y\n").exit_code == 0
    assert CliRunner().invoke(app, call, input="").exit_code == 0  # nothing to do, nothing to ask


def test_a_program_two_steps_behind_is_refused_and_told_what_to_do(database: str) -> None:
    take_a_step(database, works_from="9998")
    for act in (migrations.upgrade, jobkit.connect):
        with pytest.raises(DatabaseRefused) as refused:
            act(database)
        assert "revision 9999, which works with programs from revision 9998 on" in str(
            refused.value
        )
        assert "pip install --upgrade jobkit" in str(refused.value)


def test_an_upgrade_that_somebody_is_in_the_way_of_gives_up_and_changes_nothing(
    empty_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "TABLE_PATIENCE_SECONDS", 0.2)
    migrations.upgrade(empty_postgres, to=UNTOLD)
    opened = Database(empty_postgres)
    with opened.read() as connection:
        connection.execute(sa.text(f"SELECT * FROM {VERSION_TABLE}"))
        with pytest.raises(DatabaseUnavailable, match="lock timeout"):
            migrations.upgrade(empty_postgres)
    assert migrations.standing(opened).revision == UNTOLD
    opened.close()
    assert migrations.upgrade(empty_postgres).revision == UNTOLD


def test_what_the_last_release_knows_is_left_as_it_was(empty_database: str) -> None:
    migrations.upgrade(empty_database, to=WORKS_FROM)
    before = shape(empty_database)
    migrations.upgrade(empty_database)
    after = shape(empty_database)
    for name, old in before.items():
        new = after[name]
        assert {it: new.columns.get(it) for it in old.columns} == old.columns, name
        added = new.columns.keys() - old.columns.keys()
        assert not added & new.must_be_given, f"{name}: the last release does not write them"
        # A rule that no new column has a part in may forbid what the last release writes.
        narrowing = [
            rule
            for rule, columns in new.rules.items()
            if rule not in old.rules and not columns & added
        ]
        assert narrowing == [], f"{name}: the last release knows no such rule"


@dataclass
class Shape:
    """What writers must know of a table."""

    columns: dict[str, str]
    must_be_given: set[str]
    rules: dict[str, set[str]]
    """Unique indexes and checks, with the columns that have a part in them."""


def shape(url: str) -> dict[str, Shape]:
    opened = Database(url)
    look = sa.inspect(opened.engine)
    found: dict[str, Shape] = {}
    for table in look.get_table_names():
        columns = look.get_columns(table)
        needed = {
            it["name"]
            for it in columns
            if not (it["nullable"] or it["default"] is not None or it.get("identity"))
        }
        rules = {
            f"unique {it['name']}": {name for name in it["column_names"] if name}
            for it in look.get_indexes(table)
            if it["unique"]
        }
        for check in look.get_check_constraints(table):
            words = " ".join(check["sqltext"].split())
            rules[words] = {it["name"] for it in columns if it["name"] in words}
        found[table] = Shape({it["name"]: str(it["type"]) for it in columns}, needed, rules)
    opened.close()
    return found


@pytest.fixture
def processes(empty_database: str) -> Iterator[Processes]:
    opened = Processes(empty_database)
    yield opened
    opened.end()


def test_programs_of_the_last_release_go_on_while_and_after_the_database_is_upgraded(
    processes: Processes, empty_database: str, workplace: Path, tmp_path: Path
) -> None:
    old = {"PYTHONPATH": str(unpack(WORKS_FROM, tmp_path / "old"))}
    migrations.upgrade(empty_database, to=WORKS_FROM)
    target = script(workplace, "note.sh", LEDGER)
    how = ("--every", "1s", "--overlap", "allow", "--misfire", "all")
    started = processes.start
    scheduler, early = started("scheduler", **old), started("worker", **old)
    added = started("job", "add", "note", target, *how, **old)
    assert added.wait(SOON) == 0, processes.said(added)
    until(lambda: len(ledger(workplace)) >= 2)

    migrations.upgrade(empty_database)
    if REVISIONS[-1] == WORKS_FROM:
        take_a_step(empty_database, works_from=WORKS_FROM)
    late = started("worker", "--name", "late", **old)
    newer = started("scheduler")  # beside the old one, which does not know all of its duties
    with jobkit.connect(empty_database) as kit:
        until(lambda: any(it.worker_id.startswith("late-") for it in kit.workers()))
        early.terminate()
        assert early.wait(SOON) == 0, processes.said(early)
        noted = len(ledger(workplace))
        until(lambda: len(ledger(workplace)) >= noted + 2)  # by the one that started late
        kit.pause("note")
        until(lambda: all(run.is_final for run in kit.runs(limit=500)))
        assert {run.status for run in kit.runs(limit=500)} == {"COMPLETED"}
        assert Counter(ledger(workplace)) == {f"{run.id} 1": 1 for run in kit.runs(limit=500)}
        assert not any(finding.broken for finding in kit.verify())
    for program in (scheduler, late, newer):
        program.terminate()
        assert program.wait(SOON) == 0, processes.said(program)


def test_the_earlier_program_is_not_this_one(tmp_path: Path) -> None:
    folder = unpack(WORKS_FROM, tmp_path / "old")
    ask = "from jobkit import migrations as it; print(it.__file__, it.REVISIONS[-1])"
    ran = subprocess.run(
        [sys.executable, "-c", ask], env={"PYTHONPATH": str(folder)}, capture_output=True, text=True
    )
    assert ran.stdout.split() == [str(folder / "jobkit/migrations/__init__.py"), WORKS_FROM]
