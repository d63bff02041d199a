"""Law 1: each due slot yields exactly one run, or a row that says why not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobkit import scheduler
from jobkit.states import CAUGHT_UP
from jobkit.store.dispatch import BATCH
from tests.stage import Stage, at


def test_a_due_slot_becomes_one_run(stage: Stage) -> None:
    stage.job(daily="06:30")
    assert stage.tick(at("06:29:59")).dispatched == ()
    assert len(stage.tick(at("06:30")).dispatched) == 1
    (run,) = stage.runs()
    assert (run.status, run.trigger) == ("PENDING", "schedule")
    assert (run.scheduled_for, run.created_at, run.job_version) == (at("06:30"), at("06:30"), 1)


def test_a_second_tick_makes_no_second_run(stage: Stage) -> None:
    stage.job(daily="06:30")
    stage.tick(at("06:30"))
    assert stage.tick(at("06:31")).dispatched == ()
    assert stage.states() == ["PENDING"]


def test_a_repeat_after_an_ambiguous_commit_finds_its_slot_taken(stage: Stage) -> None:
    job = stage.job(daily="06:30")
    stage.tick(at("06:30"))
    before = {"slots_until": at("06:00"), "next_run": at("06:30")}
    with stage.kit.database.write() as connection:
        jobs = scheduler.dispatch.jobs
        connection.execute(jobs.update().where(jobs.c.id == job.id).values(before))
    stage.tick(at("06:30"))
    assert stage.states() == ["PENDING"]


def test_the_next_slot_counts_from_the_last_slot_and_not_from_the_clock(stage: Stage) -> None:
    stage.job(every="15m")
    stage.tick(at("06:15:07"))
    stage.tick(at("06:31:59"))
    assert [run.scheduled_for for run in stage.runs()] == [at("06:15"), at("06:30")]
    assert stage.kit.job("sales").next_run == at("06:45")


def test_a_tick_says_when_to_come_again(stage: Stage) -> None:
    stage.job(daily="06:30")
    done = stage.tick(at("06:00:01"))
    assert (done.again, done.next_at) == (False, at("06:30"))


def test_more_jobs_than_a_batch_ask_for_another_tick(stage: Stage) -> None:
    for number in range(2 * BATCH + 20):
        stage.job(f"job {number:03d}", daily="06:30")
    first = stage.tick(at("06:30"))
    assert (len(first.dispatched), first.again) == (BATCH, True)
    assert len(stage.tick().dispatched) == BATCH
    assert len(stage.tick().dispatched) == 20
    assert stage.tick().dispatched == ()


# Missed slots


def test_latest_runs_the_newest_slot_and_marks_the_older_ones_missed(stage: Stage) -> None:
    stage.job(every="10m", misfire="latest")
    stage.tick(at("06:35"))
    assert [(run.scheduled_for, run.status) for run in stage.runs()] == [
        (at("06:10"), "MISSED"),
        (at("06:20"), "MISSED"),
        (at("06:30"), "PENDING"),
    ]
    assert stage.runs()[0].reason == "passed while nobody looked"


def test_all_runs_each_missed_slot_oldest_first(stage: Stage) -> None:
    stage.job(every="10m", misfire="all")
    stage.tick(at("06:35"))
    runs = stage.runs()
    assert [run.status for run in runs] == ["PENDING"] * 3
    assert [run.reason for run in runs] == [CAUGHT_UP, CAUGHT_UP, None]
    for slot in ("06:10", "06:20", "06:30"):
        claim = stage.claim_one()
        assert claim.scheduled_for == at(slot)
        stage.finish(claim)


def test_all_runs_at_most_100_slots_a_tick(stage: Stage) -> None:
    stage.job(every="1m", misfire="all")
    first = stage.tick(at("08:30"))
    assert (len(first.dispatched), first.again) == (100, True)
    assert len(stage.tick().dispatched) == 50
    assert [run.scheduled_for for run in stage.runs()] == [
        at("06:00") + timedelta(minutes=minute) for minute in range(1, 151)
    ]


def test_all_goes_on_catching_up_while_a_caught_up_run_is_in_progress(stage: Stage) -> None:
    stage.job(every="1m", misfire="all")
    stage.tick(at("08:30"))
    stage.claim_one()
    stage.tick()
    assert stage.states().count("SKIPPED") == 1  # the slot of now, which overlaps
    assert stage.states().count("PENDING") == 148


def test_skip_runs_only_a_slot_younger_than_the_poll_interval_and_a_minute(stage: Stage) -> None:
    stage.job(every="10m", misfire="skip")
    stage.tick(at("06:21:10"))
    assert stage.states() == ["MISSED", "PENDING"]
    stage.tick(at("06:31:11"))
    assert stage.states() == ["MISSED", "PENDING", "MISSED"]


def test_slots_older_than_the_window_are_missed_even_under_all(stage: Stage) -> None:
    stage.job(every="10m", misfire="all", misfire_window="20m")
    stage.tick(at("06:40"))
    assert stage.states() == ["MISSED", "PENDING", "PENDING", "PENDING"]


def test_a_gap_of_years_writes_a_thousand_rows_and_one_that_counts_the_rest(stage: Stage) -> None:
    stage.job(every="1s", misfire="latest")
    years_later = at("06:00") + timedelta(days=3653)
    stage.tick(years_later)
    runs = stage.runs()
    assert [run.status for run in runs].count("MISSED") == 1001
    assert [run.status for run in runs].count("PENDING") == 1
    (rest,) = [run for run in runs if run.reason and "slots from" in run.reason]
    assert rest.reason is not None
    assert rest.reason.startswith(f"{3653 * 86400 - 1001} slots from 2026-03-02T06:00:01")
    assert stage.kit.job("sales").next_run == years_later + timedelta(seconds=1)


# Overlap


def test_skip_names_the_unfinished_run(stage: Stage) -> None:
    stage.job(every="10m", overlap="skip")
    stage.tick(at("06:10"))
    stage.claim_one()
    stage.tick(at("06:20"))
    first, second = stage.runs()
    assert (second.status, second.reason) == ("SKIPPED", f"run {first.id} is unfinished")


def test_a_run_that_waits_for_its_retry_is_unfinished(stage: Stage) -> None:
    stage.job(every="10m", overlap="skip", retry_delay="1h")
    stage.tick(at("06:10"))
    stage.finish(stage.claim_one(), exit_code=1)
    stage.tick(at("06:20"))
    assert stage.states() == ["PENDING", "SKIPPED"]


def test_queue_lets_one_wait(stage: Stage) -> None:
    stage.job(every="10m", overlap="queue")
    for slot in ("06:10", "06:20", "06:30"):
        stage.tick(at(slot))
        stage.claim()
    assert stage.states() == ["IN_PROGRESS", "PENDING", "SKIPPED"]


def test_queue_all_lets_all_wait_in_order(stage: Stage) -> None:
    stage.job(every="10m", overlap="queue_all")
    stage.tick(at("06:10"))
    running = stage.claim_one()
    for slot in ("06:20", "06:30", "06:40"):
        stage.tick(at(slot))
    assert stage.claim(limit=5) == []
    stage.finish(running)
    (claimed,) = stage.claim(limit=5)
    assert claimed.scheduled_for == at("06:20")


def test_replace_cancels_what_runs_and_the_new_run_waits_for_its_end(stage: Stage) -> None:
    stage.job(every="10m", overlap="replace")
    stage.tick(at("06:10"))
    running = stage.claim_one()
    stage.register()
    stage.tick(at("06:20"))
    assert stage.renew("w1", running).cancelled == {(running.run_id, 1)}
    assert stage.claim() == []
    stage.finish(running, "cancel", None)
    assert stage.claim_one().scheduled_for == at("06:20")
    assert stage.states() == ["CANCELLED", "IN_PROGRESS"]


def test_replace_cancels_what_still_waits(stage: Stage) -> None:
    stage.job(every="10m", overlap="replace")
    stage.tick(at("06:10"))
    stage.tick(at("06:20"))
    first, second = stage.runs()
    assert (first.status, first.reason) == ("CANCELLED", f"replaced by run {second.id}")


def test_allow_runs_side_by_side(stage: Stage) -> None:
    stage.job(every="10m", overlap="allow")
    stage.tick(at("06:10"))
    stage.tick(at("06:20"))
    assert len(stage.claim(limit=5)) == 2


@pytest.mark.parametrize("overlap", ["skip", "queue", "queue_all", "replace"])
def test_a_manual_run_is_never_skipped_and_waits_its_turn(stage: Stage, overlap: str) -> None:
    stage.job(every="10m", overlap=overlap)
    stage.tick(at("06:10"))
    running = stage.claim_one()
    manual = stage.kit.submit("sales")
    assert stage.claim() == []
    stage.finish(running)
    assert stage.claim_one().run_id == manual.id


# Pause and edit


def test_a_pause_fires_nothing_into_the_past(stage: Stage) -> None:
    stage.job(every="10m")
    stage.kit.pause("sales")
    stage.tick(at("06:35"))
    stage.kit.resume("sales")
    stage.tick(at("06:36"))
    assert stage.states() == []
    stage.tick(at("06:40"))
    assert [run.scheduled_for for run in stage.runs()] == [at("06:40")]


def test_resuming_with_catch_up_applies_the_misfire_policy(stage: Stage) -> None:
    stage.job(every="10m")
    stage.kit.pause("sales")
    stage.tick(at("06:35"))
    stage.kit.resume("sales", catch_up=True)
    stage.tick(at("06:36"))
    assert stage.states() == ["MISSED", "MISSED", "PENDING"]


def test_an_edited_schedule_starts_from_the_edit(stage: Stage) -> None:
    stage.job(every="10m")
    stage.clock.turn_to(at("06:35"))
    stage.kit.edit("sales", daily="06:20")
    stage.tick(at("06:36"))
    assert stage.states() == []
    assert stage.kit.job("sales").next_run == at("06:20", day=3)


def test_a_deleted_job_yields_nothing_and_its_waiting_runs_end(stage: Stage) -> None:
    stage.job(every="10m")
    stage.tick(at("06:10"))
    (run,) = stage.runs()
    stage.kit.delete("sales")
    assert stage.tick(at("06:20")).dispatched == ()
    assert stage.kit.run(run.id).status == "CANCELLED"


def test_a_once_job_runs_once(stage: Stage) -> None:
    stage.job(at=at("06:30"))
    stage.tick(at("06:30"))
    stage.tick(at("06:30", day=3))
    assert [run.scheduled_for for run in stage.runs()] == [at("06:30")]
    assert stage.kit.job("sales").next_run is None


# Start deadlines


def test_a_run_that_no_worker_started_in_time_is_missed(stage: Stage) -> None:
    stage.job(every="1h", start_deadline="5m")
    stage.tick(at("07:00"))
    stage.clock.turn_to(at("07:05:01"))
    assert stage.claim() == []
    assert stage.tick().expired == 1
    (run,) = stage.runs()
    assert (run.status, run.reason) == ("MISSED", "no worker in time")


def test_a_retry_is_not_bound_by_the_start_deadline(stage: Stage) -> None:
    stage.job(every="1h", start_deadline="5m", retry_delay="10m")
    stage.tick(at("07:00"))
    stage.finish(stage.claim_one(), exit_code=1)
    stage.tick(at("07:15"))
    assert stage.claim_one().attempt == 2
