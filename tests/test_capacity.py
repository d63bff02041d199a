"""What other workers, schedules and durations would do to the waits of recorded runs."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from jobkit.analytics.adjustment import Change, changed
from jobkit.analytics.capacity import Study, Team
from jobkit.analytics.queueing import ALONE
from jobkit.analytics.workload import AttemptColumns, Rule, RunColumns, Workload, workload
from jobkit.errors import BadInput
from jobkit.models import jobs
from jobkit.store import workers
from tests.stage import MONDAY, Stage
from tests.test_queueing import Lived, erlang_p95

HOUR = 3600.0


def load(
    rows: list[tuple[str, float, float]], rules: dict[str, Rule] | None = None, hours: float = 24
) -> Workload:
    """A workload of slots: job, instant and seconds of each."""
    rows = sorted(rows, key=lambda row: row[1])
    count = len(rows)
    at = [row[1] for row in rows]
    columns = RunColumns(
        list(range(count)), [row[0] for row in rows], ["COMPLETED"] * count,
        ["schedule"] * count, at, list(at), ["default"] * count, [0] * count, [None] * count,
        [None] * count,
    )  # fmt: skip
    ended = AttemptColumns(list(range(count)), at, at, [row[1] + row[2] for row in rows])
    return workload(MONDAY, hours * HOUR, columns, ended, rules or {})


def crowd() -> Workload:
    """Four jobs on the hour of ten minutes each, and a fifth a long way off."""
    rows = [(f"job {job}", hour * HOUR, 600.0) for job in range(4) for hour in range(24)]
    return load([*rows, *(("alone", hour * HOUR + 2400, 600.0) for hour in range(24))])


def study(of: Workload, workers: int = 1, slots: int = 2, **more: Any) -> Study:
    return Study(of, [Team(workers, slots, ())], **more)


def test_before_and_after_tell_waits_lateness_overlaps_and_utilisation() -> None:
    found = study(crowd()).simulate(workers=2)
    assert (found.before.wait_p95, found.after.wait_p95) == (600, 0)
    assert (found.before.late, found.after.late) == (48, 0)
    assert (found.before.slots, found.after.slots) == (2, 4)
    assert found.before.utilisation == pytest.approx(5 * 10 / 60 / 2)
    assert str(found.before) == (
        "wait p50 0 s, p95 10 min, p99 10 min; 48 of 120 late, 0 skipped, 0 waited for their own "
        "job, 0 missed; 2 slots 42% busy"
    )


def test_a_simulation_has_a_table_a_chart_and_a_notebook_s_picture() -> None:
    found = study(crowd(), observed_p95=590.0).simulate(workers=2)
    row = found.df.row(by_predicate=pl.col("job") == "job 3", named=True)
    assert (row["wait_p95_before"], row["wait_p95_after"], row["runs_before"]) == (600, 0, 24)
    assert found.totals.filter(figure="late").row(0) == ("late", 48, 0)
    assert len(found.chart.rows) == 24
    assert "<svg" in found._repr_html_()
    assert "recorded: wait p95 9 min 50 s" in repr(found)


def test_a_shift_takes_a_job_out_of_the_crowd() -> None:
    found = study(crowd(), slots=3).simulate(change={"job 3": {"shift": "12m"}})
    assert (found.before.wait_p95, found.after.wait_p95) == (600, 0)
    early = study(crowd(), slots=3).simulate(change={"job 3": {"shift": "-10m"}})
    assert early.after.late == 0


def test_a_longer_job_overlaps_itself() -> None:
    found = study(crowd(), slots=8).simulate(change={"job 0": {"duration_factor": 7}})
    assert (found.before.skipped, found.after.skipped) == (0, 12)
    waits = study(crowd(), slots=8).simulate(
        change={"job 0": {"duration_factor": 7, "overlap": "queue_all"}}
    )
    assert waits.after.queued_behind == 23
    beside = study(crowd(), slots=8).simulate(
        change={"job 0": {"duration": "70m", "overlap": "allow"}}
    )
    assert (beside.after.skipped, beside.after.queued_behind, beside.after.late) == (0, 0, 0)


def test_a_schedule_is_replaced_and_a_job_is_added_or_left_out() -> None:
    base = study(crowd(), slots=8)
    twice = base.simulate(change={"job 0": {"cron": "0,30 * * * *"}})
    assert twice.after.runs == twice.before.runs + 24
    added = base.simulate(change={"new": {"every": "15m", "duration": "1m"}})
    assert added.after.runs == added.before.runs + 96
    gone = base.simulate(change={"job 0": {"off": True}})
    assert gone.after.runs == gone.before.runs - 24
    assert base.simulate().after == base.baseline.figures


def test_a_queue_and_a_priority_decide_who_waits() -> None:
    base = Study(crowd(), [Team(1, 3, ("default",)), Team(1, 1, ("spare",))])
    assert base.simulate(change={"job 0": {"queue": "spare"}}).after.wait_max == 0
    first = base.simulate(change={"job 3": {"priority": 5}})
    row = first.df.row(by_predicate=pl.col("job") == "job 3", named=True)
    assert (row["wait_p95_before"], row["wait_p95_after"]) == (600, 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"nobody": {"shift": "1m"}}, "No run of 'nobody' was recorded"),
        ({"job 0": {"shft": "1m"}}, "'shft' is no change of 'job 0'"),
        ({"job 0": {"overlap": "maybe"}}, "overlap='maybe' of 'job 0' is not known"),
        ({"job 0": {"shift": "soon"}}, "'soon' is not a duration"),
        ({"job 0": {"cron": "61 * * * *"}}, "61"),
        ({"job 0": {"duration_factor": -1}}, "out of bounds"),
    ],
)
def test_a_change_that_cannot_be_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        study(crowd()).simulate(change=change)


def test_workers_and_slots_are_numbers_of_at_least_one() -> None:
    with pytest.raises(BadInput, match="workers=0 is out of bounds"):
        study(crowd()).simulate(workers=0)


def test_needed_workers_are_the_fewest_that_keep_the_wait() -> None:
    needed = study(crowd(), slots=1).needed_workers("30s")
    assert needed == 4
    assert needed.tried[3].wait_p95 > 30 >= needed.tried[4].wait_p95
    assert needed.df["workers"].to_list() == sorted(needed.tried)
    assert study(crowd()).needed_workers("30s", slots=2) == 2
    assert study(crowd(), slots=1).needed_workers("10m", slots=1) == 2


def test_no_number_of_workers_helps_runs_that_wait_for_their_own_job() -> None:
    rows = [("slow", hour * HOUR, 2 * HOUR) for hour in range(24)]
    with pytest.raises(BadInput, match="for earlier runs of their own job"):
        study(load(rows, {"slow": Rule("queue_all")})).needed_workers("1m")


def test_a_move_out_of_the_crowd_is_suggested_with_what_it_does() -> None:
    found = study(crowd(), slots=3).suggest()
    best = found[0]
    assert best.job.startswith("job ")
    assert (best.measure, best.before, best.after) == ("p95", 600, 0)
    assert str(best) == f"move {best.job} by 11 minutes: p95 wait 10 min to 0 s"
    assert found.df["job"][0] == best.job
    again = study(crowd(), slots=3).simulate(change={best.job: {"shift": best.shift}})
    assert again.after == best.figures


def test_where_nobody_waits_nothing_is_suggested() -> None:
    found = study(crowd(), slots=8).suggest()
    assert not len(found)
    assert repr(found).startswith("Nothing to move: wait p50 0 s")


def test_a_change_leaves_the_recorded_workload_as_it_was() -> None:
    recorded = crowd()
    before = list(recorded.arrivals.at), list(recorded.arrivals.seconds)
    changed(recorded, {"job 0": Change(shift=60, duration_factor=2, overlap="allow")})
    assert (recorded.arrivals.at, recorded.arrivals.seconds) == before


def test_what_never_started_is_given_the_median_of_its_job() -> None:
    columns = RunColumns(
        [1, 2, 3, 4, 5], ["a"] * 4 + ["b"],
        ["COMPLETED", "SKIPPED", "MISSED", "CANCELLED", "SKIPPED"], ["schedule"] * 5,
        [0.0, 60.0, 120.0, 180.0, 240.0], [0.0, 60.0, 120.0, 180.0, 240.0], ["default"] * 5,
        [0] * 5, [None, "run 1 is unfinished", "passed while nobody looked", None, None],
        [None] * 5,
    )  # fmt: skip
    found = workload(MONDAY, HOUR, columns, AttemptColumns([1], [0.0], [0.0], [50.0]), {})
    assert found.arrivals.seconds == [50.0, 50.0]
    assert found.left_out == {
        "passed while nobody looked": 1,
        "cancelled before they started": 1,
        "of jobs of which nothing ever started": 1,
    }


def test_a_backfill_of_a_job_that_may_overlap_runs_one_after_the_other() -> None:
    columns = RunColumns(
        [1, 2, 3], ["a"] * 3, ["COMPLETED"] * 3, ["backfill", "backfill", "manual"], [0.0] * 3,
        [None] * 3, ["default"] * 3, [-100, -100, 0], [None] * 3, ["b1", "b1", None],
    )  # fmt: skip
    ended = AttemptColumns([1, 2, 3], [0.0] * 3, [0.0] * 3, [10.0] * 3)
    found = workload(MONDAY, HOUR, columns, ended, {"a": Rule("allow")})
    assert found.arrivals.lane == [0, 0, ALONE]


def test_predicted_and_known_waits_agree_on_a_generated_workload() -> None:
    """A month of 40 jobs that people start at random, ten minutes on average: M/M/c."""
    dice, rows, now = random.Random(5), [], 0.0
    while now < 30 * 24 * HOUR:
        now += dice.expovariate(1 / 40)
        rows.append((f"job {dice.randrange(40)}", now, dice.expovariate(1 / 600)))
    rules = {f"job {number}": Rule("allow") for number in range(40)}
    found = study(load(rows, rules, hours=30 * 24), workers=1, slots=40)
    for count in (17, 18):
        predicted = found.simulate(workers=count, slots=1).after
        assert predicted.wait_p95 == pytest.approx(erlang_p95(1 / 40, 600, count), rel=0.15)
        assert predicted.utilisation == pytest.approx(15 / count, rel=0.03)


# From a log


@pytest.fixture
def lived(stage: Stage) -> Stage:
    """Six hours of real dispatching and claiming by one worker of three slots."""
    for number, policy in enumerate(("skip", "queue", "queue_all", "allow", "skip", "queue")):
        deadline = "4m" if number == 4 else None
        stage.job(
            f"job {number}", every=f"{3 + 2 * number}m", overlap=policy, priority=number % 3,
            queue="etl" if number % 2 else "default", retries=2, start_deadline=deadline,
        )  # fmt: skip
    row = {
        "worker_id": "w1", "hostname": "laptop", "platform": "Linux", "process_id": 1,
        "queues": "etl,default", "slots": 3, "version": "0",
    }  # fmt: skip
    with stage.kit.database.write() as connection:
        workers.register(connection, MONDAY, row)
    Lived(stage, 1, 3).live(hours=6)
    return stage


def test_predicted_and_observed_waits_agree(lived: Stage) -> None:
    log = lived.kit.log((MONDAY, lived.clock.now() + timedelta(seconds=1)))
    found = log.simulate()
    assert found.before == found.after
    assert found.before.slots == 3
    assert found.observed_p95 is not None
    assert found.observed_p95 > 60
    assert found.before.wait_p95 == pytest.approx(found.observed_p95, rel=0.02)
    statuses = [run.status for run in lived.kit.runs(limit=5000)]
    assert found.before.skipped == statuses.count("SKIPPED")
    assert found.before.missed == statuses.count("MISSED")


def test_a_log_answers_what_if(lived: Stage) -> None:
    log = lived.kit.log((MONDAY, lived.clock.now() + timedelta(seconds=1)))
    more = log.simulate(workers=4, slots=3)
    assert more.after.wait_p95 < more.before.wait_p95
    assert "log.simulate(workers=4, slots=3)" in more.cell
    needed = log.needed_workers("10m", slots=1)
    assert log.simulate(workers=needed, slots=1).after.wait_p95 <= 600
    assert len(log.suggest(n=2)) <= 2


def test_a_window_without_runs_is_said(stage: Stage) -> None:
    stage.job()
    with pytest.raises(BadInput, match="No run was made in"):
        stage.kit.log("1d").simulate()


def test_without_a_worker_online_there_are_as_many_slots_as_were_used(lived: Stage) -> None:
    with lived.kit.database.write() as connection:
        connection.execute(sa.text("UPDATE worker_registration SET status = 'OFFLINE'"))
        assert connection.scalar(sa.select(sa.func.count()).select_from(jobs)) == 6
    log = lived.kit.log((MONDAY, lived.clock.now() + timedelta(seconds=1)))
    assert log.simulate().before.slots == 3
