"""The portal's analytics: charts, numbers, and how to ask again."""

from __future__ import annotations

import re
from collections import Counter
from datetime import timedelta
from typing import Any

import nbformat
import pytest
from flask.testing import FlaskClient

from jobkit.analytics.charts import bars
from jobkit.analytics.charts.chart import STYLE
from jobkit.kit import Kit
from jobkit.testing.history import generate
from portal.analytics import QUESTIONS
from tests.stage import Stage
from tests.test_portal import HTMX, XML, body, open_portal, tree, words

PATHS = [
    "/analytics",
    "/analytics?window=30d",
    *(f"/analytics/{name}?window=30d" for name in QUESTIONS),
]


@pytest.fixture(scope="module")
def client(sqlite_template, tmp_path_factory) -> FlaskClient:  # type: ignore[no-untyped-def]
    import shutil

    import jobkit

    path = tmp_path_factory.mktemp("analytics") / "jobkit.db"
    shutil.copy(sqlite_template, path)
    kit = jobkit.connect(f"sqlite:///{path}", cache_dir=path.parent / "cache")
    generate(kit.database, attempts=3000, months=1, now=kit.clock.now(), seed=5)
    return open_portal(kit)


@pytest.mark.parametrize("path", PATHS)
def test_the_pages_are_valid_html_without_styles_of_their_own(
    client: FlaskClient, path: str
) -> None:
    page = tree(body(client, path))
    assert len(page.findall(f".//{XML}h1")) == 1
    ids = Counter(element.get("id") for element in page.iter() if element.get("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    assert all(head.get("scope") for head in page.iter(f"{XML}th"))
    assert not [element for element in page.iter() if element.get("style") is not None]
    assert not list(page.iter("{http://www.w3.org/2000/svg}style"))
    assert body(client, path, **HTMX).lstrip().startswith('<div id="live"')


def test_each_question_has_its_chart_and_leads_to_its_numbers(client: FlaskClient) -> None:
    page = body(client, "/analytics?window=30d")
    assert page.partition("<main")[2].count("<svg") == len(QUESTIONS)
    assert "Nothing to draw" not in page
    for name, (title, _) in QUESTIONS.items():
        assert title in words(page)
        assert f'href="/analytics/{name}?window=30d"' in page


def test_an_answer_brings_its_numbers_its_statement_and_its_cell(client: FlaskClient) -> None:
    said = words(body(client, "/analytics/durations?window=30d"))
    assert "import jobkit" in said
    assert ".durations(" in said
    assert "FROM attempts" in said
    assert "rows in" in said
    kit: Kit = client.application.config["KIT"]
    first = kit.log("30d").durations().df.row(0)
    assert first[0] in said


def test_an_answer_is_taken_away_as_a_notebook_that_asks_again(client: FlaskClient) -> None:
    answer = client.get("/analytics/durations/notebook?window=30d")
    assert answer.headers["Content-Disposition"] == "attachment; filename=durations.ipynb"
    document = nbformat.reads(answer.get_data(as_text=True), as_version=4)
    nbformat.validate(document)
    title, cell = document.cells
    assert title.source == "# How long attempts take"
    asked: dict[str, Any] = {}
    exec(cell.source.removesuffix("report"), asked)
    kit: Kit = client.application.config["KIT"]
    assert asked["report"].df.rows() == kit.log("30d").durations().df.rows()
    assert client.get("/analytics/luck/notebook").status_code == 404


def test_what_is_not_there_is_said(client: FlaskClient) -> None:
    assert client.get("/analytics/luck").status_code == 404
    answer = client.get("/analytics?window=ever")
    assert answer.status_code == 400
    assert "Use one of 1d, 7d, 30d, 90d." in words(answer.text)


def test_an_empty_history_says_so(stage: Stage) -> None:
    stage.clock.turn(timedelta(minutes=1))
    empty = open_portal(stage.kit)
    assert "Nothing ran in this time." in words(body(empty, "/analytics"))
    for name in QUESTIONS:
        assert empty.get(f"/analytics/{name}").status_code == 200


def test_the_portal_s_rules_are_those_of_the_charts(client: FlaskClient) -> None:
    with client.get("/static/portal.css") as answer:
        ours = answer.text
    pairs = [re.findall(r"(--jk-\d):(#[0-9a-f]{6})", part) for part in STYLE.split("@media")]
    assert [len(part) for part in pairs] == [6, 6]
    for (name, light), (_, dark) in zip(*pairs, strict=True):
        assert f"{name}: light-dark({light}, {dark})" in ours


def test_a_chart_escapes_what_people_typed(client: FlaskClient) -> None:
    drawn = bars("Jobs", ["<script>alert(1)</script>"], [1.0])
    assert "<script" not in drawn.unstyled
    assert "style" not in drawn.unstyled
