"""How a job is to be executed: the columns of what people write about it, each value checked.

The worker has the last word: what its own settings do not allow, it does not run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from jobkit.errors import BadInput
from jobkit.states import ISOLATIONS
from jobkit.text import parse_duration, parse_size

KEYWORDS = (
    "kind",
    "source",
    "python",
    "memory",
    "nice",
    "cwd",
    "env_vars",
    "secrets",
    "isolation",
    "keep_kernel",
    "cell_timeout",
    "keep",
)
MOST_SOURCE = 1_000_000
LEAST_MEMORY, MOST_MEMORY = 1_000_000, 1 << 50
LONGEST_KEPT = 86_400.0
LONGEST_CELL = 7 * 86400.0
_KIND = re.compile(r"[a-z][a-z0-9_-]{0,31}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")


def columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of what is given, each checked; BadInput names what is wrong."""
    return {
        column: read(given[keyword])
        for keyword, (column, read) in _READERS.items()
        if given.get(keyword) is not None
    }


def _kind(value: str) -> str:
    if not _KIND.fullmatch(value):
        raise BadInput(
            f"kind={value!r} names no kind.",
            "Use python, shell, program, notebook, sql or function.",
        )
    return value


def _source(value: str) -> str:
    if not value.strip():
        raise BadInput("The source is empty.", "Give the text that is to run.")
    if "\x00" in value or len(value.encode("utf-8", "surrogatepass")) > MOST_SOURCE:
        raise BadInput(
            "The source holds a NUL or is longer than 1 MB.",
            "Keep it in a file below a script root of the workers.",
        )
    return value


def _path(value: str) -> str:
    if not value or "\x00" in value:
        raise BadInput(f"{value!r} is no path.", "Name a file or a folder of the workers.")
    return str(value)


def _memory(value: str | int) -> int:
    amount = parse_size(value) if isinstance(value, str) else int(value)
    if amount < LEAST_MEMORY:
        raise BadInput(f"memory={value} is less than 1 MB.", "Write it like 512MB or 2GB.")
    if amount > MOST_MEMORY:
        raise BadInput(f"memory={value} is more than there is.", "Write it like 512MB or 2GB.")
    return amount


def _nice(value: Any) -> int:
    if not isinstance(value, int) or not 0 <= value <= 19:
        raise BadInput(f"nice={value!r} is out of bounds.", "Use 0 (as the worker) to 19.")
    return value


def _variables(value: Mapping[str, Any]) -> dict[str, str]:
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name) or name.startswith("JOBKIT_"):
            raise BadInput(
                f"{name!r} cannot name a variable.", "Use letters, digits and _; not JOBKIT_…."
            )
        if not isinstance(text, str) or "\x00" in text:
            raise BadInput(f"The variable {name} is no text.", "Give its value as text.")
    return dict(value)


def _secrets(value: Sequence[str]) -> list[str]:
    for entry in [value] if isinstance(value, str) else value:
        if not _VARIABLE.fullmatch(entry.removeprefix("env:")):
            raise BadInput(
                f"{entry!r} names no secret.",
                "Write NAME, or env:NAME to have it as a variable too; never its value.",
            )
    return [value] if isinstance(value, str) else list(dict.fromkeys(value))


def _isolation(value: str) -> str:
    if value not in ISOLATIONS:
        raise BadInput(
            f"isolation={value!r} is not known.", f"Use one of: {', '.join(ISOLATIONS)}."
        )
    return value


def _keep_kernel(value: timedelta | str | float) -> float | None:
    seconds = parse_duration(value) if isinstance(value, str) else value
    amount = seconds.total_seconds() if isinstance(seconds, timedelta) else float(seconds)
    if not 0 <= amount <= LONGEST_KEPT:
        raise BadInput(f"keep_kernel={value} is out of bounds.", "Use 1s to 1d, or 0 for never.")
    return amount or None


def _cell_timeout(value: timedelta | str | float) -> float:
    if isinstance(value, str):
        value = parse_duration(value)
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0.1 <= seconds <= LONGEST_CELL:
        raise BadInput(f"cell_timeout={value} is out of bounds.", "Use 0.1 s to 7 d, like 2m.")
    return seconds


def _keep(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 100_000:
        raise BadInput(f"keep={value!r} is no number of runs.", "Use 1 to 100000.")
    return value


_READERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "kind": ("kind", _kind),
    "source": ("source", _source),
    "python": ("python", _path),
    "memory": ("memory_limit_bytes", _memory),
    "nice": ("nice", _nice),
    "cwd": ("working_dir", _path),
    "env_vars": ("variables", _variables),
    "secrets": ("secrets", _secrets),
    "isolation": ("isolation", _isolation),
    "keep_kernel": ("keep_kernel_seconds", _keep_kernel),
    "cell_timeout": ("cell_timeout_seconds", _cell_timeout),
    "keep": ("keep_outputs", _keep),
}
