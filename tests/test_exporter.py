"""What a scheduler and a worker show of themselves, on a port that they are asked for."""

from __future__ import annotations

import re
import urllib.request
from datetime import timedelta

import pytest

from jobkit import exporter
from jobkit.errors import BadInput, DatabaseUnavailable
from jobkit.exporter import Ticks, Work
from jobkit.kit import Kit
from jobkit.scheduler import Scheduler
from jobkit.settings import load
from jobkit.worker import Doings, Worker
from tests.stage import Stage
from tests.test_imports import loaded
from tests.test_metrics import Sample, of, read
from tests.test_processes import Processes, processes, until

__all__ = ["processes"]


def scraped(port: int) -> dict[Sample, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        return read(answer.read().decode())


def test_a_scheduler_counts_its_ticks_and_what_they_did(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks()
    made = Scheduler(stage.kit.database, stage.kit.settings, told=ticks.add)
    stage.lease = timedelta(minutes=1)
    stage.job(every="10m")
    stage.clock.turn(timedelta(minutes=10))
    made.step()
    stage.claim_one()
    stage.clock.turn(timedelta(minutes=5))
    made.step()

    def away() -> None:
        raise DatabaseUnavailable("It is away.", "")

    monkeypatch.setattr(made, "_tick", away)
    made.step()
    with exporter.served(ticks.registry, load(metrics_port=0)) as port:
        found = scraped(port)
    assert of(found, "scheduler_tick_seconds_count") == 2
    assert of(found, "scheduler_dispatched_total") == 1
    assert of(found, "scheduler_rescued_total") == 1
    assert of(found, "scheduler_failed_ticks_total") == 1
    assert 0 <= of(found, "scheduler_tick_age_seconds") < 60
    assert found["process_resident_memory_bytes", ()] > 1e6


def test_a_worker_counts_what_it_takes_on_and_how_that_ends(kit: Kit) -> None:
    kit.add_job("good", "hello.py")
    kit.add_job("bad", "hello.py", "--no-such", kind="shell", retries=0)
    for name in ("good", "bad"):
        kit.submit(name)
    made = Worker(kit.database, load(db_url=kit.settings.db_url), until_idle=True)
    made.run()
    assert made.doings() == Doings(slots=4, busy=0, begun=2, ended={"SUCCESS": 1, "FAILURE": 1})
    with exporter.served(Work(made.doings).registry, load(metrics_port=0)) as port:
        found = scraped(port)
    assert (of(found, "worker_slots"), of(found, "worker_slots_busy")) == (4, 0)
    assert of(found, "worker_claims_total") == 2
    assert of(found, "worker_attempts_total", status="FAILURE") == 1
    assert of(found, "worker_attempts_total", status="LOST") == 0


def test_a_port_that_is_taken_is_named() -> None:
    registry = Ticks().registry
    with exporter.served(registry, load(metrics_port=0)) as port:
        again = exporter.served(registry, load(metrics_port=port))
        words = f"127.0.0.1:{port}: Address already in use"
        with pytest.raises(BadInput, match=words), again:
            pass


@pytest.mark.parametrize("processes", ["on"], indirect=True)
def test_the_programs_open_a_port_when_they_are_asked_to(processes: Processes) -> None:
    asked = [
        processes.start("scheduler", "--metrics-port", "0"),
        processes.start("worker", JOBKIT_METRICS_PORT="0"),
    ]
    alone = processes.start("worker")
    ports = []
    for program in asked:
        until(lambda: "/metrics" in processes.said(program))  # noqa: B023 - asked at once
        found = re.search(r"http://127.0.0.1:(\d+)/metrics", processes.said(program))
        assert found is not None
        ports.append(int(found[1]))
    until(lambda: of(scraped(ports[0]), "scheduler_tick_seconds_count") > 0)
    assert of(scraped(ports[1]), "worker_slots") == 4
    until(lambda: " on " in processes.said(alone))
    assert "/metrics" not in processes.said(alone)
    asked[0].terminate()
    assert asked[0].wait(60) == 0, processes.said(asked[0])


def test_nothing_of_it_is_loaded_unless_it_is_asked_for() -> None:
    code = "import sys\nimport jobkit.scheduler, jobkit.worker, jobkit.kit\n"
    show = "print(*sorted({heavy!r} & set(sys.modules)), sep=',', file=sys.stderr)"
    heavy = {"prometheus_client", "wsgiref.simple_server"}
    assert loaded(code + show, heavy) == ""
    assert loaded(code + "import jobkit.exporter\n" + show, heavy) == ",".join(sorted(heavy))
