"""A made-up history: it breaks no law, looks real, and a seed always makes the same one."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobkit import cli
from jobkit.errors import BadInput
from jobkit.kit import Kit
from jobkit.models import attempts, jobs, output, runs, workers
from jobkit.testing import ManualClock
from jobkit.testing.history import generate
from tests.stage import MONDAY


@pytest.fixture
def made(kit: Kit) -> Kit:
    kit.clock = kit.database.clock = ManualClock(MONDAY)
    generate(kit.database, attempts=3000, months=2, now=MONDAY, seed=7)
    return kit


def test_it_breaks_no_law(made: Kit) -> None:
    findings = made.verify()
    assert [finding for finding in findings if finding.broken] == []
    checked = {finding.rule: finding.checked for finding in findings}
    assert checked["no slot was left out between two that were looked at"] > 1000
    assert checked["an attempt has one result"] == 3000


def test_it_looks_real(made: Kit) -> None:
    with made.database.read() as connection:
        of_runs = Counter(connection.scalars(sa.select(runs.c.status)))
        of_attempts = Counter(connection.scalars(sa.select(attempts.c.status)))
        types = set(connection.scalars(sa.select(jobs.c.schedule_type)))
        chunks = connection.scalar(sa.select(sa.func.count()).select_from(output))
        retried = connection.scalar(sa.select(sa.func.max(attempts.c.attempt)))
        versions = set(connection.scalars(sa.select(runs.c.job_version)))
        errors = set(
            connection.scalars(
                sa.select(attempts.c.log_output).where(attempts.c.status == "FAILURE")
            )
        )
        assert connection.scalar(sa.select(sa.func.count()).select_from(workers)) == 40
    assert sum(of_attempts.values()) == 3000
    assert 0.03 < 1 - of_attempts["SUCCESS"] / 3000 < 0.08
    assert min(of_runs["MISSED"], of_runs["FAILED"], of_runs["IN_PROGRESS"]) >= 1
    assert {"interval", "cron", "daily", "manual"} <= types
    assert chunks > 2800
    assert retried >= 2
    assert versions == {1, 2}
    signatures = {str(text).strip().splitlines()[-1].partition(":")[0] for text in errors}
    assert len(signatures) >= 5


def test_new_runs_go_on_after_it(made: Kit) -> None:
    with made.database.read() as connection:
        last = connection.scalar(sa.select(sa.func.max(runs.c.id)))
        name = connection.scalars(sa.select(jobs.c.name).limit(1)).one()
    assert made.submit(name).id == last + 1


def _digest(url: str, seed: int) -> str:
    import jobkit

    with jobkit.connect(url) as kit:
        generate(kit.database, attempts=500, months=1, now=MONDAY, seed=seed)
        hashed = hashlib.sha256()
        with kit.database.read() as connection:
            for table in (jobs, runs, attempts, output):
                left = [column for column in table.c if column.name != "born"]
                for row in connection.execute(sa.select(*left).order_by(*left[:3])):
                    hashed.update(repr(tuple(row)).encode())
    return hashed.hexdigest()


def test_a_seed_makes_the_same_history_on_both_databases(
    sqlite_database: str, postgres_database: str, empty_sqlite: str
) -> None:
    assert _digest(sqlite_database, 3) == _digest(postgres_database, 3)
    assert _digest(empty_sqlite, 4) != _digest(sqlite_database + "2", 3)


def test_a_sqlite_file_is_whole_and_has_its_log_and_its_indexes_again(
    sqlite_database: str,
) -> None:
    import jobkit

    asked = sa.text("SELECT name FROM sqlite_master WHERE type = 'index' ORDER BY name")
    with jobkit.connect(sqlite_database) as kit:
        with kit.database.read() as connection:
            before = list(connection.scalars(asked))
        generate(kit.database, attempts=500, months=1, now=MONDAY)
        with kit.database.read() as connection:
            assert list(connection.scalars(asked)) == before
            # Also looks whether each row keeps the checks that the filling left out.
            assert connection.scalar(sa.text("PRAGMA integrity_check")) == "ok"
            assert connection.scalar(sa.text("PRAGMA journal_mode")) == "wal"
            assert connection.scalar(sa.text("PRAGMA ignore_check_constraints")) == 0


def test_a_sqlite_file_that_somebody_has_open_is_filled_as_well(sqlite_database: str) -> None:
    import jobkit

    with jobkit.connect(sqlite_database) as other, other.database.read() as reading:
        assert reading.scalar(sa.select(sa.func.count()).select_from(runs)) == 0
        with jobkit.connect(sqlite_database) as kit:
            made = generate(kit.database, attempts=200, months=1, now=MONDAY)
        assert reading.scalar(sa.select(sa.func.count()).select_from(runs)) == 0
    with jobkit.connect(sqlite_database) as kit, kit.database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(runs)) == made.runs


def test_a_database_that_has_jobs_is_refused(made: Kit) -> None:
    with pytest.raises(BadInput, match="empty database"):
        generate(made.database, attempts=100, months=1, now=MONDAY)


@pytest.mark.parametrize("wrong", [{"attempts": 1}, {"months": 0.0}, {"output_bytes": -1}])
def test_numbers_out_of_bounds_are_refused(kit: Kit, wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match="cannot be made"):
        generate(kit.database, **{"attempts": 100, "months": 1, "now": MONDAY, **wrong})  # type: ignore[arg-type]


def test_the_command_makes_one(database: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--attempts", "200", "--months", "1", "--seed", "5", "--now", "2026-03-02T06:00"]
    with pytest.raises(SystemExit) as ended:
        cli.main(["--db", database, "testing", "generate-history", *given, "--json"])
    assert ended.value.code == 0
    said = json.loads(capsys.readouterr().out)
    assert said["attempts"] == 200
    assert said["end"] == "2026-03-02T06:00:00Z"
    assert (
        said["start"] == (MONDAY - timedelta(days=30.4375)).replace(tzinfo=None).isoformat() + "Z"
    )
