"""Which program a job names, and the command that runs it: always a list, never a shell line."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobkit.errors import CannotStart


@dataclass(frozen=True)
class Target:
    """A program's file, and the script root it lies in, which is where it runs."""

    path: Path
    root: Path


def resolve(script_path: str, roots: Sequence[Path]) -> Target:
    """Find a script in the roots, links followed; CannotStart when it is outside or missing."""
    if not script_path or "\x00" in script_path:
        raise CannotStart(f"{script_path!r} names no script.", "Name a file in a script root.")
    real_roots = [root.resolve() for root in roots]
    shown = os.pathsep.join(map(str, real_roots))
    inside = [
        (path, root)
        for root in real_roots
        if (path := (root / script_path).resolve()).is_relative_to(root)
    ]
    for path, root in inside:
        if path.is_file():
            return Target(path, root)
    if inside:
        raise CannotStart(
            f"The script {script_path} does not exist in {shown}.",
            "Check the name, or name its folder in JOBKIT_SCRIPT_ROOTS.",
        )
    raise CannotStart(
        f"The script {script_path} lies outside the script roots ({shown}).",
        "Move it there, or name its folder in JOBKIT_SCRIPT_ROOTS.",
    )


def command(target: Target, arguments: Sequence[str]) -> list[str]:
    """Return the command that runs a target; CannotStart when nothing here can run it."""
    return [*_interpreter(target.path), str(target.path), *arguments]


def _interpreter(path: Path) -> list[str]:
    suffix = path.suffix.lower()
    if suffix == ".py":
        return [sys.executable]
    if suffix == ".sh":
        shell = shutil.which("bash") or shutil.which("sh")
        if shell is None:
            raise CannotStart(f"Nothing here runs {path}.", "Install bash.")
        return [shell]
    if suffix in (".bat", ".cmd"):
        shell = os.environ.get("COMSPEC")
        if shell is None:
            raise CannotStart(f"{path} runs on Windows only.", "Run it on a worker there.")
        return [shell, "/c"]
    if not os.access(path, os.X_OK):
        raise CannotStart(f"The file {path} is not executable.", f"Run: chmod +x {path}")
    return []


def split_arguments(script_args: str | None) -> list[str]:
    """Split arguments as a shell would, without one; CannotStart for quotes that do not close."""
    try:
        return shlex.split(script_args or "")
    except ValueError as error:
        raise CannotStart(
            f"The arguments {script_args!r} cannot be split: {error}.", "Close the quotes."
        ) from None
