"""Desks: the folders that attempts start with, each with an empty place for what they leave."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from jobkit.errors import CannotStart

PLACES = ("artifacts", "secrets")
MOST_SPARE = 16


@dataclass(frozen=True)
class Desk:
    """One folder, for one attempt at a time."""

    folder: Path
    made: tuple[tuple[int, int], ...]
    """Inode and time of change of the folder and its places, when they were made."""

    @property
    def artifacts(self) -> Path:
        """Where a script leaves files."""
        return self.folder / "artifacts"

    @property
    def secrets(self) -> Path:
        """Where it finds its secrets."""
        return self.folder / "secrets"


class Desks:
    """Hands out folders below one, and takes them back; safe for many threads.

    One that nobody has touched serves the next attempt: making and removing folders costs a short
    attempt more than its fork.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._spare: list[Desk] = []

    def tidy(self) -> None:
        """Remove what a worker of this machine left that was killed."""
        for folder in self._folder.glob("*-*"):
            pid = folder.name.partition("-")[0]
            if pid.isdigit() and not psutil.pid_exists(int(pid)):
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def take(self) -> Iterator[Desk]:
        """Lend one until the block ends; CannotStart when none can be made."""
        with self._lock:
            desk = self._spare.pop() if self._spare else None
        desk = desk or self._make()
        try:
            yield desk
        finally:
            self._give_back(desk)

    def close(self) -> None:
        """Remove those that nobody uses."""
        with self._lock:
            spare, self._spare = self._spare, []
        for desk in spare:
            shutil.rmtree(desk.folder, ignore_errors=True)

    def _make(self) -> Desk:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=self._folder))
            for place in PLACES:
                (folder / place).mkdir(mode=0o700)
            return Desk(folder, _state(folder))
        except OSError as error:
            raise CannotStart(
                f"No folder for the attempt: {error.strerror}: {error.filename}.",
                "Make room, or name another place in JOBKIT_SPOOL_DIR.",
            ) from error

    def _give_back(self, desk: Desk) -> None:
        if _is_untouched(desk):
            with self._lock:
                if len(self._spare) < MOST_SPARE:
                    self._spare.append(desk)
                    return
        shutil.rmtree(desk.folder, ignore_errors=True)


def _state(folder: Path) -> tuple[tuple[int, int], ...]:
    looked_at = [os.lstat(path) for path in (folder, *(folder / place for place in PLACES))]
    return tuple((found.st_ino, found.st_ctime_ns) for found in looked_at)


def _is_untouched(desk: Desk) -> bool:
    """Say whether nothing was put in, taken out or changed; a clock may tick too seldom to tell."""
    try:
        is_same = _state(desk.folder) == desk.made
        return is_same and not any(any((desk.folder / place).iterdir()) for place in PLACES)
    except OSError:
        return False
