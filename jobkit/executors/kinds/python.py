"""Python scripts: by an interpreter, or by uv when the script names what it needs (PEP 723)."""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobkit.errors import CannotStart
from jobkit.executors.kinds.task import Launch, Task, Warm

# A block opens with `# /// name`; each line of it is `#`, or `# ` and a text; `# ///` closes it.
_BLOCK = re.compile(
    r"^# /// (?P<name>[a-zA-Z0-9-]+)$\s(?P<content>(?:^#(?:| .*)$\s)+)^# ///$", re.MULTILINE
)
_CLAUSE = re.compile(r"\s*(~=|===?|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?\s*")


@dataclass(frozen=True)
class Python:
    """Runs `.py`."""

    name: str = "python"
    suffixes: tuple[str, ...] = (".py",)

    def launch(self, task: Task) -> Launch:
        """Return the interpreter or uv with the script; CannotStart when either is missing."""
        path, arguments = task.target.path, task.arguments
        python = interpreter(task.python)
        needs = _needs_of(task.target.sha256, path)
        if needs.dependencies or not needs.accepts(python):
            return Launch((*uv_run(needs, python), "--script", str(path), *arguments), env=QUIET_UV)
        return Launch((str(python), str(path), *arguments), Warm(path, arguments))


@dataclass(frozen=True)
class Needs:
    """What a script says of itself: packages, and versions of Python (empty for any)."""

    dependencies: tuple[str, ...] = ()
    requires_python: str = ""

    def accepts(self, python: Path) -> bool:
        """Say whether an interpreter is of a version that the script takes; False when unsure."""
        return not self.requires_python or satisfies(version_of(python), self.requires_python)


# No bar is drawn into the log; what uv installs and what it cannot resolve is still said.
QUIET_UV = {"UV_NO_PROGRESS": "1"}


@functools.lru_cache(maxsize=256)
def _needs_of(sha256: str, path: Path) -> Needs:
    """Read a file once for each state of it."""
    return read_needs(path)


def read_needs(path: Path) -> Needs:
    """Read the `# /// script` block of a file; CannotStart when it is wrong or there are two."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CannotStart(f"{path} cannot be read: {error.strerror}.", "Check it.") from None
    if b"# /// script" not in data:
        return Needs()
    text = data.decode("utf-8", "replace").replace("\r\n", "\n")
    blocks = [found for found in _BLOCK.finditer(text) if found["name"] == "script"]
    if len(blocks) > 1:
        raise CannotStart(f"{path} has two blocks `# /// script`.", "Make them one.")
    return _parse(path, blocks[0]["content"]) if blocks else Needs()


def _parse(path: Path, content: str) -> Needs:
    lines = [line[2:] if line.startswith("# ") else line[1:] for line in content.splitlines()]
    try:
        table: dict[str, Any] = tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise CannotStart(
            f"The block `# /// script` of {path} is not TOML: {error}.", "Correct it (PEP 723)."
        ) from None
    dependencies, requires = table.get("dependencies", []), table.get("requires-python", "")
    if not isinstance(requires, str) or not (
        isinstance(dependencies, list) and all(isinstance(item, str) for item in dependencies)
    ):
        raise CannotStart(
            f"The block `# /// script` of {path} is wrong.",
            "`dependencies` is a list of texts, `requires-python` a text (PEP 723).",
        )
    return Needs(tuple(dependencies), requires)


def satisfies(version: tuple[int, int, int], specifier: str) -> bool:
    """Say whether a version of Python meets all clauses of a specifier; False for unknown ones."""
    return all(_meets(version, clause) for clause in specifier.split(",") if clause.strip())


def _meets(version: tuple[int, ...], clause: str) -> bool:
    found = _CLAUSE.fullmatch(clause)
    if not found:
        return False
    operator, star = found[1], bool(found[3])
    numbers = tuple(map(int, found[2].split(".")))
    whole = (*numbers, 0, 0, 0)[:3]
    begins = version[: len(numbers)] == numbers
    equal = begins if star else version == whole
    return {
        "==": equal,
        "===": equal,
        "!=": not equal,
        ">=": version >= whole,
        "<=": version <= whole,
        ">": version > whole,
        "<": version < whole,
        "~=": version >= whole and version[: len(numbers) - 1] == numbers[:-1],
    }[operator]


def version_of(python: Path) -> tuple[int, int, int]:
    """Return an interpreter's version; CannotStart when it does not answer."""
    return sys.version_info[:3] if is_ours(python) else _ask_version(python)


@functools.lru_cache(maxsize=64)
def _ask_version(python: Path) -> tuple[int, int, int]:
    code = "import sys; print(*sys.version_info[:3])"
    try:
        asked = subprocess.run(
            [python, "-I", "-S", "-c", code], capture_output=True, check=True, timeout=30, text=True
        )
        major, minor, micro = map(int, asked.stdout.split())
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise CannotStart(f"{python} does not answer: {error}.", "Name a Python.") from None
    return major, minor, micro


def interpreter(python: Path) -> Path:
    """Return the interpreter of a venv's folder, and a file as it is; CannotStart if missing."""
    path = python
    if python.is_dir():
        path = python / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    if not os.access(path, os.X_OK) or path.is_dir():
        raise CannotStart(f"There is no interpreter {path}.", "Name a Python, or a venv's folder.")
    return path.absolute()  # not resolved: a venv is known by its link


def is_ours(python: Path) -> bool:
    """Say whether it is the interpreter that this process runs in."""
    return str(python) == sys.executable


def warm_if_ours(
    python: Path, script: Path, arguments: tuple[str, ...], preload: tuple[str, ...] = ()
) -> Warm | None:
    """Return how a fork runs a Python file, None when another interpreter is asked for."""
    return Warm(script, arguments, preload) if is_ours(python) else None


def uv_run(needs: Needs, python: Path) -> list[str]:
    """Return `uv run`, with this interpreter where the script takes it; CannotStart without uv."""
    chosen = ["--python", str(python)] if needs.accepts(python) else []
    return [*find_uv(), "run", "--no-project", *chosen]


def find_uv() -> list[str]:
    """Return the command that starts uv; CannotStart where there is none."""
    if found := shutil.which("uv"):
        return [str(Path(found).absolute())]
    if importlib.util.find_spec("uv"):
        return [sys.executable, "-m", "uv"]
    raise CannotStart(
        "The script names its dependencies (`# /// script`), which needs uv.",
        "Run: pip install uv",
    )
