"""What a person does in a day, in a real browser, on a real portal, scheduler and worker."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

import jobkit
from tests.programs import TOKEN, Programs

SOON = 20_000
"""Milliseconds for what a worker has to do first, on a busy machine."""
SIGNATURE = [
    {"name": "region", "type": "str", "choices": ["eu", "us"], "required": False, "default": "eu"},
    {"name": "rows", "type": "int", "required": True, "help": "how many"},
]
SCRIPTS = {
    "tell.py": (
        "import json, os, pathlib, time\n"
        "print('asked for', json.loads(os.environ['JOBKIT_PARAMS']))\n"
        "while not pathlib.Path('go').exists():\n    time.sleep(0.02)\n"
        "print('\\x1b[32mand done\\x1b[0m')\n"
    ),
    "stay.py": "import time\nprint('here to stay')\ntime.sleep(600)\n",
    "break.py": "raise SystemExit('the disk is full')\n",
    "hello.py": "print('hello')\n",
    "long.py": "for number in range(400):\n    print('line', number)\n",
}


@pytest.fixture(scope="module")
def programs(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    folder = tmp_path_factory.mktemp("walk")
    shutil.copy(sqlite_template, folder / "jobkit.db")
    for name, text in SCRIPTS.items():
        (folder / name).write_text(text, "utf-8")
    opened = Programs(folder)
    opened.start("scheduler")
    opened.start("worker", "--slots", "4", "--name", "desk")
    opened.start_portal()
    yield opened
    opened.end()


@pytest.fixture
def kit(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> Iterator[jobkit.Kit]:
    """The same database, in the folder where the scripts are."""
    monkeypatch.chdir(programs.folder)
    with jobkit.connect(programs.database) as opened:
        yield opened


@pytest.fixture
def opened(page: Page, programs: Programs) -> Page:
    page.goto(f"{programs.url}/?token={TOKEN}")
    expect(page).to_have_url(f"{programs.url}/")
    return page


def button(page: Page, name: str) -> Locator:
    """Return a button of the page's own, not of the bar."""
    return page.get_by_role("main").get_by_role("button", name=name, exact=True).first


def state(page: Page) -> Locator:
    return page.get_by_role("status").filter(has_text=re.compile(r"\w")).first


def faults(page: Page, *expected: str) -> list[str]:
    """Return what the console said that nobody expects.

    htmx says in two lines that a poll was given up, as it is when its page is left meanwhile.
    """
    found = "\n".join(page.complaints)  # type: ignore[attr-defined]
    given_up = r"htmx:afterRequest, [^\n]*\nhtmx:sendAbort, [^\n]*"
    lines = re.sub(given_up, "", found).splitlines()
    return [text for text in lines if text and not any(part in text for part in expected)]


def stay_on_page(page: Page) -> None:
    """Mark the page, to see afterwards that it was not loaded again."""
    page.evaluate("window.isTheSame = true")


def is_same_page(page: Page) -> bool:
    return bool(page.evaluate("window.isTheSame === true"))


def test_a_job_with_a_mistake_is_mended_run_and_watched(
    opened: Page, programs: Programs, kit: jobkit.Kit
) -> None:
    opened.get_by_role("link", name="Jobs", exact=True).click()
    opened.get_by_role("link", name="New job").click()
    opened.get_by_label("Name", exact=True).fill("morning figures")
    opened.get_by_label("Script, notebook or program").fill("hullo.py")
    opened.get_by_label("Schedule").select_option("daily")
    opened.get_by_label("When exactly").fill("25:00")
    preview = opened.get_by_role("status").filter(has_text="25:00")
    expect(preview).to_be_visible()
    button(opened, "Add the job").click()
    when = opened.get_by_label("When exactly")
    expect(when).to_have_attribute("aria-invalid", "true")
    expect(when).to_have_accessible_description(re.compile("25:00"))
    expect(when).to_have_value("25:00")
    when.fill("06:30")
    slots = opened.get_by_role("listitem").filter(has_text="06:30")
    expect(slots).to_have_count(10)
    button(opened, "Add the job").click()
    target = opened.get_by_label("Script, notebook or program")
    expect(target).to_have_accessible_description(re.compile(r"hullo\.py"))
    target.fill("hello.py")
    button(opened, "Add the job").click()
    expect(opened).to_have_url(f"{programs.url}/jobs/morning%20figures")
    assert kit.job("morning figures").timing == ("daily", "06:30")
    button(opened, "Run now").click()
    expect(state(opened)).to_contain_text("completed", timeout=SOON)
    expect(opened.get_by_role("log")).to_contain_text("hello")
    assert faults(opened, "422") == []


