"""`/healthz`: whether runs are made and executed, on a literal clock."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

import jobkit
from jobkit.health import Health
from jobkit.scheduler import Scheduler
from portal import create_app
from tests.stage import MONDAY, Stage

POLL = timedelta(seconds=10)
OK = {"database": "ok", "scheduler": "ok", "workers": "ok"}


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    return create_app(stage.kit, token="the-token").test_client()


def told(client: FlaskClient) -> tuple[int, Any]:
    answer = client.get("/healthz")
    return answer.status_code, answer.json


def test_ready_is_a_database_a_scheduler_and_a_worker(client: FlaskClient, stage: Stage) -> None:
    nothing = {"status": "unavailable", **OK, "scheduler": "away", "workers": "away"}
    assert told(client) == (503, nothing)
    stage.register()
    assert told(client) == (503, nothing | {"workers": "ok"})
    Scheduler(stage.kit.database, stage.kit.settings).step()
    assert told(client) == (200, {"status": "ready", **OK})
    assert client.get("/healthz?live").json == {"status": "live"}


def test_a_scheduler_is_seen_at_each_of_its_polls_and_gone_after_three(
    client: FlaskClient, stage: Stage
) -> None:
    stage.register()
    made = Scheduler(stage.kit.database, stage.kit.settings)
    for _ in range(5):
        stage.clock.turn(POLL)
        made.step()
        assert stage.kit.health().scheduler_seen_at == stage.clock.now()
    stage.clock.turn(3 * POLL)
    assert told(client)[0] == 200
    stage.clock.turn(timedelta(seconds=1))
    assert told(client) == (503, {"status": "unavailable", **OK, "scheduler": "away"})
    Scheduler(stage.kit.database, stage.kit.settings).step()
    assert told(client)[0] == 200


def test_any_scheduler_will_do(stage: Stage) -> None:
    first, second = (Scheduler(stage.kit.database, stage.kit.settings) for _ in range(2))
    first.step()
    stage.clock.turn(POLL)
    second.step()
    assert stage.kit.health().scheduler_seen_at == MONDAY + POLL


def test_a_worker_without_a_heartbeat_counts_for_nothing(stage: Stage) -> None:
    stage.register()
    assert stage.kit.health().workers_online == 1
    stage.clock.turn(stage.kit.settings.worker_offline_threshold + timedelta(seconds=1))
    assert stage.kit.health().workers_online == 0


def test_a_database_that_is_away_is_said_and_the_process_lives(
    client: FlaskClient, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise jobkit.DatabaseUnavailable("It does not answer.", "Is it started?")

    monkeypatch.setattr(stage.kit.database, "read", away)
    assert told(client) == (503, {"status": "unavailable", "database": "away"})
    assert client.get("/healthz?live").status_code == 200


def test_health_is_judged_by_plain_instants() -> None:
    def judge(seen: timedelta | None, *beats: int) -> Health:
        return Health.judge(
            MONDAY,
            scheduler_seen_at=None if seen is None else MONDAY - seen,
            poll=POLL,
            heartbeats=[MONDAY - timedelta(seconds=beat) for beat in beats],
            threshold=timedelta(seconds=180),
        )

    assert judge(timedelta(seconds=30), 180).is_ready
    assert not judge(timedelta(seconds=31), 0).is_ready
    assert not judge(None, 0).is_ready
    assert not judge(timedelta(0), 181).is_ready
    assert judge(timedelta(0), 0, 10, 500).workers_online == 2
