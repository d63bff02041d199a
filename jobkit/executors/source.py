"""Source text that travels with a job: kept under its hash, run like a file of a script root."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path, PurePosixPath

from jobkit.errors import CannotStart
from jobkit.executors.target import Target, resolve


def keep(text: str, suffix: str, folder: Path) -> Path:
    """Write a text to `<folder>/<sha256><suffix>` unless it is there, and return that path.

    Whoever finds the file finds all of it. One whose content is not what its name says is replaced.
    CannotStart when it cannot be written.
    """
    data = text.encode("utf-8", "surrogatepass")
    path = folder / (hashlib.sha256(data).hexdigest() + suffix)
    try:
        if not _holds(path, data):
            _write(path, data)
    except OSError as error:
        raise CannotStart(
            f"The job's source cannot be written to {folder}: {error.strerror}.",
            "Make room there, or let the worker write to it.",
        ) from None
    return path


def target(text: str, name: str, folder: Path, cwd: Path) -> Target:
    """Return what runs a text: the file that it is kept in, called `name`, run in `cwd`.

    `name` is the job's script path, of which only the last part and its suffix matter.
    """
    name = PurePosixPath(name.replace("\\", "/")).name
    found = resolve(str(keep(text, PurePosixPath(name).suffix, folder)), [folder])
    return replace(found, cwd=cwd, name=name)


def _holds(path: Path, data: bytes) -> bool:
    try:
        return not path.is_symlink() and path.read_bytes() == data
    except FileNotFoundError:
        return False


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        _place(Path(temporary), path, data)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _place(temporary: Path, path: Path, data: bytes) -> None:
    """Give a file its name, unless another has just put the same there.

    That one is being started elsewhere, and would be taken for changed if it were replaced.
    """
    try:
        os.link(temporary, path)
    except OSError:  # it is there, or the file system has no hard links
        if not _holds(path, data):
            temporary.replace(path)