def test_a_run_with_parameters_is_watched_live_to_its_end(
    opened: Page, programs: Programs, kit: jobkit.Kit
) -> None:
    kit.add_job("tell", "tell.py", signature=SIGNATURE)
    opened.goto(f"{programs.url}/jobs/tell")
    opened.get_by_label("region").select_option("us")
    opened.get_by_label("rows").fill("1200")
    button(opened, "Run now").click()
    opened.wait_for_url(re.compile(r"/runs/\d+"))
    stay_on_page(opened)
    output = opened.get_by_role("log")
    expect(output).to_contain_text("'rows': 1200", timeout=SOON)
    expect(output).to_contain_text("'region': 'us'")
    expect(state(opened)).to_contain_text("running")
    expect(output).not_to_contain_text("and done")
    (programs.folder / "go").touch()
    expect(output).to_contain_text("and done")
    expect(output).not_to_contain_text("\x1b")
    expect(state(opened)).to_contain_text("completed", timeout=SOON)
    assert is_same_page(opened)
    seen: list[str] = []
    opened.on("request", lambda request: seen.append(request.url))
    opened.wait_for_timeout(2600)
    assert [url for url in seen if "/runs/" in url] == []  # it has ended: there is no more news
    assert faults(opened) == []


def test_one_is_cancelled_one_is_run_again_and_the_back_button_leads_back(
    opened: Page, programs: Programs, kit: jobkit.Kit
) -> None:
    kit.add_job("stay", "stay.py")
    kit.add_job("break", "break.py", retries=0)
    broken, stays = kit.submit("break").id, kit.submit("stay").id
    opened.goto(f"{programs.url}/runs/{stays}")
    expect(opened.get_by_role("log")).to_contain_text("here to stay", timeout=SOON)
    button(opened, "Cancel").click()
    expect(button(opened, "Run again")).to_be_visible(timeout=SOON)
    expect(state(opened)).to_contain_text("cancelled")
    opened.goto(f"{programs.url}/runs?status=FAILED")
    opened.get_by_role("link", name=str(broken), exact=True).click()
    expect(opened.get_by_role("log")).to_contain_text("the disk is full")
    button(opened, "Run again").click()
    opened.wait_for_url(re.compile(rf"/runs/(?!{broken}$)\d+"))
    expect(state(opened)).to_contain_text("failed", timeout=SOON)
    opened.go_back()
    expect(opened.get_by_role("heading", level=1)).to_contain_text(str(broken))
    opened.go_back()
    expect(opened).to_have_url(re.compile(r"/runs\?status=FAILED"))
    expect(opened.get_by_role("table")).to_contain_text("break")
    expect(opened.get_by_label("State")).to_have_value("FAILED")
    assert faults(opened) == []


def test_a_job_is_paused_and_goes_on(opened: Page, programs: Programs, kit: jobkit.Kit) -> None:
    kit.add_job("nightly", "hello.py", daily="03:00")
    opened.goto(f"{programs.url}/jobs/nightly")
    button(opened, "Pause").click()
    expect(opened.get_by_role("main")).to_contain_text("paused")
    assert not kit.job("nightly").is_active
    button(opened, "Resume").click()
    expect(button(opened, "Pause")).to_be_visible()
    assert kit.job("nightly").is_active
    assert faults(opened) == []


