"""Why a run waits, in words: the rule by itself, and as both databases tell it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobkit.errors import NotFound
from jobkit.hindrance import Other, Scene, Server, hindrance
from tests.stage import Stage, at

NOW = at("14:00")
BOX = Server("box-1", ("default",), slots=2, busy=0)
FULL = Server("gpu-1", ("gpu", "default"), slots=2, busy=2)


def why(**around: object) -> str:
    known = {"now": NOW, "run_id": 9, "queue": "gpu", "available_at": at("13:59"), **around}
    return hindrance(Scene(**known)).words  # type: ignore[arg-type]


def test_a_retry_is_not_due_yet_and_the_error_is_named() -> None:
    said = why(available_at=at("14:05"), attempt=2, error="exit code 1", servers=(FULL,))
    assert said == "waits for its retry at 14:05, in 5 min (attempt 2: exit code 1)"
    assert (
        why(available_at=at("09:30", 3)) == "it is not due before 2026-03-03 09:30, in 19 h 30 min"
    )


def test_a_missed_deadline_is_told() -> None:
    assert "deadline passed at 13:50" in why(start_until=at("13:50"))
    assert "deadline" not in why(start_until=at("13:50"), attempt=1)


def test_a_lane_is_held_by_the_run_before() -> None:
    running = Other(7, "IN_PROGRESS", at("13:00"), "box-1", at("14:32"))
    assert why(before=running) == (
        "waits until run 7 of the same job has ended on box-1, expected about 14:32"
    )
    asked = Other(7, "IN_PROGRESS", at("13:00"), "box-1", wants_cancel=True)
    assert why(before=asked) == (
        "waits until run 7 of the same job, which was asked to end, has ended on box-1"
    )
    waiting = Other(7, "PENDING", at("14:10"))
    assert why(before=waiting) == (
        "waits for its turn after run 7 of the same job, which retries at 14:10"
    )
    filling = Other(7, "IN_PROGRESS", at("13:00"), "box-1", backfill_id="b")
    assert "whose runs go one after the other" in why(before=filling, backfill_id="b")


def test_a_queue_that_nobody_serves_is_named_with_who_is_online() -> None:
    assert why(servers=(BOX,)) == "no worker serves queue 'gpu'; online: box-1 (default)"
    assert why() == "no worker serves queue 'gpu'; none is online. Start one: jobkit worker"
    many = tuple(Server(f"box-{n}", ("default",), 1, 0) for n in range(5))
    assert why(servers=many).endswith("box-2 (default) and 2 more")
    leaving = Server("gpu-1", ("gpu",), 2, 1, is_draining=True)
    assert why(servers=(leaving, BOX)) == (
        "no worker takes runs of queue 'gpu': gpu-1 finishes and ends"
    )


def test_a_full_queue_says_how_full_and_until_when() -> None:
    said = why(servers=(FULL, BOX), ends_at=at("14:32"), ahead=3)
    assert said == "2 of 2 slots of queue gpu are busy until about 14:32; 3 runs go first"
    assert why(servers=(FULL,), ends_at=at("13:58")) == "2 of 2 slots of queue gpu are busy"
    one = Server("gpu-1", ("gpu",), 1, 1)
    assert why(servers=(one,), ahead=1) == "1 of 1 slot of queue gpu is busy; 1 run goes first"


def test_a_free_slot_is_named() -> None:
    free = Server("gpu-2", ("gpu",), slots=2, busy=1)
    assert why(servers=(FULL, free)) == "due for 1 min; gpu-2 has a free slot"


def test_the_time_of_day_is_that_of_the_zone() -> None:
    said = why(servers=(FULL,), ends_at=at("14:32"), zone="Europe/Paris")
    assert "until about 15:32" in said


# As the databases tell it


def test_runs_say_why_they_wait(stage: Stage) -> None:
    stage.job(overlap="queue_all")
    stage.kit.add_job("model", "hello.py", queue="gpu")
    first, model = stage.kit.submit("sales"), stage.kit.submit("model")
    assert first.why_waiting() == (
        "no worker serves queue 'default'; none is online. Start one: jobkit worker"
    )
    stage.register("box-1-abc")
    assert model.why_waiting() == "no worker serves queue 'gpu'; online: box-1 (default)"
    assert "box-1 has a free slot" in first.why_waiting()
    second = stage.kit.submit("sales")
    assert second.why_waiting() == f"waits for its turn after run {first.id} of the same job"
    stage.claim_one("box-1-abc")
    assert first.why_waiting() == ""
    assert second.why_waiting() == (
        f"waits until run {first.id} of the same job has ended on box-1"
    )
    first.cancel()
    assert "which was asked to end" in second.why_waiting()
    with pytest.raises(NotFound, match="no run 4711"):
        stage.kit.runs.why_waiting(4711)


def test_a_run_waits_for_its_retry(stage: Stage) -> None:
    stage.job(retries=1, retry_delay="5m")
    run = stage.kit.submit("sales")
    stage.finish(stage.claim_one(), exit_code=3)
    assert run.why_waiting().startswith("waits for its retry at 06:05")
    assert run.why_waiting().endswith("(attempt 1: exit code 3)")


def test_busy_slots_are_counted_and_their_ends_expected(stage: Stage) -> None:
    stage.job(overlap="allow")
    stage.register("box-1-abc")
    for _ in range(8):
        stage.kit.submit("sales")
        claim = stage.claim_one("box-1-abc")
        stage.clock.turn(timedelta(minutes=10))
        stage.finish(claim)
    stage.clock.turn_to(at("09:00"))
    with stage.kit.database.write() as connection:  # it beats
        connection.exec_driver_sql("UPDATE worker_registration SET slots = 2")
    stage.renew("box-1-abc")
    runs = [stage.kit.submit("sales") for _ in range(4)]
    stage.claim("box-1-abc", limit=2)
    assert runs[2].why_waiting() == "2 of 2 slots of queue default are busy until about 09:10"
    assert runs[3].why_waiting().endswith("; 1 run goes first")


def test_a_worker_that_beats_no_more_serves_nothing(stage: Stage) -> None:
    stage.job()
    stage.register("box-1-abc")
    run = stage.kit.submit("sales")
    stage.clock.turn(timedelta(hours=1))
    assert "none is online" in run.why_waiting()


def test_a_worker_that_drains_takes_nothing(stage: Stage) -> None:
    stage.job()
    stage.register("box-1-abc")
    stage.kit.drain("box-1")
    assert "box-1 finishes and ends" in stage.kit.submit("sales").why_waiting()
