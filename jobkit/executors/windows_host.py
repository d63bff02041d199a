"""The host of a script on Windows: both lie in a Job Object, which the host takes with it.

The host puts itself into the job before it starts the script: whatever is started is in the job
from its first moment, and nothing may leave it. Only the host has a handle of the job, and when
the last one is closed, by whatever end the host comes to, the system ends all that is in it.

Run by its file with `python -I -S`, once for each attempt; imports the standard library only.

    stdin   the lifeline: lines of JSON, the order first; when it closes, the worker is gone
    stdout  one line that reports the attempt
    stderr  the output of the script
"""

from __future__ import annotations

import ctypes
import json
import os
import queue
import subprocess
import sys
import threading
import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from typing import Any

if TYPE_CHECKING or __package__:
    from jobkit.executors import host
else:
    sys.path.append(os.path.dirname(os.path.abspath(__file__)))
    import host

windows: Any = ctypes  # what of it only Windows has
BOOL = ctypes.c_int
DWORD = ctypes.c_uint32
HANDLE = ctypes.c_void_p
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "CreateJobObjectW": (HANDLE, [ctypes.c_void_p, ctypes.c_wchar_p]),
    "SetInformationJobObject": (BOOL, [HANDLE, ctypes.c_int, ctypes.c_void_p, DWORD]),
    "QueryInformationJobObject": (
        BOOL,
        [HANDLE, ctypes.c_int, ctypes.c_void_p, DWORD, ctypes.c_void_p],
    ),
    "AssignProcessToJobObject": (BOOL, [HANDLE, HANDLE]),
    "GetCurrentProcess": (HANDLE, []),
    "GenerateConsoleCtrlEvent": (BOOL, [DWORD, DWORD]),
}
"""What each function of Windows returns, and what it takes."""

BASIC_ACCOUNTING, EXTENDED_LIMITS = 1, 9
LIMIT_JOB_MEMORY, LIMIT_KILL_ON_JOB_CLOSE = 0x200, 0x2000
CTRL_BREAK = 1
CREATE_NEW_PROCESS_GROUP, BELOW_NORMAL_PRIORITY = 0x200, 0x4000
TICKS = 10_000_000
"""Units of time a second."""
NO_LIMIT = 1 << 62  # with any limit the job counts memory; without one, that is not promised


