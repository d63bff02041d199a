"""Housekeeping duties, and the loops' steps, on a literal clock."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from jobkit import scheduler
from jobkit.artifacts import collect
from jobkit.errors import NotFound
from jobkit.scheduler import DUTIES, Scheduler
from jobkit.store import duties, keepsakes
from tests.stage import Stage


def test_a_duty_is_done_by_whoever_moves_its_time(stage: Stage) -> None:
    now = stage.clock.now()
    with stage.kit.database.write() as connection:
        duties.declare(connection, tuple(DUTIES), now)
        duties.declare(connection, tuple(DUTIES), now + timedelta(days=1))
        assert set(duties.due(connection, now)) == set(DUTIES)
        assert duties.take(connection, "clean up", now, every=timedelta(hours=1), by="a")
        assert not duties.take(connection, "clean up", now, every=timedelta(hours=1), by="b")
        assert "clean up" not in duties.due(connection, now + timedelta(minutes=59))
        assert "clean up" in duties.due(connection, now + timedelta(minutes=60))


def test_a_worker_without_a_heartbeat_is_marked_offline_after_the_threshold(stage: Stage) -> None:
    stage.register()
    made = Scheduler(stage.kit.database, stage.kit.settings)
    stage.clock.turn(timedelta(seconds=180))
    made.step()
    assert [item.status for item in stage.kit.workers()] == ["IDLE"]
    stage.clock.turn(timedelta(seconds=31))
    made.step()
    assert [item.status for item in stage.kit.workers()] == ["OFFLINE"]


def test_a_worker_that_beats_again_is_online_again(stage: Stage) -> None:
    stage.register()
    stage.clock.turn(timedelta(hours=1))
    Scheduler(stage.kit.database, stage.kit.settings).step()
    assert stage.kit.workers()[0].status == "OFFLINE"
    stage.renew("w1")
    assert stage.kit.workers()[0].status == "BUSY"


def test_workers_that_left_long_ago_are_forgotten(stage: Stage) -> None:
    stage.register()
    made = Scheduler(stage.kit.database, stage.kit.settings)
    stage.clock.turn(timedelta(hours=1))
    made.step()
    stage.clock.turn(timedelta(days=31))
    made.step()
    assert stage.kit.workers() == []


def test_a_scheduler_sleeps_until_the_next_slot_or_the_poll_interval(stage: Stage) -> None:
    made = Scheduler(stage.kit.database, stage.kit.settings)
    assert made.step() == 10
    stage.job("soon", every="4s")
    assert made.step() == 4
    stage.job("later", every="15m")
    assert made.step() == 4


def test_two_schedulers_in_turn_make_one_run(stage: Stage) -> None:
    stage.job(every="10s")
    pair = [Scheduler(stage.kit.database, stage.kit.settings) for _ in range(2)]
    for _ in range(3):
        stage.clock.turn(timedelta(seconds=10))
        for made in pair:
            made.step()
    slots = [run.scheduled_for for run in stage.runs()]
    assert len(slots) == len(set(slots)) == 3


def test_a_duty_with_more_to_do_is_due_again_at_once(stage: Stage) -> None:
    now = stage.clock.now()
    calls = []

    def endless(_connection: object, _now: object, _settings: object) -> scheduler.Done:
        calls.append(1)
        return scheduler.Done(again=len(calls) < 3)

    original = DUTIES["clean up"]
    DUTIES["clean up"] = scheduler.Duty(original.every, endless)
    try:
        made = Scheduler(stage.kit.database, stage.kit.settings)
        assert [made.step() for _ in range(4)] == [0, 0, 10, 10]
    finally:
        DUTIES["clean up"] = original
    assert len(calls) == 3
    assert stage.clock.now() == now


def test_a_scheduler_leaves_duties_that_it_does_not_know_to_newer_ones(stage: Stage) -> None:
    with stage.kit.database.write() as connection:
        duties.declare(connection, ("of the next release",), stage.clock.now())
    assert Scheduler(stage.kit.database, stage.kit.settings).step() == 10
    with stage.kit.database.read() as connection:
        assert "of the next release" in duties.due(connection, stage.clock.now())


def test_artifacts_go_with_the_runs_that_left_them(stage: Stage, workplace: Path) -> None:
    stage.job()
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    left = workplace / "left"
    left.mkdir()
    (left / "report.txt").write_text("text", "utf-8")
    kept = stage.kit.store.keep(claim.run_id, claim.attempt, collect(left, 1000).files)
    stage.finish(claim)
    with stage.kit.database.write() as connection:
        keepsakes.add_artifacts(
            connection, [((claim.run_id, claim.attempt), kept)], stage.clock.now()
        )
    assert [item.read() for item in run.artifacts()] == [b"text"]
    stage.clock.turn(timedelta(days=31))
    Scheduler(stage.kit.database, stage.kit.settings).step()
    with pytest.raises(NotFound):
        stage.kit.run(run.id)
    with pytest.raises(NotFound):
        stage.kit.store.read(kept[0].url)


def archiving(stage: Stage, place: Path) -> Scheduler:
    """Return a scheduler of a stage that archives to a folder."""
    stage.kit.settings = stage.kit.settings.model_copy(
        update={"archive_url": str(place), "archive_keep_runs": 0}
    )
    return Scheduler(stage.kit.database, stage.kit.settings)


def test_with_an_archive_clean_up_deletes_artifacts_and_no_runs(
    stage: Stage, tmp_path: Path
) -> None:
    made = archiving(stage, tmp_path / "archive")
    stage.job(every="1h", misfire="all", misfire_window="90d")
    stage.clock.turn(timedelta(hours=2))
    stage.tick()
    stage.finish(stage.claim_one())
    run = stage.runs()[0]
    folder = tmp_path / "left"
    folder.mkdir()
    (folder / "rows.csv").write_text("1\n", "utf-8")
    kept = stage.kit.store.keep(run.id, 1, collect(folder, 1000).files)
    with stage.kit.database.write() as connection:
        keepsakes.add_artifacts(connection, [((run.id, 1), kept)], stage.clock.now())
    stage.clock.turn(timedelta(days=29))
    scheduler_duties(stage, "clean up")
    assert len(stage.kit.artifacts(run.id)) == 1
    stage.clock.turn(timedelta(days=2))
    made._archiver.start = lambda: None  # type: ignore[method-assign]
    made.step()
    assert stage.kit.artifacts(run.id) == []
    assert stage.kit.run(run.id).status == "COMPLETED"
    with pytest.raises(NotFound):
        stage.kit.store.read(kept[0].url)


def scheduler_duties(stage: Stage, name: str) -> None:
    """Do a duty now."""
    with stage.kit.database.write() as connection:
        duties.declare(connection, (name,), stage.clock.now())
        scheduler.housekeep(connection, stage.clock.now(), stage.kit.settings, name, "a")


def test_a_scheduler_archives_in_a_process_of_its_own(stage: Stage, tmp_path: Path) -> None:
    made = archiving(stage, tmp_path / "archive")
    stage.job(every="1h")
    stage.clock.turn(timedelta(hours=2))
    stage.tick()
    stage.finish(stage.claim_one())
    made.step()
    process = made._archiver._process
    assert process is not None
    assert process.wait(60) == 0
    assert [path for path in (tmp_path / "archive").rglob("runs/*/*.parquet")]
    assert stage.runs() == []
    made.step()
    assert made._archiver._process is None


def test_a_scheduler_without_an_archive_starts_none(stage: Stage) -> None:
    made = Scheduler(stage.kit.database, stage.kit.settings)
    made.step()
    assert made._archiver._process is None


def test_a_scheduler_that_ends_ends_its_archiver(stage: Stage, tmp_path: Path) -> None:
    made = archiving(stage, tmp_path / "archive")
    made._archiver.start()
    process = made._archiver._process
    assert process is not None
    made._archiver.stop()
    assert process.poll() is not None
