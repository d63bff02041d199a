"""The process between a worker and its scripts: it sees to it that nothing outlives an attempt.

A host runs one attempt after another. Its socket to the worker is also its lifeline: each line is
an order, a message for the attempt that runs (a later deadline, another timeout, or its end), or
comes too late and is passed over; when it closes, the worker is gone. Each order ends with a line
that reports it.

Forked by a zygote, or run by its file with `python -I -S`; imports the standard library only, and
little of it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # without the words that `signal` makes of it
import array
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    class Worker(Protocol):
        """What an attempt hears of its worker while it runs."""

        is_cut: bool

        def messages(self) -> list[dict[str, Any]]: ...

    class Tree(Protocol):
        """A script and all that it starts, as one system holds them together."""

        def start(self) -> str | None:
            """Start the script; return why it could not be started."""

        def has_ended(self) -> bool:
            """Say whether the script has ended; what it started may live on."""

        def memory(self) -> int:
            """Return the bytes that all of them use."""

        def ask_to_end(self) -> None: ...

        def end_all(self) -> int:
            """End whoever is left; return how many the script had left behind."""

        def measures(self) -> dict[str, Any]:
            """Return the exit code, and what all of them used."""


IS_LINUX = sys.platform == "linux"
LONGEST_SLEEP = 1.0  # a sleep does not notice that the machine slept; short ones do
LOOK_SECONDS = 0.25
SET_CHILD_SUBREAPER = 36
IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGPIPE")


def stopwatch() -> float:
    # As in jobkit/clock.py: seconds that go on while the machine sleeps.
    clock = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
    return time.monotonic() if clock is None else time.clock_gettime(clock)


class Become(Exception):
    """Raised in a forked child: it is to run a Python file in this interpreter."""

    def __init__(self, order: dict[str, Any]) -> None:
        self.order = order


class Host:
    """Runs the attempts that come over a socket, one at a time."""

    def __init__(
        self,
        lifeline: Lifeline,
        can_become: Callable[[dict[str, Any]], bool] = lambda _: False,
        show: Callable[[dict[str, str]], None] = lambda _: None,
    ) -> None:
        # `show` makes an attempt's cookies visible to who looks for what a dead worker left.
        self.lifeline = lifeline
        self.can_become = can_become
        self.show = show
        self.wake_read, self.wake_write = os.pipe()
        for end in (self.wake_read, self.wake_write):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(self.wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for name in IGNORED:
            signal.signal(getattr(signal, name), signal.SIG_IGN)
        adopt_orphans()

    def serve(self) -> None:
        """Run attempts until the worker is gone."""
        while (received := self.lifeline.order()) is not None:
            order, output = received
            self.show(order["cookies"])
            tree = ForkedTree(order, output, self.can_become)
            report = Attempt(order, tree, self.lifeline, self.sleep).run()
            os.close(output)
            self.show({})
            self.lifeline.send(report)

    def sleep(self, seconds: float) -> None:
        waiting = [self.wake_read] + ([] if self.lifeline.is_cut else [self.lifeline.fd])
        ready = select.select(waiting, [], [], max(0.0, min(seconds, LONGEST_SLEEP)))[0]
        if self.wake_read in ready:
            os.read(self.wake_read, 4096)


class Attempt:
    """One attempt: what ends it, and what became of it. `sleep` may end before its seconds."""

    def __init__(
        self,
        order: dict[str, Any],
        tree: Tree,
        worker: Worker,
        sleep: Callable[[float], None],
    ) -> None:
        self.order = order
        self.tree = tree
        self.worker = worker
        self.sleep = sleep
        self.deadline = order["deadline"]
        self.times_out_at = None if order["timeout"] is None else stopwatch() + order["timeout"]
        self.look_at = stopwatch() + LOOK_SECONDS
        self.most_memory = 0

    def run(self) -> dict[str, Any]:
        """Start the script, watch it, end all that is left, and say what it came to.

        1. Start it, if it is the file that was looked at.
        2. Wait for the first of: its end, a request, the timeout, the memory limit, the lease.
        3. Unless it has ended by itself, ask it to end, and wait for the grace.
        4. End whoever is left.
        """
        if error := is_changed(self.order["identity"]) or self.tree.start():
            return {"ended_by": "error", "error": error}
        ended_by, grace = self.watch()
        if ended_by != "exit" and not self.tree.has_ended():
            self.ask_to_end(grace)
        leftovers = self.tree.end_all()
        report = {"ended_by": ended_by, "leftovers": leftovers, **self.tree.measures()}
        report["max_rss_bytes"] = max(self.most_memory, report["max_rss_bytes"])
        return report

    def watch(self) -> tuple[str, float]:
        """Wait for what ends the attempt; return what that was, and the grace it leaves."""
        grace = self.order["grace"]
        while True:
            if self.tree.has_ended():
                return "exit", 0
            now = stopwatch()
            if self.deadline is not None and now >= self.deadline:
                return "lease", 0
            if self.times_out_at is not None and now >= self.times_out_at:
                return "timeout", grace
            if now >= self.look_at and self.is_too_big():
                return "memory", 0
            self.sleep(min(self.deadline or now + 1, self.times_out_at or now + 1) - now)
            for message in self.worker.messages():
                if "kill" in message:
                    return message["kill"], message.get("grace", grace)
                self.deadline = message.get("deadline", self.deadline)
                if "timeout" in message:  # what runs has entered another phase
                    self.times_out_at = stopwatch() + message["timeout"]
            if self.worker.is_cut:
                return "lease", 0

    def is_too_big(self) -> bool:
        """Measure the tree's memory; say whether it is over the limit."""
        limit = self.order["memory"]
        self.look_at = stopwatch() + (LOOK_SECONDS if limit else LONGEST_SLEEP)
        used = self.tree.memory()
        self.most_memory = max(self.most_memory, used)
        return limit is not None and used > limit

    def ask_to_end(self, grace: float) -> None:
        """Ask the script to end and give it the grace, less if the worker dies."""
        until = stopwatch() + grace
        if grace > 0:
            self.tree.ask_to_end()
        while stopwatch() < until and not self.tree.has_ended() and not self.worker.is_cut:
            self.sleep(until - stopwatch())
            for message in self.worker.messages():
                if message.get("grace") == 0:
                    until = 0


