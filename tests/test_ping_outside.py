"""Who tells of the schedulers' own end: a URL outside that one of them pings."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

import pytest

from jobkit.kit import Kit
from jobkit.scheduler import Scheduler
from tests.listeners import Heard, listening
from tests.stage import Stage
from tests.test_processes import SOON, Processes, until


@pytest.fixture
def programs(sqlite_database: str) -> Iterator[Processes]:
    opened = Processes(sqlite_database)
    yield opened
    opened.end()


def names(heard: list[Heard]) -> Counter[str]:
    """Return how often each scheduler said that it is there."""
    return Counter(it.body.decode() for it in heard if it.path == "/check")


def test_when_the_scheduler_that_pings_is_killed_another_goes_on(
    programs: Processes,
) -> None:
    with listening() as outside:
        url = f"http://127.0.0.1:{outside.port}/check"
        given = {"JOBKIT_PING_URL": url, "JOBKIT_PING_INTERVAL": "1"}
        first = programs.start("scheduler", **given)
        until(lambda: names(outside.heard).total() >= 2)
        assert outside.heard[0].path == "/check/start"
        (one,) = names(outside.heard)
        programs.start("scheduler", **given)
        until(lambda: [it.path for it in outside.heard].count("/check/start") == 2)
        first.send_signal(signal.SIGKILL)
        first.wait()
        until(lambda: names(outside.heard)[one] < names(outside.heard).total() - 1)


def test_a_url_that_fails_harms_nothing_and_is_one_warning(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    with listening() as outside:
        outside.status = 500
        url = f"http://127.0.0.1:{outside.port}/check"
        chosen = {
            "ping_url": url,
            "ping_interval": timedelta(seconds=0.1),
            "scheduler_poll_interval": timedelta(seconds=0.1),
        }
        made = Scheduler(kit.database, kit.settings.model_copy(update=chosen))
        running = threading.Thread(target=made.run)
        running.start()
        try:
            kit.add_job("quick", "hello.py", every="1s")
            until(lambda: len(outside.heard) >= 3 and kit.runs(job="quick") != [])
        finally:
            made.stop.set()
            running.join(SOON)
    assert caplog.text.count("JOBKIT_PING_URL failed: it answered 500") == 1
    assert url not in caplog.text


def test_a_scheduler_that_breaks_says_so(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_: Scheduler) -> float:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Scheduler, "step", breaks)
    with listening() as outside:
        url = f"http://127.0.0.1:{outside.port}/check"
        made = Scheduler(
            stage.kit.database, stage.kit.settings.model_copy(update={"ping_url": url})
        )
        with pytest.raises(RuntimeError):
            made.run()
    assert [it.path for it in outside.heard][-1] == "/check/fail"


def test_one_of_the_schedulers_has_the_duty_and_those_without_a_url_leave_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    pings: list[str] = []
    monkeypatch.setattr("jobkit.notify.Pinger.ping", lambda self: pings.append(self._name))
    chosen = stage.kit.settings.model_copy(update={"ping_url": "https://hc.example/x"})
    mute = Scheduler(stage.kit.database, stage.kit.settings)
    both = [Scheduler(stage.kit.database, chosen) for _ in range(2)]
    for _ in range(3):
        for made in (mute, *both):
            made.step()
        stage.clock.turn(timedelta(seconds=60))
    assert pings == [both[0].name] * 3
