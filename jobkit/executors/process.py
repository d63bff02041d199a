"""A child with all its descendants: started, fed with a lease, streamed, ended."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from jobkit.clock import stopwatch
from jobkit.executors.capture import CELL, Capture, Chunk
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
    """exit, error, timeout, memory, cancel, release, lease, or lost: its host was killed. `kept`:
    it has not ended, its kernel is kept after a cell that failed."""
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
    kept: Mapping[str, Any] | None = None
    """What the runner tells of the kernel that it keeps."""


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
    `may_keep`: `wait` also returns when a runner keeps its kernel. CannotStart when no host can be
    started.
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
        may_keep: bool = False,
    ) -> None:
        self._on_output, self._on_fact = on_output, on_fact
        self._secrets = secrets
        self._may_keep = may_keep
        self._kept: Mapping[str, Any] | None = None
        self._heard = b""
        self._capture = self._new_capture()
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
        """Read the output to its end, and say how the child ended; or that it keeps its kernel."""
        report = self._read()
        if report is None:
            return self._paused()
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

    def give(self, timeout: timedelta) -> None:
        """Let its timeout be so long from now."""
        self._tell({"timeout": timeout.total_seconds()})

    def idle(self, seconds: float) -> bool:
        """Listen so long to one that keeps its kernel; say whether it has ended."""
        if not self._is_heard:
            output, report = self._link.listen(seconds)
            self._heard += report
            self._capture.feed(output)
        return self._is_heard

    def ended(self, paused: Outcome) -> Outcome:
        """Wait for the end of one that keeps its kernel; it printed what it had printed before."""
        while not self.idle(LONGEST_WAIT):
            pass
        outcome = self.wait()
        said = {name: getattr(paused, name) for name in ("rest", "tail", "kept")}
        size = {name: getattr(paused, name) for name in ("output_bytes", "omitted_bytes")}
        return replace(outcome, **said, **size)

    def resume(
        self, on_output: Callable[[str, str], None], on_fact: Callable[[Fact], None]
    ) -> None:
        """Let what it prints from now on be another attempt's."""
        self._on_output, self._on_fact, self._kept = on_output, on_fact, None

    @property
    def _is_heard(self) -> bool:
        return self._heard.endswith(b"\n") or self._link.is_cut

    def _new_capture(self) -> Capture:
        return Capture(
            lambda text, stream: self._on_output(text, stream), self._learn, self._secrets
        )

    def _learn(self, fact: Fact) -> None:
        if fact.kind != CELL:
            self._on_fact(fact)
        elif self._may_keep:
            self._kept = fact.value

    def _paused(self) -> Outcome:
        """Say what came so far; what is printed while nobody listens is nobody's."""
        capture, self._capture = self._capture, self._new_capture()
        rest = tuple(capture.close())
        self._on_output, self._on_fact = (lambda _text, _stream: None), (lambda _fact: None)
        return Outcome(
            "kept",
            exit_code=1,
            output_bytes=capture.total_bytes,
            omitted_bytes=capture.omitted_bytes,
            rest=rest,
            tail=capture.last(),
            kept=self._kept,
        )

    def _read(self) -> dict[str, Any] | None:
        """Take the output until the report has come, or cannot come any more; or a kernel is kept.

        It is handed on at most four times a second, after silence at once: what comes within a
        moment goes with it, and a script that ends within it costs no write of its own.
        """
        flushed_at, pending_since = float("-inf"), float("inf")
        while not self._is_heard and self._kept is None:
            flush_at = max(pending_since + MOMENT_SECONDS, flushed_at + FLUSH_SECONDS)
            wait = min(max(0.0, flush_at - stopwatch()), LONGEST_WAIT)
            output, report = self._link.listen(wait)
            self._heard += report
            if output:
                self._capture.feed(output)
                pending_since = min(pending_since, stopwatch())
            if stopwatch() >= flush_at:
                self._capture.flush()
                flushed_at, pending_since = stopwatch(), float("inf")
        if not self._is_heard:
            return None
        return json.loads(self._heard) if self._heard.endswith(b"\n") else {"ended_by": "lost"}

    def _tell(self, message: dict[str, Any]) -> None:
        with self._lock:
            if not self._is_over:
                self._link.tell(message)
