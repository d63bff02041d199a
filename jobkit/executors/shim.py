"""The process between a worker and a script: it sees to it that nothing outlives the attempt.

Run by its file with `python -I -S`; imports the standard library only, and little of it.
Its stdin is the lifeline: the first line is the order, later lines move the lease or ask for the
end, and its closing means that the worker is gone. The report goes to the descriptor that the
command line names.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

LONGEST_SLEEP = 1.0  # a sleep does not notice that the machine slept; short ones do
SET_CHILD_SUBREAPER = 36
IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE")


def stopwatch() -> float:
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boottime is None else time.clock_gettime(boottime)


class Shim:
    def __init__(self, order: dict[str, Any], lifeline: Lifeline) -> None:
        self.order = order
        self.lifeline = lifeline
        self.deadline = order["deadline"]
        self.times_out_at = None if order["timeout"] is None else stopwatch() + order["timeout"]
        self.child = 0
        self.status: int | None = None
        self.wake_read, wake_write = os.pipe()
        for end in (self.wake_read, wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(wake_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> dict[str, Any]:
        """Start the child, watch it, end all that is left, and say what it came to."""
        error = self.start()
        if error:
            return {"ended_by": "error", "error": error}
        silence()
        ended_by, grace = self.watch()
        if ended_by != "exit" and self.status is None:
            self.ask_to_end(grace)
        leftovers = self.end_all()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = os.waitstatus_to_exitcode(self.status or 0)
        return {
            "ended_by": ended_by,
            "exit_code": code if code >= 0 else 128 - code,
            "signal": -code if code < 0 else None,
            "cpu_seconds": used.ru_utime + used.ru_stime,
            "max_rss_bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            "leftovers": leftovers,
        }

    def start(self) -> str | None:
        """Fork the child; return why it could not be started."""
        read, write = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            try:
                self.become_the_script()
            except OSError as failure:
                os.write(write, f"{failure.strerror}: {failure.filename}".encode())
            os._exit(127)
        os.close(write)
        with open(read, "rb") as pipe:
            error = pipe.read().decode("utf-8", "replace")
        if error:
            os.waitpid(self.child, 0)
        return error or None

    def become_the_script(self) -> None:
        os.setsid()
        for name in (*IGNORED, "SIGCHLD"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(self.order["cwd"])
        argv = self.order["argv"]
        os.execve(argv[0], argv, self.order["env"])

    def watch(self) -> tuple[str, float]:
        """Wait for the first of: the child's end, a request, the timeout, the lease's end."""
        grace = self.order["grace"]
        while True:
            if self.reap():
                return "exit", 0
            now = stopwatch()
            if self.deadline is not None and now >= self.deadline:
                return "lease", 0
            if self.times_out_at is not None and now >= self.times_out_at:
                return "timeout", grace
            self.sleep(min(self.deadline or now + 1, self.times_out_at or now + 1) - now)
            for message in self.lifeline.messages():
                if "kill" in message:
                    return message["kill"], message.get("grace", grace)
                self.deadline = message["deadline"]
            if self.lifeline.is_cut:
                return "lease", 0

    def sleep(self, seconds: float) -> None:
        waiting = [self.wake_read] + ([] if self.lifeline.is_cut else [self.lifeline.fd])
        ready = select.select(waiting, [], [], max(0.0, min(seconds, LONGEST_SLEEP)))[0]
        if self.wake_read in ready:
            os.read(self.wake_read, 4096)

    def ask_to_end(self, grace: float) -> None:
        """Send TERM to the child's group and give it the grace, less if the worker dies."""
        until = stopwatch() + grace
        if grace > 0:
            send(self.child, signal.SIGTERM, os.killpg)
        while stopwatch() < until and not self.reap() and not self.lifeline.is_cut:
            self.sleep(until - stopwatch())
            for message in self.lifeline.messages():
                if message.get("grace") == 0:
                    until = 0

    def end_all(self) -> int:
        """Kill and reap until no child is left; return how many the script had left behind."""
        if sys.platform != "linux":
            send(self.child, signal.SIGKILL, os.killpg)  # there, orphans are not ours to find
        seen: set[int] = set()
        pause = 0.001
        while (state := self.reap_any()) != "nobody":
            if state == "one":
                continue
            found = descendants()
            seen |= found - {self.child}
            for process in found:
                send(process, signal.SIGKILL, os.kill)
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        return len(seen)

    def reap(self) -> bool:
        """Collect the child, and orphans that came to us; say whether the child has ended."""
        while self.status is None and self.reap_any() == "one":
            pass
        return self.status is not None

    def reap_any(self) -> str:
        """Collect one that has ended: `one`; `none` if others live; `nobody` if nobody does."""
        try:
            process, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return "nobody"
        if process == self.child:
            self.status = status
        return "one" if process else "none"


class Lifeline:
    """Lines of JSON from the worker; cut when the worker is gone."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.is_cut = False
        self.rest = b""

    def order(self) -> dict[str, Any] | None:
        while b"\n" not in self.rest and not self.is_cut:
            self.read()
        line, _, self.rest = self.rest.partition(b"\n")
        return json.loads(line) if line and not self.is_cut else None

    def messages(self) -> list[dict[str, Any]]:
        while not self.is_cut and select.select([self.fd], [], [], 0)[0]:
            self.read()
        *lines, self.rest = self.rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def read(self) -> None:
        data = os.read(self.fd, 65536)
        self.rest += data
        self.is_cut = not data


def send(process: int, number: int, how: Callable[[int, int], None]) -> None:
    try:
        how(process, number)
    except (ProcessLookupError, PermissionError):
        pass


def silence() -> None:
    """Let go of the output: its reader shall see the end when the script's processes are gone."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def adopt_orphans() -> None:
    """Become the parent of every orphan below, so that none of them gets away (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> set[int]:
    """Return all living processes below this one, as /proc tells; elsewhere none."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    after_name = file.read().rpartition(b")")[2].split()
            except OSError:
                continue
            if after_name[0] != b"Z":
                parents[int(name)] = int(after_name[1])
    found = {os.getpid()}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def main() -> None:
    report_fd = int(sys.argv[1])
    os.set_inheritable(report_fd, False)
    for name in IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    adopt_orphans()
    lifeline = Lifeline(0)
    order = lifeline.order()
    if order is not None:
        report = Shim(order, lifeline).run()
        try:
            os.write(report_fd, json.dumps(report).encode())
        except BrokenPipeError:
            pass  # the worker is gone


if __name__ == "__main__":
    main()
