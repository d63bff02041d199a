"""Rules that no library knows, read off the syntax; and those of bandit."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
Fault = tuple[int, str]
"""A line, and what is wrong with it."""
SLEEPERS = {
    "jobkit/clock.py": "the one nap, handed down",
    "jobkit/attach.py": "a person waits for a kernel",
    "jobkit/executors/host.py": "the child's own process, which knows no database",
    "jobkit/executors/windows_host.py": "the same on Windows",
    "jobkit/executors/zygote.py": "the child's own process",
    "jobkit/executors/runners/inprocess.py": "a loop of the child's",
    "jobkit/executors/runners/kernel.py": "a loop of the child's",
}
"""Where something sleeps by itself, and why it may; all else waits for an alarm or a clock."""
SLOW = {"sleep", "nap", "Popen", "communicate", "urlopen", "check_call", "check_output", "input"}
"""What may take long, and so never while a transaction is open."""
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
    ("portal/access.py", "B105"): "an empty token is refused there",
    ("portal/permissions.py", "B105"): "names of endpoints and roles",
}


def pickles(tree: ast.Module) -> Iterator[Fault]:
    """Nothing is read that runs code while it is read."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.split(".")[0] in ("pickle", "cloudpickle", "dill", "marshal", "shelve"):
                yield node.lineno, f"imports {name}"


def shells(tree: ast.Module) -> Iterator[Fault]:
    """No text becomes a command line."""
    for node in _calls(tree):
        if any(word.arg == "shell" and not _is(word.value, False) for word in node.keywords):
            yield node.lineno, "shell="
        if ast.unparse(node.func) in ("os.system", "os.popen", "subprocess.getoutput"):
            yield node.lineno, ast.unparse(node.func)


def sleeps(tree: ast.Module) -> Iterator[Fault]:
    """A rule sleeps nowhere: it says "again" or "wait"."""
    for node in _calls(tree):
        if ast.unparse(node.func) in ("time.sleep", "sleep", "asyncio.sleep"):
            yield node.lineno, ast.unparse(node.func)


def transactions(tree: ast.Module) -> Iterator[Fault]:
    """No transaction is open while something slow happens."""
    for node in ast.walk(tree):
        if isinstance(node, ast.With) and any(map(_opens_transaction, node.items)):
            for inner in node.body:
                for call in _calls(inner):
                    if ast.unparse(call.func).rpartition(".")[2] in SLOW:
                        yield call.lineno, f"{ast.unparse(call.func)} in a transaction"


def naive_instants(tree: ast.Module) -> Iterator[Fault]:
    """Every instant knows its zone; `now` is a clock's."""
    for node in _calls(tree):
        name = ast.unparse(node.func)
        if name in ("datetime.utcnow", "datetime.today", "date.today", "datetime.utcfromtimestamp"):
            yield node.lineno, name
        if name in ("datetime.now", "datetime.datetime.now") and not (node.args or node.keywords):
            yield node.lineno, name


RULES: dict[str, tuple[Callable[[ast.Module], Iterator[Fault]], str]] = {
    "pickles": (pickles, "import json, pickle"),
    "shells": (shells, "import subprocess\nsubprocess.run(text, shell=True)\nos.popen(text)"),
    "sleeps": (sleeps, "import time\ndef tick(now):\n    time.sleep(1)"),
    "transactions": (
        transactions,
        "with self.database.write() as connection:\n    if x:\n        subprocess.Popen(x)",
    ),
    "naive instants": (naive_instants, "from datetime import datetime\nx = datetime.now()"),
}
"""Each rule, with what it must find."""


@pytest.mark.parametrize("name", RULES)
def test_the_package_keeps_the_rule(name: str) -> None:
    rule, broken = RULES[name]
    assert list(rule(ast.parse(broken))), "it would not see what it is for"
    found = {
        f"{place}:{line} {said}"
        for place, tree in _trees()
        for line, said in rule(tree)
        if not (rule is sleeps and place in SLEEPERS)
    }
    assert found == set()


def test_who_is_excused_from_a_rule_still_needs_it() -> None:
    trees = dict(_trees())
    assert [place for place in SLEEPERS if not list(sleeps(trees[place]))] in (
        [],
        ["jobkit/executors/windows_host.py"],  # it sleeps by the function it was given
    )


def test_no_template_says_that_data_is_markup() -> None:
    templates = sorted((ROOT / "portal/templates").rglob("*.html"))
    assert templates
    wrong = ("| safe", "|safe", "autoescape false", "javascript:", " onclick", " style=")
    found = [
        (path.name, word) for path in templates for word in wrong if word in path.read_text("utf-8")
    ]
    assert found == []


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


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for top in ("jobkit", "portal"):
        for path in sorted((ROOT / top).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _is(node: ast.expr, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def _opens_transaction(item: ast.withitem) -> bool:
    call = item.context_expr
    return isinstance(call, ast.Call) and ast.unparse(call.func).endswith(
        ("database.read", "database.write")
    )
