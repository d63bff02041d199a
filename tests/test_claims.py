"""Laws 2 and 3: one live attempt per run, one recorded result per attempt."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy.exc import IntegrityError

from jobkit.errors import BadInput, JobkitError, NotFound
from jobkit.kit import connect
from jobkit.store import claims, definitions, history
from tests.stage import Stage, at

MINUTE = timedelta(minutes=1)


def test_a_claim_takes_the_run_and_counts_the_attempt(stage: Stage) -> None:
    stage.job()
    run = stage.kit.submit("sales", region="north")
    claim = stage.claim_one("w1")
    assert (claim.run_id, claim.attempt, claim.worker_id) == (run.id, 1, "w1")
    assert claim.params == {"region": "north"}
    taken = run.refresh()
    assert (taken.status, taken.worker_id, taken.claimed_at) == ("IN_PROGRESS", "w1", at("06:00"))
    assert stage.claim("w2") == []


def test_the_most_urgent_runs_go_first_then_the_oldest(stage: Stage) -> None:
    stage.job("low", priority=-1)
    stage.job("high", priority=5)
    stage.job("first")
    stage.job("second")
    for name in ("low", "first", "second", "high"):
        stage.kit.submit(name)
        stage.clock.turn(MINUTE)
    order = [stage.kit.run(stage.claim_one().run_id).job_name for _ in range(4)]
    assert order == ["high", "first", "second", "low"]


def test_a_worker_takes_only_runs_of_its_queue(stage: Stage) -> None:
    stage.job(queue="heavy")
    stage.kit.submit("sales")
    assert stage.claim(queue="default") == []
    assert len(stage.claim(queue="heavy")) == 1


def test_one_statement_takes_many_runs_but_one_of_each_job(stage: Stage) -> None:
    for name in ("a", "b", "c"):
        stage.job(name)
        stage.kit.submit(name)
        stage.kit.submit(name)
    assert len(stage.claim(limit=10)) == 3
    assert stage.claim(limit=10) == []


def test_a_run_is_not_claimed_before_its_retry_delay_is_over(stage: Stage) -> None:
    stage.job(retry_delay="30s")
    stage.kit.submit("sales")
    stage.finish(stage.claim_one(), exit_code=1)
    stage.clock.turn(timedelta(seconds=29))
    assert stage.claim() == []
    stage.clock.turn(timedelta(seconds=4))
    assert stage.claim_one().attempt == 2


def test_a_job_fails_after_its_retries(stage: Stage) -> None:
    stage.job(retries=2, retry_delay="1s")
    run = stage.kit.submit("sales")
    for _ in range(3):
        stage.finish(stage.claim_one(), exit_code=7)
        stage.clock.turn(MINUTE)
    ended = run.refresh()
    assert (ended.status, ended.retry_count, ended.error_message) == ("FAILED", 2, "exit code 7")
    assert [item.status for item in ended.attempts()] == ["FAILURE"] * 3
    assert stage.claim() == []


def test_a_result_is_recorded_once(stage: Stage) -> None:
    stage.job()
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    assert stage.finish(claim) is True
    assert stage.finish(claim) is False
    assert [item.status for item in run.attempts()] == ["SUCCESS"]


def test_a_stale_worker_writes_nothing(stage: Stage) -> None:
    stage.lease = MINUTE
    stage.job()
    run = stage.kit.submit("sales")
    stale = stage.claim_one("w1")
    stage.tick(at("06:02"))
    fresh = stage.claim_one("w2")
    assert fresh.attempt == 2
    assert stage.finish(stale) is False
    with stage.kit.database.write() as connection:
        assert claims.write_output(connection, stale, [(0, at("06:02"), "late", "output")]) is False
    assert stage.renew("w1", stale).held == frozenset()
    assert run.output(attempt=1).text == ""
    assert [item.status for item in run.attempts()] == ["LOST"]
    assert run.refresh().status == "IN_PROGRESS"
    assert stage.finish(fresh) is True


def test_a_heartbeat_keeps_the_lease(stage: Stage) -> None:
    stage.lease = MINUTE
    stage.job()
    stage.kit.submit("sales")
    claim = stage.claim_one()
    stage.register("w1")
    for minute in ("06:00:50", "06:01:40", "06:02:30"):
        stage.clock.turn_to(at(minute))
        assert stage.renew("w1", claim).held == {(claim.run_id, 1)}
        assert stage.tick().rescued == 0


def test_a_worker_whose_row_is_gone_renews_nothing(stage: Stage) -> None:
    stage.job()
    stage.kit.submit("sales")
    claim = stage.claim_one("w1")
    assert stage.renew("w1", claim).is_registered is False
    assert stage.renew("w1", claim).held == frozenset()
    stage.register("w1")
    assert stage.renew("w1", claim).is_registered is True
    assert stage.renew("w1", claim).held == {(claim.run_id, 1)}


def test_a_lapsed_lease_is_rescued_after_the_grace_and_not_before(stage: Stage) -> None:
    stage.lease = MINUTE
    stage.job()
    run = stage.kit.submit("sales")
    stage.claim_one()
    assert stage.tick(at("06:01:05")).rescued == 0
    assert stage.tick(at("06:01:06")).rescued == 1
    taken_back = run.refresh()
    assert (taken_back.status, taken_back.retry_count) == ("PENDING", 0)


def test_a_job_that_kills_its_worker_three_times_is_given_up(stage: Stage) -> None:
    stage.lease = MINUTE
    stage.job(retries=50)
    run = stage.kit.submit("sales")
    for _ in range(3):
        stage.claim_one()
        stage.clock.turn(2 * MINUTE)
        stage.tick()
    assert run.refresh().status == "FAILED"
    assert [item.status for item in run.attempts()] == ["LOST"] * 3


def test_at_most_once_is_never_tried_again(stage: Stage) -> None:
    stage.lease = MINUTE
    stage.job(retries=0, on_worker_lost="fail")
    run = stage.kit.submit("sales")
    stage.claim_one()
    stage.tick(at("06:02"))
    assert run.refresh().status == "FAILED"


def test_a_cancel_of_a_waiting_run_ends_it_at_once(stage: Stage) -> None:
    stage.job()
    run = stage.kit.submit("sales").cancel()
    assert run.status == "CANCELLED"
    assert stage.claim() == []
    assert run.attempts() == []


def test_a_cancel_of_a_running_run_reaches_its_worker_with_the_heartbeat(stage: Stage) -> None:
    stage.job()
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    stage.register()
    assert run.cancel().wants_cancel
    assert stage.renew("w1", claim).cancelled == {(claim.run_id, 1)}
    stage.finish(claim, "cancel", None)
    assert run.refresh().status == "CANCELLED"


def test_a_cancel_whose_worker_died_is_turned_into_cancelled_by_the_rescue(stage: Stage) -> None:
    stage.lease = MINUTE
    stage.job()
    run = stage.kit.submit("sales")
    stage.claim_one()
    run.cancel()
    stage.tick(at("06:02"))
    assert run.refresh().status == "CANCELLED"
    assert [item.status for item in run.attempts()] == ["LOST"]


def test_a_released_run_is_tried_at_once_and_counts_as_nothing(stage: Stage) -> None:
    stage.job(retries=0)
    run = stage.kit.submit("sales")
    stage.finish(stage.claim_one("w1"), "release", None)
    assert stage.claim_one("w2").attempt == 2
    assert [item.status for item in run.attempts()] == ["RELEASED"]


def test_a_final_run_is_never_left(stage: Stage) -> None:
    stage.job()
    run = stage.kit.submit("sales")
    stage.finish(stage.claim_one())
    with pytest.raises(BadInput, match=f"Run {run.id} has ended as COMPLETED"):
        run.cancel()
    again = run.retry()
    assert again.id != run.id
    assert (again.retry_of, again.trigger) == (run.id, "retry")
    assert run.refresh().status == "COMPLETED"


def test_a_run_that_is_not_there_is_named(stage: Stage) -> None:
    with pytest.raises(NotFound, match="no run 999"):
        stage.kit.run(999)


def test_output_comes_in_order_and_a_repeat_changes_nothing(stage: Stage) -> None:
    stage.job()
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    chunks = [(0, at("06:00"), "one\n", "output"), (1, at("06:00"), "two\n", "output")]
    for _ in range(2):
        with stage.kit.database.write() as connection:
            assert claims.write_output(connection, claim, chunks)
    assert run.output().text == "one\ntwo\n"
    assert not run.output().is_complete
    assert run.output(after=0).text == "two\n"
    stage.finish(claim)
    assert run.output().is_complete


def test_a_run_executes_the_version_it_was_made_with(stage: Stage) -> None:
    stage.job(timeout="1m")
    run = stage.kit.submit("sales")
    stage.kit.edit("sales", timeout="2m")
    claim = stage.claim_one()
    with stage.kit.database.read() as connection:
        found = definitions.executed(connection, claim.job_id, claim.job_version)
    assert found["timeout_seconds"] == 60
    assert (run.job_version, stage.kit.submit("sales").job_version) == (1, 2)


def test_workers_that_race_never_take_the_same_run_nor_two_of_one_lane(database: str) -> None:
    with connect(database) as kit:
        for number in range(20):
            kit.add_job(f"job {number}", "hello.py")
            for _ in range(3):
                kit.submit(f"job {number}")
    taken: list[int] = []
    jobs: list[int] = []
    failures: list[BaseException] = []

    def work(name: str) -> None:
        try:
            with connect(database) as own:
                for _ in range(5):
                    with own.database.write() as connection:
                        got = claims.claim(
                            connection,
                            own.clock.now(),
                            worker_id=name,
                            queue="default",
                            lease=MINUTE,
                            limit=3,
                        )
                    taken.extend(claim.run_id for claim in got)
                    jobs.extend(claim.job_id for claim in got)
        except IntegrityError:
            pass  # two met in a lane, and its index let one of them in
        except JobkitError as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(taken) == len(set(taken))
    assert len(jobs) == len(set(jobs))
    assert len(taken) >= 15


def test_old_runs_are_cleaned_up_with_their_attempts_and_output(stage: Stage) -> None:
    stage.job()
    old = stage.kit.submit("sales")
    claim = stage.claim_one()
    with stage.kit.database.write() as connection:
        claims.write_output(connection, claim, [(0, at("06:00"), "text", "output")])
    stage.finish(claim)
    stage.clock.turn(timedelta(days=20))
    recent = stage.kit.submit("sales")
    stage.finish(stage.claim_one())
    stage.clock.turn(timedelta(days=11))
    with stage.kit.database.write() as connection:
        assert (
            len(history.clean_up(connection, stage.clock.now(), keep=timedelta(days=30)).run_ids)
            == 1
        )
    with pytest.raises(NotFound):
        stage.kit.run(old.id)
    assert recent.refresh().status == "COMPLETED"


# Backfill


def test_a_backfill_makes_a_run_for_each_past_slot_that_was_not_successful(stage: Stage) -> None:
    stage.job(every="1h", start_deadline="1h")
    stage.tick(at("07:00"))
    stage.finish(stage.claim_one())
    stage.clock.turn_to(at("10:30"))
    stage.tick()
    plan = stage.kit.backfill("sales", at("07:00"), at("10:00"), dry_run=True)
    assert (plan.slots, plan.runs) == ([at("08:00"), at("09:00")], [])
    assert plan.skipped == [at("07:00"), at("10:00")]
    done = stage.kit.backfill("sales", at("07:00"), at("10:00"))
    assert len(done.runs) == 2
    assert [stage.kit.run(run).scheduled_for for run in done.runs] == done.slots
    assert stage.kit.backfill("sales", at("07:00"), at("10:00")).runs == []
    assert len(stage.kit.backfill("sales", at("07:00"), at("10:00"), again=True).runs) == 4


def test_a_backfill_runs_at_most_so_many_at_once_and_gives_way_to_live_slots(
    stage: Stage,
) -> None:
    stage.job(every="1h", overlap="allow")
    stage.clock.turn_to(at("12:00"))
    done = stage.kit.backfill("sales", at("07:00"), at("11:00"), limit=2)
    assert len(done.runs) == 5
    stage.tick(at("12:00"))
    first = stage.claim(limit=10)
    assert [stage.kit.run(claim.run_id).trigger for claim in first].count("backfill") == 2
    assert [stage.kit.run(claim.run_id).trigger for claim in first].count("schedule") == 1
    assert stage.claim(limit=10) == []


def test_a_backfill_of_nothing_says_so(stage: Stage) -> None:
    stage.job(every="1h")
    with pytest.raises(BadInput, match="no past slot"):
        stage.kit.backfill("sales", at("09:00"), at("10:00"))


def test_many_runs_are_made_at_once_each_with_its_parameters(stage: Stage) -> None:
    stage.job(params={"region": "north"}, overlap="allow")
    made = stage.kit.submit_many("sales", [{"day": day} for day in range(1200)])
    assert len(made) == 1200
    assert made == sorted(made)
    params = [run.params for run in stage.runs()]
    assert params == [{"region": "north", "day": day} for day in range(1200)]


def test_of_many_runs_none_is_made_when_one_cannot_be(stage: Stage) -> None:
    stage.job()
    with pytest.raises(BadInput):
        stage.kit.submit_many("sales", [{"day": 1}, {"day": object()}])
    assert stage.runs() == []
