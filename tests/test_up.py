"""`jobkit up --demo`, as a newcomer starts it: one process, real scripts, a portal, Ctrl-C."""

from __future__ import annotations

import http.cookiejar
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import jobkit
from tests.test_processes import until

SAMPLES = {
    "hello", "flaky fetch", "slow load", "disk report", "make sales", "best regions",
    "daily report",
}  # fmt: skip
Start = Callable[..., "Up"]


class Up:
    """The command while it runs, and the address it printed."""

    def __init__(self, *arguments: str, **settings: str) -> None:
        with Path("up.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobkit", "up", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | settings,
            )
        assert self.process.stdout is not None
        self.said = [self.process.stdout.readline().strip() for _ in range(2)]
        self.address = self.said[-1]
        cookies = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        self._opener = urllib.request.build_opener(cookies)

    def page(self, path: str) -> str:
        base, _, token = self.address.partition("/?token=")
        address = f"{base}{path}?token={token}"
        with self._opener.open(address, timeout=20) as answer:
            body: str = answer.read().decode()
            return body

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(30)
        if code:
            print(Path("up.log").read_text("utf-8"))
        return code


@pytest.fixture
def start(database: str) -> Iterator[Start]:
    started: list[Up] = []

    def begin(*arguments: str, **settings: str) -> Up:
        started.append(Up(*arguments, JOBKIT_DB_URL=database, **settings))
        return started[-1]

    yield begin
    for up in started:
        up.process.kill()
        up.process.communicate()


def test_the_demo_runs_real_scripts_in_a_browser_and_ctrl_c_ends_all(
    start: Start, database: str, workplace: Path
) -> None:
    up = start("--demo", "--port", "0", "--no-browser", "--slots", "2")
    assert up.said[0].startswith("jobkit is up on ")
    assert "/?token=" in up.address
    with jobkit.connect(database) as kit:
        assert {job.name for job in kit.jobs} == SAMPLES
        until(lambda: any(run.status == "COMPLETED" for run in kit.runs(job="hello")))
        until(lambda: kit.runs(job="slow load")[-1].status == "IN_PROGRESS")
        until(lambda: bool(up.family()))
        family = up.family()
        for path in ("/", "/jobs", "/jobs/hello", "/runs", "/runs/1", "/workers"):
            assert "</html>" in up.page(path)
        assert "hello" in up.page("/jobs")
        began = time.monotonic()
        assert up.interrupt() == 0
        assert time.monotonic() - began < 20
        assert not [process for process in family if process.is_running()]
        assert {worker.status for worker in kit.workers()} == {"OFFLINE"}
        assert not kit.runs(status="IN_PROGRESS")


def test_a_second_start_keeps_the_jobs_and_uses_the_next_free_port(
    start: Start, database: str, workplace: Path
) -> None:
    first = start("--demo", "--no-browser", JOBKIT_PORT="18765")
    second = start("--demo", "--no-browser", JOBKIT_PORT="18765")
    assert first.address.split("/?")[0] != second.address.split("/?")[0]
    assert "</html>" in second.page("/jobs")
    with jobkit.connect(database) as kit:
        assert len(kit.jobs) == len(SAMPLES)


def test_a_port_that_was_asked_for_and_is_taken_is_named(
    start: Start, database: str, workplace: Path
) -> None:
    taken = start("--port", "0", "--no-browser").address.split(":")[2].split("/")[0]
    done = subprocess.run(
        [sys.executable, "-m", "jobkit", "up", "--port", taken],
        capture_output=True, text=True, timeout=30, env=os.environ | {"JOBKIT_DB_URL": database},
    )  # fmt: skip
    assert done.returncode == 2
    assert taken in done.stderr
    assert "Traceback" not in done.stderr
