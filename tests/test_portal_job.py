"""A job's page: when it comes, how long it takes, what it takes, what it was before."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask.testing import FlaskClient

from portal import create_app
from tests.stage import Stage, at
from tests.test_portal import TOKEN, XML, body, tree

SIGNATURE = [
    {"name": "day", "type": "date", "required": True, "help": "which day to load"},
    {"name": "region", "type": "str", "default": "eu", "choices": ["eu", "us"]},
    {"name": "full", "type": "bool", "default": False},
]


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    client = create_app(stage.kit, token=TOKEN).test_client()
    client.get("/", query_string={"token": TOKEN})
    return client


def section(document: str, name: str) -> str:
    """Return the words of one section of a page."""
    found = tree(document).find(f".//{XML}section[@aria-labelledby='{name}']")
    return "" if found is None else " ".join(" ".join(found.itertext()).split())


def worked(stage: Stage, minutes: int, exit_code: int = 0) -> None:
    stage.kit.submit("sales")
    claim = stage.claim_one()
    stage.clock.turn(timedelta(minutes=minutes))
    stage.finish(claim, exit_code=exit_code)


def test_a_job_shows_ten_slots_and_what_the_clocks_do_to_them(
    stage: Stage, client: FlaskClient
) -> None:
    stage.clock.turn_to(at("06:00", day=25))
    stage.job(daily="02:30", tz="Europe/Berlin")
    document = body(client, "/jobs/sales")
    said = section(document, "slots")
    assert document.count('data-key="slot-') == 10
    moved = "2026-03-29 03:00:00 CEST clocks change moved, as 02:30 does not exist that day"
    assert moved in said


def test_a_job_without_a_schedule_or_a_run_says_what_to_do(
    stage: Stage, client: FlaskClient
) -> None:
    stage.job()
    document = body(client, "/jobs/sales")
    assert "None: it runs on demand. Give it a schedule" in section(document, "slots")
    assert "It has not run yet." in section(document, "runs")
    assert section(document, "durations") == ""
    assert "It declares none." in section(document, "parameters")


def test_a_job_draws_how_long_its_runs_took_and_gives_the_numbers(
    stage: Stage, client: FlaskClient
) -> None:
    stage.job(retries=0)
    for minutes in (1, 2, 3):
        worked(stage, minutes)
    worked(stage, 5, exit_code=1)
    stage.kit.submit("sales")  # it waits: it has no duration
    document = body(client, "/jobs/sales")
    said = section(document, "durations")
    assert "How long the last 4 runs took" in said
    assert "completed: 3, 1 min to 3 min, half up to 2 min. failed: 1, 5 min." in said
    assert "run 4: failed, 5 min" in said
    assert "run 1 completed" in said
    links = re.findall(r'<td><a href="(/runs/\d+)">run', document)
    assert links == ["/runs/4", "/runs/3", "/runs/2", "/runs/1"]


def test_a_job_shows_its_parameters_with_types_and_defaults(
    stage: Stage, client: FlaskClient
) -> None:
    stage.job(signature=SIGNATURE, params={"region": "us"})
    said = section(body(client, "/jobs/sales"), "parameters")
    assert "day date required which day to load" in said
    assert 'region str one of ["eu", "us"] "eu" "us"' in said
    assert "full bool false" in said


def test_a_version_shows_how_the_source_differs(stage: Stage, client: FlaskClient) -> None:
    stage.job(source="a = 1\nprint(a)\n")
    stage.kit.edit("sales", source="a = 2\nprint(a)\n", priority=3)
    said = section(body(client, "/jobs/sales"), "versions")
    assert "2 edited priority 0 → 3 its source --- before +++ after" in said
    assert "-a = 1 +a = 2" in said


def test_a_page_reads_only_the_last_runs_of_a_job(stage: Stage, client: FlaskClient) -> None:
    stage.job(retries=0)
    made = stage.kit.submit_many("sales", [{} for _ in range(205)])
    for _ in made:
        claim = stage.claim_one()
        stage.clock.turn(timedelta(seconds=1))
        stage.finish(claim)
    said = section(body(client, "/jobs/sales"), "durations")
    assert "How long the last 200 runs took" in said
    assert "run 5 completed" not in said
    assert "run 6 completed" in said
