"""Coverage: each slot that should have been has one mark, and filling leaves no hole."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobkit.analytics.coverage import Coverage
from jobkit.analytics.marks import Figure
from jobkit.errors import BadInput, NotFound
from jobkit.store import claims, history
from tests.stage import MONDAY, Stage, at

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)


def covered(stage: Stage, start: datetime = MONDAY, **more: Any) -> Coverage:
    """Judge all slots until now."""
    return stage.kit.log((start, stage.clock.now())).coverage(**more)


def marks(found: Coverage, job: str = "sales") -> dict[str, str]:
    """Return the marks of a job's slots by the time of day."""
    rows = found.df.filter(found.df["job"] == job).iter_rows(named=True)
    return {f"{row['slot']:%H:%M}": row["mark"] for row in rows}


def reasons(found: Coverage, job: str) -> dict[str, str | None]:
    rows = found.df.filter(found.df["job"] == job).iter_rows(named=True)
    return {f"{row['slot']:%H:%M}": row["reason"] for row in rows}


def live(stage: Stage, until: datetime, step: timedelta = timedelta(minutes=10)) -> None:
    """Let a scheduler tick and a worker finish all there is, step by step."""
    while stage.clock.now() < until:
        stage.clock.turn(step)
        stage.tick()
        work(stage)


def work(stage: Stage, exit_code: int = 0) -> None:
    while found := stage.claim(limit=50):
        for claim in found:
            stage.finish(claim, exit_code=exit_code)


# Marks


def test_a_slot_is_on_time_late_retried_failed_running_or_waiting(stage: Stage) -> None:
    stage.job(every="10m", overlap="queue_all", retries=1, retry_delay="1s")
    stage.tick(at("06:10"))
    stage.finish(stage.claim_one())
    stage.tick(at("06:20"))
    stage.clock.turn(timedelta(minutes=2))
    stage.finish(stage.claim_one())
    stage.tick(at("06:30"))
    for exit_code in (1, 0):
        stage.finish(stage.claim_one(), exit_code=exit_code)
        stage.clock.turn(timedelta(seconds=5))
    stage.tick(at("06:40"))
    for _ in range(2):
        stage.finish(stage.claim_one(), exit_code=1)
        stage.clock.turn(timedelta(seconds=5))
    stage.tick(at("06:50"))
    stage.claim_one()
    stage.tick(at("07:00"))
    stage.clock.turn(MINUTE)
    found = covered(stage)
    assert marks(found) == {
        "06:10": "on time",
        "06:20": "late",
        "06:30": "retried",
        "06:40": "failed",
        "06:50": "running",
        "07:00": "waiting",
    }
    assert found.df["late_seconds"].to_list() == [0, 120, 5, None, None, None]
    assert found.df["run_id"].to_list() == [1, 2, 3, 4, 5, 6]
    assert reasons(found, "sales")["06:40"] == "exit code 1"
    assert found.total.words == "75 % of 4 slots, 1 late, 1 retried, 1 failed, 1 running, 1 waiting"
    assert marks(covered(stage, late=timedelta(minutes=3)))["06:20"] == "on time"


def test_a_slot_is_skipped_or_cancelled_with_the_reason(stage: Stage) -> None:
    stage.job(every="10m", overlap="skip")
    stage.tick(at("06:10"))
    running = stage.claim_one()
    stage.tick(at("06:20"))
    stage.finish(running)
    stage.tick(at("06:30"))
    stage.runs()[-1].cancel()
    stage.clock.turn(MINUTE)
    found = covered(stage)
    assert marks(found) == {"06:10": "on time", "06:20": "skipped", "06:30": "cancelled"}
    assert reasons(found, "sales")["06:20"] == "run 1 is unfinished"
    assert found.holes() == {}
    assert sum(map(len, found.holes(["skipped", "cancelled"]).values())) == 2


def test_a_run_that_no_worker_started_in_time_is_missed(stage: Stage) -> None:
    stage.job(every="1h", start_deadline="5m")
    stage.tick(at("07:00"))
    with stage.kit.database.write() as connection:
        claims.expire(connection, at("07:06"))
    stage.clock.turn_to(at("07:30"))
    assert reasons(covered(stage), "sales") == {"07:00": "no worker in time"}


