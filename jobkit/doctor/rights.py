"""Who else may read a file or a folder."""

from __future__ import annotations

import os
import stat
from pathlib import Path

READ, ENTER = 0o004, 0o001


def is_open(path: Path) -> bool:
    """Whether anybody on this machine may read it: by its own mode, and by those of all above."""
    if os.name != "posix" or not _mode(path) & READ:
        return False
    return all(_mode(above) & ENTER for above in path.absolute().parents)


def holds_open(folder: Path) -> bool:
    """Whether anybody may read something in a folder."""
    if os.name != "posix" or not _mode(folder) & ENTER:
        return False
    return any(is_open(each) for each in folder.iterdir())


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
