"""The packages of interpreters: their names and versions, and one hash for all of them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jobkit.clock import stopwatch

ASK_SECONDS = 20.0
LOOK_SECONDS = 0.25
_ASK = """
import json, platform, sys
print(json.dumps([platform.python_version(), platform.python_implementation(),
                  [path for path in sys.path if path]]))
"""
_KIND = re.compile(r"(?P<name>.+?)(?:-(?P<version>[^-]+?))?(?:-py\d[\d.]*)?\.(?:dist|egg)-info")
_Stamp = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class PackageSet:
    """The packages that an interpreter sees: versions by name, and the hash that names them."""

    sha256: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Interpreter:
    """A Python and the folders that it imports from."""

    path: str
    version: str
    implementation: str
    folders: tuple[str, ...]


def installed(folders: Sequence[str]) -> PackageSet:
    """Read what is installed in folders; of two versions the first folder's counts."""
    packages: dict[str, str] = {}
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith("-info"))
            for name in names:
                if found := _KIND.fullmatch(name):
                    listed = re.sub(r"[-_.]+", "-", found["name"]).lower()
                    packages.setdefault(listed, found["version"] or "")
    ordered = dict(sorted(packages.items()))
    text = "".join(f"{name}=={version}\n" for name, version in ordered.items())
    return PackageSet(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest(), ordered)


def own_interpreter() -> Interpreter:
    """Return the interpreter that runs this."""
    return Interpreter(
        sys.executable,
        platform.python_version(),
        platform.python_implementation(),
        tuple(path for path in sys.path if path),
    )


def ask_interpreter(path: str, environment: Mapping[str, str]) -> Interpreter | None:
    """Ask another interpreter what it is, by one process; None when it does not say."""
    try:
        asked = subprocess.run(
            [path, "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=dict(environment),
            cwd=Path(os.sep).absolute(),  # what lies there is imported first
            timeout=ASK_SECONDS,
            check=True,
        )
        version, implementation, folders = json.loads(asked.stdout)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return Interpreter(path, version, implementation, tuple(folders))


class Interpreters:
    """The interpreters that a worker has used; each is asked once, and again when it changes."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._lock = threading.Lock()
        self._asked: dict[str, tuple[_Stamp, Interpreter | None]] = {}
        self._sets: dict[tuple[str, ...], tuple[_Stamp, PackageSet]] = {}
        self._looked: dict[tuple[str, ...], tuple[float, _Stamp]] = {}

    def interpreter(self, path: str) -> Interpreter | None:
        """Return what an interpreter is; None when it does not say."""
        environment = os.path.dirname(os.path.dirname(path))  # noqa: PTH120 - half the time
        stamp = self._stamp((path, f"{environment}/pyvenv.cfg"))
        with self._lock:
            known = self._asked.get(path)
        if known is not None and known[0] == stamp:
            return known[1]
        is_own = path == sys.executable
        told = own_interpreter() if is_own else ask_interpreter(path, self._environment)
        with self._lock:
            self._asked[path] = (stamp, told)
        return told

    def packages(self, interpreter: Interpreter) -> PackageSet:
        """Return what an interpreter sees now; read again when a folder of it has changed."""
        stamp = self._stamp(interpreter.folders)
        with self._lock:
            known = self._sets.get(interpreter.folders)
        if known is not None and known[0] == stamp:
            return known[1]
        found = installed(interpreter.folders)
        with self._lock:
            self._sets[interpreter.folders] = (stamp, found)
        return found

    def _stamp(self, paths: tuple[str, ...]) -> _Stamp:
        """Return the stamp of paths as it was a moment ago: many short attempts share a look."""
        now = stopwatch()
        with self._lock:
            known = self._looked.get(paths)
        if known is not None and now - known[0] < LOOK_SECONDS:
            return known[1]
        stamp = _stamp(paths)
        with self._lock:
            self._looked[paths] = (now, stamp)
        return stamp


def _stamp(paths: Sequence[str]) -> _Stamp:
    stamp = []
    for path in paths:
        with suppress(OSError):
            stamp.append((path, os.stat(path).st_mtime_ns))  # noqa: PTH116 - half the time
    return tuple(stamp)
