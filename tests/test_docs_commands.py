"""What the documents have a reader type does what they say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import Reader, steps

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    reader = Reader(tmp_path)
    for name, value in reader.environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "hello.py").write_text("print('hello')\n", "utf-8")
    yield reader
    reader.leave()


@pytest.mark.skipif(os.name == "nt", reason="the pages are written for a POSIX shell")
@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_a_reader_can_do_what_a_page_says(page: Path, reader: Reader) -> None:
    found = list(steps(page.read_text("utf-8")))
    for step in found:
        reader.follow(step)
    assert all(len(reason.split()) > 2 for reason in reader.left), "each has a reason"


def test_few_blocks_are_not_run() -> None:
    """What is run grows with the documents; what is not is a list that one can read."""
    found = [step for page in PAGES for step in steps(page.read_text("utf-8"))]
    left = sorted({step.about for step in found if step.kind == "not run"})
    assert len(left) <= 16, left
    assert sum(step.kind == "command" for step in found) > 120
