"""Programs: any file that the system itself can execute."""

from __future__ import annotations

import os
from dataclasses import dataclass

from jobkit.errors import CannotStart
from jobkit.executors.kinds.task import Launch, Task


@dataclass(frozen=True)
class Program:
    """Runs an executable file, also one with a `#!` line."""

    name: str = "program"
    suffixes: tuple[str, ...] = (".exe",)

    def launch(self, task: Task) -> Launch:
        """Return the file with its arguments; CannotStart when it is not executable."""
        path = task.target.path
        if not os.access(path, os.X_OK):
            raise CannotStart(f"The file {path} is not executable.", f"Run: chmod +x {path}")
        return Launch((str(path), *task.arguments))
