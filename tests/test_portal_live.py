"""What polls are answered: nothing while nothing changed, and the same to everybody at once."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from portal import create_app, live
from tests.stage import Stage

TOKEN = "the-token"


@pytest.fixture
def client(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    monkeypatch.setattr(live, "BUCKET_SECONDS", 1e9)  # the clock alone makes nothing new
    stage.job("sales", every="15m")
    client = create_app(stage.kit, token=TOKEN).test_client()
    client.get("/", query_string={"token": TOKEN})
    return client


def poll(client: FlaskClient, path: str, have: str = "none") -> Any:
    return client.get(path, headers={"HX-Request": "true", "X-Have": have})


def statements(stage: Stage) -> list[str]:
    """Return what is asked of the tables from now on."""
    asked: list[str] = []

    def note(_connection: Any, _cursor: Any, sql: str, *_: object) -> tuple[str, Any]:
        asked.append(sql)
        return sql, _[0]

    sa.event.listen(stage.kit.database.engine, "before_cursor_execute", note, retval=True)
    return asked


@pytest.mark.parametrize("path", ["/", "/jobs", "/runs", "/workers", "/jobs/sales", "/counts"])
def test_a_poll_that_finds_nothing_new_is_answered_204_without_a_look_at_a_table(
    stage: Stage, client: FlaskClient, path: str
) -> None:
    first = poll(client, path)
    assert first.status_code == 200
    asked = statements(stage)
    again = poll(client, path, first.headers["X-Have"])
    assert (again.status_code, again.data) == (204, b"")
    assert again.headers["X-Have"] == first.headers["X-Have"]
    assert asked == []
    assert len(str(again.headers)) < 900


def test_a_commit_is_seen_by_the_next_poll(stage: Stage, client: FlaskClient) -> None:
    have = poll(client, "/runs").headers["X-Have"]
    run = stage.kit.submit("sales")
    seen = client.get(f"/runs/{run.id}")
    assert seen.status_code == 200
    fresh = poll(client, "/runs?job=sales", have)
    assert fresh.status_code == 200
    assert f'data-key="run-{run.id}"' in fresh.text


def test_a_commit_that_changes_nothing_shown_is_answered_204_as_well(
    stage: Stage, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SHARED_SECONDS", 0)
    have = poll(client, "/workers").headers["X-Have"]
    stage.kit.audit.note("did", "nothing that the page shows", who="ada")
    again = poll(client, "/workers", have)
    assert again.status_code == 204
    assert again.headers["X-Have"] != have


def test_a_part_that_is_shared_is_not_taken_for_one_of_now(
    stage: Stage, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = poll(client, "/runs").headers["X-Have"]
    run = stage.kit.submit("sales")
    shared = poll(client, "/runs")  # of somebody else, within the second
    assert shared.headers["X-Have"] == first
    monkeypatch.setattr(live, "SHARED_SECONDS", 0)
    fresh = poll(client, "/runs", first)
    assert fresh.status_code == 200
    assert f'data-key="run-{run.id}"' in fresh.text


def test_a_page_tells_its_first_poll_what_it_has(client: FlaskClient) -> None:
    page = client.get("/jobs").text
    have = page.partition('data-have="')[2].partition('"')[0]
    assert poll(client, "/jobs", have.partition("-")[0] + "-").status_code == 204


def test_the_state_of_a_database_changes_with_each_commit_and_with_nothing_else(
    stage: Stage,
) -> None:
    pulse = stage.kit.pulse
    stage.job("sales", every="15m")
    before = pulse.read()
    assert stage.kit.job("sales").name == "sales"
    assert pulse.read() == before
    stage.kit.submit("sales")
    after = pulse.read()
    assert after != before
    assert pulse.read() == after
