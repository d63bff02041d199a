"""Pictures of every page of the portal, light and dark, wide and on a phone, of a team's day.

uv run python -m tests.screenshots --to DIR
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from jobkit import connect
from tests.browser import find_executable, flags
from tests.people import add_people
from tests.places import TOKEN, places, portal
from tests.worlds import live_a_day

SIZES: dict[str, Any] = {
    "wide": {"width": 1280, "height": 860},
    "phone": {"width": 360, "height": 740},
}
SCHEMES: tuple[Any, ...] = ("light", "dark")


def main() -> None:
    """Make a day, open its portal, and take a picture of each page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=Path, default=Path("screenshots"), help="the folder")
    parser.add_argument("--only", default="", help="only addresses that hold this")
    chosen = parser.parse_args()
    target = chosen.to.absolute()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        os.chdir(folder)
        url = f"sqlite:///{folder / 'jobkit.db'}"
        world = live_a_day(url, folder, datetime.now(UTC))
        with connect(url) as kit:
            add_people(kit)
        path = find_executable(playwright.chromium.executable_path)
        browser = playwright.chromium.launch(executable_path=path, args=flags())
        with portal(url) as (address, app):
            paths = [one for one in places(app, world) if chosen.only in one]
            for size in SIZES:
                for scheme in SCHEMES:
                    take(browser, address, paths, size, scheme, target)
        browser.close()
        os.chdir(target)
    print(f"{len(paths)} pages in {target}")


def take(
    browser: Browser, address: str, paths: list[str], size: str, scheme: Any, target: Path
) -> None:
    """Take a picture of each page, as long as it is."""
    context = browser.new_context(
        viewport=SIZES[size], color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(f"{address}/?token={TOKEN}")
    for path in paths:
        page.goto(address + path)
        settle(page)
        page.screenshot(path=target / f"{named(path)}-{size}-{scheme}.png", full_page=True)
    context.close()


def settle(page: Page) -> None:
    """Wait until previews are there and the counts of the bar as well."""
    for one in page.locator(".preview[hx-get]").all():
        one.scroll_into_view_if_needed()
        one.locator(":scope > :not(a, p.empty)").first.wait_for(timeout=20_000)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(300)


def named(path: str) -> str:
    """Return the name of a page's picture."""
    return re.sub(r"[^a-z0-9]+", "-", path.lower().replace("%20", "-")).strip("-") or "overview"


if __name__ == "__main__":
    main()
