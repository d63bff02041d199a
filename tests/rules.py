"""Rules of this house that no linter has: each reads the tree of a module and tells what breaks it.

A place that may do what others may not is named here, with the reason.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parent.parent
Breach = tuple[int, str]


@dataclass(frozen=True)
class Rule:
    """What must not be written, where it is looked for, and who may nevertheless."""

    name: str
    find: Callable[[ast.Module], Iterator[Breach]]
    where: tuple[str, ...] = ("jobkit", "portal")
    allowed: Mapping[str, str] = field(default_factory=dict)
    """Files or folders, and why."""

    def concerns(self, path: str) -> bool:
        """Whether a file, named from the root, is to keep it."""
        above = {str(each) for each in (PurePosixPath(path), *PurePosixPath(path).parents)}
        return bool(above & set(self.where)) and not above & set(self.allowed)

    def breaches(self, source: str) -> list[Breach]:
        """Return the lines of a source that break it."""
        return sorted(self.find(_parsed(source)))


_parsed = functools.lru_cache(maxsize=2)(ast.parse)
"""One rule after the other asks for the same module."""


@functools.lru_cache(maxsize=64)
def _nodes(tree: ast.AST) -> list[ast.AST]:
    """Return all nodes below one; each rule wants them."""
    return list(ast.walk(tree))


def modules() -> Iterator[tuple[str, str]]:
    """Yield each module of the product, named from the root, and its source."""
    for folder in ("jobkit", "portal"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), path.read_text("utf-8")


def dotted(node: ast.expr) -> str:
    """Return the name of what is called or read: `self.database.write`."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls(tree: ast.AST) -> Iterator[tuple[ast.Call, str]]:
    """Yield each call below a node, with the name of what is called."""
    for node in _nodes(tree):
        if isinstance(node, ast.Call):
            yield node, dotted(node.func)


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of each module that is imported."""
    for node in _nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


PICKLES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def _pickles(tree: ast.Module) -> Iterator[Breach]:
    for line, name in imported(tree):
        if name.partition(".")[0] in PICKLES:
            yield line, f"imports {name}: who can write what it reads runs code here"
    for call, name in calls(tree):
        if name.endswith((".read_pickle", ".to_pickle")):
            yield call.lineno, f"calls {name}"


SHELLS = {
    "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
}  # fmt: skip


def _shells(tree: ast.Module) -> Iterator[Breach]:
    for call, name in calls(tree):
        if name in SHELLS:
            yield call.lineno, f"calls {name}"
        for given in call.keywords:
            is_off = isinstance(given.value, ast.Constant) and not given.value.value
            if given.arg == "shell" and not is_off:
                yield call.lineno, "hands a command to a shell"
    for line, name in imported(tree):
        if name in SHELLS:
            yield line, f"imports {name}"


def _markup(tree: ast.Module) -> Iterator[Breach]:
    for call, name in calls(tree):
        if name.rpartition(".")[2] != "Markup":
            continue
        if not all(isinstance(given, ast.Constant) for given in call.args):
            yield call.lineno, "Markup of something else than a literal: format() it, that escapes"


NAIVE = {"utcnow", "utcfromtimestamp", "today"}


def _naive(tree: ast.Module) -> Iterator[Breach]:
    for call, name in calls(tree):
        owner, _, method = name.rpartition(".")
        if owner.rpartition(".")[2] not in ("datetime", "date"):
            continue
        names_zone = any(given.arg == "tz" for given in call.keywords)
        needed = {"now": 1, "fromtimestamp": 2}.get(method, 0)
        lacks = method in ("now", "fromtimestamp") and not (names_zone or len(call.args) >= needed)
        if lacks or method in NAIVE:
            yield call.lineno, f"{name}() has no time zone"


def _sleeps(tree: ast.Module) -> Iterator[Breach]:
    for call, name in calls(tree):
        if name in ("time.sleep", "sleep", "nap", "clock.nap"):
            yield call.lineno, f"calls {name}: wait by the clock that is handed in"


PURE = (
    "jobkit/states.py",
    "jobkit/schedule",
    "jobkit/expectation.py",
    "jobkit/hindrance.py",
    "jobkit/health.py",
    "jobkit/store",
)
"""What decides, and every statement on runs: functions of what they are handed."""
IMPURE = {"time", "threading", "socket", "subprocess", "secrets", "jobkit.clock", "os"}


def _impure(tree: ast.Module) -> Iterator[Breach]:
    for line, name in imported(tree):
        if name in IMPURE:
            yield line, f"a rule imports {name}: hand in what it needs"
    for call, name in calls(tree):
        if name.startswith(("random.", "datetime.now", "datetime.utcnow")):
            yield call.lineno, f"a rule calls {name}: hand in `rng` or `now`"


LONG = {
    "sleep", "nap", "wait", "communicate", "Popen", "check_call", "check_output", "system",
    "urlopen", "put", "launch", "prepared",
}  # fmt: skip


def _is_transaction(item: ast.withitem) -> bool:
    call = item.context_expr
    if not isinstance(call, ast.Call):
        return False
    owner, _, method = dotted(call.func).rpartition(".")
    return method in ("write", "read") and owner.rpartition(".")[2].strip("_") in (
        "database",
        "opened",
    )


def _held(tree: ast.Module) -> Iterator[Breach]:
    for node in _nodes(tree):
        if not isinstance(node, ast.With) or not any(map(_is_transaction, node.items)):
            continue
        for call, name in (pair for statement in node.body for pair in calls(statement)):
            owner, _, method = name.rpartition(".")
            runs = method == "execute" and "attempt" in owner
            if method in LONG or runs or owner == "subprocess":
                yield call.lineno, f"{name}() while a transaction is open"


def _prints(tree: ast.Module) -> Iterator[Breach]:
    for call, name in calls(tree):
        if name in ("print", "sys.stdout.write", "pprint.pprint"):
            yield call.lineno, f"calls {name}: log it, or return it"


SQL = re.compile(
    r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\S+\s+SET\s|DELETE\s+FROM\s|WITH\s+\w+\s+AS\s"
    r"|(CREATE|DROP|ALTER)\s+(TABLE|INDEX|VIEW)\s)"
)


def _spliced(tree: ast.Module) -> Iterator[Breach]:
    for node in _nodes(tree):
        text = None
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
            text = _literal(node.left)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            text = _literal(node.func.value) if node.func.attr == "format" else None
        if text is not None and SQL.match(text):
            yield node.lineno, "splices values into SQL: use parameters"


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


RULES = (
    Rule("no pickle", _pickles),
    Rule("no shell", _shells),
    Rule(
        "no Markup on data",
        _markup,
        ("portal",),
        {
            "portal/analytics.py": "a chart escapes what people typed; tests/test_portal_bytes.py",
            "portal/coverage.py": "a chart escapes what people typed",
            "portal/jobs.py": "a chart escapes what people typed",
            "portal/pages.py": "a thousand marks on a page: their parts are escaped once",
        },
    ),
    Rule("no naive datetime", _naive),
    Rule(
        "no sleep",
        _sleeps,
        allowed={
            "jobkit/clock.py": "the one place that waits",
            "jobkit/db/sqlite.py": "a fraction of a millisecond, until the next turn of a writer",
            "jobkit/cli/options.py": "a program that starts waits for its database",
            "jobkit/archive/removal.py": "lets others write between two batches",
            "jobkit/archive/restoring.py": "lets others write between two batches",
            "jobkit/attach.py": "a client that looks at its kernel",
            "jobkit/executors/host.py": "the child imports the standard library only",
            "jobkit/executors/zygote.py": "the child imports the standard library only",
            "portal/server.py": "gives answers a moment to leave before the sockets close",
        },
    ),
    Rule("rules are pure", _impure, PURE),
    Rule("no transaction across a run", _held),
    Rule(
        "no print",
        _prints,
        allowed={
            "jobkit/cli": "what it is for",
            "jobkit/attach.py": "a client of a kernel in a terminal",
            "jobkit/debugging/rehearsal.py": "shows values as a notebook does",
            "jobkit/decorated.py": "the output of a cell",
            "jobkit/magics.py": "the output of a cell",
            "jobkit/executors": "output of an attempt is what it prints",
            "jobkit/stopping.py": "a line by which a run speaks",
            "jobkit/trial.py": "hands on the output of an attempt in a notebook",
        },
    ),
    Rule(
        "no spliced SQL",
        _spliced,
        allowed={
            "jobkit/db": "names of tables and partitions, never what people typed",
            "jobkit/migrations": "names of tables and columns, never what people typed",
            "jobkit/analytics": "DuckDB over views of its own, fenced; fragments are literals",
            "jobkit/archive/staging.py": "DuckDB over its own files; fragments are literals",
        },
    ),
)

UNESCAPED = re.compile(r"\|\s*safe\b|autoescape\s+false|Markup\(")


def unescaped(template: str) -> list[Breach]:
    """Return the lines of a template that trust what they are given."""
    return [
        (number, f"does not escape: {line.strip()}")
        for number, line in enumerate(template.splitlines(), 1)
        if UNESCAPED.search(line)
    ]
