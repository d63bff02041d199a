"""The site of documents builds without a warning, and nothing in it asks another host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_document_is_a_page_and_the_reference_is_made(site: Path) -> None:
    pages = {path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")}
    documents = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert documents <= pages
    tables = (site / "reference/tables/index.html").read_text("utf-8")
    commands = (site / "reference/commands/index.html").read_text("utf-8")
    python = (site / "reference/python/index.html").read_text("utf-8")
    assert "job_execution_logs" in tables
    assert "--misfire-window" in commands
    assert "Kit.submit_many" in python


def test_every_page_of_the_menu_is_there(site: Path) -> None:
    listed = re.findall(r": ([\w/-]+)\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert len(listed) > 20
    documents = {path.stem for path in (ROOT / "docs").glob("*.md")}
    assert documents - set(listed) == set(), "in no menu"


def test_no_page_asks_another_host(site: Path) -> None:
    asked = {
        found
        for path in (*site.rglob("*.html"), *site.rglob("*.css"))
        for found in re.findall(
            r"(?:src=[\"']|url\([\"']?|<link[^>]+href=[\"'])(https?:)?//[^\"')]+",
            path.read_text("utf-8"),
        )
    }
    assert asked == set()
