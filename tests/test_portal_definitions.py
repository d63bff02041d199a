"""Jobs are written in the portal, seen before they are kept, and never lost to another's change."""

from __future__ import annotations

import re
from typing import Any

import pytest
from flask.testing import FlaskClient

from portal import create_app
from tests.stage import Stage
from tests.test_portal import SAME_ORIGIN, TOKEN, body, words

FORM = {"name": "daily sales", "target": "hello.py", "timing": "daily", "when": "06:30"}


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    client = create_app(stage.kit, token=TOKEN).test_client()
    client.get("/", query_string={"token": TOKEN})
    return client


def typed(document: str) -> dict[str, str]:
    """Return what stands in the form of a page."""
    form = document.partition('<form method="post" action="/jobs')[2].partition("</form>")[0]
    found = dict(re.findall(r'<input[^>]* name="(\w+)" value="([^"]*)"', form))
    for name, options in re.findall(r'<select[^>]* name="(\w+)">(.*?)</select>', form, re.DOTALL):
        found[name] = "".join(re.findall(r'value="([^"]*)" selected', options))
    return {name: value.replace("&#34;", '"') for name, value in found.items()}


def post(client: FlaskClient, path: str, data: dict[str, Any]) -> Any:
    return client.post(path, data=data, headers=SAME_ORIGIN)


def test_a_job_is_made_with_all_that_was_typed(stage: Stage, client: FlaskClient) -> None:
    more = {
        "tz": "Europe/Paris", "args": "--fast 'two words'", "params": '{"region": "eu"}',
        "tags": "sales, nightly", "queue": "etl", "priority": "3", "timeout": "10m",
        "retries": "2", "retry_delay": "1m", "overlap": "queue", "misfire": "all",
        "start_deadline": "2h",
    }  # fmt: skip
    answer = post(client, "/jobs", FORM | more)
    assert (answer.status_code, answer.location) == (303, "/jobs/daily%20sales")
    job = stage.kit.job("daily sales")
    assert (job.timing, job.timezone, job.args) == (
        ("daily", "06:30"),
        "Europe/Paris",
        ["--fast", "two words"],
    )
    assert (job.params, job.tags, job.queue, job.priority) == (
        {"region": "eu"},
        ["sales", "nightly"],
        "etl",
        3,
    )
    assert (job.max_retries, job.overlap_policy, job.misfire_policy) == (2, "queue", "all")


def test_a_mistake_is_said_beside_its_field_and_what_was_typed_stays(
    stage: Stage, client: FlaskClient
) -> None:
    wrong = {
        "when": "25:99", "params": "[1]", "priority": "high", "target": "", "args": "'open",
    }  # fmt: skip
    answer = post(client, "/jobs", FORM | wrong)
    assert answer.status_code == 422
    said = words(answer.text)
    assert "Not saved yet: target , when , args , priority , params need another look." in said
    for sentence in ("This is needed.", "'high' is no number.", "This is no JSON object like {}"):
        assert sentence in said
    assert typed(answer.text)["when"] == "25:99"
    assert list(stage.kit.jobs) == []
    answer = post(client, "/jobs", FORM | {"target": "nowhere.py"})
    assert answer.status_code == 422
    assert 'id="f-target" name="target" value="nowhere.py"' in answer.text
    assert 'aria-describedby="w-target"' in answer.text


def test_the_next_slots_are_seen_while_a_schedule_is_typed(client: FlaskClient) -> None:
    def look(**typed: str) -> str:
        answer = client.get("/preview", query_string=typed, headers={"HX-Request": "true"})
        assert answer.status_code == 200
        return " ".join(re.sub(r"<[^>]*>", " ", answer.text).split())

    seen = look(timing="cron", when="0 6 * * 1-5", tz="Europe/Berlin")
    assert "Europe/Berlin" in seen
    assert seen.count("06:00:00 CE") == 10
    assert "on demand" in look(timing="manual")
    assert "When is missing" in look(timing="daily", when=" ")
    assert "Mars/Phobos" in look(timing="daily", when="06:00", tz="Mars/Phobos")
    assert "is no schedule" in look(timing="sometimes", when="x")
    assert "<script>" not in client.get("/preview?timing=cron&when=<script>").text


def test_an_edit_changes_what_differs_and_nothing_else(stage: Stage, client: FlaskClient) -> None:
    job = stage.job("sales", every="15m", params={"n": 1}, tags=["a"], timeout="5m", priority=2)
    form = typed(body(client, "/jobs/sales/definition"))
    assert form["when"] == "900s"
    assert post(client, "/jobs/sales/definition", form).location == "/jobs/sales"
    assert stage.kit.job("sales").version == job.version
    answer = post(client, "/jobs/sales/definition", form | {"priority": "5", "tags": ""})
    assert answer.status_code == 303
    changed = stage.kit.job("sales")
    assert (changed.version, changed.priority, changed.tags) == (job.version + 1, 5, [])
    assert changed.next_run == job.next_run
    (version, *_) = stage.kit.versions("sales")
    assert set(version.changes) == {"priority", "tags"}


def test_another_s_change_is_not_lost(stage: Stage, client: FlaskClient) -> None:
    stage.job("sales", every="15m")
    form = typed(body(client, "/jobs/sales/definition"))
    stage.kit.edit("sales", priority=7)
    answer = post(client, "/jobs/sales/definition", form | {"queue": "etl"})
    assert answer.status_code == 409
    assert "sales was changed meanwhile, to version 2" in words(answer.text)
    assert (stage.kit.job("sales").priority, stage.kit.job("sales").queue) == (7, "default")


@pytest.mark.parametrize(
    "timing",
    [
        {"every": "90s"}, {"hourly": 5}, {"daily": "06:30"}, {"weekly": "mon 06:30"},
        {"monthly": "31 06:30"}, {"cron": "0 6 * * 1-5"}, {"at": "2027-03-01T06:30:00Z"}, {},
    ],
)  # fmt: skip
def test_each_schedule_stands_in_the_form_as_it_was_given(
    stage: Stage, client: FlaskClient, timing: dict[str, Any]
) -> None:
    job = stage.job("sales", tz="Europe/Berlin", **timing)
    form = typed(body(client, "/jobs/sales/definition"))
    answer = post(client, "/jobs/sales/definition", form)
    assert answer.status_code == 303, answer.text
    assert stage.kit.job("sales").version == job.version
