"""Real schedulers and workers, as processes, killed and stopped as a bad day would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from jobkit import migrations
from jobkit.handles import Run
from jobkit.kit import Kit, connect
from jobkit.models import jobs, workers
from tests.postgres import start_server

# How long a slow and busy machine may take; who waits for something that comes waits no longer.
SOON = 120.0
QUICK = {
    "WORKER_HEARTBEAT_INTERVAL": "0.5",
    "JOBKIT_LEASE_SECONDS": "6",
    "JOBKIT_RESCUE_GRACE_SECONDS": "1",
    "SCHEDULER_POLL_INTERVAL": "1",
    "WORKER_POLL_INTERVAL": "1",
    "JOBKIT_KILL_GRACE_SECONDS": "0.2",
}


class Processes:
    """Starts jobkit's programs on one database, keeps what they say, and ends them all."""

    def __init__(self, url: str, **settings: str) -> None:
        self.url = url
        self.started: list[subprocess.Popen[bytes]] = []
        self._settings = settings
        self._folder = Path.cwd()

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
        with self._log(len(self.started)).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "jobkit", *arguments],
                env=os.environ | QUICK | {"JOBKIT_DB_URL": self.url} | self._settings | settings,
                stdout=log,
                stderr=log,
            )
        self.started.append(process)
        return process

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """Return what a process has written to stdout and stderr."""
        return self._log(self.started.index(process)).read_text("utf-8")

    def _log(self, number: int) -> Path:
        return self._folder / f"program{number}.log"

    def end(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def processes(database: str, request: pytest.FixtureRequest) -> Iterator[Processes]:
    """Programs on `database`; a test that is marked `both_ways` runs with and without wake-ups."""
    wakeups = getattr(request, "param", None)
    opened = Processes(database, **({"JOBKIT_WAKEUPS": wakeups} if wakeups else {}))
    yield opened
    opened.end()


both_ways = pytest.mark.parametrize(
    "processes", ["on", "off"], ids=["wake-ups on", "wake-ups off"], indirect=True
)


def until(condition: Callable[[], bool], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def ended(run: Run) -> bool:
    return run.refresh().is_final


def script(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, "utf-8")
    (folder / name).chmod(0o755)
    return name


def ledger(folder: Path) -> list[str]:
    path = folder / "ledger"
    return path.read_text("utf-8").splitlines() if path.exists() else []


LEDGER = '#!/bin/sh\necho "$JOBKIT_RUN_ID $JOBKIT_ATTEMPT" >> ledger\n'


def test_eight_workers_execute_500_runs_and_double_none(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    target = script(workplace, "note.sh", LEDGER)
    for number in range(10):
        kit.add_job(f"job {number}", target, overlap="allow")
    made = [kit.submit(f"job {number % 10}").id for number in range(500)]
    workers = [
        processes.start(
            "worker", "--drain", "--slots", "2", "--name", f"w{number}", JOBKIT_LEASE_SECONDS="60"
        )
        for number in range(8)
    ]
    for worker in workers:
        assert worker.wait(5 * SOON) == 0
    assert {run.status for run in kit.runs(limit=1000)} == {"COMPLETED"}
    assert Counter(ledger(workplace)) == {f"{run} 1": 1 for run in made}
    assert sum(worker.jobs_processed for worker in kit.workers()) == 500


def test_120_jobs_due_at_once_all_run_and_none_early(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    target = script(workplace, "note.sh", LEDGER)
    for number in range(120):
        kit.add_job(f"job {number}", target, at=kit.clock.now() + timedelta(days=1))
    processes.start("scheduler")
    processes.start("worker", "--slots", "8")
    until(lambda: len(kit.workers()) == 1)
    # However long it took to add them: one statement makes all due in a while from now.
    due = kit.clock.now() + timedelta(seconds=3)
    with kit.database.write() as connection:
        connection.execute(jobs.update().values(anchor_at=due, next_run=due))
    until(lambda: len(kit.runs(status="COMPLETED", limit=200)) == 120)
    assert len(ledger(workplace)) == 120
    for run in kit.runs(limit=200):
        assert run.scheduled_for == due
        assert run.claimed_at is not None
        assert run.claimed_at >= due


def test_two_schedulers_one_killed_every_five_seconds_miss_no_slot(
    processes: Processes, kit: Kit
) -> None:
    for name in ("a", "b", "c"):
        kit.add_job(name, "hello.py", every="1s", overlap="allow", misfire="all")
    first = kit.job("a").next_run
    assert first is not None
    pair = [processes.start("scheduler") for _ in range(2)]
    for victim in (0, 1, 0):
        time.sleep(5)
        pair[victim].kill()
        pair[victim].wait()
        pair[victim] = processes.start("scheduler")
    last = kit.clock.now() - timedelta(seconds=1)
    until(lambda: all((kit.job(name).next_run or last) > last for name in ("a", "b", "c")))
    for name in ("a", "b", "c"):
        slots = sorted(run.scheduled_for for run in kit.runs(job=name, limit=500))
        steps = {after - before for before, after in pairwise(slots)}
        assert steps == {timedelta(seconds=1)}
        assert len(slots) >= 14
        assert {run.status for run in kit.runs(job=name, limit=500)} == {"PENDING"}


FIRST_HANGS = """
import os, subprocess, sys, time
from pathlib import Path
if os.environ["JOBKIT_ATTEMPT"] == "1":
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                             start_new_session=True)
    Path("pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
print("recovered")
"""


def hanging_run(kit: Kit, workplace: Path, **definition: object) -> tuple[Run, Callable[[], bool]]:
    """Submit a run whose first attempt hangs; returns it, and whether that attempt is gone."""
    kit.add_job("hang", script(workplace, "hang.py", FIRST_HANGS), **definition)

    def is_gone() -> bool:
        pids = map(int, (workplace / "pids").read_text().split())
        return not any(alive(pid) for pid in pids)

    return kit.submit("hang"), is_gone


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def is_written(path: Path) -> bool:
    return path.exists() and len(path.read_text().split()) == 2


@both_ways
def test_a_killed_workers_run_is_tried_again_and_nothing_of_it_survives(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    run, is_gone = hanging_run(kit, workplace)
    processes.start("scheduler")
    worker = processes.start("worker", "--name", "first")
    until(lambda: is_written(workplace / "pids"))
    worker.kill()
    worker.wait()
    until(is_gone)
    processes.start("worker", "--name", "second")
    until(lambda: ended(run))
    assert [item.status for item in run.attempts()] == ["LOST", "SUCCESS"]
    assert run.refresh().status == "COMPLETED"
    assert run.output().text == "recovered\n"


def test_a_worker_that_slept_past_its_lease_has_killed_its_child_and_writes_nothing(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    run, is_gone = hanging_run(kit, workplace)
    processes.start("scheduler")
    sleeper = processes.start("worker", "--name", "sleeper")
    until(lambda: is_written(workplace / "pids"))
    sleeper.send_signal(signal.SIGSTOP)
    until(is_gone)
    processes.start("worker", "--name", "other")
    until(lambda: ended(run))
    sleeper.send_signal(signal.SIGCONT)
    sleeper.send_signal(signal.SIGTERM)
    assert sleeper.wait(SOON) == 0
    attempts = run.attempts()
    assert [item.status for item in attempts] == ["LOST", "SUCCESS"]
    assert (attempts[1].worker_id or "").startswith("other-")
    assert run.refresh().status == "COMPLETED"


def test_a_worker_whose_row_was_deleted_gives_up_its_runs_and_takes_a_new_name(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    run, is_gone = hanging_run(kit, workplace)
    processes.start("scheduler")
    processes.start("worker", "--name", "deleted")
    until(lambda: is_written(workplace / "pids"))
    (before,) = kit.workers()
    with kit.database.write() as connection:
        connection.execute(workers.delete())
    until(is_gone)
    until(lambda: ended(run))
    (after,) = kit.workers()
    assert after.worker_id.startswith("deleted-")
    assert after.worker_id != before.worker_id
    assert [item.status for item in run.attempts()] == ["LOST", "SUCCESS"]


def test_a_worker_that_is_told_to_stop_gives_its_runs_back(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    run, is_gone = hanging_run(kit, workplace, retries=0)
    worker = processes.start("worker", JOBKIT_SHUTDOWN_GRACE_SECONDS="0.5")
    until(lambda: is_written(workplace / "pids"))
    worker.terminate()
    assert worker.wait(SOON) == 0
    assert is_gone()
    assert run.refresh().status == "PENDING"
    assert {item.status for item in kit.workers()} == {"OFFLINE"}
    processes.start("worker", "--drain").wait(SOON)
    assert [item.status for item in run.attempts()] == ["RELEASED", "SUCCESS"]
    assert run.refresh().status == "COMPLETED"


@both_ways
def test_a_cancel_ends_the_script(processes: Processes, kit: Kit, workplace: Path) -> None:
    run, is_gone = hanging_run(kit, workplace)
    processes.start("worker")
    until(lambda: is_written(workplace / "pids"))
    run.cancel()
    until(lambda: ended(run))
    assert is_gone()
    assert run.refresh().status == "CANCELLED"
    assert [item.status for item in run.attempts()] == ["CANCELLED"]


@both_ways
def test_a_timeout_is_tried_again(processes: Processes, kit: Kit, workplace: Path) -> None:
    run, is_gone = hanging_run(kit, workplace, timeout="3s", retry_delay="0.5s")
    processes.start("worker")
    until(lambda: ended(run))
    assert is_gone()
    assert [item.status for item in run.attempts()] == ["TIMEOUT", "SUCCESS"]


def test_a_script_outside_the_roots_is_an_error_that_says_so(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    kit.add_job("gone", script(workplace, "gone.py", "print(1)"), retries=0)
    (workplace / "gone.py").unlink()
    run = kit.submit("gone")
    assert processes.start("worker", "--drain").wait(SOON) == 0
    (attempt,) = run.attempts()
    assert attempt.status == "ERROR"
    assert "gone.py does not exist" in (attempt.error_message or "")
    assert run.refresh().status == "FAILED"


def test_a_database_that_is_away_costs_no_result_and_stops_no_program(workplace: Path) -> None:
    server = start_server(always=True)
    assert server is not None
    url = server.url("postgres")
    migrations.upgrade(url)
    programs = Processes(url)
    try:
        with connect(url) as kit:
            source = (
                "import time, pathlib; pathlib.Path('up').touch(); time.sleep(2); print('done')"
            )
            kit.add_job("slow", script(workplace, "slow.py", source))
            run_id = kit.submit("slow").id
        spool = workplace.parent / "spool"
        programs.start(
            "worker",
            JOBKIT_LEASE_SECONDS="60",
            WORKER_HEARTBEAT_INTERVAL="1",
            JOBKIT_SPOOL_DIR=str(spool),
        )
        until((workplace / "up").exists)
        server.halt()
        late = programs.start("worker", "--name", "late")
        until(lambda: any(spool.glob("*/*.json")))
        time.sleep(2)
        assert late.poll() is None
        server.start()
        with connect(url) as kit:
            until(lambda: ended(kit.run(run_id)))
            run = kit.run(run_id)
            assert run.status == "COMPLETED"
            assert [item.status for item in run.attempts()] == ["SUCCESS"]
            assert run.output().text == "done\n"
            until(lambda: any(it.worker_id.startswith("late-") for it in kit.workers()))
        until(lambda: not any(spool.glob("*/*.json")))
    finally:
        programs.end()
        server.stop()
