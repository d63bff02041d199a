"""A child with all its descendants: started, fed with a lease, streamed, ended."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jobkit.clock import stopwatch
from jobkit.executors.capture import Capture, Chunk
from jobkit.executors.facts import Fact
from jobkit.executors.link import Link, start_host
from jobkit.executors.secrets import WITHHELD
from jobkit.executors.sweep import sweep
from jobkit.text import iso

FLUSH_SECONDS = 0.25
MOMENT_SECONDS = 0.05
LONGEST_WAIT = 3600.0
DRAIN_SECONDS = 0.5
ALWAYS = {"PYTHONUNBUFFERED": "1"}
if sys.platform == "win32":
    ALWAYS["PYTHONIOENCODING"] = "utf-8"  # a pipe's own is a code page that lacks most characters
ORPHANS_ESCAPE = sys.platform not in ("linux", "win32")
"""Whether who leaves the script's session, and loses its parent, is out of the host's sight."""
COOKIES = ("JOBKIT_RUN_ID", "JOBKIT_ATTEMPT", "JOBKIT_WORKER_PID", "JOBKIT_WORKER_ID")


@dataclass(frozen=True)
class Command:
    """What to run: a list, never a shell line."""

    argv: list[str]
    cwd: Path
    env: dict[str, str]
    warm: tuple[str, ...] | None = None
    """The Python file, and its arguments, that a forked interpreter may run instead."""
    nice: int = 0
    memory_limit: int | None = None
    """Bytes of memory that all its processes may use together: resident, on Windows committed."""
    identity: tuple[str, int, int, int, int] | None = None
    """Path, device, inode, mtime in ns and size of the file that was checked."""


@dataclass(frozen=True)
class Outcome:
    """How a child ended and what it used."""

    ended_by: str
    """exit, error, timeout, memory, cancel, release, lease, or lost: its host was killed."""
    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    leftovers: int = 0
    """Processes that the script left behind and that were ended."""
    is_warm: bool = False
    """Whether a forked interpreter ran it."""
    output_bytes: int = 0
    omitted_bytes: int = 0
    rest: tuple[Chunk, ...] = ()
    """The last chunks of the output, which were not handed on: they can go with the result."""
    tail: str = ""
    """The last 4 KiB of the output."""
    error: str = ""


def inheritable(environment: Mapping[str, str], allowed: Sequence[str] = ("*",)) -> dict[str, str]:
    """Return what scripts inherit of a worker's environment: never jobkit's own settings.

    `allowed`: patterns of names, as in the setting JOBKIT_ENV_ALLOW.
    """
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith("JOBKIT_")
        and name not in WITHHELD
        and any(fnmatchcase(name, pattern) for pattern in allowed)
    } | ALWAYS


def child_environment(
    inherited: Mapping[str, str],
    *,
    run_id: int,
    attempt: int,
    scheduled_for: datetime | None,
    worker_id: str,
    params: Mapping[str, Any],
) -> dict[str, str]:
    """Return a script's environment: what it inherits, and what it is told."""
    return dict(inherited) | {
        "JOBKIT_RUN_ID": str(run_id),
        "JOBKIT_ATTEMPT": str(attempt),
        "JOBKIT_SCHEDULED_FOR": iso(scheduled_for) if scheduled_for else "",
        "JOBKIT_WORKER_ID": worker_id,
        "JOBKIT_WORKER_PID": str(os.getpid()),
        "JOBKIT_PARAMS": json.dumps(dict(params), ensure_ascii=False),
    }


