"""A disk of its own for a test, which can be full."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

SIZE = "4g"
# Waits until the tests close the pipe or die, in whatever way, and leaves no mount behind.
KEEPER = 'read -r _; umount -l "$1"; rmdir "$1"'


class Disk:
    """A file system in memory, mounted on a folder that anybody may enter: roomy, until full."""

    def __init__(self) -> None:
        self.folder = folder = Path(tempfile.mkdtemp(prefix="jobkit-disk-")).resolve()
        _mount("-t", "tmpfs", "-o", f"size={SIZE},mode=755", "none", folder)
        (folder / "block").write_text("no disk can be of size 0")
        self._keeper = subprocess.Popen(
            ["sh", "-c", KEEPER, "keeper", folder],
            stdin=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )

    def fill(self) -> None:
        """Leave no room: the disk becomes as small as what lies on it."""
        while not self._shrink():
            pass  # somebody wrote meanwhile

    def free(self) -> None:
        """Give it room again."""
        _mount("-o", f"remount,size={SIZE}", self.folder)

    def close(self) -> None:
        """Unmount it; what lies on it is gone."""
        self._keeper.communicate()

    def _shrink(self) -> bool:
        used = os.statvfs(self.folder)
        size = (used.f_blocks - used.f_bfree) * used.f_frsize
        try:
            _mount("-o", f"remount,size={size}", self.folder)
        except subprocess.CalledProcessError:
            return False
        return True


def can_mount() -> bool:
    """Whether this user may mount file systems: root, on Linux, outside of most containers."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    tried = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
    )
    return tried.returncode == 0


def make_disk() -> Disk:
    """Mount a disk; where that cannot be, skip loudly, or fail in CI."""
    if not can_mount():
        missing = "no disk can be mounted here: run as root on Linux, with the right to mount"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Disk()


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)