def test_a_slot_nobody_looked_at_is_due_and_then_never_dispatched(stage: Stage) -> None:
    stage.job(every="1h")
    stage.clock.turn_to(at("07:00:30"))
    assert marks(covered(stage)) == {"07:00": "waiting"}
    assert reasons(covered(stage), "sales") == {"07:00": "due now"}
    stage.clock.turn_to(at("07:02"))
    assert marks(covered(stage)) == {"07:00": "never dispatched"}
    assert reasons(covered(stage), "sales") == {"07:00": "no scheduler has looked"}


def test_what_a_scheduler_may_still_run_is_not_filled(stage: Stage) -> None:
    stage.job(every="1h", misfire="all")
    stage.clock.turn_to(at("09:30"))
    found = covered(stage)
    assert found.total.words == "0 % of 3 slots, 3 never dispatched"
    assert found.holes() == {}
    filled = stage.kit.fill({1: [at("07:00"), at("08:00")]})
    assert filled.left_out == {"sales": "2 slots that no scheduler has looked at"}
    assert len(filled) == 0
    stage.tick()
    work(stage)
    assert [run.status for run in stage.runs()] == ["COMPLETED"] * 3


# The scheduler stands still for three hours


POLICIES = ("latest", "all", "skip")


@pytest.fixture
def outage(stage: Stage) -> Stage:
    """Jobs of each misfire policy at every half hour; no scheduler from 07:00 to 10:10."""
    for policy in POLICIES:
        stage.job(policy, cron="*/30 * * * *", misfire=policy, overlap="allow")
    live(stage, at("07:00"))
    stage.tick(at("10:10"))
    work(stage)
    live(stage, at("11:00"))
    stage.clock.turn(MINUTE)
    return stage


def test_an_outage_leaves_each_slot_its_mark_and_reason(outage: Stage) -> None:
    found = covered(outage)
    gap = ["07:30", "08:00", "08:30", "09:00", "09:30", "10:00"]
    around = {"06:30": "on time", "07:00": "on time", "10:30": "on time", "11:00": "on time"}
    lost = dict.fromkeys(gap, "missed")
    assert marks(found, "latest") == around | lost | {"10:00": "late"}
    assert marks(found, "all") == around | dict.fromkeys(gap, "late")
    assert marks(found, "skip") == around | lost
    why = "passed while nobody looked"
    assert {reasons(found, "skip")[slot] for slot in gap} == {why}
    assert reasons(found, "all")["07:30"] == "caught up"
    assert {figure.job: figure.words for figure in found.figures} == {
        "all": "100 % of 10 slots, 6 late",
        "latest": "50 % of 10 slots, 1 late, 5 missed",
        "skip": "40 % of 10 slots, 6 missed",
    }


def test_filling_an_outage_leaves_no_hole_and_no_double(outage: Stage) -> None:
    found = covered(outage)
    would = found.fill(dry_run=True)
    assert (len(would), would.runs) == (11, ())
    assert outage.kit.queue() == []
    made = found.fill()
    assert (len(made), len(made.runs)) == (11, 11)
    assert made.slots == would.slots
    assert len(found.fill()) == 0  # the same object again, while they wait
    assert len(covered(outage).fill()) == 0
    assert Counter(covered(outage).df["mark"])["waiting"] == 11
    work(outage)
    outage.clock.turn(MINUTE)
    after = covered(outage)
    assert after.holes() == {}
    assert Counter(after.df["mark"])["filled"] == 11
    assert len(after.fill()) == 0
    assert after.total.words == "100 % of 30 slots, 7 late, 11 filled"
    taken = Counter((run.job_name, run.scheduled_for) for run in outage.kit.runs(limit=500)
                    if run.status == "COMPLETED")  # fmt: skip
    assert set(taken.values()) == {1}
    assert len(taken) == 30


def test_what_was_filled_and_failed_is_a_hole_again(outage: Stage) -> None:
    outage.kit.edit("skip", retries=0)
    covered(outage, job="skip").fill()
    while claimed := outage.claim(limit=50):
        for claim in claimed:
            outage.finish(claim, exit_code=int(claim.scheduled_for == at("08:00")))
    outage.clock.turn(MINUTE)
    found = covered(outage, job="skip")
    assert marks(found, "skip")["08:00"] == "failed"
    assert found.holes() == {3: [at("08:00")]}
    assert len(found.fill()) == 1


