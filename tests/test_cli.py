"""The command line: what it prints, what it writes as JSON, and with which code it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobkit import cli
from jobkit.kit import Kit
from jobkit.settings import load
from jobkit.worker import Worker
from tests.stage import MONDAY, Stage


@dataclass
class Said:
    """How a command ended and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


Jobkit = Callable[..., Said]


@pytest.fixture
def jobkit(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Jobkit:
    """Run the command in this process, on the test's database."""
    monkeypatch.setenv("JOBKIT_DB_URL", database)

    def run(*arguments: object, program: Callable[..., None] = cli.main) -> Said:
        with pytest.raises(SystemExit) as ended:
            program([str(argument) for argument in arguments])
        said = capsys.readouterr()
        code = ended.value.code
        return Said(code if isinstance(code, int) else 0 if code is None else 1, said.out, said.err)

    return run


def work(kit: Kit) -> None:
    """Execute all that waits, as a worker process would."""
    Worker(
        kit.database, load(db_url=kit.database.url.render_as_string(False)), until_idle=True
    ).run()


def test_the_next_slots_of_a_schedule_are_previewed_as_utc_instants(jobkit: Jobkit) -> None:
    said = jobkit(
        "preview", "--cron", "30 8 * * 1-5", "--tz", "Europe/Paris",
        "--after", "2026-03-26T12:00:00Z", "--count", 3, "--json",
    )  # fmt: skip
    assert said.code == 0
    assert said.document == [
        "2026-03-27T07:30:00Z",
        "2026-03-30T06:30:00Z",
        "2026-03-31T06:30:00Z",
    ]


def test_a_preview_for_people_says_the_schedule_in_words_and_both_times(jobkit: Jobkit) -> None:
    said = jobkit("preview", "--daily", "06:30", "--tz", "Europe/Paris", "--after", "2026-07-01")
    assert "06:30" in said.out
    assert "Europe/Paris" in said.out
    assert "2026-07-01T04:30:00Z" in said.out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["preview"], "no schedule"),
        (["preview", "--cron", "61 * * * *"], "61 * * * *"),
        (["preview", "--daily", "06:30", "--tz", "Mars/Base"], "Mars/Base"),
        (["preview", "--every", "soon"], "soon"),
        (["job", "show", "ghost"], "ghost"),
        (["job", "add", "x", "missing.py"], "missing.py"),
        (["job", "add", "x", "../../etc/passwd"], "passwd"),
        (["job", "add", "x", "hello.py", "--param", "novalue"], "novalue"),
        (["job", "add", "x", "hello.py", "--overlap", "maybe"], "maybe"),
        (["job", "add", "x", "hello.py", "--cron", "* * * * *", "--every", "5m"], "every"),
        (["run", "ghost"], "ghost"),
        (["show", "99"], "99"),
        (["logs", "99"], "99"),
        (["cancel", "99"], "99"),
        (["retry", "99"], "99"),
        (["runs", "--status", "DONE"], "DONE"),
        (["runs", "--since", "yesterdayish"], "yesterdayish"),
        (["nonsense"], "nonsense"),
        (["--db", "mysql://host/x", "runs"], "mysql"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_2_and_names_what_was_given(
    jobkit: Jobkit, arguments: list[str], names: str
) -> None:
    said = jobkit(*arguments)
    assert said.code == 2
    assert names in said.err
    assert "Traceback" not in said.err
    assert said.out == ""


def test_a_job_is_added_listed_changed_paused_resumed_and_deleted(jobkit: Jobkit) -> None:
    added = jobkit(
        "job", "add", "sales", "hello.py", "--daily", "06:30", "--tz", "Europe/Paris", "--queue",
        "etl", "--priority", 5, "--timeout", "10m", "--retries", 2, "--retry-delay", "1m",
        "--misfire", "all", "--overlap", "queue", "--start-deadline", "2h", "--param", "n=3",
        "--param", "region=north", "--json", "--", "--fast", "two words",
    )  # fmt: skip
    assert added.code == 0
    document = added.document
    assert document["args"] == ["--fast", "two words"]
    assert document["params"] == {"n": 3, "region": "north"}
    assert (document["timeout"], document["retry_delay"]) == (600.0, 60.0)
    assert (document["misfire_policy"], document["overlap_policy"]) == ("all", "queue")
    assert (document["queue"], document["priority"], document["max_retries"]) == ("etl", 5, 2)
    assert [job["name"] for job in jobkit("job", "list", "--json").document] == ["sales"]
    assert jobkit("job", "edit", "sales", "--daily", "07:00", "--json").document["version"] == 2
    assert jobkit("job", "next", "sales", "--count", 2, "--json").document[0].endswith(":00:00Z")
    assert jobkit("job", "pause", "sales").code == 0
    assert jobkit("job", "show", "sales", "--json").document["is_active"] is False
    assert jobkit("job", "resume", "sales").code == 0
    shown = jobkit("job", "show", "sales").out
    assert "Europe/Paris" in shown
    assert "version 4" in shown
    assert jobkit("job", "delete", "sales").code == 0
    assert jobkit("job", "list", "--json").document == []


def test_a_job_has_tags_which_an_edit_replaces(jobkit: Jobkit, kit: Kit) -> None:
    jobkit("job", "add", "hello", "hello.py", "--tag", "sales", "--tag", "team:north")
    assert kit.job("hello").tags == ["sales", "team:north"]
    jobkit("job", "edit", "hello", "--tag", "sales")
    assert kit.job("hello").tags == ["sales"]
    assert kit.edit("hello", tags=[]).tags == []


def test_a_job_is_not_added_twice(jobkit: Jobkit) -> None:
    jobkit("job", "add", "sales", "hello.py")
    said = jobkit("job", "add", "sales", "hello.py")
    assert said.code == 2
    assert "sales" in said.err


def test_a_run_is_made_shown_read_and_run_again(jobkit: Jobkit, kit: Kit) -> None:
    kit.add_job("hello", "hello.py")
    run_id = int(jobkit("run", "hello", "--param", "day=2026-03-01").out)
    work(kit)
    shown = jobkit("show", run_id, "--json").document
    assert (shown["status"], shown["trigger"]) == ("COMPLETED", "manual")
    assert shown["params"] == {"day": "2026-03-01"}
    assert [item["status"] for item in shown["attempts"]] == ["SUCCESS"]
    assert "SUCCESS" in jobkit("show", run_id).out
    assert jobkit("logs", run_id).out == "hello\n"
    again = int(jobkit("retry", run_id).out)
    assert [run["id"] for run in jobkit("runs", "--json").document] == [again, run_id]
    assert jobkit("queue", "--json").document[0]["id"] == again
    assert jobkit("cancel", again, "--json").document["status"] == "CANCELLED"
    listed = jobkit("runs", "--job", "hello", "--status", "completed", "--json").document
    assert [run["id"] for run in listed] == [run_id]
    stats = jobkit("stats", "--since", "1h", "--json").document
    assert stats["runs_by_status"] == {"CANCELLED": 1, "COMPLETED": 1}
    (worker,) = jobkit("workers", "--json").document
    assert (worker["status"], worker["jobs_processed"]) == ("OFFLINE", 1)


def test_listings_for_people_are_tables(jobkit: Jobkit, kit: Kit) -> None:
    kit.add_job("hello", "hello.py", every="15m")
    kit.submit("hello")
    for command, word in (("runs", "PENDING"), ("queue", "PENDING"), ("stats", "1 active")):
        assert word in jobkit(command).out
    assert "hello.py" in jobkit("job", "list").out
    assert "jobkit worker" in jobkit("workers").err


def test_waiting_ends_with_0_only_when_the_run_completed(
    jobkit: Jobkit, kit: Kit, workplace: Path
) -> None:
    (workplace / "bad.py").write_text("print('oh'); raise SystemExit(3)", "utf-8")
    kit.add_job("hello", "hello.py")
    kit.add_job("bad", "bad.py", retries=0)
    url = kit.database.url.render_as_string(False)
    worker = Worker(kit.database, load(db_url=url))
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        good = jobkit("run", "hello", "--wait", "--follow")
        assert (good.code, good.out.splitlines()[1:]) == (0, ["hello"])
        bad = jobkit("run", "bad", "--wait", "--json")
        assert (bad.code, bad.document["status"]) == (1, "FAILED")
        assert "exit code 3" in bad.err
        followed = jobkit("run", "bad", "--follow")
        assert (followed.code, followed.out.splitlines()[1:]) == (0, ["oh"])
    finally:
        worker.stop()
        thread.join()


def test_a_backfill_is_tried_dry_first(jobkit: Jobkit, stage: Stage) -> None:
    stage.kit.add_job("sales", "hello.py", daily="03:00")
    span = ("--from", "2026-02-25", "--to", "2026-03-01", "--json")
    dry = jobkit("backfill", "sales", "--dry-run", *span).document
    assert (len(dry["slots"]), dry["runs"]) == (4, [])
    assert stage.runs() == []
    made = jobkit("backfill", "sales", *span).document
    assert made["slots"] == dry["slots"]
    assert [run.id for run in stage.runs()] == made["runs"]


def test_the_database_is_checked_and_upgraded(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBKIT_DB_URL", empty_database)

    def code(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return int(ended.value.code or 0)

    assert code("db", "check") == 1
    assert "jobkit db upgrade" in capsys.readouterr().err
    assert code("db", "upgrade") == 0
    assert code("db", "check") == 0
    capsys.readouterr()
    assert code("db", "upgrade") == 0
    assert "nothing to do" in capsys.readouterr().out


def test_job_admin_has_the_names_that_people_know(jobkit: Jobkit, kit: Kit) -> None:
    kit.add_job("hello", "hello.py")
    first = kit.submit("hello").id
    assert jobkit("view-queue", "--json", program=cli.admin_main).document[0]["id"] == first
    kit.cancel(first)
    again = jobkit("reset-job", first, "--json", program=cli.admin_main).document
    assert (again["status"], again["retry_of"]) == ("PENDING", first)
    assert jobkit("list-workers", "--json", program=cli.admin_main).document == []


def test_instants_in_json_are_utc_and_durations_seconds(jobkit: Jobkit, stage: Stage) -> None:
    stage.kit.add_job("sales", "hello.py", every="15m", timeout="90s")
    (job,) = jobkit("job", "list", "--json").document
    assert datetime.fromisoformat(job["next_run"]).tzinfo == UTC
    assert job["next_run"].endswith("Z")
    assert job["timeout"] == 90.0
    assert datetime.fromisoformat(job["created_at"]) == MONDAY


def test_names_that_look_like_markup_are_shown_as_they_are(jobkit: Jobkit) -> None:
    jobkit("job", "add", "[bold]x", "hello.py")
    assert "[bold]x" in jobkit("job", "list").out


def test_help_names_every_command_and_offers_completion() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobkit", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "100"},
    )
    names = ("up", "scheduler", "worker", "portal", "job", "preview", "run", "backfill", "db")
    for word in (*names, "--install-completion"):
        assert f" {word} " in done.stdout


def test_the_history_is_asked_in_sql(jobkit: Jobkit, kit: Kit) -> None:
    jobkit("job", "add", "sales", "hello.py")
    jobkit("run", "sales")
    work(kit)
    asked = "SELECT job, status, started_at FROM attempts"
    (row,) = jobkit("sql", asked, "--json").document
    assert (row["job"], row["status"]) == ("sales", "SUCCESS")
    assert row["started_at"].endswith("Z")
    said = jobkit("sql", asked)
    assert "sales" in said.out
    refused = jobkit("sql", "DROP TABLE runs")
    assert (refused.code, refused.out) == (2, "")
    assert "SELECT" in refused.err
    assert jobkit("sql", "SELECT job FROM attempts", "--limit", 1).code == 0
    assert "No rows." in jobkit("sql", "SELECT 1 WHERE false").err