class Child:
    """A program that runs below a host; `wait()` reads it to its end.

    `lease_for`: how long it may live unless `extend` is called; it is then killed even if this
    process hangs or dies. `on_output` takes a text and its stream, `on_fact` what a line tells;
    both from the thread that waits, and they never raise. `secrets`: values to be masked.
    `link`: the host that runs it, given back by the caller; one of its own where there is none.
    CannotStart when no host can be started.
    """

    def __init__(
        self,
        command: Command,
        *,
        timeout: timedelta | None,
        grace: timedelta,
        lease_for: timedelta | None,
        on_output: Callable[[str, str], None],
        on_fact: Callable[[Fact], None] = lambda _: None,
        secrets: Sequence[str] = (),
        link: Link | None = None,
    ) -> None:
        self._capture = Capture(on_output, on_fact, secrets)
        self._cookies = {name: command.env[name] for name in COOKIES if name in command.env}
        self._lock = threading.Lock()
        self._is_over = False
        self._is_own = link is None
        self._link = link or start_host()
        order = {
            "argv": command.argv,
            "cwd": str(command.cwd),
            "env": command.env,
            "warm": command.warm and {"script": command.warm[0], "arguments": command.warm[1:]},
            "nice": command.nice,
            "memory": command.memory_limit,
            "identity": command.identity,
            "cookies": self._cookies,
            "timeout": None if timeout is None else timeout.total_seconds(),
            "grace": grace.total_seconds(),
            "deadline": None if lease_for is None else stopwatch() + lease_for.total_seconds(),
        }
        self._link.order(order)

    @property
    def host_pid(self) -> int:
        """The process id of its host."""
        return self._link.pid

    def extend(self, lease_for: timedelta) -> None:
        """Let it live so long from now."""
        self._tell({"deadline": stopwatch() + lease_for.total_seconds()})

    def kill(self, why: str, grace: timedelta | None = None) -> None:
        """End it: TERM, the grace, KILL; `why` comes back as `ended_by`.

        When the run is no longer ours (`lease`) every process is killed from here as well: the
        host may be stopped, or have slept with the machine.
        """
        message: dict[str, Any] = {"kill": why}
        if grace is not None:
            message["grace"] = grace.total_seconds()
        self._tell(message)
        if why == "lease":
            self.sweep()
            with self._lock:
                if not self._is_over:
                    self._link.kill()

    def sweep(self) -> int:
        """Kill what carries this attempt's cookie; returns how many processes that were."""
        if "JOBKIT_RUN_ID" not in self._cookies:
            return 0
        return sweep(
            lambda cookies: all(
                cookies.get(name) == self._cookies[name]
                for name in ("JOBKIT_RUN_ID", "JOBKIT_ATTEMPT", "JOBKIT_WORKER_PID")
            )
        )

    def wait(self) -> Outcome:
        """Read the output to its end, and say how the child ended."""
        report = self._read()
        with self._lock:
            self._is_over = True
        if report["ended_by"] == "lost" or ORPHANS_ESCAPE:
            report["leftovers"] = report.get("leftovers", 0) + self.sweep()
        for data in self._link.rest(DRAIN_SECONDS):
            self._capture.feed(data)
        rest = tuple(self._capture.close())
        if self._is_own:
            self._link.close()
        return Outcome(
            **report,
            output_bytes=self._capture.total_bytes,
            omitted_bytes=self._capture.omitted_bytes,
            rest=rest,
            tail=self._capture.last(),
        )

    def _read(self) -> dict[str, Any]:
        """Take the output until the report has come, or cannot come any more.

        It is handed on at most four times a second, after silence at once: what comes within a
        moment goes with it, and a script that ends within it costs no write of its own.
        """
        heard = b""
        flushed_at, pending_since = float("-inf"), float("inf")
        while not heard.endswith(b"\n") and not self._link.is_cut:
            flush_at = max(pending_since + MOMENT_SECONDS, flushed_at + FLUSH_SECONDS)
            wait = min(max(0.0, flush_at - stopwatch()), LONGEST_WAIT)
            output, report = self._link.listen(wait)
            heard += report
            if output:
                self._capture.feed(output)
                pending_since = min(pending_since, stopwatch())
            if stopwatch() >= flush_at:
                self._capture.flush()
                flushed_at, pending_since = stopwatch(), float("inf")
        return json.loads(heard) if heard.endswith(b"\n") else {"ended_by": "lost"}

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            if not self._is_over:
                self._link.tell(message)
