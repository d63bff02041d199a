"""A real browser for the tests: Chromium, wherever it is installed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # a third of a second, which tests without a browser need not wait
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Response

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
    "microsoft-edge",
)
FLAGS = (
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LEFT = "net::ERR_ABORTED"
"""What a request ends with when its page is left; no fault."""


def find_executable(bundled: str) -> str:
    """Return the program to start: one that is named, Playwright's own, or one on the PATH."""
    found = [os.environ.get("JOBKIT_BROWSER"), bundled if Path(bundled).exists() else None]
    for path in (*found, *map(shutil.which, NAMES)):
        if path:
            return path
    missing = "no Chromium: install chromium, or name a Chrome or Edge in JOBKIT_BROWSER"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)


def flags() -> list[str]:
    """Return what the browser is started with."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return [*FLAGS, *(["--no-sandbox"] if is_root else [])]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window, one for all tests of a process."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = find_executable(playwright.chromium.executable_path)
        opened = playwright.chromium.launch(executable_path=path, args=flags())
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A fresh page.

    `page.complaints` has errors of the console and of scripts, `page.failed` the requests that
    got no answer or one of 400 and above.
    """
    context = browser.new_context()
    opened = context.new_page()
    _listen(opened)
    yield opened
    context.close()


def _listen(page: Page) -> None:
    page.complaints = []  # type: ignore[attr-defined]
    page.failed = []  # type: ignore[attr-defined]
    complaints, failed = page.complaints, page.failed  # type: ignore[attr-defined]

    def say(message: ConsoleMessage) -> None:
        if message.type == "error":
            complaints.append(message.text)

    def fail(request: Request) -> None:
        if request.failure != LEFT:
            failed.append(f"{request.method} {request.url}: {request.failure}")

    def answer(response: Response) -> None:
        if response.status >= 400:
            failed.append(f"{response.request.method} {response.url}: {response.status}")

    page.on("console", say)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", fail)
    page.on("response", answer)
