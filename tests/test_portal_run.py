"""A run's page: why it waits, when it should end, what is unusual, what waits with it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from jobkit.store import kernels
from jobkit.store.claims import Claim
from jobkit.store.kernels import Kernel
from portal import create_app
from tests.stage import Stage
from tests.test_portal import TOKEN, body, words
from tests.test_portal_job import section, worked


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    client = create_app(stage.kit, token=TOKEN).test_client()
    client.get("/", query_string={"token": TOKEN})
    return client


def keep(stage: Stage, claim: Claim, minutes: int) -> None:
    """Keep the kernel of an attempt whose second cell failed."""
    now = stage.clock.now()
    kernel = Kernel(
        "box", 7, "/tmp/k.json", 2, 3, "x = <b>1</b> / 0", "ZeroDivisionError: division by zero",
        now + timedelta(minutes=minutes),
    )  # fmt: skip
    with stage.kit.database.write() as connection:
        assert kernels.keep(
            connection, claim, kernel, started_at=now, failed_at=now, measures={}, text="kept"
        )


def test_a_run_that_waits_says_why(stage: Stage, client: FlaskClient) -> None:
    stage.job(queue="gpu")
    stage.kit.submit("sales")
    said = words(body(client, "/runs/1"))
    assert "Why it waits: no worker serves queue 'gpu'; none is online." in said
    stage.register("box-1")
    assert "no worker serves queue 'gpu'; online: box (default)" in words(body(client, "/runs/1"))
    stage.claim("w1", queue="gpu")
    assert "Why it waits" not in body(client, "/runs/1")


def test_a_run_shows_how_much_of_its_expected_time_has_passed(
    stage: Stage, client: FlaskClient
) -> None:
    stage.job(retries=0)
    for _ in range(8):
        worked(stage, 10)
    stage.kit.submit("sales")
    claim = stage.claim_one()
    stage.clock.turn(timedelta(minutes=4))
    said = words(body(client, "/runs/9"))
    assert "40% of the time that is expected" in said
    assert "Expected end about 2026-03-02 07:30:00 UTC, in 6 min" in said
    stage.clock.turn(timedelta(minutes=26))
    said = words(body(client, "/runs/9"))
    assert "unusually long: 30 min, p50 is 10 min" in said
    assert "100%" not in said
    stage.finish(claim)
    assert "of the time that is expected" not in body(client, "/runs/9")


def test_a_success_that_came_far_too_soon_is_marked(stage: Stage, client: FlaskClient) -> None:
    stage.job(retries=0)
    for _ in range(8):
        worked(stage, 10)
    worked(stage, 1)
    said = words(body(client, "/runs/9"))
    assert "✓ completed unusually short" in said
    assert "unusually short: 1 min, usually 10 min" in said


def test_a_kernel_that_is_kept_says_until_when_and_how_to_reach_it(
    stage: Stage, client: FlaskClient
) -> None:
    stage.job(retries=0)
    stage.kit.submit("sales")
    claim = stage.claim_one()
    assert section(body(client, "/runs/1"), "kept") == ""
    keep(stage, claim, minutes=15)
    said = section(body(client, "/runs/1"), "kept")
    assert "Its kernel is kept until 2026-03-02 06:15:00 UTC" in said
    assert "Cell 2 of 3 failed: ZeroDivisionError: division by zero" in said
    assert "waits on box (worker w1)" in said
    assert "x = <b>1</b> / 0" in said
    assert "%jobkit attach 1" in said
    stage.kit.runs.go_on(1, "x = 1")
    assert "Somebody asked it to go on." in section(body(client, "/runs/1"), "kept")
    with stage.kit.database.write() as connection:
        assert kernels.go_on(connection, claim, stage.clock.now(), stage.lease) is not None
    document = body(client, "/runs/1")
    assert section(document, "kept") == ""
    assert "Cell 2, by" in section(document, "edits")
    assert "-x = <b>1</b> / 0 +x = 1" in section(document, "edits")