def test_polls_leave_in_peace_who_reads_ticks_and_types(
    opened: Page, programs: Programs, kit: jobkit.Kit
) -> None:
    kit.add_job("long", "long.py", overlap="allow")
    first = kit.submit("long").id
    kit.submit_many("long", [{} for _ in range(40)])
    opened.set_viewport_size({"width": 1000, "height": 500})
    opened.goto(f"{programs.url}/runs?job=long")
    stay_on_page(opened)
    tick = opened.get_by_label(f"Run {first}", exact=True)
    tick.check()
    opened.get_by_text("More", exact=True).click()
    opened.get_by_label("Worker").fill("half ty")
    link = opened.get_by_role("link", name=str(first), exact=True)
    link.focus()
    opened.evaluate("scrollTo(0, 600)")
    row = opened.get_by_role("row").filter(has=tick)
    row.evaluate("row => getSelection().selectAllChildren(row.querySelector('td:nth-child(3)'))")
    scrolled = opened.evaluate("scrollY")
    last = kit.submit("long").id
    expect(opened.get_by_label(f"Run {last}", exact=True)).to_be_attached(timeout=SOON)
    assert opened.evaluate("document.activeElement.textContent") == str(first)
    assert opened.evaluate("String(getSelection())").strip() == "long"
    assert tick.is_checked()
    assert opened.get_by_label("Worker").input_value() == "half ty"
    # What is looked at stays where it is, or the page stays: a row came in above.
    assert abs(opened.evaluate("scrollY") - scrolled) < 60
    assert is_same_page(opened)
    assert faults(opened) == []


def test_a_portal_that_stops_is_missed_and_when_it_is_back_the_page_goes_on(
    opened: Page, programs: Programs, kit: jobkit.Kit
) -> None:
    kit.add_job("hourly", "hello.py")
    opened.goto(f"{programs.url}/runs?job=hourly")
    stay_on_page(opened)
    programs.stop("portal")
    expect(opened.get_by_text("does not answer")).to_be_visible(timeout=SOON)
    run = kit.submit("hourly").id
    programs.start_portal()
    expect(opened.get_by_text("does not answer")).to_be_hidden(timeout=SOON)
    expect(opened.get_by_role("link", name=str(run), exact=True)).to_be_visible(timeout=SOON)
    assert is_same_page(opened)
    assert faults(opened, "net::ERR_", "htmx:") == []  # what was asked for, and had no answer


def test_a_tab_that_nobody_sees_asks_for_nothing(opened: Page, programs: Programs) -> None:
    opened.goto(f"{programs.url}/runs")
    opened.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => true, configurable: true})"
    )
    opened.wait_for_load_state("networkidle")
    seen: list[str] = []
    opened.on("request", lambda request: seen.append(request.url))
    opened.wait_for_timeout(4200)
    assert seen == []
    opened.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    with opened.expect_request(re.compile("/runs")):
        pass


def test_the_same_walk_without_javascript(
    browser: Browser, programs: Programs, kit: jobkit.Kit
) -> None:
    kit.add_job("told", "hello.py", signature=SIGNATURE)
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{programs.url}/login")
    page.get_by_label("Token").fill(TOKEN)
    button(page, "Open").click()
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_role("link", name="New job").click()
    page.get_by_label("Name", exact=True).fill("plain")
    page.get_by_label("Script, notebook or program").fill("stay.py")
    page.get_by_label("Schedule").select_option("daily")
    page.get_by_label("When exactly").fill("25:00")
    button(page, "Add the job").click()
    when = page.get_by_label("When exactly")
    expect(when).to_have_accessible_description(re.compile("25:00"))
    when.fill("06:30")
    button(page, "Add the job").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("plain")
    button(page, "Run now").click()
    page.wait_for_url(re.compile(r"/runs/\d+"))
    number = int(page.url.rsplit("/", 1)[1])
    expect_in_time(page, lambda: page.get_by_text("here to stay").count() > 0)
    button(page, "Cancel").click()
    expect_in_time(page, lambda: kit.run(number).status == "CANCELLED")
    expect_in_time(page, lambda: "cancelled" in state(page).inner_text())
    button(page, "Run again").click()
    page.wait_for_url(re.compile(rf"/runs/(?!{number}$)\d+"))
    button(page, "Cancel").click()
    page.goto(f"{programs.url}/jobs/plain")
    button(page, "Pause").click()
    expect(button(page, "Resume")).to_be_visible()
    page.goto(f"{programs.url}/jobs/told")
    page.get_by_label("rows").fill("7")
    button(page, "Run now").click()
    page.wait_for_url(re.compile(r"/runs/\d+"))
    assert kit.runs(job="told")[0].params == {"region": "eu", "rows": 7}
    context.close()


