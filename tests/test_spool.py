"""Results that wait on disk: kept whole, delivered once, never lost."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import pytest

from jobkit.store import claims
from jobkit.store.claims import Result
from jobkit.worker.spool import Report, Spool
from tests.stage import MONDAY, Stage


@pytest.fixture
def report(stage: Stage) -> Report:
    stage.job(params={"region": "north"})
    stage.kit.submit("sales")
    claim = stage.claim_one()
    finished_at = MONDAY + timedelta(seconds=3)
    result = Result("exit", MONDAY, finished_at, 0, measures={"log_output": "grün\n"})
    return Report(claim, result, ((0, MONDAY, "grün\n", "output"),))


def deliver(stage: Stage, report: Report) -> bool:
    with stage.kit.database.write() as connection:
        done = [(report.claim, report.result)]
        won = claims.finish(connection, done, stage.clock.now(), random.Random(1))
        claims.add_output(connection, [(report.claim, report.chunks)] if won else [])
        return bool(won)


def test_a_kept_report_comes_back_as_it_was(report: Report, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "postgresql://host/db")
    path = spool.keep(report)
    assert list(spool.kept()) == [(path, report)]
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_kept_report_is_recorded_once(report: Report, stage: Stage, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "db")
    spool.keep(report)
    ((_, again),) = spool.kept()
    assert deliver(stage, again)
    assert not deliver(stage, again)
    (run,) = stage.runs()
    assert run.status == "COMPLETED"
    assert run.output().text == "grün\n"
    assert [item.status for item in run.attempts()] == ["SUCCESS"]


def test_a_kept_report_of_a_run_that_was_taken_back_writes_nothing(
    report: Report, stage: Stage
) -> None:
    stage.clock.turn(timedelta(days=2))
    stage.tick()
    assert not deliver(stage, report)
    (run,) = stage.runs()
    assert [item.status for item in run.attempts()] == ["LOST"]
    assert run.output(attempt=1).text == ""


def test_databases_do_not_see_each_others_reports(report: Report, tmp_path: Path) -> None:
    Spool(tmp_path, "one").keep(report)
    assert list(Spool(tmp_path, "other").kept()) == []


def test_a_report_that_cannot_be_read_is_set_aside_and_the_others_are_delivered(
    report: Report, tmp_path: Path
) -> None:
    spool = Spool(tmp_path, "db")
    path = spool.keep(report)
    (path.parent / "0-torn.json").write_text('{"claim": {', "utf-8")
    assert [kept for _, kept in spool.kept()] == [report]
    assert (path.parent / "0-torn.unreadable").read_text("utf-8") == '{"claim": {'
