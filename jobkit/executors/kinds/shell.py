"""Shell scripts, each by its own shell; arguments reach it as they are."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import dataclass

from jobkit.errors import CannotStart
from jobkit.executors.kinds.task import Launch, Task

# cmd.exe reads these even in a quoted argument, and has no way to escape them all.
_UNSAFE = re.compile(r'[&|<>^%!"()\r\n]')


@dataclass(frozen=True)
class Shell:
    """Runs `.sh` by bash or sh, `.ps1` by PowerShell, `.bat` and `.cmd` on Windows."""

    name: str = "shell"
    suffixes: tuple[str, ...] = (".sh", ".ps1", ".bat", ".cmd")
    platform: str = sys.platform

    def launch(self, task: Task) -> Launch:
        """Return the shell, the script and its arguments; CannotStart when the shell is missing."""
        path = str(task.target.path)
        suffix = task.target.path.suffix.lower()
        if suffix in (".bat", ".cmd"):
            self._check_batch(path, task.arguments)
            return Launch((path, *task.arguments))
        if suffix == ".ps1":
            shell = _find(path, "PowerShell", "pwsh", "powershell")
            return Launch((shell, "-NoProfile", "-NonInteractive", "-File", path, *task.arguments))
        return Launch((_find(path, "bash", "bash", "sh"), path, *task.arguments))

    def _check_batch(self, path: str, arguments: tuple[str, ...]) -> None:
        if self.platform != "win32":
            raise CannotStart(f"{path} runs on Windows only.", "Run it on a worker there.")
        for text in (path, *arguments):
            if found := _UNSAFE.search(text):
                raise CannotStart(
                    f"{text!r} holds {found[0]!r}, which a batch file would not take as text.",
                    "Leave it out, or call a Python or PowerShell script.",
                )


def _find(path: str, product: str, *names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise CannotStart(f"Nothing here runs {path}.", f"Install {product}.")
