"""Every page there is, light and dark, wide and narrow, with data, empty, and with hostile data."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from flask import Flask
from playwright.sync_api import Browser, Page, expect

import jobkit
from jobkit import passwords
from portal import permissions
from tests.people import PASSWORD, add_people
from tests.places import NOT_PAGES, TOKEN, places, portal
from tests.worlds import IMAGE, LINK, SCRIPT, TURNED, World, be_hostile, live_a_day

WIDE: Any = {"width": 1280, "height": 900}
NARROW: Any = {"width": 360, "height": 740}
EARS = """
window.violations = [];
document.addEventListener('securitypolicyviolation',
    (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
TOO_WIDE = """() => document.documentElement.scrollWidth <= innerWidth ? []
    : [...document.querySelectorAll('body *')]
        .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
        .map((one) => one.outerHTML.slice(0, 100)).slice(0, 3)"""
BRIEFLY = {"resultTypes": ["violations"]}
CONTRAST = """axe.run(document, {
    resultTypes: ['violations'], runOnly: ['color-contrast', 'link-in-text-block']})"""
"""All that depends on the colours."""
LIVE_LINKS = "a[href^='javascript:' i], [src^='javascript:' i], [action^='javascript:' i]"


OF_ACCOUNTS = ("/", "/login", "/account", "/users", "/audit", "/nowhere")
"""The pages that differ between a portal with a token and one where people sign in."""
Maker = Callable[[str, Path, datetime], World]


@dataclass
class Opened:
    """A page of a portal, what is in its database, and what the browser said meanwhile."""

    mode: str
    page: Page
    url: str
    app: Flask
    world: World | None
    said: list[str]


@pytest.fixture(scope="module")
def made(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    """Databases by name: a day of a team, with its people, and hostile data."""
    found = {}
    makers: dict[str, Maker] = {"data": live_a_day, "hostile": be_hostile}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(passwords, "COST", 4)
        for name, make in makers.items():
            folder = tmp_path_factory.mktemp(name)
            shutil.copy(sqlite_template, folder / "jobkit.db")
            patched.chdir(folder)
            found[name] = make(f"sqlite:///{folder / 'jobkit.db'}", folder, datetime.now(UTC))
            employ(found[name].url)
    return found


def employ(url: str) -> None:
    """Add a user of each role, and tokens."""
    with jobkit.connect(url) as kit:
        add_people(kit)
        kit.tokens.add("nightly", "operator", user="admin")


@pytest.fixture
def visit(
    request: pytest.FixtureRequest,
    browser: Browser,
    made: dict[str, World],
    sqlite_database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Opened]:
    """A browser that has come in, by token or as an admin, to the database that is asked for."""
    mode, name = request.param
    world = made.get(name)
    url = world.url if world else sqlite_database
    monkeypatch.setattr(passwords, "COST", 4)
    if mode == "team" and world is None:
        employ(url)
    context = browser.new_context(reduced_motion="reduce", viewport=WIDE)
    page = context.new_page()
    page.add_init_script(EARS)
    said: list[str] = []
    page.on("console", lambda one: said.append(one.text) if one.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    with portal(url, token=None if mode == "team" else TOKEN) as (address, app):
        come_in(page, address, mode)
        yield Opened(mode, page, address, app, world, said)
        context.close()


def come_in(page: Page, url: str, mode: str) -> None:
    if mode == "local":
        page.goto(f"{url}/?token={TOKEN}")
        return
    page.goto(url)
    page.get_by_label("Name").fill("admin")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def look(visit: Opened, path: str) -> list[str]:
    """Return what is wrong with a page: what axe finds in light and dark, and what sticks out."""
    page = visit.page
    page.emulate_media(color_scheme="light")
    page.goto(visit.url + path)
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true })")
    found = [f"light: {fault}" for fault in _faults(Axe().run(page, options=BRIEFLY).response)]
    page.emulate_media(color_scheme="dark")
    found += [f"dark: {fault}" for fault in _faults(page.evaluate(CONTRAST))]
    return found + stick_out(page)


def stick_out(page: Page) -> list[str]:
    """Return what is wider than a phone, and what the policy of the page had to stop."""
    page.set_viewport_size(NARROW)
    found = [f"too wide: {html}" for html in page.evaluate(TOO_WIDE)]
    page.set_viewport_size(WIDE)
    return found + [f"policy: {one}" for one in page.evaluate("violations")]


def _faults(answer: dict[str, Any]) -> list[str]:
    return [f"{one['id']}: {one['nodes'][0]['html']}" for one in answer["violations"]]


def unexpected(said: list[str]) -> list[str]:
    """Return what the browser said besides what a test asked for: no page, no user, a mistake."""
    codes = tuple(f"status of {code}" for code in (400, 401, 404, 422))
    return [text for text in said if not any(code in text for code in codes)]


@pytest.mark.parametrize(
    "visit",
    [("team", "data"), ("local", "data"), ("local", "empty"), ("team", "empty")],
    ids=lambda given: " ".join(given),
    indirect=True,
)
def test_every_page_is_accessible_light_and_dark_and_fits_a_phone(visit: Opened) -> None:
    paths = places(visit.app, visit.world)
    if (visit.mode == "local") == bool(visit.world):
        # The others are alike by token and by name, but for the bar.
        paths = [path for path in paths if path in OF_ACCOUNTS]
    found = {path: look(visit, path) for path in paths}
    assert [(path, fault) for path, faults in found.items() for fault in faults] == []
    assert unexpected(visit.said) == []


@pytest.mark.parametrize("visit", [("local", "hostile")], ids=" ".join, indirect=True)
def test_hostile_names_parameters_output_and_files_stay_text(visit: Opened) -> None:
    found = {}
    for path in places(visit.app, visit.world):
        visit.page.goto(visit.url + path)
        found[path] = stick_out(visit.page)
        assert visit.page.locator(LIVE_LINKS).count() == 0, path
        assert visit.page.evaluate("window.pwned") is None, path
        assert visit.page.locator("main script, main [onerror], main [onload]").count() == 0, path
        assert visit.page.title().endswith("jobkit"), path
    assert [(path, fault) for path, faults in found.items() for fault in faults] == []
    assert unexpected(visit.said) == []


@pytest.mark.parametrize("visit", [("local", "hostile")], ids=" ".join, indirect=True)
def test_what_is_hostile_can_be_read(visit: Opened) -> None:
    page, world = visit.page, visit.world
    assert world is not None
    page.goto(f"{visit.url}/runs/{world.run}")
    output = page.get_by_role("log")
    for said in (SCRIPT, IMAGE, LINK, "red", TURNED):
        expect(output).to_contain_text(said)
    assert "\x1b" not in output.inner_text()
    expect(page.get_by_role("main")).to_contain_text(world.job)
    page.goto(f"{visit.url}/jobs")
    page.get_by_role("link", name=world.job, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text(world.job)


def test_what_is_said_to_be_no_page_is_an_endpoint(sqlite_database: str) -> None:
    assert set(NOT_PAGES) <= permissions.NEEDED.keys()
