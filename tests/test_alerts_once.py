"""Each alert is told once: by schedulers that look at the same time, and by one that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobkit import evaluation, scheduler
from jobkit.evaluation import jobs as evaluation_of_jobs
from jobkit.kit import Kit, connect
from jobkit.scheduler import Scheduler
from jobkit.store import alerts, duties, notices
from jobkit.worker.oversight import Oversight
from tests.stage import Stage
from tests.watching import firing, look, run_once_by_hand, told, watched

__all__ = ["watched"]

ROOT = Path(__file__).parent.parent


def test_two_that_look_at_the_same_time_tell_each_outage_and_its_end_once(watched: Stage) -> None:
    stage, url = watched, watched.kit.database.url.render_as_string(hide_password=False)
    for number in range(20):
        stage.job(f"job {number}", retries=0, alerts="failed")
    for exit_code in (1, 0):
        for number in range(20):
            stage.kit.submit(f"job {number}")
            stage.finish(stage.claim_one(), exit_code=exit_code)
        stage.clock.turn(timedelta(seconds=1))
        _look_together(stage, url)
    said = told(stage)
    assert len(said) == 40
    assert len({line for line in said if "failed in run" in line}) == 20
    assert sum(line.startswith("resolved: ") for line in said) == 20
    assert firing(stage) == []


def _look_together(stage: Stage, url: str) -> None:
    """Look with four connections that begin at the same moment, past the duty that one takes."""
    start, now, failures = threading.Barrier(4), stage.clock.now(), list[BaseException]()

    def act(kit: Kit) -> None:
        try:
            start.wait(30)
            with kit.database.write() as connection:
                evaluation.look_at_jobs(connection, now, kit.settings)
        except BaseException as error:  # noqa: BLE001 - told below
            failures.append(error)

    kits = [connect(url) for _ in range(4)]
    threads = [threading.Thread(target=act, args=(kit,)) for kit in kits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for kit in kits:
        kit.close()
    assert failures == []


DIES = """
import os, signal, sys
from datetime import datetime
from jobkit.kit import connect
from jobkit import evaluation
from jobkit.store import notices

kit = connect(sys.argv[1])
with kit.database.write() as connection:
    evaluation.look_at_jobs(connection, datetime.fromisoformat(sys.argv[2]), kit.settings)
    print(len(notices.latest(connection, 10)), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_scheduler_that_is_killed_in_the_middle_of_a_look_loses_and_doubles_nothing(
    watched: Stage,
) -> None:
    watched.job(retries=0, alerts="failed")
    run_once_by_hand(watched, exit_code=1)
    url = watched.kit.database.url.render_as_string(hide_password=False)
    died = subprocess.run(
        [sys.executable, "-c", DIES, url, watched.clock.now().isoformat()],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "1\n"), died.stderr
    assert told(watched) == []
    for _ in range(2):
        look(watched)
    assert told(watched) == ["sales failed in run 1: exit code 1"]


def test_schedulers_look_after_what_is_watched_by_themselves(watched: Stage) -> None:
    watched.job(retries=0, alerts="failed")
    run_once_by_hand(watched, exit_code=1)
    pair = [Scheduler(watched.kit.database, watched.kit.settings) for _ in range(2)]
    for _ in range(3):
        for made in pair:
            made.step()
        watched.clock.turn(timedelta(seconds=20))
    assert [said for said in told(watched) if "sales" in said] == [
        "sales failed in run 1: exit code 1"
    ]


def test_a_commit_that_becomes_visible_late_is_seen_all_the_same(watched: Stage) -> None:
    watched.job(retries=0, alerts="failed")
    watched.kit.submit("sales")
    claim, ended_at = watched.claim_one(), watched.clock.now()
    watched.clock.turn(timedelta(seconds=30))
    look(watched)  # the mark is after the end of what is not visible yet
    watched.clock.turn_to(ended_at)
    watched.finish(claim, exit_code=1)
    watched.clock.turn(timedelta(seconds=35))
    look(watched)
    assert told(watched) == ["sales failed in run 1: exit code 1"]


def test_a_look_that_would_open_very_many_goes_on_with_the_next(
    watched: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluation_of_jobs, "MOST_BEGUN", 2)
    for number in range(5):
        watched.job(f"job {number}", retries=0, alerts="failed")
        watched.kit.submit(f"job {number}")
        watched.finish(watched.claim_one(), exit_code=1)
    now, settings = watched.clock.now(), watched.kit.settings
    found = []
    for _ in range(4):
        with watched.kit.database.write() as connection:
            done: Any = scheduler.DUTIES["look at jobs"].work(connection, now, settings)
        found.append((done.again, len(told(watched))))
    assert found == [(True, 2), (True, 4), (False, 5), (False, 5)]


def test_a_worker_sees_that_no_scheduler_is_there_and_sends_what_waits(
    watched: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit = watched.kit
    with kit.database.write() as connection:
        duties.declare(connection, (duties.HEARTBEAT,), watched.clock.now())
        duties.take(connection, duties.HEARTBEAT, watched.clock.now(), every=timedelta(0), by="s1")
    monkeypatch.setenv("JOBKIT_NOTIFY_URLS", "team=json://127.0.0.1:9")
    from jobkit.notify import Postman
    from jobkit.settings import load

    sent: list[str] = []
    monkeypatch.setattr(Postman, "send", lambda self, channel, notice, now: sent.append(notice.key))
    overseer = Oversight(kit.database, load(db_url=kit.settings.db_url))
    assert not overseer.look()
    watched.clock.turn(timedelta(minutes=5))
    assert overseer.look()
    assert overseer.look()
    assert firing(watched) == ["no-scheduler"]
    assert sent == ["alert:1:firing"]
    with kit.database.read() as connection:
        assert alerts.count_open(connection) == 1
        assert notices.latest(connection, 1)[0].sent_at is not None


def test_a_look_that_breaks_is_undone_and_stops_no_scheduler(
    watched: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watched.job(retries=0, alerts="failed")
    run_once_by_hand(watched, exit_code=1)
    judge = evaluation_of_jobs.Case.judge

    def broken(self: Any) -> None:
        judge(self)
        raise TypeError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(evaluation_of_jobs.Case, "judge", broken)
        Scheduler(watched.kit.database, watched.kit.settings).step()
    assert "alerts are not looked after" in caplog.text
    assert told(watched) == []
    watched.clock.turn(timedelta(seconds=10))
    Scheduler(watched.kit.database, watched.kit.settings).step()
    assert told(watched) == ["sales failed in run 1: exit code 1"]
