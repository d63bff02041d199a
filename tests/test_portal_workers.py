"""The page of the workers: what each holds, and what waits in the queues."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from jobkit.store import workers
from portal import create_app
from tests.stage import Stage
from tests.test_portal import TOKEN, body, words
from tests.test_portal_job import section


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    client = create_app(stage.kit, token=TOKEN).test_client()
    client.get("/", query_string={"token": TOKEN})
    return client


def test_a_worker_shows_what_it_holds_of_its_slots(stage: Stage, client: FlaskClient) -> None:
    for name in ("load", "train"):
        stage.job(name)
        stage.kit.submit(name)
    stage.register("w1")
    stage.claim("w1", limit=2)
    stage.clock.turn(timedelta(seconds=30))
    document = body(client, "/workers")
    assert "2 of 4 1 load," in words(document)
    assert 'href="/runs/1"' in document
    assert 'href="/runs/2"' in document
    assert "silent" not in document
    stage.clock.turn(stage.kit.settings.worker_offline_threshold)
    assert "silent" in body(client, "/workers")
    with stage.kit.database.write() as connection:
        workers.sign_off(connection, stage.clock.now(), "w1", 2)
    said = words(body(client, "/workers"))
    assert "No worker is online." in said
    assert "1 that ended or fell silent" in said


def test_a_queue_shows_its_depth_its_oldest_and_who_serves_it(
    stage: Stage, client: FlaskClient
) -> None:
    assert "Nothing waits, and no worker serves a queue." in words(body(client, "/workers"))
    stage.job("load", overlap="allow", retries=1, retry_delay="1h")
    stage.job("train", queue="gpu")
    stage.register("w1")
    assert "default 0 0 0 nothing waits 1 worker, 4 slots" in section(
        body(client, "/workers"), "queues"
    )
    for _ in range(3):
        stage.kit.submit("load")
    stage.kit.submit("train")
    stage.claim_one()
    stage.finish(stage.claim_one(), exit_code=1)
    stage.clock.turn(timedelta(minutes=2))
    said = section(body(client, "/workers"), "queues")
    assert "default 1 1 1 due 2026-03-02 06:00:00 UTC 1 worker, 4 slots" in said
    assert "gpu 0 1 0 due 2026-03-02 06:00:00 UTC nobody jobkit worker --queues gpu" in said
