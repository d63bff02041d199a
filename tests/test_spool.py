"""Results that wait on disk: kept whole, delivered once, never lost."""

from __future__ import annotations

import random
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from jobkit.store import claims
from jobkit.store.claims import Result
from jobkit.worker.spool import Report, Spool
from tests.disk import make_disk
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
    spool.keep(report)
    assert list(spool.kept()) == [report]
    assert spool.folder.stat().st_mode & 0o077 == 0


def test_a_kept_report_is_recorded_once(report: Report, stage: Stage, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "db")
    spool.keep(report)
    (again,) = spool.kept()
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
    spool.keep(report)
    (spool.folder / "0-torn.json").write_text('{"claim": {', "utf-8")
    assert list(spool.kept()) == [report]
    assert (spool.folder / "0-torn.unreadable").read_text("utf-8") == '{"claim": {'


def test_a_report_waits_in_memory_while_the_disk_is_full_and_goes_to_it_when_it_can(
    report: Report, caplog: pytest.LogCaptureFixture
) -> None:
    with closing(make_disk()) as disk:
        spool = Spool(disk.folder, "db")
        disk.fill()
        spool.keep(report)
        assert "waits in memory" in caplog.text
        assert list(spool.kept()) == [report]
        assert list(disk.folder.rglob("*.json")) == []
        disk.free()
        assert list(spool.kept()) == [report]
        assert len(list(disk.folder.rglob("*.json"))) == 1
        spool.discard(report)
        assert list(spool.kept()) == []


def test_a_report_in_memory_is_let_go_of_when_it_is_delivered(report: Report) -> None:
    with closing(make_disk()) as disk:
        spool = Spool(disk.folder, "db")
        disk.fill()
        spool.keep(report)
        spool.discard(report)
        assert list(spool.kept()) == []
