"""Coverage on the command line and in the portal."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask.testing import FlaskClient
from playwright.sync_api import Browser, Page

from jobkit.kit import Kit
from portal import create_app, serve
from tests.stage import Stage, at, set_stage
from tests.test_cli import Jobkit, jobkit
from tests.test_coverage import covered, live, work
from tests.test_portal import HTMX, SAME_ORIGIN, TOKEN, XML, body, open_portal, tree, words

__all__ = ["jobkit"]

WINDOW = "from=2026-03-02T06:00:00Z&to=2026-03-02T09:01:00Z"


@pytest.fixture
def holes(stage: Stage) -> Stage:
    """Two jobs at every half hour of three hours; the slots of 07:30 to 08:30 were missed."""
    for name in ("sales", "<b>bold"):
        stage.job(name, cron="*/30 * * * *")
    live(stage, at("07:00"))
    stage.tick(at("09:00"))
    work(stage)
    stage.clock.turn(timedelta(minutes=1))
    return stage


@pytest.fixture
def client(holes: Stage) -> FlaskClient:
    return open_portal(holes.kit)


PATHS = (
    "/coverage",
    "/coverage?window=1d",
    "/coverage?window=30d&job=sales",
    f"/coverage/fill?{WINDOW}",
    f"/coverage/fill?{WINDOW}&job=sales",
)


@pytest.mark.parametrize("path", PATHS)
def test_the_pages_are_valid_html(client: FlaskClient, path: str) -> None:
    page = tree(body(client, path))
    assert len(page.findall(f".//{XML}h1")) == 1
    ids = Counter(element.get("id") for element in page.iter() if element.get("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    assert all(head.get("scope") for head in page.iter(f"{XML}th"))
    assert not [element for element in page.iter() if element.get("style") is not None]
    assert body(client, path, **HTMX).lstrip().startswith('<div id="live"')


def test_the_overview_asks_for_the_least_covered_and_links_to_all_without_javascript(
    client: FlaskClient,
) -> None:
    overview = tree(body(client, "/"))
    part = next(it for it in overview.iter(f"{XML}div") if it.get("hx-get") == "/coverage/worst")
    assert [link.get("href") for link in part.iter(f"{XML}a")] == ["/coverage"]
    shown = body(client, "/coverage/worst", **HTMX)
    assert shown.count("<svg") == 2
    assert "50 % of 12 slots, 6 missed" in shown
    assert "&lt;b&gt;bold" in shown, "names are text"
    assert "<b>" not in shown


def test_the_map_shows_each_job_and_what_is_amiss(client: FlaskClient) -> None:
    page = body(client, "/coverage?window=1d")
    said = words(page)
    assert "50 % of 12 slots, 6 missed" in said
    assert "<b>bold" in said
    assert "Fill 6 holes" in said
    assert said.count("passed while nobody looked") == 6
    assert page.partition("<main")[2].count("<svg") == 2
    assert 'aria-label="50 % of 6 slots, 3 missed"' in page
    one = words(body(client, "/coverage?window=1d&job=sales"))
    assert "50 % of 6 slots, 3 missed" in one
    assert "Fill 3 holes" in one


def test_holes_are_filled_after_they_were_shown(holes: Stage, client: FlaskClient) -> None:
    said = words(body(client, f"/coverage/fill?{WINDOW}"))
    assert "This makes 6 runs" in said
    assert "sales: 2026-03-02 07:30:00 UTC, 2026-03-02 08:00:00 UTC" in said
    assert holes.kit.queue() == []
    form = {"from": "2026-03-02T06:00:00Z", "to": "2026-03-02T09:01:00Z", "job": "sales"}
    for _ in range(2):
        answer = client.post("/coverage/fill", data=form, headers=SAME_ORIGIN)
        assert (answer.status_code, answer.location) == (303, "/coverage?job=sales")
        assert len(holes.kit.queue()) == 3
    assert "There is no hole left to fill" in body(client, f"/coverage/fill?{WINDOW}&job=sales")
    work(holes)
    assert "100 % of 6 slots, 3 filled" in words(body(client, "/coverage?window=1d&job=sales"))


def test_filling_wants_the_portal_s_own_page_and_bounds(client: FlaskClient) -> None:
    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert client.post("/coverage/fill", headers=foreign).status_code == 403
    assert client.post("/coverage/fill", headers=SAME_ORIGIN).status_code == 400
    assert client.get("/coverage?window=ever").status_code == 400
    assert client.get("/coverage?job=nobody").status_code == 404


def test_an_empty_portal_says_what_to_do(stage: Stage) -> None:
    assert "No slot was due" in body(open_portal(stage.kit), "/coverage")


# The command line, which goes by the real clock


@pytest.fixture
def missed(kit: Kit) -> Kit:
    """A job that was edited when nobody had looked at its slots of half an hour."""
    now = kit.clock.now()
    kit.add_job("sales", "hello.py", cron="* * * * *")
    from jobkit.models import jobs, versions

    with kit.database.write() as connection:
        connection.execute(versions.update().values(changed_at=now - timedelta(minutes=30)))
        connection.execute(jobs.update().values(slots_until=now))
    return kit


def test_the_command_shows_and_fills(missed: Kit, jobkit: Jobkit) -> None:
    said = jobkit("coverage", "sales", "--since", "1h")
    assert said.code == 0
    assert "0 % of" in said.out
    assert "before a scheduler looked" in said.out
    would = jobkit("coverage", "--since", "1h", "--fill", "--dry-run")
    assert "would make" in would.out
    assert missed.queue() == []
    document = jobkit("coverage", "--since", "1h", "--json").document
    assert document["filled"] is None
    # Of 30 slots those of the last 70 s still wait for a scheduler: one, or two.
    assert 28 <= document["jobs"][0]["counts"]["never dispatched"] <= len(document["amiss"])
    done = jobkit("coverage", "--since", "1h", "--fill")
    assert "would make" in done.out
    assert done.out.rstrip().splitlines()[-1].startswith("made ")
    count = len(missed.queue())
    assert count >= 28
    again = jobkit("coverage", "--since", "1h", "--fill", "--json").document
    assert len(missed.queue()) - count == len(again["filled"]["runs"]) <= 1
    assert jobkit("coverage", "nobody").code == 2
    assert jobkit("coverage", "--dry-run").code == 2


def test_a_fill_is_one_backfill_below_live_slots(holes: Stage) -> None:
    made = covered(holes).fill()
    runs = [holes.kit.run(run_id) for run_id in made.runs]
    assert {run.backfill_id for run in runs} == {made.backfill_id}
    assert {(run.trigger, run.priority) for run in runs} == {("backfill", -100)}


# In a browser


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_the_pages_are_accessible_and_fit(
    browser: Browser, sqlite_database: str, scheme: Any, width: int
) -> None:
    stage = set_stage(sqlite_database)
    stage.job("sales", cron="*/30 * * * *")
    stage.job("a job with quite a long name of its own", every="10m", misfire="all", retries=0)
    live(stage, at("08:00"))
    stage.tick(at("18:00"))
    work(stage, exit_code=1)
    stage.clock.turn(timedelta(minutes=1))
    found = {}
    with listening(stage) as url:
        context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 860})
        page = context.new_page()
        page.goto(f"{url}/?token={TOKEN}")
        page.goto(f"{url}/coverage?window=1d")
        for _ in range(2):
            violations = Axe().run(page).response["violations"]
            found[page.url] = [(item["id"], item["nodes"][0]["html"]) for item in violations]
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), page.url
            page.get_by_role("button", name=re.compile("Fill|Make")).click()
        assert page.url == f"{url}/coverage"
        context.close()
    assert {path: list_ for path, list_ in found.items() if list_} == {}
    assert len(stage.kit.queue()) > 50
    stage.kit.close()


def test_a_part_of_the_map_is_dragged_over_or_typed_and_shown_before_it_is_filled(
    browser: Browser, sqlite_database: str
) -> None:
    stage = set_stage(sqlite_database)
    stage.job("sales", cron="0 * * * *", retries=0)
    live(stage, at("06:00"))
    stage.tick(at("18:00"))
    work(stage)
    with listening(stage) as url:
        page = browser.new_context(viewport={"width": 1280, "height": 860}).new_page()
        page.goto(f"{url}/?token={TOKEN}")
        page.goto(f"{url}/coverage?window=1d&job=sales")
        drag(page, cells=96, first=25, last=14)  # of a quarter of an hour, the last one ends now
        asked = dict(parse_qsl(urlsplit(page.url).query))
        assert asked == {"from": "2026-03-02T11:30", "to": "2026-03-02T14:30", "job": "sales"}
        assert "This makes 3 runs" in page.locator("main").inner_text()
        page.go_back()
        page.get_by_label("From").fill("2026-03-02T15:00")
        page.get_by_label("to", exact=True).fill("2026-03-02T15:30")
        page.keyboard.press("Enter")
        page.wait_for_url("**/coverage/fill?*")
        assert "This makes 1 run," in page.locator("main").inner_text()
        page.get_by_role("button", name="Make 1 run").click()
        page.wait_for_url("**/coverage?job=sales")
        page.goto(url)
        drag(page, cells=84, first=5, last=0)  # of two hours, in the map of the overview
        assert dict(parse_qsl(urlsplit(page.url).query))["job"] == "sales"
        assert "This makes 10 runs" in page.locator("main").inner_text()
        page.context.close()
    assert [run.scheduled_for for run in stage.kit.queue()] == [at("15:00")]
    stage.kit.close()


def drag(page: Page, *, cells: int, first: int, last: int) -> None:
    """Drag over a strip, from one cell to another, both counted from its end."""
    strip = page.locator("td.map svg")
    strip.scroll_into_view_if_needed()
    box = strip.bounding_box()
    assert box is not None
    x = [box["x"] + box["width"] * (cells - count - 0.5) / cells for count in (first, last)]
    page.mouse.move(x[0], box["y"] + 7)
    page.mouse.down()
    page.mouse.move(x[1], box["y"] + 7)
    assert page.locator("svg .shade").count() == 1
    page.mouse.up()
    page.wait_for_url("**/coverage/fill?*")


@contextmanager
def listening(stage: Stage) -> Iterator[str]:
    server = serve(create_app(stage.kit, token=TOKEN), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server.url
    finally:
        server.close()
        thread.join(10)
