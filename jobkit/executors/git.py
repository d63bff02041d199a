"""What git says of a script's folder: read from its files; a process is needed for changes only."""

from __future__ import annotations

import os
import re
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jobkit.clock import stopwatch

LOOK_SECONDS = 10.0
STATUS_SECONDS = 10.0
MOST_BYTES = 32 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_STATUS = (
    "--no-optional-locks",  # else it writes to the index
    "-c",
    "core.fsmonitor=false",  # names a program to run
    "status",
    "--porcelain",
    "--untracked-files=no",
    "--ignore-submodules=dirty",
)


@dataclass(frozen=True)
class Checkout:
    """A working tree: its own files of git, and those it shares with other working trees."""

    root: Path
    own: Path
    shared: Path


@dataclass(frozen=True)
class Head:
    """What is checked out; None where it cannot be told."""

    commit: str | None
    branch: str | None


def find_checkout(folder: Path) -> Checkout | None:
    """Return the working tree that a folder lies in."""
    for root in (folder, *folder.parents):
        entry = root / ".git"
        if entry.is_dir():
            return Checkout(root, entry, entry)
        if entry.is_file():
            return _linked(root, entry)
    return None


def _linked(root: Path, entry: Path) -> Checkout | None:
    """Follow the file that a worktree or a submodule has instead of a folder."""
    named = _first_line(entry)
    if not named.startswith("gitdir: "):
        return None
    own = root / named.removeprefix("gitdir: ")
    common = _first_line(own / "commondir")
    return Checkout(root, own, own / common if common else own)


def read_head(checkout: Checkout) -> Head:
    """Return the commit and the branch that are checked out; no branch when it is detached."""
    said = _first_line(f"{checkout.own}/HEAD")
    if not said.startswith("ref: "):
        return Head(_commit(said), None)
    ref = said.removeprefix("ref: ").strip()
    if not ref.startswith("refs/") or ".." in ref:
        return Head(None, None)
    loose = _first_line(f"{checkout.own}/{ref}") or _first_line(f"{checkout.shared}/{ref}")
    return Head(_commit(loose) or _packed(checkout.shared, ref), ref.removeprefix("refs/heads/"))


def _commit(said: str) -> str | None:
    return said if _COMMIT.fullmatch(said) else None


def _packed(shared: Path, ref: str) -> str | None:
    try:
        with (shared / "packed-refs").open("rb") as file:
            listed = file.read(MOST_BYTES)
    except OSError:
        return None
    ending = b" " + os.fsencode(ref)
    for line in listed.splitlines():
        if line.endswith(ending) and not line.startswith((b"#", b"^")):
            return _commit(line.removesuffix(ending).decode("ascii", "replace"))
    return None


def _first_line(path: Path | str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY)  # a third of the time of a file object
    except (OSError, ValueError):  # a NUL in the name
        return ""
    try:
        return os.fsdecode(os.read(descriptor, 4096).partition(b"\n")[0]).strip()
    except OSError:  # a folder
        return ""
    finally:
        os.close(descriptor)


def has_changes(root: Path, environment: Mapping[str, str]) -> bool | None:
    """Ask git whether files that it tracks differ from the commit; None when it does not say."""
    try:
        asked = subprocess.run(
            ["git", "-C", str(root), *_STATUS],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(environment),
            timeout=STATUS_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return bool(asked.stdout) if asked.returncode == 0 else None


class Look:
    """One look at a working tree's changes, taken in the background."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.done = threading.Event()
        self.has_changes: bool | None = None


class Repositories:
    """The working trees of a worker's scripts, each looked at every 10 s at most."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = {  # GIT_DIR and its like would lead elsewhere
            name: value for name, value in environment.items() if not name.startswith("GIT_")
        }
        self._lock = threading.Lock()
        self._found: dict[Path, tuple[float, Checkout | None]] = {}
        self._looks: dict[Path, Look] = {}

    def checkout(self, folder: Path) -> Checkout | None:
        """Return the working tree of a folder, as it was found 10 s ago at most."""
        now = stopwatch()
        with self._lock:
            known = self._found.get(folder)
        if known is not None and now - known[0] < LOOK_SECONDS:
            return known[1]
        found = find_checkout(folder)
        with self._lock:
            self._found[folder] = (now, found)
        return found

    def look(self, root: Path) -> Look:
        """Return the last look at a working tree; a new one begins when that is 10 s old."""
        now = stopwatch()
        with self._lock:
            last = self._looks.get(root)
            if last is not None and (not last.done.is_set() or now - last.began < LOOK_SECONDS):
                return last
            begun = self._looks[root] = Look(now)
        threading.Thread(target=self._take, args=(root, begun), daemon=True).start()
        return begun

    def _take(self, root: Path, look: Look) -> None:
        try:
            look.has_changes = has_changes(root, self._environment)
        finally:
            look.done.set()
