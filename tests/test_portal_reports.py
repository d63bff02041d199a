"""Reports come from a process of their own: the portal stays small, whatever becomes of it."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

import jobkit
from jobkit.testing.history import generate
from jobkit.text import iso
from portal import Reporter, create_app
from portal.reports import reporter
from portal.reports.questions import Desk
from tests.places import places
from tests.programs import TOKEN, Programs
from tests.test_portal import open_portal, words
from tests.test_processes import SOON, until
from tests.worlds import be_hostile

STATE = (0, "")
LIBRARIES = ("polars", "duckdb")
BAR = 120 << 20
"""Bytes of memory that a portal may take."""


@pytest.fixture(scope="module")
def kit(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[jobkit.Kit]:
    path = tmp_path_factory.mktemp("reports") / "jobkit.db"
    shutil.copy(sqlite_template, path)
    with jobkit.connect(f"sqlite:///{path}", cache_dir=path.parent / "cache") as opened:
        generate(opened.database, attempts=300, months=0.2, now=opened.clock.now(), seed=3)
        yield opened


@pytest.fixture(scope="module")
def asked(kit: jobkit.Kit) -> Iterator[Reporter]:
    opened = Reporter(kit)
    yield opened
    opened.close()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Programs]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    opened = Programs(tmp_path)
    yield opened
    opened.end()


class Guest:
    """Asks a portal for pages, as whoever has its token."""

    def __init__(self, port: int) -> None:
        self._line = http.client.HTTPConnection("127.0.0.1", port, timeout=SOON)
        self._line.request("GET", f"/?token={TOKEN}")
        with self._line.getresponse() as answer:
            self._cookie = str(answer.headers["Set-Cookie"]).partition(";")[0]
            answer.read()

    def get(self, path: str) -> int:
        """Ask for a page; its status."""
        self._line.request("GET", path, headers={"Cookie": self._cookie})
        with self._line.getresponse() as answer:
            answer.read()
            return answer.status

    def close(self) -> None:
        """Hang up."""
        self._line.close()


def children(portal: psutil.Process) -> list[psutil.Process]:
    return [child for child in portal.children() if "portal.reports" in child.cmdline()]


def mapped(process: psutil.Process) -> set[str]:
    """Return which of the large libraries a process has in its memory."""
    files = [part.path for part in process.memory_maps()]
    return {name for name in LIBRARIES if any(f"{os.sep}_{name}" in file for file in files)}


@pytest.mark.skipif(os.name == "nt", reason="memory maps and signals")
def test_a_portal_stays_small_whatever_it_is_asked_and_its_child_ends_with_it(
    programs: Programs, tmp_path: Path
) -> None:
    world = be_hostile(programs.database, tmp_path, datetime.now(UTC))
    programs.start_portal()
    portal = psutil.Process(programs.process_id("portal"))
    with jobkit.connect(programs.database) as kit:
        asked = places(create_app(kit, token=TOKEN), world)
    with closing(Guest(programs.port)) as guest:
        for path in asked:
            status = guest.get(path)
            assert status in (200, 303, 400, 404), (path, status)
    (child,) = children(portal)
    assert mapped(child) == set(LIBRARIES)
    assert mapped(portal) == set()
    assert portal.memory_full_info().pss < BAR
    child.kill()
    with closing(Guest(programs.port)) as guest:
        assert guest.get("/coverage?window=30d") == 200
    (another,) = children(portal)
    assert another.pid != child.pid
    portal.kill()
    until(lambda: not another.is_running() or another.status() == psutil.STATUS_ZOMBIE)


def test_another_process_answers_as_this_one_does(kit: jobkit.Kit, asked: Reporter) -> None:
    here = Desk(lambda: kit)
    for name, given in {
        "coverage": {"window": "7d", "job": None, "at": 0, "most": 50},
        "report": {"window": "7d", "every": "3h", "name": "durations"},
    }.items():
        ours, theirs = (desk.ask(name, STATE, **given) for desk in (here, asked))
        for moment in ("as_of", "start", "end", "caption"):
            assert bool(ours.pop(moment, "")) is bool(theirs.pop(moment, ""))
        assert ours.keys() == theirs.keys()
        # What is said of a job, or of a value; a map is drawn to the second.
        assert [list(row[:2]) for row in ours["rows"]] == [row[:2] for row in theirs["rows"]]
    with pytest.raises(jobkit.NotFound, match="no job named 'nobody'") as error:
        asked.ask("coverage", STATE, window="7d", job="nobody", at=0, most=50)
    assert error.value.hint == "See them all: jobkit job list"
    past = {"start": "2020-01-01", "end": iso(kit.clock.now()), "job": None}
    holes = here.ask("holes", STATE, **past)
    assert holes
    assert asked.ask("holes", STATE, **past) == holes
    with pytest.raises(RuntimeError, match="KeyError in the process that makes reports"):
        asked.ask("weather", STATE)


def test_many_ask_one_child_at_once_and_a_killed_one_is_followed_by_another(
    asked: Reporter,
) -> None:
    def ask(name: str) -> bool:
        return bool(asked.ask("report", STATE, window="7d", every="3h", name=name)["sql"])

    names = ["durations", "failures", "late", "retries", "throughput", "slowest"]
    with ThreadPoolExecutor(len(names)) as pool:
        assert all(pool.map(ask, names))
        first = asked.process_id
        assert first is not None
        answers = [pool.submit(ask, name) for name in names]
        os.kill(first, getattr(signal, "SIGKILL", signal.SIGTERM))
        assert all(answer.result(60) for answer in answers)
    assert asked.process_id not in (None, first)


def test_a_child_that_nobody_asks_ends(kit: jobkit.Kit) -> None:
    brief = Reporter(kit, idle_seconds=0.1)
    for _ in range(2):
        assert brief.ask("report", STATE, window="7d", every="3h", name="retries")["sql"]
        until(lambda: brief.process_id is None)


def test_reports_that_cannot_be_made_say_so_and_leave_the_rest(
    kit: jobkit.Kit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    client = open_portal(kit, reports=Reporter(kit))
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\nkill -9 $$\n", "utf-8")
    broken.chmod(0o755)
    monkeypatch.setattr(reporter.sys, "executable", str(broken))
    for path in ("/coverage", "/analytics", "/analytics/late"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "was killed by signal 9, twice" in words(answer.text)
        assert "Content-Security-Policy" in answer.headers
    assert client.get("/jobs").status_code == 200


def test_no_file_of_the_current_folder_is_taken_for_a_library(
    kit: jobkit.Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "polars.py").write_text("raise SystemExit('not this one')\n", "utf-8")
    opened = Reporter(kit)
    assert opened.ask("report", STATE, window="7d", every="3h", name="retries")["sql"]
    opened.close()