def expect_in_time(page: Page, is_so: Callable[[], bool]) -> None:
    """Load a page without JavaScript until something is so."""
    for _ in range(SOON // 200):
        if is_so():
            return
        page.wait_for_timeout(200)
        page.reload()
    raise AssertionError(f"{page.url}: it did not come to pass")


def test_all_of_a_walk_is_done_with_the_keyboard(
    browser: Browser, programs: Programs, kit: jobkit.Kit
) -> None:
    kit.add_job("keys", "stay.py", daily="03:00")
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{programs.url}/login")
    page.keyboard.type(TOKEN)  # the field has the focus
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{programs.url}/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    press(page, "Jobs")
    expect(page.get_by_role("heading", level=1)).to_have_text("Jobs")
    press(page, "keys")
    expect(page.get_by_role("heading", level=1)).to_have_text("keys")
    press(page, "Pause", " ")
    expect(button(page, "Resume")).to_be_visible()
    press(page, "Resume", " ")
    expect(button(page, "Pause")).to_be_visible()
    press(page, "Run now")
    page.wait_for_url(re.compile(r"/runs/\d+"))
    expect(page.get_by_role("log")).to_contain_text("here to stay", timeout=SOON)
    press(page, "Cancel", " ")
    expect(button(page, "Run again")).to_be_visible(timeout=SOON)
    press(page, "Run again")
    expect(button(page, "Cancel")).to_be_visible()
    press(page, "Cancel")
    expect(button(page, "Run again")).to_be_visible(timeout=SOON)
    press(page, "Runs")
    expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
    tab_to(page, lambda: page.evaluate("document.activeElement.type") == "checkbox")
    page.keyboard.press(" ")
    assert page.evaluate("document.activeElement.checked")
    context.close()


def focused(page: Page) -> str:
    said: str = page.evaluate(
        "(document.activeElement.getAttribute('aria-label') || document.activeElement.innerText)"
        ".trim()"
    )
    return said


def press(page: Page, name: str, key: str = "Enter") -> None:
    """Tab until a link or button of a name has the focus, see that it shows, and press it."""
    acts = "document.activeElement.matches('a, button')"
    tab_to(page, lambda: focused(page) == name and page.evaluate(acts))
    page.keyboard.press(key)


def tab_to(page: Page, is_there: Callable[[], bool], most: int = 80) -> None:
    """Tab on until something is so; what has the focus shows it all the way."""
    seen = []
    for _ in range(most):
        page.keyboard.press("Tab")
        seen.append(focused(page))
        shown = page.evaluate(
            """() => { const style = getComputedStyle(document.activeElement);
            return document.activeElement === document.body
                || style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 }"""
        )
        assert shown, f"{seen[-1]}: nobody sees that it has the focus"
        if is_there():
            return
    raise AssertionError(f"no Tab leads there: {seen}")


def test_who_wants_no_motion_sees_none(browser: Browser, programs: Programs) -> None:
    context = browser.new_context(reduced_motion="reduce", color_scheme="dark")
    page = context.new_page()
    page.goto(f"{programs.url}/runs?token={TOKEN}")
    moving = """() => [...document.querySelectorAll('*')].filter((element) => {
        const style = getComputedStyle(element);
        return style.transitionDuration.split(',').some((one) => parseFloat(one) > 0)
            || style.animationName !== 'none' || style.scrollBehavior === 'smooth';
    }).map((element) => element.outerHTML.slice(0, 80))"""
    assert page.evaluate(moving) == []
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert max(int(part) for part in re.findall(r"\d+", ground)[:3]) < 60
    context.close()
