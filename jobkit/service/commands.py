"""Commands of the system that takes care of services."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass

from jobkit.errors import JobkitError


@dataclass(frozen=True)
class Command:
    """A command; `may_fail`: it only makes sure of something, or asks."""

    words: tuple[str, ...]
    may_fail: bool = False

    def __str__(self) -> str:
        is_of_windows = self.words[0] == "schtasks"
        return subprocess.list2cmdline(self.words) if is_of_windows else shlex.join(self.words)

    def run(self) -> None:
        """Run it; JobkitError when it fails and may not."""
        ran = self._ran()
        if ran.returncode != 0 and not self.may_fail:
            said = (ran.stderr or ran.stdout).strip()
            raise JobkitError(f"{self} failed: {said or f'exit code {ran.returncode}'}.")

    def succeeds(self) -> bool:
        """Run it to ask something, and say whether it succeeded."""
        return self._ran().returncode == 0

    def _ran(self) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(self.words, capture_output=True, text=True, check=False)
        except OSError as error:
            raise JobkitError(f"{self} cannot be run: {error.strerror}.") from None