class ForkedTree:
    """A script in a session of its own, and on Linux whatever it starts, in any session."""

    def __init__(
        self, order: dict[str, Any], output: int, can_become: Callable[[dict[str, Any]], bool]
    ) -> None:
        self.order = order
        self.output = output
        self.is_warm = bool(order["warm"]) and can_become(order)
        self.child = 0
        self.status: int | None = None
        self.cpu_seconds = 0.0
        self.max_rss = 0

    def start(self) -> str | None:
        """Fork the child, which becomes the script; return why it could not."""
        read, write = os.pipe()
        self.child = os.fork()
        if self.child == 0:
            os.close(read)
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
        order = self.order
        os.setsid()
        signal.set_wakeup_fd(-1)
        for name in (*IGNORED, "SIGCHLD"):
            _signal.signal(getattr(_signal, name), _signal.SIG_DFL)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(self.output, 1)
        os.dup2(self.output, 2)
        os.chdir(order["cwd"])
        if order["nice"]:
            os.nice(order["nice"])
        offer_to_oom_killer()
        if self.is_warm:
            os.closerange(3, 1 << 16)
            raise Become(order)
        os.execve(order["argv"][0], order["argv"], order["env"])

    def has_ended(self) -> bool:
        """Collect the child, and orphans that came to us; say whether the child has ended."""
        while self.status is None and self.reap_any() == "one":
            pass
        return self.status is not None

    def memory(self) -> int:
        if IS_LINUX:
            return sum(resident(process) for process in descendants())
        return resident_in_group(self.child) if self.order["memory"] else 0

    def ask_to_end(self) -> None:
        send(self.child, signal.SIGTERM, os.killpg)

    def end_all(self) -> int:
        """Kill and reap until no child is left; return how many the script had left behind."""
        if not IS_LINUX:
            # Only the group is ours to find: the worker looks for orphans that left it.
            send(self.child, signal.SIGKILL, os.killpg)
        seen: set[int] = set()
        pause = 0.0005
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

    def measures(self) -> dict[str, Any]:
        code = os.waitstatus_to_exitcode(self.status or 0)
        return {
            "exit_code": code if code >= 0 else 128 - code,
            "signal": -code if code < 0 else None,
            "cpu_seconds": round(self.cpu_seconds, 6),
            "max_rss_bytes": self.max_rss,
            "is_warm": self.is_warm,
        }

    def reap_any(self) -> str:
        """Collect one that has ended: `one`; `none` if others live; `nobody` if nobody does."""
        try:
            process, status, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return "nobody"
        if process == 0:
            return "none"
        self.cpu_seconds += used.ru_utime + used.ru_stime
        largest = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self.max_rss = max(self.max_rss, largest)
        if process == self.child:
            self.status = status
        return "one"


