"""The portal in a real browser: what a person does, keeps and hears."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect

from portal import create_app, serve
from tests.stage import Stage, set_stage

TOKEN = "the-token"


@dataclass
class Portal:
    stage: Stage
    url: str


@pytest.fixture
def portal(sqlite_database: str) -> Iterator[Portal]:
    """A portal that listens; its job `sales` has completed once and failed once."""
    stage = set_stage(sqlite_database)
    stage.job("sales", daily="06:30", tz="Europe/Berlin", retries=0)
    for exit_code in (0, 1):
        stage.kit.submit("sales", day="monday")
        stage.finish(stage.claim_one(), exit_code=exit_code)
    app = create_app(stage.kit, token=TOKEN, trusted_hosts=["portal.test"])
    server = serve(app, "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield Portal(stage, server.url)
    server.close()
    thread.join(10)
    stage.kit.close()


@pytest.fixture
def opened(page: Page, portal: Portal) -> Page:
    page.goto(f"{portal.url}/?token={TOKEN}")
    assert page.url == f"{portal.url}/"
    return page


def complaints(page: Page) -> list[str]:
    found: list[str] = page.complaints  # type: ignore[attr-defined]
    return found


def write(portal: Portal, claim: Any, text: str, seq: int) -> None:
    from jobkit.store import claims

    with portal.stage.kit.database.write() as connection:
        chunk = (seq, portal.stage.clock.now(), text, "output")
        assert claims.write_output(connection, claim, [chunk])


def test_run_a_job_and_watch_it_to_its_end(opened: Page, portal: Portal) -> None:
    opened.click("text=Jobs")
    opened.click("text=sales")
    opened.click("text=Run now")
    opened.wait_for_url(f"{portal.url}/runs/3")
    expect(opened.locator("h1")).to_have_text("Run 3")
    expect(opened.locator(".lead")).to_contain_text("pending")
    claim = portal.stage.claim_one()
    write(portal, claim, "half <b>way</b>\n", 0)
    expect(opened.locator(".lead")).to_contain_text("running")
    expect(opened.locator("#output")).to_have_text("half <b>way</b>\n")
    expect(opened.locator("#counts")).to_contain_text("1 running", timeout=8000)
    write(portal, claim, "there\n", 1)
    portal.stage.clock.turn(timedelta(seconds=7))
    portal.stage.finish(claim)
    expect(opened.locator(".lead")).to_contain_text("completed")
    expect(opened.locator("#output")).to_have_text("half <b>way</b>\nthere\n")
    expect(opened.locator("#more")).to_have_count(0)
    expect(opened.locator("text=Run again")).to_be_visible()
    assert polls_within(opened, 3000, "/runs/3") == 0
    assert complaints(opened) == []


def polls_within(page: Page, milliseconds: int, path: str) -> int:
    seen: list[Request] = []
    page.on("request", lambda request: seen.append(request))  # it takes no builtin
    page.wait_for_timeout(milliseconds)
    return sum(path in request.url and "hx-request" in request.headers for request in seen)


def test_polls_keep_focus_selection_ticks_and_what_was_opened(opened: Page, portal: Portal) -> None:
    opened.goto(f"{portal.url}/runs")
    opened.get_by_label("Run 1", exact=True).check()
    opened.get_by_text("More", exact=True).click()
    opened.get_by_label("Worker").fill("half ty")
    link = opened.get_by_role("link", name="2", exact=True)
    link.focus()
    opened.evaluate(
        """() => getSelection().selectAllChildren(
            document.querySelector('[data-key="run-1"] .state'))"""
    )
    portal.stage.kit.submit("sales")
    expect(opened.locator("[data-key='run-3']")).to_be_visible()
    assert opened.evaluate("document.activeElement.textContent") == "2"
    assert "completed" in opened.evaluate("getSelection().toString()")
    assert opened.locator("tbody td:nth-child(2)").all_inner_texts() == ["3", "2", "1"]
    assert opened.get_by_label("Run 1", exact=True).is_checked()
    assert opened.get_by_label("Worker").input_value() == "half ty"
    assert complaints(opened) == []


def test_a_job_is_made_with_a_mistake_that_is_mended_while_its_slots_are_seen(
    opened: Page, portal: Portal
) -> None:
    opened.goto(f"{portal.url}/jobs")
    opened.get_by_role("link", name="New job").click()
    opened.get_by_label("Name", exact=True).fill("nightly")
    opened.get_by_label("Script, notebook or program").fill("hello.py")
    opened.get_by_label("Schedule").select_option("cron")
    opened.get_by_label("When exactly").fill("0 6 * *")
    expect(opened.locator("#preview")).to_contain_text("has 4 fields, not 5")
    opened.get_by_role("button", name="Add the job").click()
    expect(opened.get_by_role("alert")).to_contain_text("Not saved yet: when needs another look.")
    opened.get_by_label("When exactly").fill("0 6 * * 1-5")
    expect(opened.locator("#preview li")).to_have_count(10)
    opened.get_by_role("button", name="Add the job").click()
    opened.wait_for_url(f"{portal.url}/jobs/nightly")
    assert portal.stage.kit.job("nightly").timing == ("cron", "0 6 * * 1-5")
    assert [text for text in complaints(opened) if "422" not in text] == []


def test_a_hidden_tab_asks_for_nothing(opened: Page, portal: Portal) -> None:
    opened.add_init_script(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})"
    )
    opened.goto(f"{portal.url}/jobs")
    assert polls_within(opened, 4500, portal.url) == 0
    opened.evaluate("delete document.hidden")
    assert polls_within(opened, 4500, portal.url) > 0


def test_a_page_that_cannot_be_refreshed_says_so_and_recovers(opened: Page, portal: Portal) -> None:
    opened.goto(f"{portal.url}/jobs")
    opened.route("**/*", lambda route: route.abort())
    expect(opened.locator("#stale")).to_be_visible()
    expect(opened.locator("tbody")).to_contain_text("sales")
    opened.unroute("**/*")
    expect(opened.locator("#stale")).to_be_hidden()


def test_a_reader_who_scrolled_up_is_left_in_peace(opened: Page, portal: Portal) -> None:
    portal.stage.kit.submit("sales")
    claim = portal.stage.claim_one()
    write(portal, claim, "line\n" * 500, 0)
    opened.goto(f"{portal.url}/runs/3")
    at_end = "(e => e.scrollHeight - e.scrollTop - e.clientHeight < 40)"
    assert opened.locator("#output").evaluate(at_end)
    write(portal, claim, "more\n" * 50 + "second\n", 1)
    expect(opened.locator("#output")).to_contain_text("second")
    opened.wait_for_timeout(200)
    assert opened.locator("#output").evaluate(at_end)
    opened.locator("#output").evaluate("e => { e.scrollTop = 100 }")
    opened.wait_for_timeout(200)
    write(portal, claim, "third\n", 2)
    expect(opened.locator("#output")).to_contain_text("third")
    opened.wait_for_timeout(200)
    assert opened.locator("#output").evaluate("e => e.scrollTop") == 100


def test_a_link_on_another_site_opens_the_portal(page: Page, portal: Portal) -> None:
    page.route(
        "http://notes.test/",
        lambda route: route.fulfill(
            content_type="text/html", body=f"<a href='{portal.url}/jobs?token={TOKEN}'>open</a>"
        ),
    )
    page.goto("http://notes.test/")
    page.click("a")
    page.wait_for_url(f"{portal.url}/jobs")
    expect(page.locator("h1")).to_have_text("Jobs")


def test_buttons_work_on_plain_http_under_a_name(browser: Browser, portal: Portal) -> None:
    """There browsers send no `Sec-Fetch-Site`; a proxy stands in for the name's address."""
    context = browser.new_context(proxy={"server": portal.url})
    page = context.new_page()
    page.goto(f"http://portal.test/jobs/sales?token={TOKEN}")
    page.click("text=Run now")
    page.wait_for_url("http://portal.test/runs/3")
    context.close()


def test_all_works_without_javascript(browser: Browser, portal: Portal) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{portal.url}/login")
    page.fill("input[name=token]", TOKEN)
    page.get_by_role("button", name="Open").click()
    page.goto(f"{portal.url}/runs")
    page.select_option("select[name=status]", "FAILED")
    page.click("text=Show")
    assert page.locator("tbody tr").count() == 1
    page.goto(f"{portal.url}/jobs/sales")
    page.click("text=Pause")
    assert page.locator("text=Resume").is_visible()
    context.close()