def test_many_who_fill_at_once_make_each_run_once(outage: Stage) -> None:
    found = covered(outage)
    start = threading.Barrier(6)

    def fill() -> int:
        start.wait()
        return len(found.fill())

    with ThreadPoolExecutor(6) as pool:
        made = [future.result() for future in [pool.submit(fill) for _ in range(6)]]
    assert sum(made) == 11
    slots = [(run.job_name, run.scheduled_for) for run in outage.kit.queue()]
    assert len(slots) == len(set(slots)) == 11


def test_a_repeated_run_covers_its_slot(stage: Stage) -> None:
    stage.job(every="10m", retries=0)
    stage.tick(at("06:10"))
    stage.finish(stage.claim_one(), exit_code=1)
    stage.runs()[0].retry()
    stage.clock.turn(MINUTE)
    assert marks(covered(stage)) == {"06:10": "waiting"}
    stage.finish(stage.claim_one())
    found = covered(stage)
    assert marks(found) == {"06:10": "filled"}
    assert found.df.row(0, named=True)["run_id"] == 2


def test_more_than_a_thousand_missed_slots_are_each_a_cell(stage: Stage) -> None:
    stage.job(every="1m", misfire="latest")
    stage.tick(MONDAY + timedelta(days=2))
    found = covered(stage)
    assert len(stage.runs()) == 1002
    counts = Counter(found.df["mark"])
    assert counts == {"missed": 2 * 1440 - 1}
    summed = found.df.row(0, named=True)
    assert summed["reason"].startswith("1879 slots from 2026-03-02T06:01:00")
    assert summed["run_id"] == 1
    later = stage.kit.log((at("12:00"), at("13:00"))).coverage()
    assert Counter(later.df["mark"]) == {"missed": 60}


# Versions


def test_edits_pauses_and_deletions_change_what_is_due(stage: Stage) -> None:
    stage.job(every="10m")
    live(stage, at("06:30"))
    stage.clock.turn(timedelta(minutes=5))
    stage.kit.edit("sales", cron="0,30 * * * *")
    stage.kit.edit("sales", retries=1)
    live(stage, at("07:35"))
    stage.kit.pause("sales")
    live(stage, at("08:35"))
    stage.kit.resume("sales")
    live(stage, at("09:05"))
    stage.kit.delete("sales")
    live(stage, at("10:05"))
    found = covered(stage)
    assert list(marks(found)) == ["06:10", "06:20", "06:30", "07:00", "07:30", "09:00"]
    assert Counter(found.df["mark"])["on time"] + Counter(found.df["mark"])["late"] == 6
    assert found.holes() == {}


def test_a_slot_that_an_edit_overtook_was_never_dispatched(stage: Stage) -> None:
    stage.job(every="10m")
    stage.clock.turn_to(at("06:15"))
    stage.kit.edit("sales", every="1h")
    stage.tick(at("08:00"))
    found = covered(stage)
    assert marks(found)["06:10"] == "never dispatched"
    assert reasons(found, "sales")["06:10"] == "the job was changed before a scheduler looked"


def test_slots_of_a_pause_that_is_caught_up_are_cells(stage: Stage) -> None:
    stage.job(every="10m", misfire="all")
    stage.kit.pause("sales")
    stage.clock.turn_to(at("06:45"))
    assert len(covered(stage)) == 0
    stage.kit.resume("sales", catch_up=True)
    stage.tick()
    work(stage)
    assert marks(covered(stage)) == dict.fromkeys(["06:10", "06:20", "06:30", "06:40"], "late")


def test_holes_of_a_deleted_job_are_left_out_and_said(stage: Stage) -> None:
    stage.job(every="1h")
    stage.clock.turn_to(at("08:30"))
    stage.kit.delete("sales")
    filled = covered(stage).fill()
    assert filled.left_out == {"job 1": "it was deleted"}
    assert (len(filled), filled.runs) == (0, ())


def test_a_job_made_again_under_its_name_is_another(stage: Stage) -> None:
    stage.job(every="1h")
    live(stage, at("08:00"))
    stage.kit.delete("sales")
    stage.job(every="1h")
    live(stage, at("10:00"))
    stage.clock.turn(MINUTE)
    found = covered(stage)
    assert [(figure.job_id, figure.slots) for figure in found.figures] == [(1, 2), (2, 2)]


