"""The form of a job's page, made from its signature: no JavaScript, errors beside the field."""

from __future__ import annotations

import re
from typing import Any

import html5lib
import pytest
from flask.testing import FlaskClient

from tests.stage import Stage
from tests.test_portal import SAME_ORIGIN, open_portal

SIGNATURE: list[dict[str, Any]] = [
    {"name": "day", "type": "date", "required": True, "help": "the day <b>told</b>"},
    {"name": "region", "type": "str", "choices": ["eu", "us"], "required": False, "default": "eu"},
    {"name": "count", "type": "int", "required": False, "default": 3},
    {"name": "dry", "type": "bool", "required": False, "default": True},
    {"name": "note", "type": "str", "nullable": True, "required": False, "default": None},
]
XML = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    stage.job("sales", signature=SIGNATURE)
    stage.job("plain")
    return open_portal(stage.kit)


def fields(html: str) -> dict[str, dict[str, Any]]:
    """Return the form's fields by name: their attributes, and of a select what is chosen."""
    tree = html5lib.HTMLParser(strict=True).parse(html)
    found = {}
    for tag in ("input", "select"):
        for field in tree.iter(XML + tag):
            name = field.get("name") or ""
            if name.startswith("param:"):
                chosen = [
                    o.text for o in field.iter(XML + "option") if o.get("selected") is not None
                ]
                found[name.removeprefix("param:")] = dict(field.attrib) | {"chosen": chosen}
    return found


def start(client: FlaskClient, name: str = "sales", **typed: str) -> Any:
    data = {"fields": "1"} | {f"param:{key}": value for key, value in typed.items()}
    return client.post(f"/jobs/{name}/runs", data=data, headers=SAME_ORIGIN)


def test_a_signature_makes_a_form_with_the_defaults_in_it(client: FlaskClient) -> None:
    html = client.get("/jobs/sales").get_data(as_text=True)
    shown = fields(html)
    assert sorted(shown) == ["count", "day", "dry", "note", "region"]
    assert shown["day"]["type"] == "date"
    assert "required" in shown["day"]
    assert (shown["count"]["type"], shown["count"]["value"]) == ("number", "3")
    assert (shown["dry"]["type"], "checked" in shown["dry"]) == ("checkbox", True)
    assert shown["region"]["chosen"] == ["eu"]
    assert shown["note"]["value"] == ""
    assert "the day &lt;b&gt;told&lt;/b&gt;" in html
    assert fields(client.get("/jobs/plain").get_data(as_text=True)) == {}


def test_what_stands_in_the_form_is_what_runs(client: FlaskClient, stage: Stage) -> None:
    answer = start(client, day="2026-03-02", region="us", count="7", note="")
    assert answer.status_code == 303
    assert stage.runs()[0].params == {
        "day": "2026-03-02", "region": "us", "count": 7, "dry": False
    }  # fmt: skip
    assert start(client, "plain").status_code == 303


def test_a_button_without_fields_leaves_the_defaults_or_shows_the_form(
    client: FlaskClient, stage: Stage
) -> None:
    answer = client.post("/jobs/sales/runs", headers=SAME_ORIGIN)
    assert answer.status_code == 422
    assert "checked" in fields(answer.get_data(as_text=True))["dry"]
    stage.kit.edit("sales", params={"day": "2026-03-02"})
    assert client.post("/jobs/sales/runs", headers=SAME_ORIGIN).status_code == 303
    assert stage.runs()[0].params == {"day": "2026-03-02"}


def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(
    client: FlaskClient, stage: Stage
) -> None:
    answer = start(client, day="", region="mars", count="many", dry="true", note="<i>")
    html = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert "The parameter &#39;day&#39; is missing: a date like 2026-03-02." in html
    assert "count=&#39;many&#39; is not a whole number." in html
    assert "region=&#39;mars&#39; is not one of" in html
    shown = fields(html)
    assert shown["count"]["value"] == "many"
    assert shown["count"]["aria-describedby"] == "param-count-error"
    assert shown["note"]["value"] == "<i>"
    assert "checked" in shown["dry"]
    assert 'hx-get="/jobs' not in html
    assert stage.runs() == []


def test_a_parameter_of_no_field_is_named(client: FlaskClient, stage: Stage) -> None:
    answer = start(client, day="2026-03-02", regoin="1")
    assert answer.status_code == 422
    assert "did you mean &#39;region&#39;?" in answer.get_data(as_text=True)
    assert stage.runs() == []


def test_the_form_is_addressed_with_what_stands_in_it(client: FlaskClient) -> None:
    answer = client.get("/jobs/sales/start?param:day=2026-03-05&param:region=us&param:dry=false")
    assert answer.status_code == 200
    shown = fields(answer.text)
    assert shown["day"]["value"] == "2026-03-05"
    assert shown["region"]["chosen"] == ["us"]
    assert "checked" not in shown["dry"]
    assert shown["count"]["value"] == "3"
    wrong = client.get("/jobs/sales/start?param:count=many&param:regoin=1")
    assert "count=&#39;many&#39; is not a whole number." in wrong.text
    assert "did you mean &#39;region&#39;?" in wrong.text
    assert fields(wrong.text)["count"]["value"] == "many"


def test_the_last_ten_distinct_sets_are_offered_and_lead_to_the_form(
    client: FlaskClient, stage: Stage
) -> None:
    assert "No run of this job had parameters yet." in client.get("/jobs/sales/start").text
    for day in (*range(1, 13), 12, 11):
        stage.kit.submit("sales", day=f"2026-03-{day:02}", note=None, dry=False)
    html = client.get("/jobs/sales/start").text
    offered = re.findall(r'href="(/jobs/sales/start\?[^"]*)"', html)
    assert len(offered) == 10
    shown = [fields(client.get(link.replace("&amp;", "&")).text) for link in offered]
    days = [11, 12, *range(10, 2, -1)]
    assert [form["day"]["value"] for form in shown] == [f"2026-03-{day:02}" for day in days]
    assert all(form["note"]["value"] == "" for form in shown)
    assert not any("checked" in form["dry"] for form in shown)


def test_a_job_without_a_signature_takes_a_json_object(client: FlaskClient, stage: Stage) -> None:
    def send(text: str) -> Any:
        data = {"fields": "1", "params": text}
        return client.post("/jobs/plain/runs", data=data, headers=SAME_ORIGIN)

    for text, said in (("{", "This is no JSON"), ("[1]", "Write an object")):
        answer = send(text)
        assert answer.status_code == 422
        assert said in answer.text
        assert f'aria-invalid="true">{text}</textarea>' in answer.text
    assert send('{"day": "monday", "n": 2}').status_code == 303
    assert stage.runs("plain")[0].params == {"day": "monday", "n": 2}
    (offered,) = re.findall(
        r'href="(/jobs/plain/start\?[^"]*)"', client.get("/jobs/plain/start").text
    )
    assert "&#34;day&#34;: &#34;monday&#34;" in client.get(offered).text
    assert send("").status_code == 303
