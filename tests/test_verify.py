"""The auditor: silent on a sound history, and it names each kind of breach."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import timedelta

import pytest
import sqlalchemy as sa

from jobkit import cli
from jobkit.verify import Finding
from tests.stage import MONDAY, Stage


def live(stage: Stage) -> None:
    """Make a history with every ending: two hours of one job, and what people did."""
    stage.job(every="10m", retries=1, retry_delay="1s", overlap="queue_all")
    stage.job("beside", every="20m", overlap="allow")
    for step in range(12):
        stage.clock.turn(timedelta(minutes=10))
        stage.tick()
        for claim in stage.claim("w1", limit=9):
            stage.clock.turn(timedelta(seconds=2))
            stage.finish(claim, exit_code=int(step % 4 == 3))
        stage.clock.turn(timedelta(seconds=2))
        for claim in stage.claim("w2", limit=9):
            stage.finish(claim, exit_code=0)
        if step == 5:
            stage.kit.pause("beside")
        if step == 7:
            stage.kit.resume("beside")
            stage.kit.edit("beside", every="15m")
    stage.kit.submit("sales").cancel()
    stage.clock.turn(timedelta(days=3))
    stage.tick()
    for claim in stage.claim("w1", limit=9):
        stage.finish(claim)


@pytest.fixture
def lived(stage: Stage) -> Stage:
    live(stage)
    return stage


def breaches(stage: Stage) -> list[Finding]:
    return [finding for finding in stage.kit.verify() if finding.broken]


def test_a_sound_history_breaks_no_law(lived: Stage) -> None:
    findings = lived.kit.verify()
    assert [finding for finding in findings if finding.broken] == []
    assert {finding.law for finding in findings} == set(range(1, 10))
    checked = {finding.rule: finding.checked for finding in findings}
    assert checked["a slot has one run"] > 400
    assert checked["no slot was left out between two that were looked at"] > 400
    assert checked["an attempt has one result"] > 12


def test_a_job_that_was_never_looked_at_for_years_is_sound(stage: Stage) -> None:
    stage.job(every="1m")
    stage.tick(MONDAY + timedelta(days=30))
    assert breaches(stage) == []
    assert len(stage.runs()) == 1002


WON = "(SELECT min(id) FROM job_dispatch WHERE status = 'COMPLETED' AND attempt = 1)"
SOME = "(SELECT min(id) FROM job_dispatch WHERE trigger = 'schedule' AND attempt > 0)"
RETRIED = "(SELECT min(dispatch_id) FROM job_execution_logs WHERE attempt = 2)"
LOG = "UPDATE job_execution_logs SET "
RUN = "UPDATE job_dispatch SET "

SEEDED: dict[str, tuple[object, ...]] = {
    "a doubled slot": (
        1,
        "2 runs for its slot",
        "DROP INDEX uq_run_slot",
        (
            "INSERT INTO job_dispatch (job_id, status, created_at, scheduled_for, trigger, "
            "available_at, reason, completed_at) SELECT job_id, 'SKIPPED', created_at, "
            "scheduled_for, trigger, available_at, 'x', created_at FROM job_dispatch "
            f"WHERE id = {SOME}"
        ),
    ),
    "a slot off the schedule": (
        1,
        "which its schedule does not have",
        RUN + f"scheduled_for = '2026-03-02 06:11:07' WHERE id = {SOME}",
    ),
    "a slot left out": (
        1,
        "no row for its slot",
        (
            "DELETE FROM job_dispatch WHERE id = (SELECT id FROM job_dispatch WHERE job_id = 1 "
            "AND trigger = 'schedule' ORDER BY scheduled_for LIMIT 1 OFFSET 3)"
        ),
    ),
    "a slot without an instant": (
        1,
        "has no slot",
        RUN + f"scheduled_for = NULL WHERE id = {SOME}",
    ),
    "a cursor that jumped": (
        1,
        "comes next at",
        "UPDATE scheduled_jobs SET next_run = '2027-01-01 00:00:00' WHERE name = 'sales'",
    ),
    "a slot of a paused job": (
        1,
        "which was paused",
        (
            "UPDATE job_versions SET definition = "
            "replace(definition, '\"is_active\": true', '\"is_active\": false') WHERE version = 1"
        ),
    ),
    "a run that nobody holds": (
        2,
        "is held by nobody",
        RUN + f"status = 'IN_PROGRESS', worker_id = NULL, completed_at = NULL WHERE id = {SOME}",
    ),
    "two live runs of a job": (
        2,
        "2 runs in progress in lane 0",
        "DROP INDEX uq_run_lane",
        RUN + "status = 'IN_PROGRESS', lease_until = '2030-01-01 00:00:00', completed_at = NULL "
        "WHERE id IN (SELECT id FROM job_dispatch WHERE attempt > 0 AND lane = 0 "
        "ORDER BY id LIMIT 2)",
    ),
    "two live attempts of a run": (
        2,
        "before attempt 1 of run",
        LOG + f"finished_at = '2026-03-05 00:00:00' WHERE dispatch_id = {RETRIED} AND attempt = 1",
    ),
    "two runs of a lane at once": (
        2,
        "before attempt",
        LOG + f"finished_at = '2026-03-02 12:00:00' WHERE dispatch_id = {WON}",
    ),
    "slots of a lane out of their order": (
        2,
        "of the earlier slot",
        LOG + f"claimed_at = '2026-03-02 07:45:00' WHERE dispatch_id = {WON} AND attempt = 1",
    ),
    "an attempt without its result": (
        3,
        "and has 0 results",
        f"DELETE FROM job_execution_logs WHERE dispatch_id = {WON}",
    ),
    "a result of no attempt": (
        3,
        "has 2 results",
        (
            "INSERT INTO job_execution_logs (job_id, run_time, status, dispatch_id, attempt, "
            "claimed_at, error_message) SELECT job_id, run_time, 'FAILURE', dispatch_id, 2, "
            f"claimed_at, 'x' FROM job_execution_logs WHERE dispatch_id = {WON}"
        ),
    ),
    "a failure that was a success": (
        3,
        "is FAILED with 1 successful",
        RUN + f"status = 'FAILED', error_message = 'x' WHERE id = {WON}",
    ),
    "a success of another worker": (
        3,
        "is of another worker",
        LOG + f"worker_id = 'stale' WHERE dispatch_id = {WON}",
    ),
    "a success that the script denies": (
        3,
        "contradicts its exit code",
        LOG + f"exit_code = 3 WHERE dispatch_id = {WON}",
    ),
    "a failure that the script denies": (
        3,
        "contradicts its exit code",
        LOG + f"exit_code = 0 WHERE dispatch_id = {RETRIED} AND attempt = 1",
    ),
    "a failure that was not counted": (
        3,
        "counts 0 failures and 0 losses; 1 and 0 were recorded",
        RUN + f"retry_count = 0 WHERE id = {RETRIED}",
    ),
    "a loss that never was": (
        3,
        "counts 0 failures and 1 losses; 0 and 0 were recorded",
        RUN + f"lost_count = 1 WHERE id = {WON}",
    ),
    "a claim after the next one": (
        3,
        "was claimed after the next one",
        LOG + f"claimed_at = '2026-03-05 00:00:00' WHERE dispatch_id = {RETRIED} AND attempt = 1",
    ),
    "a lease that nobody takes back": (
        4,
        "no scheduler took it back",
        RUN + "status = 'IN_PROGRESS', lease_until = '2026-03-02 06:30:00', completed_at = NULL "
        f"WHERE id = {SOME}",
    ),
    "a deadline that nobody minds": (
        4,
        "past its start deadline",
        (
            "INSERT INTO job_dispatch (job_id, status, created_at, trigger, available_at, "
            "start_until) VALUES (1, 'PENDING', '2026-03-02 06:00:00', 'manual', "
            "'2026-03-02 06:00:00', '2026-03-02 07:00:00')"
        ),
    ),
    "a retry in the far future": (
        4,
        "waits longer than any retry",
        RUN + "status = 'PENDING', completed_at = NULL, available_at = '2030-01-01 00:00:00' "
        f"WHERE id = {SOME}",
    ),
    "a retry that did not wait": (
        4,
        "its delay is 0:10:00",
        RUN + f"retry_delay_seconds = 600 WHERE id = {RETRIED}",
    ),
    "an end of a run that goes on": (
        4,
        "has an end although it goes on",
        RUN + f"status = 'PENDING' WHERE id = {SOME}",
    ),
    "a try too many": (4, "was tried too often", RUN + f"retry_count = 9 WHERE id = {SOME}"),
    "an end without a date": (4, "has no end", RUN + f"completed_at = NULL WHERE id = {SOME}"),
    "a hole in the output": (
        5,
        "1 chunks, the last with number 3",
        (
            "INSERT INTO job_output (dispatch_id, attempt, seq, claimed_at, at, stream, text) "
            "SELECT dispatch_id, attempt, 3, claimed_at, claimed_at, 'output', 'x' "
            f"FROM job_execution_logs WHERE dispatch_id = {WON}"
        ),
    ),
    "output that is gone": (
        5,
        "printed something that is not there",
        LOG + f"output_bytes = 5 WHERE dispatch_id = {WON}",
    ),
    "output of which much is gone": (
        5,
        "printed something that is not there",
        (
            "INSERT INTO job_output (dispatch_id, attempt, seq, claimed_at, at, stream, text) "
            "SELECT dispatch_id, attempt, 0, claimed_at, claimed_at, 'output', 'x' "
            f"FROM job_execution_logs WHERE dispatch_id = {WON}"
        ),
        LOG + f"output_bytes = 9000000, omitted_bytes = 8000000 WHERE dispatch_id = {WON}",
    ),
    "more left out than printed": (
        5,
        "left out more than it printed",
        LOG + f"output_bytes = 5, omitted_bytes = 6 WHERE dispatch_id = {WON}",
    ),
    "output of an attempt that never was": (
        5,
        "which was never claimed",
        (
            "INSERT INTO job_output (dispatch_id, attempt, seq, claimed_at, at, stream, text) "
            "SELECT dispatch_id, 7, 0, claimed_at, claimed_at, 'output', 'x' "
            f"FROM job_execution_logs WHERE dispatch_id = {WON}"
        ),
    ),
    "a result of no run": (
        5,
        "which is not there",
        f"DELETE FROM job_dispatch WHERE id = {WON}",
    ),
    "a result of another job": (
        5,
        "is of another job than its run",
        LOG + f"job_id = 77 WHERE dispatch_id = {WON}",
    ),
    "a slot made before it came": (
        6,
        "was made before its slot",
        RUN + f"created_at = '2026-03-02 06:00:00' WHERE id = {SOME}",
    ),
    "an early start": (
        6,
        "before it was due",
        LOG + f"claimed_at = '2026-03-02 06:00:01' WHERE dispatch_id = {WON}",
    ),
    "a job changed without a version": (
        8,
        "changed without a version",
        "UPDATE scheduled_jobs SET script_path = 'other.py'",
    ),
    "a version that is gone": (
        8,
        "names a version that is not there",
        "DELETE FROM job_versions WHERE job_id = 1",
    ),
    "a version that does not follow": (
        8,
        "does not follow from version 1",
        "UPDATE job_versions SET before = replace(before, 'hello', 'other') WHERE version = 2",
    ),
    "a run of a version that was replaced": (
        8,
        "when version 1 was not the job's",
        RUN + "created_at = '2026-03-04 00:00:00' WHERE job_id = 2 AND job_version = 1",
    ),
    "an attempt after the end": (
        8,
        "after the run had ended",
        RUN + f"completed_at = '2026-03-02 06:00:05' WHERE id = {WON}",
    ),
    "a fault without a word": (
        9,
        "does not say why",
        RUN + "reason = NULL WHERE status = 'CANCELLED'",
    ),
}


@pytest.mark.parametrize("kind", SEEDED)
def test_each_kind_of_breach_is_named(lived: Stage, kind: str) -> None:
    law, words, *statements = SEEDED[kind]
    with lived.kit.database.write() as connection:
        for statement in statements:
            connection.execute(sa.text(str(statement)))
    found = [
        breach for finding in breaches(lived) if finding.law == law for breach in finding.breaches
    ]
    assert any(str(words) in breach for breach in found), breaches(lived)


def test_a_process_that_outlived_its_attempt_is_named(lived: Stage) -> None:
    run = next(run for run in lived.runs() if run.status == "COMPLETED")
    worker = f"w{os.getpid()}"  # the same test may run beside this one
    with lived.kit.database.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO worker_registration (worker_id, hostname, platform, started_at, "
                "last_heartbeat, status, jobs_processed, queues, slots, version) VALUES (:worker, "
                "'h', 'p', '2026-03-02 06:00:00', '2026-03-02 06:00:00', 'OFFLINE', 0, "
                "'default', 1, '0')"
            ),
            {"worker": worker},
        )
    cookies = {
        "JOBKIT_RUN_ID": str(run.id), "JOBKIT_ATTEMPT": "1", "JOBKIT_WORKER_ID": worker,
        "JOBKIT_WORKER_PID": str(os.getpid()),
    }  # fmt: skip
    code = "import time; time.sleep(60)"
    left = subprocess.Popen([sys.executable, "-c", code], env=os.environ | cookies)
    try:
        (finding,) = breaches(lived)
        assert finding.law == 7
        assert f"process {left.pid} belongs to attempt 1 of run {run.id}" in finding.breaches[0]
    finally:
        left.kill()
        left.wait()


def test_the_command_ends_with_1_on_a_breach_and_lists_it(
    lived: Stage, database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBKIT_DB_URL", database)

    def verify(*more: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["verify", *more])
        return int(ended.value.code or 0), capsys.readouterr().out

    code, said = verify("--json")
    document = json.loads(said)
    assert {item["law"] for item in document} == set(range(1, 10))
    assert code == (1 if any(item["broken"] for item in document) else 0)
    with lived.kit.database.write() as connection:
        connection.execute(sa.text(RUN + f"retry_count = 9 WHERE id = {SOME}"))
    code, said = verify()
    assert code == 1
    assert "was tried too often" in said


def test_an_audit_writes_nothing(lived: Stage) -> None:
    def everything() -> list[object]:
        with lived.kit.database.read() as connection:
            return [
                connection.execute(sa.text(f"SELECT * FROM {name} ORDER BY 1, 2")).all()
                for name in ("scheduled_jobs", "job_versions", "job_dispatch", "scheduler_duties")
            ]

    before = everything()
    lived.kit.verify()
    assert everything() == before