class BasicLimits(ctypes.Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION"""

    _fields_ = (
        ("process_time", ctypes.c_int64),
        ("job_time", ctypes.c_int64),
        ("flags", DWORD),
        ("least_working_set", ctypes.c_size_t),
        ("most_working_set", ctypes.c_size_t),
        ("active_processes", DWORD),
        ("affinity", ctypes.c_size_t),
        ("priority_class", DWORD),
        ("scheduling_class", DWORD),
    )


class Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION"""

    _fields_ = (
        ("basic", BasicLimits),
        ("io_counters", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


class Accounting(ctypes.Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION"""

    _fields_ = (
        ("user_time", ctypes.c_int64),
        ("kernel_time", ctypes.c_int64),
        ("period_user_time", ctypes.c_int64),
        ("period_kernel_time", ctypes.c_int64),
        ("page_faults", DWORD),
        ("processes", DWORD),
        ("active_processes", DWORD),
        ("terminated_processes", DWORD),
    )


def kernel32() -> Any:
    """Return the functions of Windows that are used here."""
    library = windows.WinDLL("kernel32", use_last_error=True)
    for name, (returns, takes) in FUNCTIONS.items():
        function = getattr(library, name)
        function.restype, function.argtypes = returns, takes
    return library


def check(result: int | None) -> int:
    """Return what a function of Windows returned; OSError when it failed."""
    if not result:
        raise windows.WinError(windows.get_last_error())
    return result


class Job:
    """A script and all that it starts, in one Job Object with this program."""

    def __init__(self, order: dict[str, Any], kernel: Any, woken: threading.Event) -> None:
        self.order = order
        self.kernel = kernel
        self.woken = woken
        self.handle = 0
        self.own_memory = 0
        self.process: Any = None

    def start(self) -> str | None:
        """Go into a job, and start the script there; return why it could not be started."""
        try:
            self.handle = check(self.kernel.CreateJobObjectW(None, None))
            self.limit()
            own = self.kernel.GetCurrentProcess()
            check(self.kernel.AssignProcessToJobObject(self.handle, own))
            self.own_memory = self.memory()
            self.process = spawn(self.order)
        except OSError as failure:
            return str(failure)
        threading.Thread(target=self.await_end, daemon=True).start()
        return None

    def limit(self) -> None:
        """Let the job end with its last handle, and hold bursts of memory.

        Who is over the limit is ended at the next look; a job that refuses memory at the limit
        would leave that to the script. In between a quarter more can be had.
        """
        memory = self.order["memory"]
        wanted = Limits()
        wanted.basic.flags = LIMIT_KILL_ON_JOB_CLOSE | LIMIT_JOB_MEMORY
        wanted.job_memory = memory * 5 // 4 if memory else NO_LIMIT
        size = ctypes.sizeof(wanted)
        pointer = ctypes.byref(wanted)
        check(self.kernel.SetInformationJobObject(self.handle, EXTENDED_LIMITS, pointer, size))

    def await_end(self) -> None:
        self.process.wait()
        self.woken.set()

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def memory(self) -> int:
        """Return the most that the script and what it started had committed at one time."""
        peak: int = self.query(EXTENDED_LIMITS, Limits()).peak_job_memory
        return max(0, peak - self.own_memory)

    def ask_to_end(self) -> None:
        self.kernel.GenerateConsoleCtrlEvent(CTRL_BREAK, self.process.pid)

    def end_all(self) -> int:
        """End the script; return how many others there are, who end with this program."""
        if not self.has_ended():
            self.process.kill()
            self.process.wait()
        active: int = self.accounting().active_processes
        return max(0, active - 1)

    def measures(self) -> dict[str, Any]:
        code, used = self.process.returncode, self.accounting()
        seconds = (used.user_time + used.kernel_time) / TICKS - time.process_time()
        return {
            # As Windows shows it, and as 32 bits hold it.
            "exit_code": code - (1 << 32) if code >= 1 << 31 else code,
            "cpu_seconds": round(max(0.0, seconds), 6),
            "max_rss_bytes": self.memory(),
        }

    def accounting(self) -> Any:
        return self.query(BASIC_ACCOUNTING, Accounting())

    def query(self, kind: int, room: Any) -> Any:
        size, pointer = ctypes.sizeof(room), ctypes.byref(room)
        check(self.kernel.QueryInformationJobObject(self.handle, kind, pointer, size, None))
        return room


def spawn(order: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Start a script, the head of a group of its own, to which CTRL_BREAK can be sent."""
    return subprocess.Popen(
        order["argv"],
        cwd=order["cwd"],
        env=order["env"],
        stdin=subprocess.DEVNULL,
        stdout=2,
        stderr=2,
        creationflags=CREATE_NEW_PROCESS_GROUP
        | (BELOW_NORMAL_PRIORITY if order["nice"] > 0 else 0),
    )


class Lifeline:
    """Lines of JSON from the worker; cut when the worker is gone."""

    def __init__(self) -> None:
        self.is_cut = False
        self.woken = threading.Event()
        self.lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        rest = b""
        while data := os.read(0, 1 << 16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self.lines.put(line)
            self.woken.set()
        self.is_cut = True
        self.woken.set()

    def order(self) -> dict[str, Any] | None:
        """Wait for the order; None when the worker is gone."""
        while not (orders := self.messages()) and not self.is_cut:
            self.sleep(host.LONGEST_SLEEP)
        return orders[0] if orders else None

    def messages(self) -> list[dict[str, Any]]:
        return [json.loads(self.lines.get()) for _ in range(self.lines.qsize())]

    def sleep(self, seconds: float) -> None:
        """Wait for a line, the end of the script, or so long."""
        self.woken.wait(max(0.0, min(seconds, host.LONGEST_SLEEP)))
        self.woken.clear()


def main() -> None:
    """Run the attempt that is ordered, and end with all that is left of it."""
    lifeline = Lifeline()
    order = lifeline.order()
    if order is not None:
        job = Job(order, kernel32(), lifeline.woken)
        report = host.Attempt(order, job, lifeline, lifeline.sleep).run()
        try:
            os.write(1, json.dumps(report).encode() + b"\n")
        except OSError:
            pass  # the worker is gone
    os._exit(0)  # a thread waits for the worker


if __name__ == "__main__":
    main()
