"""Runs the host for Windows on Linux: the functions of Windows that it calls are imitated.

    python -m tests.windows_on_linux LOG

Each call is written to the file LOG with what it was given. The imitation passes through ctypes
with the types that the host declares, and a group that is asked to end by CTRL_BREAK gets TERM.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import psutil

from jobkit.executors import host, windows_host

JOB = 0x7FFF_0000_1234
"""A handle of more than 32 bits."""
OWN_MEMORY = 5 << 20


class Kernel:
    """What the host asks of Windows, with one job that this process and all below it are in."""

    def __init__(self, log: Path) -> None:
        self.log = log
        imitations = {
            "CreateJobObjectW": self._create,
            "SetInformationJobObject": self._limit,
            "QueryInformationJobObject": self._query,
            "AssignProcessToJobObject": self._assign,
            "GetCurrentProcess": self._own,
            "GenerateConsoleCtrlEvent": self._event,
        }
        for name, (returns, takes) in windows_host.FUNCTIONS.items():
            setattr(self, name, ctypes.CFUNCTYPE(returns, *takes)(imitations[name]))

    def _note(self, *what: object) -> int:
        with self.log.open("a") as file:
            print(*what, file=file)
        return 1

    def _create(self, _attributes: object, name: object) -> int:
        self._note("create", name)
        return JOB

    def _limit(self, job: int, kind: int, room: int, size: int) -> int:
        limits = windows_host.Limits.from_address(room)
        flags = hex(limits.basic.flags)
        return self._note("limit", job == JOB, kind, size, flags, limits.job_memory)

    def _assign(self, job: int, process: int) -> int:
        return self._note("assign", job == JOB, ctypes.c_int64(process).value)

    def _own(self) -> int:
        return -1

    def _query(self, job: int, kind: int, room: int, size: int, _returned: object) -> int:
        below = [it for it in psutil.Process().children(recursive=True) if _lives(it)]
        if kind == windows_host.EXTENDED_LIMITS:
            used = sum(it.memory_info().rss for it in below)
            windows_host.Limits.from_address(room).peak_job_memory = OWN_MEMORY + used
        else:
            accounting = windows_host.Accounting.from_address(room)
            accounting.active_processes = 1 + len(below)
            accounting.user_time = accounting.kernel_time = 40 * windows_host.TICKS
        return int(job == JOB and size > 0)

    def _event(self, event: int, group: int) -> int:
        self._note("event", event, os.getpgid(group) == group)
        os.killpg(group, signal.SIGTERM)
        return 1


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Popen(subprocess.Popen[bytes]):
    """A process that is the head of its group where Windows would make it so."""

    def __init__(self, *arguments: Any, creationflags: int = 0, **more: Any) -> None:
        group = 0 if creationflags & windows_host.CREATE_NEW_PROCESS_GROUP else None
        super().__init__(*arguments, process_group=group, **more)


def main() -> None:
    """Be the host, and at its end do what the system does when a job is closed."""
    kernel = Kernel(Path(sys.argv[1]))
    host.adopt_orphans()  # on Windows they stay in their job
    windows_host.kernel32 = lambda: kernel  # type: ignore[assignment]
    windows_host.subprocess.Popen = cast(Any, Popen)
    leave = os._exit

    def close_the_job(code: int) -> None:
        kernel._note("exit", code)
        for process in psutil.Process().children(recursive=True):
            process.kill()
        leave(code)

    windows_host.os._exit = cast(Any, close_the_job)
    windows_host.main()


if __name__ == "__main__":
    main()
