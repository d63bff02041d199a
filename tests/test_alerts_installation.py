"""Alerts of the installation on a literal clock: each fires, is told once, and is over."""

from __future__ import annotations

from datetime import timedelta

from jobkit import evaluation
from jobkit.store import duties
from tests.stage import Stage, at
from tests.watching import firing, look_around, run_once_by_hand, settings_of, told, watched

__all__ = ["watched"]

MINUTE = timedelta(minutes=1)


def test_no_worker_is_told_after_a_while_and_that_one_is_back(watched: Stage) -> None:
    look_around(watched, at("06:04:59"))
    assert told(watched) == []
    look_around(watched, at("06:05"))
    look_around(watched, at("06:06"))
    assert told(watched) == [
        "no worker has been online for 5 min: the last was heard 2026-03-02 06:00:00 UTC"
    ]
    watched.register("w2")
    look_around(watched)
    assert told(watched)[1:] == ["resolved: a worker is online again, after 1 min"]
    look_around(watched, at("07:00"))
    assert len(told(watched)) == 3


def test_a_run_that_is_due_for_long_is_told_whatever_its_job(watched: Stage) -> None:
    watched.job("a")
    watched.job("b", queue="gpu")
    for name in ("a", "b"):
        watched.kit.submit(name)
    chosen = settings_of(watched, alert_no_worker=timedelta(0))
    look_around(watched, at("06:29"), settings=chosen)
    assert told(watched) == []
    look_around(watched, at("06:30"), settings=chosen)
    look_around(watched, at("06:40"), settings=chosen)
    assert told(watched) == [
        "2 runs have been due for 30 min or longer and not been started; run 1 for 30 min"
    ]
    watched.claim_one()
    watched.claim(queue="gpu")
    look_around(watched, at("06:41"), settings=chosen)
    assert told(watched)[1:] == [
        "resolved: no run has been due for that long any more, after 11 min"
    ]


def test_too_many_failures_are_told_once_there_are_enough_runs_to_say_so(watched: Stage) -> None:
    watched.job(retries=0)
    for number in range(19):
        run_once_by_hand(watched, exit_code=int(number < 3))
    look_around(watched)
    assert told(watched) == []
    run_once_by_hand(watched)
    look_around(watched)
    assert told(watched) == ["15% of the last 20 runs of an hour failed, 3 of them"]
    for _ in range(17):
        run_once_by_hand(watched)
    look_around(watched)
    assert firing(watched) == ["failed-rate"]  # 3 of 37 is under the bound, and still near it
    run_once_by_hand(watched)
    look_around(watched)
    assert told(watched)[1:] == ["resolved: fewer runs fail, after 18 s"]


def test_a_disk_or_a_database_that_is_nearly_full_is_told(watched: Stage) -> None:
    full = settings_of(watched, alert_database_size=1000, alert_disk_used=1e-9)
    look_around(watched, settings=full)
    kinds = firing(watched)
    assert "database" in kinds
    assert ("disk" in kinds) == watched.kit.database.is_sqlite
    look_around(watched, settings=settings_of(watched, alert_database_size=10**12))
    assert firing(watched) == []
    assert any("resolved: the database has room again" in said for said in told(watched))


def test_a_worker_sees_that_no_scheduler_is_there_and_a_scheduler_that_it_is_over(
    watched: Stage,
) -> None:
    kit = watched.kit

    def seen_by_a_worker() -> bool:
        with kit.database.write() as connection:
            return evaluation.look_for_scheduler(connection, watched.clock.now(), kit.settings)

    assert not seen_by_a_worker()  # of a scheduler that was never there nothing is said
    with kit.database.write() as connection:
        duties.declare(connection, (duties.HEARTBEAT,), watched.clock.now())
        duties.take(connection, duties.HEARTBEAT, watched.clock.now(), every=MINUTE, by="s1")
    watched.clock.turn_to(at("06:04"))
    assert not seen_by_a_worker()
    watched.clock.turn_to(at("06:05"))
    assert seen_by_a_worker()
    assert seen_by_a_worker()
    assert told(watched) == ["no scheduler has been seen for 5 min: no job is started any more"]
    watched.register("w2")
    look_around(watched)
    assert told(watched)[1:] == ["resolved: a scheduler is there again, after 0 s"]
