"""A process that has imported what scripts usually need; forks of it start where it stands.

Run by its file, by the interpreter that is to run the scripts; imports the standard library only.
It has one thread and never runs a script itself: it forks hosts, and each host forks its scripts.
When a host is killed, what it leaves behind comes to the zygote, which ends it.

    python zygote.py FD MODULE ...

Over the socket FD a worker asks for hosts, each with the end of another socket, and is told their
process ids. A module whose threads a fork would miss cannot be forked from: it is named, and the
zygote ends.
"""

from __future__ import annotations

import sys

AT_START = frozenset(sys.modules)
TYPE_CHECKING = False  # typing is slow to import

import gc
import importlib
import importlib.util
import os
import select
import signal
import socket
import time

if TYPE_CHECKING:
    from typing import Any

    from jobkit.executors import host, interpreter
else:

    def _beside(name: str) -> Any:
        """Import a file that lies beside this one, under a name that hides no script's module."""
        path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
        spec = importlib.util.spec_from_file_location(f"_jobkit_{name}", path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module

    host, interpreter = _beside("host"), _beside("interpreter")

USUAL = (
    "argparse", "collections", "contextlib", "csv", "dataclasses", "datetime", "decimal", "enum",
    "functools", "glob", "hashlib", "inspect", "itertools", "linecache", "locale", "logging",
    "math", "pathlib", "pkgutil", "queue", "random", "re", "runpy", "shutil", "statistics",
    "string", "struct", "subprocess", "tempfile", "textwrap", "threading", "traceback", "typing",
    "urllib.parse", "uuid", "zoneinfo",
)  # fmt: skip


# A fork does without: jemalloc begins its own anew, and polars' removes what did not fit memory.
SPARED = ("jemalloc_bg_thd", "polars-ooc-clea")


class Zygote:
    """Forks hosts until its worker is gone, and ends what dead hosts leave."""

    def __init__(self, lifeline: host.Lifeline) -> None:
        self.lifeline = lifeline
        self.hosts: set[int] = set()
        self.preloaded = frozenset(sys.modules) - AT_START
        self.shadows: dict[str, tuple[int, bool]] = {}
        given = interpreter.variables_at_start()
        self.variables = interpreter.at_start(given)
        # Python itself may have added LC_CTYPE, as it does in a fresh interpreter.
        self.added = {name: value for name, value in os.environ.items() if name not in given}
        self.room = interpreter.Room()
        self.room.free()
        self.wake_read, wake_write = os.pipe()
        for end in (self.wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for name in host.IGNORED:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        host.adopt_orphans()

    def serve(self) -> None:
        """Fork a host for each socket that comes, until the worker and all hosts are gone."""
        while not self.lifeline.is_cut or self.hosts:
            sources = [self.wake_read] + ([] if self.lifeline.is_cut else [self.lifeline.fd])
            ready = select.select(sources, [], [], None)[0]
            if self.wake_read in ready:
                os.read(self.wake_read, 4096)
                self.reap()
            if self.lifeline.fd in ready:
                self.lifeline.read()
                while self.lifeline.descriptors:
                    self.fork(self.lifeline.descriptors.pop())

    def fork(self, descriptor: int) -> None:
        process = os.fork()
        if process == 0:
            os.close(self.lifeline.fd)
            end = socket.socket(fileno=descriptor)
            host.Host(host.Lifeline(end), self.can_become, self.room.show).serve()
            os._exit(0)
        os.close(descriptor)
        self.hosts.add(process)
        self.lifeline.send({"host": process})

    def can_become(self, order: dict[str, Any]) -> bool:
        """Say whether a fork can run a script as a fresh interpreter would."""
        if order["argv"][0] != sys.executable:
            return False
        is_same = interpreter.at_start(order["env"]) == self.variables
        order["changes"] = interpreter.changes(self.added | order["env"])
        return is_same and not self.is_shadowed(order["warm"]["script"])

    def is_shadowed(self, script: str) -> bool:
        """Say whether the script's folder has a module of a name that is imported already."""
        folder = os.path.dirname(script)
        try:
            changed = os.stat(folder).st_mtime_ns
        except OSError:
            return True  # the fresh interpreter says what is wrong
        known = self.shadows.get(folder)
        if known is None or known[0] != changed:
            names = {entry.name.partition(".")[0] for entry in os.scandir(folder)}
            known = self.shadows[folder] = (changed, not names.isdisjoint(self.preloaded))
        return known[1]

    def reap(self) -> None:
        """Collect hosts that have ended; kill what came to us from a host that was killed."""
        pause = 0.0005
        while True:
            try:
                process, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.hosts.clear()
                return
            self.hosts.discard(process)
            if process:
                continue
            strangers = set(host.children(os.getpid())) - self.hosts
            if not strangers:
                return
            for stranger in strangers | {below for one in strangers for below in host.below(one)}:
                host.send(stranger, signal.SIGKILL, os.kill)
            time.sleep(pause)
            pause = min(pause * 2, 0.05)


def preload(names: list[str]) -> dict[str, Any] | None:
    """Import modules; return the first that cannot be, or that leaves a thread behind."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - a script that needs it will say the same
            return {"refused": name, "why": f"{type(error).__name__}: {error}"}
        if left := threads():
            return {"refused": name, "why": f"it starts threads: {', '.join(left)}"}
    return None


def threads() -> list[str]:
    """Return the names of threads that a fork would miss.

    A library that prepares for forks ends its threads before one, and begins them anew when it
    needs them: OpenBLAS, below numpy and pandas, does. So those that are left after a fork count.
    """
    if len(os.listdir("/proc/self/task")) > 1:
        process = os.fork()
        if process == 0:
            os._exit(0)
        os.waitpid(process, 0)
    names = []
    for thread in os.listdir("/proc/self/task"):
        if thread != str(os.getpid()):
            try:
                with open(f"/proc/self/task/{thread}/comm") as file:
                    names.append(file.read().strip())
            except FileNotFoundError:
                pass  # it has ended meanwhile
    return sorted(name for name in names if name not in SPARED)


def main() -> None:
    """Preload, fork hosts; in a fork of a host, become a script."""
    descriptor, *names = sys.argv[1:]
    lifeline = host.Lifeline(socket.socket(fileno=int(descriptor)))
    os.set_inheritable(lifeline.fd, False)
    del sys.path[0]  # the folder of this file
    refused = preload([*USUAL, *names])
    lifeline.send(refused or {"ready": True, "version": sys.version_info[:2]})
    if refused:
        return
    zygote = Zygote(lifeline)
    gc.collect()
    gc.freeze()  # what is shared with forks stays shared
    order = None
    try:
        zygote.serve()
    except host.Become as it:
        order = it.order
    if order is not None:
        interpreter.become(order, zygote.preloaded)


if __name__ == "__main__":
    main()
