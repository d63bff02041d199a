"""Signing in to a portal with users, in a browser: as each role, refused what is not theirs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from jobkit import passwords
from jobkit.roles import ROLES, allows
from portal import create_app, serve
from tests.people import PASSWORD, add_people
from tests.stage import Stage, set_stage

POST = """(path) => {
    const form = Object.assign(document.createElement("form"), { method: "post", action: path });
    document.body.append(form);
    form.submit();
}"""
"""What a page that shows no button for it could still send."""


@dataclass
class Portal:
    stage: Stage
    url: str


@pytest.fixture
def portal(sqlite_database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Portal]:
    """A portal that listens, with a user of each role and a job whose run waits."""
    monkeypatch.setattr(passwords, "COST", 4)
    stage = set_stage(sqlite_database)
    stage.job("sales", daily="06:30")
    stage.kit.submit("sales")
    add_people(stage.kit)
    server = serve(create_app(stage.kit, token=None), "127.0.0.1", 0)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield Portal(stage, server.url)
    server.close()
    thread.join(10)
    stage.kit.close()


def sign_in(page: Page, name: str, password: str = PASSWORD) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def refusals(page: Page) -> list[str]:
    """Return what the console said besides that a page was refused, which a test asked for."""
    found: list[str] = page.complaints  # type: ignore[attr-defined]
    return [text for text in found if "403" not in text and "401" not in text]


@pytest.mark.parametrize("role", ROLES)
def test_each_role_signs_in_and_is_refused_what_is_not_theirs(
    page: Page, portal: Portal, role: str
) -> None:
    page.goto(f"{portal.url}/jobs/sales")
    sign_in(page, role)
    page.wait_for_url(f"{portal.url}/jobs/sales")
    expect(page.locator("header")).to_contain_text(f"{role} ({role})")
    run_now = page.get_by_role("button", name="Run now")
    if allows(role, "operator"):
        run_now.click()
        page.wait_for_url(f"{portal.url}/runs/2")
        assert portal.stage.kit.run(2).requested_by == role
    else:
        expect(run_now).to_have_count(0)
        page.evaluate(POST, "/jobs/sales/runs")
        expect(page.locator("h1")).to_have_text("Not yours")
        expect(page.locator("main")).to_contain_text(
            "This needs the role operator, and viewer is viewer."
        )
        assert len(portal.stage.kit.runs()) == 1
    page.goto(f"{portal.url}/new/job")
    editor = allows(role, "editor")
    expect(page.locator("h1")).to_have_text("New job" if editor else "Not yours")
    page.goto(f"{portal.url}/users")
    may = allows(role, "admin")
    expect(page.locator("h1")).to_have_text("Users" if may else "Not yours")
    assert page.get_by_role("link", name="Users").count() == (1 if may else 0)
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{portal.url}/login")
    page.go_back()
    expect(page.get_by_label("Password")).to_be_visible()
    assert refusals(page) == []


def test_a_wrong_password_is_said_and_the_way_goes_on(page: Page, portal: Portal) -> None:
    page.goto(f"{portal.url}/runs?status=PENDING")
    sign_in(page, "viewer", "wrong horse")
    expect(page.get_by_role("alert")).to_contain_text("no user, or not their password")
    sign_in(page, "viewer")
    page.wait_for_url(f"{portal.url}/runs?status=PENDING")
    expect(page.locator("h1")).to_have_text("Runs")


def test_who_is_signed_out_elsewhere_is_led_to_the_door_by_the_next_poll(
    page: Page, portal: Portal
) -> None:
    page.goto(f"{portal.url}/jobs")
    sign_in(page, "operator")
    expect(page.locator("h1")).to_have_text("Jobs")
    portal.stage.kit.users.disable("operator")
    page.wait_for_url(f"{portal.url}/login", timeout=15_000)


def test_an_admin_adds_a_user_who_makes_a_token(
    browser: Browser, page: Page, portal: Portal
) -> None:
    page.goto(f"{portal.url}/users")
    sign_in(page, "admin")
    page.get_by_label("Name", exact=True).fill("zoe")
    page.get_by_label("Password, of ten").fill("horse battery")
    page.get_by_label("Role", exact=True).first.select_option("operator")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator("[data-key='user-zoe']")).to_be_visible()
    context = browser.new_context()
    zoe = context.new_page()
    zoe.goto(f"{portal.url}/account")
    sign_in(zoe, "zoe", "horse battery")
    zoe.get_by_label("Name, like what will use it").fill("nightly")
    zoe.get_by_role("button", name="Make a token").click()
    secret = zoe.locator("#secret").inner_text()
    answer = context.request.get(
        f"{portal.url}/api/v1/me", headers={"Authorization": f"Bearer {secret}"}
    )
    assert answer.json() == {"name": "zoe", "role": "viewer"}
    page.get_by_role("button", name="Disable zoe").click()
    expect(page.get_by_role("button", name="Enable zoe")).to_be_visible()
    zoe.goto(f"{portal.url}/account")
    expect(zoe.get_by_label("Password")).to_be_visible()
    context.close()
    assert refusals(page) == []


def test_signing_in_and_out_works_without_javascript(browser: Browser, portal: Portal) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(portal.url)
    sign_in(page, "operator")
    page.goto(f"{portal.url}/jobs/sales")
    page.get_by_role("button", name="Pause").click()
    assert not portal.stage.kit.job("sales").is_active
    page.get_by_role("button", name="Sign out").click()
    assert page.url == f"{portal.url}/login"
    context.close()


def test_another_site_s_form_does_nothing(page: Page, portal: Portal) -> None:
    page.goto(portal.url)
    sign_in(page, "operator")
    expect(page.locator("h1")).to_have_text("Overview")
    page.route(
        "http://evil.test/",
        lambda route: route.fulfill(
            content_type="text/html",
            body=f"<form method=post action='{portal.url}/jobs/sales/pause'><button>go</button>",
        ),
    )
    page.goto("http://evil.test/")
    page.click("button")
    page.wait_for_url(f"{portal.url}/jobs/sales/pause")
    assert portal.stage.kit.job("sales").is_active
