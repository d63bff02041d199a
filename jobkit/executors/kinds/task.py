"""What a kind is given, and what it makes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobkit.executors.target import Target

RUNNERS = Path(__file__).parent.parent / "runners"


@dataclass(frozen=True)
class Task:
    """What one attempt is to run, checked already against the worker's own configuration."""

    target: Target
    arguments: tuple[str, ...]
    params: Mapping[str, Any]
    python: Path
    """An interpreter or the folder of a venv: the worker's own, or the job's if it is allowed."""
    function: str | None = None
    """The function of `file.py:function`."""


@dataclass(frozen=True)
class Warm:
    """How a forked process runs it instead of a fresh interpreter."""

    script: Path
    """A Python file, run as `__main__`."""
    arguments: tuple[str, ...]
    """What follows the file in `sys.argv`."""
    preload: tuple[str, ...] = ()
    """Modules that pay off when they were imported before the fork."""


@dataclass(frozen=True)
class Launch:
    """The command that runs a task."""

    argv: tuple[str, ...]
    """A list, never a shell line; the first is an absolute path."""
    warm: Warm | None = None
    """None: always a fresh process."""
    env: Mapping[str, str] = field(default_factory=dict)
    """What the kind adds to the environment of the child."""
