"""A job that runs elsewhere reports itself into the same history, by the same endings."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from jobkit.errors import BadInput, Conflict, NotFound
from jobkit.handles import Run
from jobkit.kit import Kit
from jobkit.store import claims
from tests.stage import MONDAY, Stage, at


@pytest.fixture
def backup(stage: Stage) -> Iterator[Stage]:
    """A stage with a job that runs elsewhere each hour; what comes of it keeps the laws."""
    stage.kit.add_job("backup", "cron of db1", kind="external", cron="0 * * * *")
    yield stage
    assert [finding for finding in stage.kit.verify() if finding.broken] == []


def ping(stage: Stage, signal: str = "success", **given: Any) -> Run:
    return stage.kit.ping("backup", signal, **given)


def states(stage: Stage) -> list[tuple[str, str]]:
    return [(run.trigger, run.status) for run in stage.runs("backup")]


def test_the_run_of_a_slot_waits_for_its_ping_and_no_worker_takes_it(backup: Stage) -> None:
    backup.tick(at("07:00"))
    (run,) = backup.runs("backup")
    assert run.status == "PENDING"
    for queue in ("default", "external"):
        assert backup.claim(queue=queue) == []
    assert run.why_waiting() == "waits for a ping of where it runs, until 08:00"
    backup.clock.turn_to(at("07:05"))
    assert ping(backup, message="42 files\n").id == run.id
    run = run.refresh()
    assert (run.status, run.scheduled_for) == ("COMPLETED", at("07:00"))
    (attempt,) = backup.kit.attempts(run.id)
    assert (attempt.status, attempt.exit_code, attempt.started_at) == ("SUCCESS", 0, None)
    assert attempt.worker_id == "external"
    assert backup.kit.output(run.id).text == "42 files\n"


def test_a_start_and_an_end_are_one_run_with_a_duration(backup: Stage) -> None:
    backup.tick(at("07:00"))
    backup.clock.turn_to(at("07:01"))
    run = ping(backup, "start", message="begins\n")
    assert run.status == "IN_PROGRESS"
    backup.tick(at("08:02"))
    assert states(backup) == [("schedule", "IN_PROGRESS"), ("schedule", "PENDING")]
    backup.clock.turn_to(at("08:03"))
    assert ping(backup, "fail", exit_code=3, message="no disk").id == run.id
    run = run.refresh()
    assert (run.status, run.error_message) == ("FAILED", "exit code 3")
    (attempt,) = backup.kit.attempts(run.id)
    assert attempt.finished_at - attempt.started_at == timedelta(minutes=62)
    assert backup.kit.output(run.id).text == "begins\nno disk"
    assert ping(backup).scheduled_for == at("08:00"), "the next end is the next slot's"


def test_a_slot_without_a_ping_by_its_deadline_is_missed(backup: Stage) -> None:
    backup.kit.edit("backup", start_deadline="15m")
    backup.tick(at("07:00"))
    backup.tick(at("07:15"))
    assert states(backup) == [("schedule", "PENDING")]
    backup.tick(at("07:16"))
    (run,) = backup.runs("backup")
    assert (run.status, run.reason) == ("MISSED", "no ping in time")
    late = ping(backup)
    assert (late.trigger, late.status) == ("manual", "COMPLETED"), "it is told, not hidden"


def test_a_ping_past_the_deadline_is_late_also_before_a_scheduler_has_looked(
    backup: Stage,
) -> None:
    backup.tick(at("07:00"))
    backup.clock.turn_to(at("08:00:01"))
    assert ping(backup).scheduled_for == at("08:00")
    backup.clock.turn_to(at("08:30"))
    assert ping(backup).trigger == "manual"
    backup.tick()
    assert states(backup) == [
        ("schedule", "MISSED"), ("schedule", "COMPLETED"), ("manual", "COMPLETED"),
    ]  # fmt: skip


def test_a_ping_that_is_here_before_the_scheduler_is_of_its_slot(backup: Stage) -> None:
    backup.clock.turn_to(at("07:00:01"))
    run = ping(backup)
    assert (run.trigger, run.scheduled_for) == ("schedule", at("07:00"))
    backup.tick()
    assert len(backup.runs("backup")) == 1


def test_where_no_slot_is_open_a_ping_makes_a_run(stage: Stage) -> None:
    stage.kit.add_job("backup", "by hand", kind="external")
    run = ping(stage, "start")
    assert (run.trigger, run.status) == ("manual", "IN_PROGRESS")
    assert ping(stage, "fail").error_message == "it said that it failed"
    assert run.refresh().status == "FAILED", "and it is not run again"


def test_one_that_reports_no_end_times_out_and_is_not_run_again(backup: Stage) -> None:
    backup.kit.edit("backup", timeout="2h")
    backup.tick(at("07:00"))
    run = ping(backup, "start")
    backup.tick(at("08:59"))
    assert run.refresh().status == "IN_PROGRESS"
    backup.tick(at("09:01"))
    assert run.refresh().status == "TIMEOUT"
    assert run.refresh().error_message == "it reported its start, and no end in time"
    with pytest.raises(Conflict, match="is TIMEOUT and stays so"):
        ping(backup, run_id=run.id)


def test_which_run_ends_can_be_said(backup: Stage) -> None:
    backup.tick(at("07:00"))
    first = ping(backup, "start")
    backup.tick(at("08:00"))
    second = ping(backup, "start")
    assert ping(backup, run_id=first.id).id == first.id
    assert second.refresh().status == "IN_PROGRESS"
    with pytest.raises(Conflict):
        ping(backup, run_id=first.id)
    other = backup.job("other")
    backup.kit.submit("other")
    with pytest.raises(NotFound, match="has no run"):
        ping(backup, run_id=other.runs(1)[0].id)


def test_one_that_somebody_cancelled_is_so_when_it_fails_and_not_when_it_succeeds(
    backup: Stage,
) -> None:
    runs = []
    for signal in ("fail", "success"):
        run = ping(backup, "start")
        backup.kit.cancel(run.id)
        ping(backup, signal)
        runs.append(run.refresh().status)
    assert runs == ["CANCELLED", "COMPLETED"]


def test_pings_that_meet_are_a_run_each(backup: Stage) -> None:
    backup.tick(at("07:00"))
    together = threading.Barrier(4)

    def start() -> None:
        together.wait()
        ping(backup, "start")

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(states(backup)) == [("manual", "IN_PROGRESS")] * 3 + [("schedule", "IN_PROGRESS")]


def test_what_waits_for_a_ping_is_no_alarm_about_workers_and_no_hole_to_fill(
    backup: Stage,
) -> None:
    from jobkit.store import alerts

    backup.tick(at("07:00"))
    backup.clock.turn_to(at("07:50"))
    with backup.kit.database.read() as connection:
        assert alerts.overdue(connection, at("07:20"))[0] == 0
    backup.tick(at("09:30"))
    job = backup.kit.job("backup")
    filled = backup.kit.fill({job.id: [at("07:00")]})
    assert filled.left_out == {"backup": "it runs elsewhere"}


def test_nothing_here_can_start_it(backup: Stage) -> None:
    for start in (
        lambda: backup.kit.submit("backup"),
        lambda: backup.kit.submit_many("backup", [{}]),
        lambda: backup.kit.retry(ping(backup).id),
        lambda: backup.kit.backfill("backup", MONDAY - timedelta(hours=3), MONDAY),
    ):
        with pytest.raises(BadInput, match="jobkit ping backup"):
            start()


@pytest.mark.parametrize(
    "given",
    [
        {"queue": "gpu"}, {"retries": 1}, {"overlap": "skip"}, {"source": "print()"},
        {"timeout": "auto"}, {"python": "python3"}, {"on_worker_lost": "retry"},
    ],
)  # fmt: skip
def test_what_only_an_execution_here_can_do_is_refused(
    backup: Stage, given: dict[str, Any]
) -> None:
    with pytest.raises(BadInput):
        backup.kit.add_job("other", "there", kind="external", **given)
    with pytest.raises(BadInput):
        backup.kit.edit("backup", **given)


def test_a_job_does_not_move_between_here_and_elsewhere(backup: Stage) -> None:
    backup.job()
    for name, kind in (("backup", "python"), ("sales", "external")):
        with pytest.raises(BadInput, match="Add another job"):
            backup.kit.edit(name, kind=kind)
    with pytest.raises(BadInput, match="is run by jobkit"):
        backup.kit.ping("sales")
    assert backup.kit.edit("backup", target="cron of db2", daily="03:00").script_path == (
        "cron of db2"
    )


@pytest.mark.parametrize(
    ("signal", "given"),
    [("stop", {}), ("start", {"exit_code": 0}), ("success", {"exit_code": 1}),
     ("fail", {"exit_code": 0}), ("fail", {"exit_code": 256})],
)  # fmt: skip
def test_a_ping_that_contradicts_itself_is_refused(
    backup: Stage, signal: str, given: dict[str, Any]
) -> None:
    with pytest.raises(BadInput):
        ping(backup, signal, **given)
    assert backup.runs("backup") == []


def test_of_a_long_message_the_end_is_kept_and_the_rest_counted(backup: Stage) -> None:
    run = ping(backup, message="ä" * 60_000 + "the end\x00")
    (attempt,) = backup.kit.attempts(run.id)
    text = backup.kit.output(run.id).text
    assert len(text) == 50_000
    assert text.endswith("the end␀")
    assert attempt.omitted_bytes == 2 * 10_008


def test_a_stale_end_writes_nothing(backup: Stage) -> None:
    """The endings are fenced: a run that a scheduler ended meanwhile stays as it is."""
    backup.tick(at("07:00"))
    run = ping(backup, "start")
    with backup.kit.database.write() as connection:
        later = backup.clock.now() + timedelta(days=2)
        assert claims.rescue(connection, later, grace=timedelta(0)) == 1
        assert claims.rescue(connection, later, grace=timedelta(0)) == 0
    assert run.refresh().status == "TIMEOUT"
    backup.clock.turn_to(later)


def test_the_command_line_adds_and_pings(
    kit: Kit, database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from jobkit.cli import main

    def say(*words: str) -> tuple[int, str]:
        try:
            main(["--db", database, *words])
        except SystemExit as ended:
            return int(ended.code or 0), capsys.readouterr().out
        return 0, capsys.readouterr().out

    assert say("job", "add", "backup", "--external", "--cron", "0 3 * * *")[0] == 0
    assert kit.job("backup").kind == "external"
    number = say("ping", "backup", "--start")[1].strip()
    said = json.loads(say("ping", "backup", "--exit-code", "2", "--run", number, "--json")[1])
    assert (said["id"], said["status"]) == (int(number), "FAILED")
    assert say("ping", "backup", "--start", "--fail")[0] == 2
    assert say("job", "add", "other")[0] == 2
