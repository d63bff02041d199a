"""Alerts on a literal clock: each fires, is told once, is over, and fires again."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobkit.errors import BadInput
from jobkit.models import alerts as alerts_table
from jobkit.store import alerts, notices
from tests.stage import Stage, at
from tests.watching import (
    firing,
    look,
    look_around,
    run_once,
    run_once_by_hand,
    settings_of,
    told,
    watched,
)

__all__ = ["watched"]

MINUTE = timedelta(minutes=1)


def test_a_slot_that_does_not_start_in_time_is_told_once_and_once_more_when_it_starts(
    watched: Stage,
) -> None:
    watched.job(daily="06:30", alerts="late=15m")
    for minute in range(30, 45):
        look(watched, at(f"06:{minute}"))
    assert told(watched) == []
    for minute in range(45, 60):
        look(watched, at(f"06:{minute}"))
    assert told(watched) == ["sales has not started, 15 min after its slot 2026-03-02 06:30:00 UTC"]
    claim = watched.claim_one()
    look(watched, at("07:00"))
    look(watched, at("07:01"))
    assert told(watched)[1:] == ["resolved: sales no slot waits any more, after 15 min"]
    watched.finish(claim)
    look(watched, at("06:50", day=3))
    assert told(watched)[2:] == [
        "sales has not started, 20 min after its slot 2026-03-03 06:30:00 UTC"
    ]


def test_a_slot_that_started_late_while_nobody_looked_is_told_once(watched: Stage) -> None:
    watched.job(daily="06:30", alerts="late=15m")
    watched.tick(at("07:10"))
    claim = watched.claim_one()
    for minute in range(10, 15):
        look(watched, at(f"07:{minute}"))
    watched.finish(claim)
    look(watched, at("07:15"))
    assert told(watched) == ["sales started 40 min after its slot 2026-03-02 06:30:00 UTC"]
    assert firing(watched) == []


def test_a_slot_that_was_missed_is_late_until_one_starts(watched: Stage) -> None:
    watched.job(every="1h", start_deadline="10m", alerts="late=15m", overlap="allow")
    look(watched, at("07:00"))
    look(watched, at("07:11"))
    look(watched, at("07:12"))
    look(watched, at("08:11"))
    (said,) = told(watched)
    assert said.startswith("sales missed its slot 2026-03-02 07:00:00 UTC: no worker in time")
    look(watched, at("09:00"))
    watched.claim_one()
    look(watched, at("09:01"))
    assert told(watched)[1:] == ["resolved: sales no slot waits any more, after 1 h 50 min"]
    assert firing(watched) == []


def test_a_job_that_is_not_done_by_its_time_in_its_zone_is_told_on_days_with_a_slot(
    watched: Stage,
) -> None:
    watched.job(
        cron="30 6 * * 1,2", tz="Europe/Berlin", retries=0, alerts="done-by=07:30"
    )  # 06:30 is 05:30 UTC
    look(watched, at("06:30"))  # no slot since it was made
    look(watched, at("05:30", day=3))
    look(watched, at("06:29", day=3))
    assert told(watched) == []
    look(watched, at("06:30", day=3))
    look(watched, at("06:40", day=3))
    (said,) = told(watched)
    assert said.startswith("sales was not done by 07:30 Europe/Berlin: its slot 2026-03-03 06:30")
    claim = watched.claim_one()
    watched.finish(claim)
    look(watched, at("07:00", day=3))
    assert told(watched)[1:] == ["resolved: sales is done, after 30 min"]
    look(watched, at("08:00", day=4))  # a Wednesday: no slot, nothing to be done
    run_once(watched, at("05:30", day=9))
    look(watched, at("06:31", day=9))
    assert told(watched)[2:] == []
    look(watched, at("05:30", day=10))
    look(watched, at("06:30", day=10))
    assert len(told(watched)) == 3


def test_a_slot_that_failed_and_was_repeated_by_hand_is_done(watched: Stage) -> None:
    watched.job(daily="06:30", retries=0, alerts="done-by=07:30")
    run_once(watched, at("06:30"), exit_code=1)
    (run,) = watched.runs()
    watched.kit.retry(run.id)
    watched.finish(watched.claim_one())
    look(watched, at("07:30"))
    assert told(watched) == []


def test_a_run_that_never_ends_is_told_and_so_is_its_end(watched: Stage) -> None:
    watched.job(alerts=["running=1h"])
    watched.kit.submit("sales")
    claim = watched.claim_one()
    look(watched, at("06:59"))
    assert told(watched) == []
    for hour in range(7, 20):
        look(watched, at(f"{hour:02d}:00"))
    assert told(watched) == ["sales has been running for 1 h, longer than 1 h"]
    watched.finish(claim)
    look(watched)
    assert told(watched)[1:] == ["resolved: sales no longer runs too long, after 12 h"]


def history(stage: Stage, seconds: float = 60.0, count: int = 12) -> None:
    for _ in range(count):
        stage.kit.submit("sales")
        claim = stage.claim_one()
        stage.clock.turn(timedelta(seconds=seconds))
        stage.finish(claim)


def test_how_long_is_too_long_is_learned_from_its_history(watched: Stage) -> None:
    watched.job(alerts={"running": "auto"})
    history(watched)
    longest = watched.kit.job("sales").expectation().long_after
    assert longest is not None
    watched.kit.submit("sales")
    watched.claim_one()
    look(watched, watched.clock.now() + longest - timedelta(seconds=1))
    assert told(watched) == []
    look(watched, watched.clock.now() + timedelta(seconds=2))
    (said,) = told(watched)
    assert "unusually long" in said


def test_a_success_that_was_unusually_short_is_told_until_one_is_as_usual(watched: Stage) -> None:
    watched.job(alerts="short")
    history(watched)
    look(watched)
    for _ in range(2):
        run_once_by_hand(watched, seconds=2)
        look(watched)
        look(watched)
    (said,) = told(watched)
    assert said.startswith("sales succeeded unusually fast in run 13: 2 s")
    run_once_by_hand(watched, seconds=60)
    look(watched)
    assert told(watched)[1:] == ["resolved: sales took as long as usual again, after 1 min 2 s"]


def test_a_job_without_a_success_for_long_is_told_from_when_it_is_watched(watched: Stage) -> None:
    watched.job(retries=0, alerts="no-success=26h")
    look(watched, at("07:00", day=3))
    run_once_by_hand(watched, exit_code=1)
    look(watched, at("07:59", day=3))
    assert told(watched) == []
    look(watched, at("08:00", day=3))
    look(watched, at("12:00", day=3))
    assert told(watched) == [
        "sales has had no success for 1 d 2 h: it is watched since 2026-03-02 06:00:00 UTC"
    ]
    run_once_by_hand(watched)
    look(watched)
    assert told(watched)[1:] == ["resolved: sales has succeeded, after 4 h 1 s"]
    look(watched, at("14:00", day=4))
    assert len(told(watched)) == 2
    look(watched, at("14:01", day=4))
    assert told(watched)[2:] == [
        "sales has had no success for 1 d 2 h: the last one ended 2026-03-03 12:00:01 UTC"
    ]


def test_a_failure_is_told_once_in_an_outage_and_so_is_its_end(watched: Stage) -> None:
    watched.job(retries=0, alerts="failed")
    for _ in range(3):
        run_once_by_hand(watched, exit_code=3)
        look(watched)
        look(watched)
    assert told(watched) == ["sales failed in run 1: exit code 3"]
    run_once_by_hand(watched)
    look(watched)
    look(watched)
    assert told(watched)[1:] == ["resolved: sales has succeeded again, after 3 s"]
    run_once_by_hand(watched, exit_code=3)
    look(watched)
    assert told(watched)[2:] == ["sales failed in run 5: exit code 3"]


def test_a_failure_that_was_over_before_anybody_looked_is_told_all_the_same(
    watched: Stage,
) -> None:
    watched.job(retries=0, alerts="failed")
    run_once_by_hand(watched, exit_code=3)
    run_once_by_hand(watched)
    look(watched)
    look(watched)
    assert told(watched) == ["sales failed in run 1; it has succeeded since: exit code 3"]
    assert firing(watched) == []


def test_recovered_alone_tells_only_the_end(watched: Stage) -> None:
    watched.job(retries=0, alerts="recovered")
    run_once_by_hand(watched, exit_code=3)
    look(watched)
    assert told(watched) == []
    run_once_by_hand(watched)
    look(watched)
    assert told(watched) == ["resolved: sales has succeeded again, after 1 s"]


def test_failures_in_a_row_are_told_when_there_are_so_many(watched: Stage) -> None:
    watched.job(retries=0, alerts="failures=3")
    for count in range(1, 6):
        run_once_by_hand(watched, exit_code=3)
        look(watched)
        assert len(told(watched)) == (count >= 3)
    assert told(watched) == ["sales failed 3 times in a row, last in run 3: exit code 3"]
    run_once_by_hand(watched)
    look(watched)
    assert told(watched)[1:] == ["resolved: sales has succeeded again, after 3 s"]


# Who is told when


def test_a_job_that_is_paused_is_mute_and_its_clocks_begin_anew(watched: Stage) -> None:
    watched.job(every="1h", retries=0, alerts="failed late=5m no-success=2h")
    run_once(watched, at("07:00"), exit_code=1)
    look(watched)
    assert len(told(watched)) == 1
    watched.kit.pause("sales")
    look(watched, at("07:10"))
    assert firing(watched) == []
    run_once_by_hand(watched, exit_code=1)
    look(watched, at("20:00"))
    watched.register("w2")
    watched.kit.resume("sales")
    look(watched, at("21:59:59") - timedelta(hours=1))
    assert len(told(watched)) == 1
    claim = watched.claim("w1")
    assert claim == []
    look(watched, at("21:05"))
    assert [said for said in told(watched)[1:] if "not started" in said]


def test_a_mute_holds_messages_until_it_ends_and_what_is_over_by_then_is_not_told(
    watched: Stage,
) -> None:
    watched.job(retries=0, alerts="failed")
    with watched.kit.database.write() as connection:
        scope = alerts.scope_of(watched.kit.job("sales").id)
        alerts.mute(connection, watched.clock.now(), scope, at("06:02"), "ada")
    run_once_by_hand(watched, exit_code=1)
    look(watched)
    assert (firing(watched), told(watched)) == (["failed"], [])
    run_once_by_hand(watched)
    look(watched)
    assert (firing(watched), told(watched)) == ([], [])
    run_once_by_hand(watched, exit_code=1)
    look(watched)
    assert told(watched) == []
    look(watched, at("06:06"))
    assert told(watched)[0] == "sales failed in run 3: exit code 1"


def test_in_quiet_hours_what_can_wait_is_sent_at_their_end(watched: Stage) -> None:
    chosen = settings_of(watched, alert_quiet_hours="06:00-07:30 Europe/Berlin")
    watched.job(retries=0, alerts="failed")
    run_once_by_hand(watched, exit_code=1)
    look(watched, at("06:20"), settings=chosen)
    look_around(watched, settings=chosen)
    with watched.kit.database.read() as connection:
        sent = {row.subject[:9]: row.available_at for row in notices.latest(connection, 9)}
    assert sent == {"sales fai": at("06:30"), "no worker": at("06:20")}


def test_people_are_reminded_of_what_nobody_acknowledged(watched: Stage) -> None:
    chosen = settings_of(watched, alert_remind=timedelta(hours=1))
    watched.job(retries=0, alerts="failed")
    run_once_by_hand(watched, exit_code=1)
    for hour in range(6, 9):
        look(watched, at(f"{hour:02d}:30"), settings=chosen)
    assert [said.partition(" ")[0] for said in told(watched)] == ["sales", "still:", "still:"]
    with watched.kit.database.write() as connection:
        (row,) = alerts.opened(connection)
        assert alerts.acknowledge(connection, watched.clock.now(), row.id, "ada")
        assert not alerts.acknowledge(connection, watched.clock.now(), row.id, "bob")
    for hour in range(9, 12):
        look(watched, at(f"{hour:02d}:30"), settings=chosen)
    assert len(told(watched)) == 3


def test_what_is_no_longer_watched_or_deleted_is_over_without_a_word(watched: Stage) -> None:
    watched.job(retries=0, alerts="failed")
    run_once_by_hand(watched, exit_code=1)
    look(watched)
    watched.kit.edit("sales", alerts="none")
    look(watched)
    assert firing(watched) == []
    watched.kit.edit("sales", alerts="failed")
    run_once_by_hand(watched, exit_code=1)
    look(watched)
    watched.kit.delete("sales")
    look(watched)
    assert firing(watched) == []
    assert len(told(watched)) == 2


def test_alerts_that_are_over_go_with_the_history(watched: Stage) -> None:
    watched.job(retries=0, alerts="failed")
    run_once_by_hand(watched, exit_code=1)
    run_once_by_hand(watched)
    look(watched)
    with watched.kit.database.write() as connection:
        assert alerts.forget(connection, watched.clock.now()) == 0
        assert alerts.forget(connection, watched.clock.now() + MINUTE) == 1
        assert connection.scalar(sa.select(sa.func.count()).select_from(alerts_table)) == 0


# What people write


def test_alerts_are_read_as_people_write_them(stage: Stage) -> None:
    want = {"late": 900.0, "done-by": "07:30", "running": "auto", "failed": True, "failures": 3}
    given: tuple[Any, ...] = (
        "failed late=15m done-by=7:30 running=auto failures=3",
        ["late=900", "done-by=07:30", "running", "failures=3", "failed"],
        {"late": MINUTE * 15, "done_by": "07:30", "running": "auto", "failures": 3, "failed": True},
    )
    for number, written in enumerate(given):
        if number == 0:
            written = written.replace("7:30", "07:30").replace("0007:30", "07:30")
        job = stage.job(f"job {number}", every="1h", alerts=written)
        assert job.alerts == want


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("later=5m", "'later' is no alert. Use: late, done-by"),
        ("late", "'late' needs a duration. Write it like late=15m"),
        ("late=0s", "late=0:00:00 is out of bounds"),
        ("late=soon", "'soon' is not a duration"),
        ("done-by=25:00", "done-by='25:00' is no time of day. Write it like 07:30"),
        ("failures=1", "failures='1' is no number of runs. Use 2 to 100"),
        ("failed=3", "failed='3': this alert takes no value"),
        ("failed failed", "'failed' is given twice"),
    ],
)
def test_an_alert_that_is_not_right_is_refused(stage: Stage, written: str, said: str) -> None:
    with pytest.raises(BadInput, match=said.replace("?", r"\?")):
        stage.job(every="1h", alerts=written)
    assert stage.kit.jobs() == []


def test_clocks_of_slots_need_a_schedule(stage: Stage) -> None:
    with pytest.raises(BadInput, match="'late' goes by slots, and the job has no schedule"):
        stage.job(alerts="late=5m")
    stage.job(alerts="failed")
    with pytest.raises(BadInput, match="'done-by' goes by slots"):
        stage.kit.edit("sales", alerts="done-by=07:30")