class Lifeline:
    """Lines of JSON to and from the worker; cut when the worker is gone."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.fd = connection.fileno()
        self.is_cut = False
        self.rest = b""
        self.descriptors: list[int] = []

    def order(self) -> tuple[dict[str, Any], int] | None:
        """Wait for an order and the descriptor of its output; None when the worker is gone."""
        while not self.is_cut:
            while b"\n" not in self.rest and not self.is_cut:
                self.read()
            line, _, self.rest = self.rest.partition(b"\n")
            if line and self.descriptors and "argv" in (order := json.loads(line)):
                return order, self.descriptors.pop(0)
        return None

    def messages(self) -> list[dict[str, Any]]:
        while not self.is_cut and select.select([self.fd], [], [], 0)[0]:
            self.read()
        *lines, self.rest = self.rest.split(b"\n")
        return [json.loads(line) for line in lines]

    def send(self, report: dict[str, Any]) -> None:
        try:
            self.connection.sendall(json.dumps(report).encode() + b"\n")
        except OSError:
            self.is_cut = True

    def read(self) -> None:
        room = socket.CMSG_SPACE(array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self.connection.recvmsg(1 << 16, room)
        except ConnectionError:
            data, ancillary = b"", []
        for _, _, passed in ancillary:
            (descriptor,) = array.array("i", passed[: array.array("i").itemsize])
            os.set_inheritable(descriptor, False)
            self.descriptors.append(descriptor)
        self.rest += data
        self.is_cut = not data


def send(process: int, number: int, how: Callable[[int, int], None]) -> None:
    try:
        how(process, number)
    except (ProcessLookupError, PermissionError):
        pass


def is_changed(identity: list[Any] | None) -> str | None:
    """Say what is wrong when a script is no longer the file that was looked at."""
    if identity is None:
        return None
    path, *looked_at = identity
    try:
        found = os.stat(path)
    except OSError as failure:
        return f"{failure.strerror}: {path}"
    if [found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size] != looked_at:
        return f"{path} was changed while it was being started"
    return None


def adopt_orphans() -> None:
    """Become the parent of every orphan below, so that none of them gets away (Linux)."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def offer_to_oom_killer() -> None:
    """Where memory runs out, the script goes first, and not the worker (Linux)."""
    if IS_LINUX:
        try:
            with open("/proc/self/oom_score_adj", "w") as file:
                file.write("500")
        except OSError:
            pass


def descendants() -> set[int]:
    """Return all living processes below this one, as /proc tells; elsewhere none."""
    return set(below(os.getpid())) if IS_LINUX else set()


def below(process: int) -> Iterator[int]:
    """Yield the living processes below one (Linux)."""
    for child in children(process):
        if not _is_zombie(child):
            yield child
        yield from below(child)


def children(process: int) -> list[int]:
    """Return the children of a process: of each of its threads (Linux)."""
    if not TELLS_CHILDREN:
        return [child for child, parent in parents().items() if parent == process]
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{process}/task"):
            with open(f"/proc/{process}/task/{thread}/children", "rb") as file:
                found += [int(child) for child in file.read().split()]
    except OSError:
        pass
    return found


def parents() -> dict[int, int]:
    """Return the parent of every process of this machine, where the kernel lists no children."""
    found = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                found[int(name)] = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            pass
    return found


TELLS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _is_zombie(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def resident(process: int) -> int:
    """Return the resident memory of a process, in bytes; 0 when it is gone."""
    try:
        with open(f"/proc/{process}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


def resident_in_group(group: int) -> int:
    """Return the resident memory of a process group, in bytes, where there is no /proc."""
    import subprocess  # takes 10 ms, and is needed where there is no /proc alone

    said = subprocess.run(
        ["ps", "-ax", "-o", "pgid=", "-o", "rss="], capture_output=True, text=True, check=False
    )
    pairs = [line.split() for line in said.stdout.splitlines()]
    return sum(int(kilobytes) << 10 for number, kilobytes in pairs if int(number) == group)


def main() -> None:
    """Be a host that a worker has started by this file."""
    fd = int(sys.argv[1])
    os.set_inheritable(fd, False)
    Host(Lifeline(socket.socket(fileno=fd))).serve()


if __name__ == "__main__":
    main()
