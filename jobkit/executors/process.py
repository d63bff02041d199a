"""A child with all its descendants: started, fed with a lease, streamed, ended."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jobkit.clock import stopwatch
from jobkit.errors import CannotStart
from jobkit.executors.capture import Capture, Chunk
from jobkit.executors.secrets import WITHHELD
from jobkit.executors.sweep import sweep
from jobkit.text import iso

SHIM = Path(__file__).with_name("shim.py")
READ_BYTES = 64 << 10
FLUSH_SECONDS = 0.25
DRAIN_SECONDS = 0.5
COOKIES = ("JOBKIT_RUN_ID", "JOBKIT_ATTEMPT", "JOBKIT_WORKER_PID", "JOBKIT_WORKER_ID")


@dataclass(frozen=True)
class Command:
    """What to run: a list, never a shell line."""

    argv: list[str]
    cwd: Path
    env: dict[str, str]


@dataclass(frozen=True)
class Outcome:
    """How a child ended and what it used."""

    ended_by: str
    """exit, error, timeout, cancel, release, lease, or lost when its shim was killed."""
    exit_code: int | None = None
    signal: int | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = None
    leftovers: int = 0
    """Processes that the script left behind and that were ended."""
    output_bytes: int = 0
    omitted_bytes: int = 0
    rest: tuple[Chunk, ...] = ()
    """The last chunks of the output, which were not handed on: they can go with the result."""
    tail: str = ""
    """The last 4 KiB of the output."""
    error: str = ""


def child_environment(
    inherited: Mapping[str, str],
    *,
    run_id: int,
    attempt: int,
    scheduled_for: datetime | None,
    worker_id: str,
    params: Mapping[str, Any],
) -> dict[str, str]:
    """Return a script's environment: this one without jobkit's settings, and what it is told."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith("JOBKIT_") and name not in WITHHELD
    }
    return kept | {
        "PYTHONUNBUFFERED": "1",
        "JOBKIT_RUN_ID": str(run_id),
        "JOBKIT_ATTEMPT": str(attempt),
        "JOBKIT_SCHEDULED_FOR": iso(scheduled_for) if scheduled_for else "",
        "JOBKIT_WORKER_ID": worker_id,
        "JOBKIT_WORKER_PID": str(os.getpid()),
        "JOBKIT_PARAMS": json.dumps(dict(params), ensure_ascii=False),
    }


class Child:
    """A program that runs below a shim; `wait()` reads it to its end.

    `lease_for`: how long it may live unless `extend` is called; it is then killed even if this
    process hangs or dies. `on_output` takes a text and its stream, from the
    thread that waits, and never raises. CannotStart when the shim cannot be started.
    """

    def __init__(
        self,
        command: Command,
        *,
        timeout: timedelta | None,
        grace: timedelta,
        lease_for: timedelta | None,
        on_output: Callable[[str, str], None],
    ) -> None:
        if sys.platform == "win32":
            raise CannotStart(
                "This version runs scripts on Linux and macOS only.", "Start the worker there."
            )
        self._capture = Capture(on_output)
        self._cookies = {name: command.env[name] for name in COOKIES if name in command.env}
        self._lock = threading.Lock()
        lifeline, self._lifeline = os.pipe()
        self._output, output = os.pipe()
        self._report, report = os.pipe()
        try:
            self._shim = subprocess.Popen(
                [sys.executable, "-I", "-S", str(SHIM), str(report)],
                stdin=lifeline,
                stdout=output,
                stderr=output,
                pass_fds=(report,),
                start_new_session=True,
                env=self._cookies,
                cwd="/",
            )
        except OSError as error:
            self._close(self._lifeline, self._output, self._report)
            raise CannotStart(f"No process could be started: {error}.", "Free memory.") from error
        finally:
            self._close(lifeline, output, report)
        self._tell(
            {
                "argv": command.argv,
                "cwd": str(command.cwd),
                "env": command.env,
                "timeout": None if timeout is None else timeout.total_seconds(),
                "grace": grace.total_seconds(),
                "deadline": None if lease_for is None else stopwatch() + lease_for.total_seconds(),
            }
        )

    @property
    def pid(self) -> int:
        """The shim's process id."""
        return self._shim.pid

    def extend(self, lease_for: timedelta) -> None:
        """Let it live so long from now."""
        self._tell({"deadline": stopwatch() + lease_for.total_seconds()})

    def kill(self, why: str, grace: timedelta | None = None) -> None:
        """End it: TERM, the grace, KILL; `why` comes back as `ended_by`.

        When the run is no longer ours (`lease`) every process is killed from here as well: the
        shim may be stopped, or have slept with the machine.
        """
        message: dict[str, Any] = {"kill": why}
        if grace is not None:
            message["grace"] = grace.total_seconds()
        self._tell(message)
        if why == "lease":
            self.sweep()

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
            self._close(self._lifeline)
            self._lifeline = -1
        self._shim.wait()
        if report is None:
            self.sweep()
        rest = tuple(self._capture.close())
        self._close(self._output, self._report)
        return Outcome(
            **({"ended_by": "lost"} if report is None else report),
            output_bytes=self._capture.total_bytes,
            omitted_bytes=self._capture.omitted_bytes,
            rest=rest,
            tail=self._capture.last(),
        )

    def _read(self) -> dict[str, Any] | None:
        """Read until the report has come; then only what lies in the pipe already."""
        heard, flush_at = b"", stopwatch() + FLUSH_SECONDS
        sources = [self._output, self._report]
        while self._report in sources:
            for source in select.select(sources, [], [], FLUSH_SECONDS)[0]:
                data = os.read(source, READ_BYTES)
                if not data:
                    sources.remove(source)
                elif source == self._report:
                    heard += data
                else:
                    self._capture.feed(data)
            if stopwatch() >= flush_at:
                self._capture.flush()
                flush_at = stopwatch() + FLUSH_SECONDS
        if self._output in sources:
            self._drain()
        return json.loads(heard) if heard else None

    def _drain(self) -> None:
        until = stopwatch() + DRAIN_SECONDS
        while (left := until - stopwatch()) > 0:
            if not select.select([self._output], [], [], left)[0]:
                return
            if not (data := os.read(self._output, READ_BYTES)):
                return
            self._capture.feed(data)

    def _tell(self, message: dict[str, Any]) -> None:
        line = json.dumps(message).encode() + b"\n"
        with self._lock, suppress(BrokenPipeError):
            while line and self._lifeline >= 0:
                line = line[os.write(self._lifeline, line) :]

    @staticmethod
    def _close(*descriptors: int) -> None:
        for descriptor in descriptors:
            os.close(descriptor)