def test_days_on_which_the_clocks_change_have_the_slots_of_their_schedule(
    database: str,
) -> None:
    from tests.stage import set_stage

    stage = set_stage(database, datetime(2026, 3, 28, 12, tzinfo=UTC))
    stage.job("night", daily="02:30", tz="Europe/Berlin")
    stage.job("hours", hourly=0, tz="Europe/Berlin")
    start = stage.clock.now()
    live(stage, datetime(2026, 3, 30, 12, tzinfo=UTC), timedelta(minutes=30))
    stage.clock.turn(MINUTE)
    found = covered(stage, start)
    assert set(found.df["mark"]) == {"on time"}
    assert list(marks(found, "night")) == ["01:00", "00:30"]  # 03:00 and 02:30 in Berlin
    assert len(found.df.filter(found.df["job"] == "hours")) == 48
    stage.kit.close()


def test_slots_older_than_what_is_kept_are_forgotten_and_not_counted(
    stage: Stage,
) -> None:
    stage.job(daily="06:30")
    stage.tick(MONDAY + timedelta(days=1))
    work(stage)
    stage.clock.turn(MINUTE)
    with stage.kit.database.write() as connection:
        assert history.clean_up(connection, stage.clock.now(), keep=timedelta(0)).run_ids == (1,)
    stage.tick(MONDAY + timedelta(days=40))
    found = covered(stage)
    assert Counter(found.df["mark"])["forgotten"] == 1
    assert found.figures[0].slots == 38  # and one waits


# Figures and faces


def test_a_figure_rounds_down_and_says_what_is_amiss() -> None:
    assert Figure(1, "a", {"on time": 710, "missed": 10}).words == "98.6 % of 720 slots, 10 missed"
    assert Figure(1, "a", {"on time": 19_999, "late": 1}).words == "100 % of 20000 slots, 1 late"
    assert Figure(1, "a", {"on time": 19_999, "failed": 1}).words.startswith("99.9 % of")
    assert Figure(1, "a", {"running": 1}).words == "no slot yet, 1 running"
    assert Figure(1, "a", {"on time": 1}).words == "100 % of 1 slot"


def test_an_empty_history_has_no_slot(stage: Stage) -> None:
    stage.clock.turn(HOUR)
    found = covered(stage)
    assert (len(found), found.figures, found.holes()) == (0, [], {})
    assert repr(found).startswith("Coverage: no slot yet; ")
    assert "<svg" in found.chart.svg
    assert len(found.fill()) == 0


def test_what_is_wrong_is_named(outage: Stage) -> None:
    with pytest.raises(BadInput, match="'lost' is no mark"):
        covered(outage).holes(["lost"])
    with pytest.raises(NotFound, match="no job named 'nobody'"):
        covered(outage, job="nobody")
    outage.job("often", every="1s", misfire="latest")
    outage.clock.turn_to(at("18:00"))
    outage.tick()
    with pytest.raises(BadInput, match="at most 10000 are filled at once"):
        covered(outage).fill()


def test_the_chart_says_each_job_and_what_is_amiss(outage: Stage) -> None:
    outage.job("<b>", every="1h")
    outage.tick(at("13:00"))
    outage.clock.turn(MINUTE)
    found = covered(outage)
    svg = found.chart.svg
    assert "<b>" not in svg
    assert 'role="img"' in svg
    assert "latest: 38.4 % of 13 slots" in svg
    assert "from 2026-03-02 07:30:00 UTC: 1 missed" in svg
    assert "<b>" not in found._repr_html_().replace("</b>", "")
    assert repr(found).splitlines()[1].startswith("  <b> ")


def test_many_jobs_of_a_month_make_a_small_chart() -> None:
    from jobkit.analytics.strip import Row, Strip, step_for

    month = timedelta(days=30)
    step = step_for(month)
    cells = {cell: {"on time": 5, "missed": int(cell % 3 == 0)} for cell in range(60)}
    rows = tuple(Row(f"job {n}", "words", {c: {m: k for m, k in v.items() if k}
                 for c, v in cells.items()}) for n in range(100))  # fmt: skip
    strip = Strip(MONDAY, MONDAY + month, step, rows)
    assert strip.columns == 60
    assert len(strip.svg) < 600_000
