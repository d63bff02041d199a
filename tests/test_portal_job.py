"""A job's page: when it comes, how long it takes, what it takes, what it was before."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from portal import create_app
from tests.stage import Stage, at
from tests.test_portal import SAME_ORIGIN, TOKEN, XML, body, tree

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


def test_a_job_that_runs_elsewhere_is_pinged_and_not_started(
    stage: Stage, client: FlaskClient
) -> None:
    stage.kit.add_job("backup", "cron of db1", kind="external", cron="0 * * * *")
    document = body(client, "/jobs/backup")
    assert "jobkit ping backup" in section(document, "runs")
    assert "Run now" not in document
    assert "Backfill" not in document
    edited = client.post(
        "/jobs/backup/definition",
        data=_form_of(client) | {"start_deadline": "20m"},
        headers=SAME_ORIGIN,
    )
    assert edited.status_code == 303
    assert stage.kit.job("backup").start_deadline == timedelta(minutes=20)


def _form_of(client: FlaskClient) -> dict[str, str]:
    """Return what stands in the fields of the form of `backup`."""
    page = tree(body(client, "/jobs/backup/definition"))
    fields = {it.get("name", ""): it.get("value", "") for it in page.iter(f"{XML}input")}
    for area in page.iter(f"{XML}textarea"):
        fields[area.get("name", "")] = "".join(area.itertext())
    for choice in page.iter(f"{XML}select"):
        chosen = choice.find(f"{XML}option[@selected]")
        fields[choice.get("name", "")] = (
            "" if chosen is None else chosen.get("value") or "".join(chosen.itertext())
        )
    return fields


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


def fill(client: FlaskClient, **asked: str) -> Any:
    return client.post("/jobs/sales/backfill", data=asked, headers=SAME_ORIGIN)


def test_a_backfill_says_what_it_would_make_before_it_makes_it(
    stage: Stage, client: FlaskClient
) -> None:
    stage.job(daily="06:30", tz="Europe/Berlin")
    stage.kit.backfill("sales", at("00:00", day=1), at("12:00", day=1))
    link = "/jobs/sales/backfill"
    assert f'href="{link}"' in body(client, "/jobs/sales")
    assert 'value="2026-02-23T00:00"' in body(client, link)
    document = body(client, f"{link}?from=2026-02-27T00:00&to=2026-03-02T07:00")
    said = section(document, "would")
    assert "3 runs, the oldest first" in said
    assert "1 slot has a run already and is left out. Nothing is made yet." in said
    assert "2026-03-01 06:30:00 CET 2026-03-01 05:30:00 UTC has a run already" in said
    assert said.count("makes a run") == 3
    assert len(stage.runs()) == 1
    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', document.rpartition("<form")[2]))
    answer = fill(client, **form)
    assert answer.status_code == 303
    assert re.fullmatch(r"/runs\?job=sales&backfill=\w{12}", answer.location)
    listed = re.findall(r'data-key="run-(\d+)"', body(client, answer.location))
    assert sorted(listed) == ["2", "3", "4"]
    assert answer.location.replace("&", "&amp;") in body(client, "/runs/2")
    again = section(body(client, f"{link}?from=2026-02-27T00:00&to=2026-03-02T07:00"), "would")
    assert "Nothing: all 4 slots have a run already." in again
    assert "4 runs" in section(
        body(client, f"{link}?from=2026-02-27T00:00&to=2026-03-02T07:00&again=1"), "would"
    )


def test_a_wrong_backfill_is_said_beside_its_field_and_nothing_is_lost(
    stage: Stage, client: FlaskClient
) -> None:
    stage.job(daily="06:30")
    asked = {"from": "yesterday", "to": "2026-03-01T07:00", "limit": "many"}
    for answer in (client.get("/jobs/sales/backfill", query_string=asked), fill(client, **asked)):
        assert answer.status_code == 422
        assert "&#39;yesterday&#39; is not an instant." in answer.text
        assert 'value="yesterday" required aria-invalid="true"' in answer.text
        assert "&#39;many&#39; is no number." in answer.text
        assert 'value="2026-03-01T07:00"' in answer.text
    late = client.get("/jobs/sales/backfill?from=2026-04-01&to=2026-05-01")
    assert "there is no past slot" in late.text
    many = client.get("/jobs/sales/backfill?from=2026-02-01&to=2026-03-01&limit=9999")
    assert "limit=9999 is out of bounds." in many.text
    assert stage.runs() == []


def test_a_backfill_of_a_job_on_demand_says_why_not(stage: Stage, client: FlaskClient) -> None:
    stage.job()
    assert "backfill" not in body(client, "/jobs/sales")
    said = " ".join(tree(body(client, "/jobs/sales/backfill")).itertext())
    assert "without a schedule there are no slots to fill" in said
