"""Databases of the older system: every row and every time is kept, and their jobs run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobkit import migrations
from jobkit.errors import DatabaseRefused
from jobkit.kit import connect
from jobkit.store import history
from tests.old_shape import DISPATCHES, JOBS, LOGS, SHAPES, WORKERS, Shape, make_old
from tests.stage import Stage, at, set_stage


@pytest.fixture
def shape() -> Shape:
    """All optional parts, unless a test says otherwise."""
    return SHAPES[4]


@pytest.fixture
def adopted(empty_database: str, shape: Shape) -> Iterator[Stage]:
    make_old(empty_database, shape)
    migrations.upgrade(empty_database)
    opened = set_stage(empty_database)
    yield opened
    opened.kit.close()


def rows(url: str, statement: str) -> list[Any]:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = list(connection.exec_driver_sql(statement).all())
    engine.dispose()
    return found


def dump(url: str) -> dict[str, list[Any]]:
    tables = ("scheduled_jobs", "job_dispatch", "job_execution_logs", "worker_registration")
    tables += ("job_versions", "jobkit_alembic_version", "alembic_version")
    return {table: sorted(map(str, rows(url, f"SELECT * FROM {table}"))) for table in tables}


def instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_all_rows_are_kept_and_a_second_upgrade_changes_nothing(
    empty_database: str, shape: Shape
) -> None:
    make_old(empty_database, shape)
    before = migrations.upgrade(empty_database)
    assert before.adoptable["scheduled_jobs"] == len(JOBS)
    first = dump(empty_database)
    asked_for = 1
    assert len(first["scheduled_jobs"]) == len(JOBS)
    assert len(first["job_execution_logs"]) == len(LOGS)
    kept_runs = len(DISPATCHES) if "job_dispatch" in shape.tables else 0
    assert len(first["job_dispatch"]) == kept_runs + asked_for
    kept_workers = len(WORKERS) if "worker_registration" in shape.tables else 0
    assert len(first["worker_registration"]) == kept_workers
    assert first["alembic_version"] == ["('deadbeef',)"]
    assert migrations.upgrade(empty_database).is_current
    assert dump(empty_database) == first


def test_jobs_keep_their_times(adopted: Stage) -> None:
    kept = {job.id: job for job in adopted.kit.jobs}
    for old in JOBS:
        job = kept[old["id"]]
        assert (job.script_path, job.schedule_type) == (old["script_path"], old["schedule_type"])
        if old["schedule_type"] != "manual" and old.get("is_active", True):
            assert job.next_run == instant(old["next_run"])
    assert kept[1].args == ["--region", "north east", "--fast"]
    assert kept[2].schedule == "hourly at minute 15"
    assert kept[6].schedule == "monthly on day 31, or the last day, at 22:00"
    assert not kept[9].is_active
    assert {job.timezone for job in kept.values()} == {"UTC"}


def test_two_jobs_of_one_name_get_different_ones(adopted: Stage) -> None:
    assert sorted(job.name for job in adopted.kit.jobs if "report" in job.name) == [
        "report",
        "report (5)",
    ]


def test_attempts_keep_their_times_and_words(adopted: Stage) -> None:
    found = rows(
        adopted.kit.database.url.render_as_string(hide_password=False),
        "SELECT id, job_id, run_time, status, log_output, error_message FROM job_execution_logs",
    )
    expected = {"RUNNING": "LOST", "ODD": "ERROR"}
    by_id = {row[0]: row for row in found}
    for old in LOGS:
        row = by_id[old["id"]]
        word = str(old["status"]).upper()
        assert row[1] == old["job_id"]
        assert datetime.fromisoformat(str(row[2])) == datetime.fromisoformat(str(old["run_time"]))
        assert row[3] == expected.get(word, word)
        assert row[4] == old["log_output"]
        assert (row[5] is not None) == (word in expected)


def test_the_old_slots_come_when_they_would_have_come(adopted: Stage) -> None:
    adopted.tick(at("06:30"))
    oldest_first = reversed(adopted.kit.runs())
    made = {run.job_name: run.scheduled_for for run in oldest_first if run.scheduled_for}
    assert made == {
        "rates": at("06:15"),
        "report": at("06:30"),
        "prices": datetime(2026, 3, 2, 6, 22, 31, 250000, tzinfo=UTC),
    }
    adopted.tick(at("09:00"))
    assert adopted.runs("report (5)")[-1].scheduled_for == at("09:00")


def test_runs_in_progress_are_taken_back_and_pending_ones_are_claimed(adopted: Stage) -> None:
    now = datetime.now(UTC).replace(year=datetime.now(UTC).year + 1)
    adopted.clock.turn_to(now)
    assert adopted.kit.run(13).status == "IN_PROGRESS"
    done = adopted.tick()
    assert done.rescued == 2
    assert {adopted.kit.run(number).status for number in (12, 13, 14)} == {"PENDING"}
    claimed = {claim.run_id for claim in adopted.claim(limit=50)}
    assert 12 in claimed


def test_a_manual_job_that_was_asked_to_run_has_its_run(adopted: Stage) -> None:
    (run,) = adopted.runs("asked for")
    assert (run.status, run.trigger, run.reason) == ("PENDING", "manual", "adopted")
    assert adopted.kit.job("asked for").next_run is None


def test_new_ids_go_on_after_the_adopted_ones(adopted: Stage) -> None:
    assert adopted.job("new one").id > max(job["id"] for job in JOBS)
    assert adopted.kit.submit("new one").id > max(run["id"] for run in DISPATCHES)


def test_what_was_adopted_is_never_cleaned_up(adopted: Stage) -> None:
    far = datetime(2046, 1, 1, tzinfo=UTC)
    with adopted.kit.database.write() as connection:
        assert history.clean_up(connection, far, keep=far - at("06:00")).run_ids == ()
    assert adopted.kit.run(11).status == "COMPLETED"


@pytest.mark.parametrize("shape", [SHAPES[5]], ids=["an extra column"])
def test_a_column_that_jobkit_does_not_know_is_carried_along(
    empty_database: str, shape: Shape
) -> None:
    make_old(empty_database, shape)
    migrations.upgrade(empty_database)
    assert set(rows(empty_database, "SELECT owner FROM scheduled_jobs")) == {("ada",)}


def test_every_adopted_job_has_a_first_version(adopted: Stage) -> None:
    for job in adopted.kit.jobs:
        (version,) = job.versions()
        assert (version.change, version.changed_from) == ("adopted", "the older system")
        assert version.definition["script_path"] == job.script_path


def test_programs_refuse_an_older_database_and_say_what_to_do(
    empty_database: str, shape: Shape
) -> None:
    make_old(empty_database, shape)
    with pytest.raises(DatabaseRefused, match="jobkit db upgrade"):
        connect(empty_database)


def test_adopted_jobs_run_for_real(empty_database: str, shape: Shape, workplace: Path) -> None:
    make_old(empty_database, shape)
    jobs = workplace / "jobs"
    jobs.mkdir()
    (jobs / "asked.py").write_text("import sys; print('ran', sys.argv[1:])\n", "utf-8")
    environment = os.environ | {"JOBKIT_DB_URL": empty_database}
    for arguments in (["db", "upgrade", "--force"], ["worker", "--drain"]):
        command = [sys.executable, "-m", "jobkit", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()
    with connect(empty_database) as kit:
        (run,) = kit.runs(job="asked for")
        assert run.status == "COMPLETED"
        assert run.output().text == "ran []\n"
