"""Which file a job names: found in a script root, opened once, and known again by its identity."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jobkit.errors import CannotStart

READ_BYTES = 1 << 20
_FUNCTION = re.compile(r"(?P<path>.+\.py):(?P<function>[^\W\d]\w*(?:\.[^\W\d]\w*)*)", re.IGNORECASE)
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{name}{number}" for name in ("com", "lpt") for number in "0123456789¹²³"
}
_DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Identity:
    """What tells whether a file is still the one that was read."""

    device: int
    inode: int
    mtime_ns: int
    size: int
    """Bytes."""

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Read it from the status of an open file."""
        return cls(status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size)


@dataclass(frozen=True)
class Target:
    """A program's file as it was when it was opened; what runs it names it by `path`."""

    path: Path
    """Without links."""
    root: Path
    """The folder that it must lie in, without links."""
    sha256: str
    """Hash of its bytes."""
    identity: Identity
    cwd: Path
    """Where it runs unless the job says otherwise: the script root."""
    name: str
    """What people call it: the last part of the path that the job names."""

    def is_unchanged(self) -> bool:
        """Say whether the path still leads to the file as it was read."""
        try:
            descriptor = _open_below(self.root, self.path)
        except OSError:
            return False
        try:
            return Identity.of(os.fstat(descriptor)) == self.identity
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """Raise CannotStart when the file was changed or swapped since it was read."""
        if not self.is_unchanged():
            raise _changed(self.name)


def resolve(script_path: str, roots: Sequence[Path], platform: str = sys.platform) -> Target:
    """Find a script in the roots, links followed, and read it once.

    CannotStart when it lies outside, is missing, is no regular file, cannot be read, changes while
    it is read, or has a name that Windows reads as something else than a file.
    """
    if not script_path or "\x00" in script_path:
        raise CannotStart(f"{script_path!r} names no script.", "Name a file in a script root.")
    if platform == "win32" and (problem := windows_problem(script_path)):
        raise CannotStart(f"The script {script_path!r} is refused: {problem}.", "Rename the file.")
    real_roots = [Path(os.path.realpath(root)) for root in roots]
    if (found := _without_links(script_path, real_roots)) is not None:
        return found
    shown = os.pathsep.join(map(str, real_roots))
    inside = [
        (path, root)
        for root in real_roots
        if (path := (root / script_path).resolve()).is_relative_to(root)
    ]
    for path, root in inside:
        if path.exists():
            return _read(path, root, Path(script_path).name)
    if inside:
        raise CannotStart(
            f"The script {script_path} does not exist in {shown}.",
            "Check the name, or name its folder in JOBKIT_SCRIPT_ROOTS.",
        )
    raise CannotStart(
        f"The script {script_path} lies outside the script roots ({shown}).",
        "Move it there, or name its folder in JOBKIT_SCRIPT_ROOTS.",
    )


def windows_problem(script_path: str) -> str | None:
    """Say what Windows would make of a path other than a file of that name; None when nothing."""
    if script_path.startswith(("\\\\", "//", "\\/", "/\\")):
        return "it is on another machine, or a device"
    drive = _DRIVE.match(script_path)
    rest = script_path[2:] if drive else script_path
    if drive and not rest.startswith(("\\", "/")):
        return "it is relative to a drive"
    if ":" in rest:
        return "a colon names a hidden stream of a file"
    for part in re.split(r"[\\/]", rest):
        if part not in ("", ".", "..") and part[-1] in ". ":
            return f"{part!r} ends with a dot or a space, which Windows drops"
        if part.split(".")[0].rstrip(" ").lower() in _DEVICES:
            return f"{part!r} is the name of a device"
        if re.search(r'[<>"|?*\x00-\x1f]', part):
            return f"{part!r} holds a character that no file may have"
    return None


def split_function(script_path: str) -> tuple[str, str | None]:
    """Split `file.py:function` into its file and function; the function is None for a mere file."""
    if found := _FUNCTION.fullmatch(script_path):
        return found["path"], found["function"]
    return script_path, None


def split_arguments(script_args: str | None) -> list[str]:
    """Split arguments as a shell would, without one; CannotStart for quotes that do not close."""
    try:
        return shlex.split(script_args or "")
    except ValueError as error:
        raise CannotStart(
            f"The arguments {script_args!r} cannot be split: {error}.", "Close the quotes."
        ) from None


def _read(path: Path, root: Path, name: str) -> Target:
    try:
        descriptor = _open_below(root, path)
    except OSError as error:
        raise CannotStart(
            f"The script {path} cannot be opened: {error.strerror}.", "Check its permissions."
        ) from None
    return _read_open(descriptor, path, root, name)


def _read_open(descriptor: int, path: Path, root: Path, name: str) -> Target:
    """Read a file, and close it."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CannotStart(f"{path} is not a regular file.", "Name a script.")
        digest = hashlib.sha256()
        while block := os.read(descriptor, READ_BYTES):
            digest.update(block)
        if Identity.of(os.fstat(descriptor)) != Identity.of(status):
            raise _changed(name)
    finally:
        os.close(descriptor)
    return Target(path, root, digest.hexdigest(), Identity.of(status), root, name)


def _without_links(script_path: str, real_roots: Sequence[Path]) -> Target | None:
    """Read a script that lies below a root by plain names: nothing needs to be followed.

    None when it does not; what is wrong with it is said by those who look closer.
    """
    parts = Path(script_path).parts
    if not parts or Path(script_path).is_absolute() or ".." in parts:
        return None
    for root in real_roots:
        path = root.joinpath(*parts)
        try:
            descriptor = _open_below(root, path)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        return _read_open(descriptor, path, root, parts[-1])
    return None


def _open_below(root: Path, path: Path) -> int:
    """Open a real path below a real root, and follow no link on the way: nobody can swap one in."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe would wait
    if os.open not in os.supports_dir_fd:
        return os.open(path, flags)
    *folders, name = path.relative_to(root).parts or (".",)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in folders:
            below = os.open(part, flags | os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(name, flags, dir_fd=folder)
    finally:
        os.close(folder)


def _changed(name: str) -> CannotStart:
    return CannotStart(
        f"The script {name} was changed while it was being started.", "Run the job again."
    )
