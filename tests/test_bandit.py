"""What bandit finds is excused where it stands, with a reason, or mended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXCUSED = {
    "B101": "an assert tells the type checker what holds; no check of input is one",
    "B404": "running programs is what this package is for",
    "B603": "without a shell, which rule has its own test",
    "B607": "git, uv and ps are found as the person who started the program finds them",
}
PLACES = {
    ("jobkit/executors/host.py", "B606"): "the child becomes what it was told to run",
    ("jobkit/executors/interpreter.py", "B102"): "the child runs the script that it was told to",
    ("jobkit/listings/users.py", "B105"): "the mark of having no password",
    ("jobkit/magics.py", "B105"): "names of options",
    ("jobkit/service/windows.py", "B406"): "it writes XML and reads none",
    ("portal/access.py", "B105"): "an empty token is refused there",
    ("portal/permissions.py", "B105"): "names of endpoints and roles",
}


def test_bandit_finds_nothing_but_what_is_excused_where_it_stands() -> None:
    """What ruff's rule of the same number is told to pass over in a line has its reason there."""
    command = [sys.executable, "-m", "bandit", "-q", "-f", "json", "-r", "jobkit", "portal"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["errors"] == []
    assert report["metrics"]["_totals"]["loc"] > 10_000
    found = [item for item in report["results"] if not _is_excused(item)]
    assert [(it["filename"], it["line_number"], it["issue_text"]) for it in found] == []
    used = {(item["filename"], item["test_id"]) for item in report["results"]}
    assert {place for place in PLACES if place not in used} == set(), "no excuse that nothing needs"


def _is_excused(item: dict[str, object]) -> bool:
    test, place = str(item["test_id"]), str(item["filename"])
    if test in EXCUSED or (place, test) in PLACES:
        return True
    if test == "B608" and place.startswith("jobkit/migrations/"):
        return True  # names of tables and columns, never what people typed
    lines = (ROOT / place).read_text("utf-8").splitlines()
    numbers = item["line_range"]
    assert isinstance(numbers, list)
    first, last = min(numbers) - 2, max(numbers) + 1
    return any(f"noqa: S{test[1:]}" in line for line in lines[max(first, 0) : last])
