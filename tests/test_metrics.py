"""Metrics: what Prometheus reads of a database, on a literal clock."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from jobkit.metrics import Meter
from jobkit.store import history, tallies
from portal import create_app
from tests.people import add_people
from tests.stage import Stage, at
from tests.test_portal import TOKEN, open_portal

Sample = tuple[str, tuple[tuple[str, str], ...]]


def read(text: str) -> dict[Sample, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def scrape(meter: Meter) -> dict[Sample, float]:
    return read(meter.exposition().decode())


def of(found: dict[Sample, float], name: str, **labels: str) -> float:
    return found[f"jobkit_{name}", tuple(sorted(labels.items()))]


def lived(stage: Stage, exit_code: int, *, start: str, end: str) -> None:
    stage.clock.turn_to(at(start))
    claim = stage.claim_one()
    stage.clock.turn_to(at(end))
    stage.finish(claim, exit_code=exit_code)


def count(stage: Stage, after: timedelta = tallies.LAG) -> bool:
    """Count as a scheduler does, a moment later; returns whether more is left."""
    stage.clock.turn(after)
    with stage.kit.database.write() as connection:
        return tallies.count(connection, stage.clock.now())


@pytest.fixture
def meter(stage: Stage) -> Meter:
    stage.register()
    stage.job("sales", cron="*/30 * * * *", retries=0)
    return stage.kit.meter()


def test_runs_are_counted_by_queue_trigger_and_end(stage: Stage, meter: Meter) -> None:
    stage.tick(at("06:30"))
    lived(stage, 0, start="06:30:20", end="06:31")
    stage.kit.submit("sales")
    lived(stage, 1, start="06:40", end="06:50")
    count(stage)
    found = scrape(meter)
    assert of(found, "runs_dispatched_total", queue="default", trigger="schedule") == 1
    assert of(found, "runs_dispatched_total", queue="default", trigger="manual") == 1
    assert of(found, "runs_finished_total", queue="default", status="COMPLETED") == 1
    assert of(found, "runs_finished_total", queue="default", status="FAILED") == 1
    assert of(found, "runs_finished_total", queue="default", status="MISSED") == 0
    assert of(found, "run_seconds_sum", queue="default") == 40 + 600
    assert of(found, "run_seconds_bucket", queue="default", le="60.0") == 1
    assert of(found, "run_seconds_bucket", queue="default", le="+Inf") == 2
    assert of(found, "lateness_seconds_sum", queue="default") == 20
    assert of(found, "lateness_seconds_count", queue="default") == 1
    count(stage)
    assert scrape(meter) == found, "nothing is counted twice"
    assert scrape(stage.kit.meter()) == found, "and every portal shows the same"


def test_what_became_visible_late_and_what_is_too_much_for_one_look_is_counted_by_the_next(
    stage: Stage, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "MOST_READ", 2)
    stage.kit.submit_many("sales", [{}] * 5)  # all of one instant
    looks = []
    for after in (timedelta(0), tallies.LAG, timedelta(0), timedelta(0), timedelta(0)):
        is_more = count(stage, after)
        dispatched = of(scrape(meter), "runs_dispatched_total", queue="default", trigger="manual")
        looks.append((dispatched, is_more))
    assert looks == [(0, False), (2, True), (4, True), (5, False), (5, False)]


def test_two_schedulers_that_read_the_same_runs_count_them_once(
    stage: Stage, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.kit.submit_many("sales", [{}] * 3)
    count(stage)
    stage.kit.submit_many("sales", [{}] * 4)
    read = tallies._move

    def overtaken(*given: Any) -> bool:
        """What was read by now, another scheduler reads and counts before us."""
        monkeypatch.setattr(tallies, "_move", read)
        tallies.count(given[0], stage.clock.now())
        return read(*given)

    monkeypatch.setattr(tallies, "_move", overtaken)
    count(stage)
    found = scrape(meter)
    assert of(found, "runs_dispatched_total", queue="default", trigger="manual") == 7


def test_many_schedulers_that_count_at_once_count_each_run_once(
    stage: Stage, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tallies, "MOST_READ", 5)
    stage.kit.submit_many("sales", [{}] * 150)
    stage.clock.turn(tallies.LAG)
    begin = Barrier(4)

    def work() -> None:
        begin.wait()
        for _ in range(30):  # enough for one alone
            with stage.kit.database.write() as connection:
                tallies.count(connection, stage.clock.now())

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    found = scrape(meter)
    assert of(found, "runs_dispatched_total", queue="default", trigger="manual") == 150


def test_counters_outlive_the_runs_that_they_count(stage: Stage, meter: Meter) -> None:
    stage.kit.submit("sales")
    lived(stage, 0, start="06:10", end="06:11")
    count(stage)
    before = scrape(meter)
    stage.clock.turn(timedelta(days=40))
    with stage.kit.database.write() as connection:
        cleaned = history.clean_up(connection, stage.clock.now(), keep=timedelta(days=30))
    assert len(cleaned.run_ids) == 1
    count(stage)
    found = scrape(stage.kit.meter())
    assert of(found, "runs_finished_total", queue="default", status="COMPLETED") == 1
    assert of(found, "run_seconds_sum", queue="default") == 60
    assert all(found[it] == before[it] for it in before if it[0].endswith(("_total", "_bucket")))


def test_the_first_look_leaves_out_what_is_older_than_an_hour(stage: Stage, meter: Meter) -> None:
    stage.kit.submit("sales")
    stage.clock.turn(timedelta(hours=2))
    stage.kit.submit("sales")
    count(stage)
    found = scrape(meter)
    assert of(found, "runs_dispatched_total", queue="default", trigger="manual") == 1


def test_gauges_say_how_queues_workers_and_the_scheduler_stand(stage: Stage, meter: Meter) -> None:
    stage.kit.submit_many("sales", [{}] * 3)
    stage.claim_one()
    stage.clock.turn(timedelta(seconds=90))
    found = scrape(meter)
    assert of(found, "jobs", state="active") == 1
    assert of(found, "queue_waiting", queue="default") == 2
    assert of(found, "queue_running", queue="default") == 1
    assert of(found, "queue_oldest_seconds", queue="default") == 90
    assert of(found, "workers", status="IDLE") == 1
    assert of(found, "workers", status="OFFLINE") == 0
    assert (of(found, "slots"), of(found, "slots_busy")) == (4, 1)
    assert of(found, "database_bytes") > 10_000
    assert of(found, "archive_bytes") == 0
    assert "jobkit_scheduler_seen_seconds" not in {name for name, _ in found}


def test_leases_that_ran_out_and_tries_that_failed_are_counted(stage: Stage, meter: Meter) -> None:
    stage.lease = timedelta(minutes=1)
    stage.kit.edit("sales", retries=1, retry_delay="0s")
    stage.kit.submit("sales")
    stage.claim_one()
    stage.tick(at("06:10"))
    lived(stage, 1, start="06:11", end="06:12")
    lived(stage, 0, start="06:13", end="06:14")
    count(stage)
    found = scrape(meter)
    assert of(found, "lease_rescues_total", queue="default") == 1
    assert of(found, "retries_total", queue="default") == 1


def test_the_page_takes_a_token_and_lets_nobody_else_in(stage: Stage, client: FlaskClient) -> None:
    assert client.get("/metrics").mimetype == "text/plain"
    stranger = create_app(stage.kit, token=TOKEN).test_client()
    assert stranger.get("/metrics").status_code == 401
    shown = stranger.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert read(shown.text)["jobkit_slots", ()] == 0
    assert stranger.get("/runs", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 401


def test_a_viewer_s_token_reads_metrics_where_people_sign_in(stage: Stage) -> None:
    add_people(stage.kit)
    secret = stage.kit.tokens.add("prometheus", "viewer")
    team = create_app(stage.kit, token=None).test_client()
    assert team.get("/metrics", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    assert team.get("/metrics", headers={"Authorization": "Bearer jk_no"}).status_code == 401


def test_promtool_finds_nothing_to_mend(stage: Stage, meter: Meter) -> None:
    if shutil.which("promtool") is None and "CI" not in os.environ:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    stage.tick(at("06:30"))
    lived(stage, 0, start="06:30:20", end="06:31")
    count(stage)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=meter.exposition(), capture_output=True
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    return open_portal(stage.kit)
