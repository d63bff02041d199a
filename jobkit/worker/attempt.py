"""One attempt: its child, its output and its result."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jobkit.clock import Clock
from jobkit.errors import CannotStart
from jobkit.executors import process, target
from jobkit.executors.link import Link
from jobkit.executors.nursery import Nursery
from jobkit.executors.process import Child, Command, Outcome
from jobkit.settings import Settings
from jobkit.store.claims import Chunk, Claim, Result
from jobkit.worker.spool import Report

WriteOutput = Callable[[Claim, Sequence[Chunk]], bool]


@dataclass(frozen=True)
class Order:
    """What is to be executed: the definition that the run names, checked only when it starts."""

    claim: Claim
    definition: Mapping[str, Any]
    lease: timedelta
    """How long the child may live from `leased_at` on, unless the lease is renewed."""
    leased_at: float
    """Reading of the stopwatch before the claim was asked for."""


class Output:
    """Numbers the chunks of an attempt and hands them on; keeps those that nobody could take."""

    def __init__(self, claim: Claim, clock: Clock, write: WriteOutput) -> None:
        self._claim = claim
        self._clock = clock
        self._write = write
        self._next = 0
        self._kept: list[Chunk] = []

    def add(self, text: str, stream: str) -> None:
        """Take a piece of output and write it if that can be done now; never raises."""
        self.keep(text, stream)
        if self._write(self._claim, self._kept):
            self._kept = []

    def keep(self, text: str, stream: str) -> None:
        """Take a piece of output that is written later, with the result."""
        if text:
            self._kept.append((self._next, self._clock.now(), text, stream))
            self._next += 1

    @property
    def kept(self) -> tuple[Chunk, ...]:
        """Chunks that are still to be written."""
        return tuple(self._kept)


class Attempt:
    """Executes one order in a thread of its own; may be told to end from any other."""

    def __init__(
        self,
        order: Order,
        settings: Settings,
        clock: Clock,
        nursery: Nursery,
        write: WriteOutput,
    ) -> None:
        self.claim = order.claim
        self._order = order
        self._settings = settings
        self._nursery = nursery
        self._clock = clock
        self._output = Output(order.claim, clock, write)
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._told: tuple[str, timedelta | None] | None = None
        self._lease_ends = order.leased_at + order.lease.total_seconds()

    @property
    def key(self) -> tuple[int, int]:
        """Name the attempt as heartbeats do: (run, attempt)."""
        return self.claim.run_id, self.claim.attempt

    def extend(self, leased_at: float) -> None:
        """Let the child live a lease longer, counted from a reading of the stopwatch."""
        with self._lock:
            self._lease_ends = leased_at + self._order.lease.total_seconds()
            if self._child is not None:
                self._child.extend(self._lease_left())

    def end(self, why: str, grace: timedelta | None = None) -> None:
        """End the child: `cancel`, `release`, or `lease` when the run is no longer ours."""
        with self._lock:
            self._told = self._told or (why, grace)
            if self._child is not None:
                self._child.kill(why, grace)

    def execute(self) -> Report | None:
        """Run the child to its end; None when the run is no longer ours to report on.

        1. Find the program; what cannot be found or started is an ERROR.
        2. Start it, unless somebody ended the attempt meanwhile.
        3. Wait, while its output is handed on.
        4. Say what it came to.
        """
        started_at = self._clock.now()
        try:
            command = self._command()
            with self._host() as link:
                child = self._start(command, link)
                outcome = child.wait() if child is not None else None
        except CannotStart as error:
            return self._report(started_at, "error", error=str(error))
        if outcome is None:
            why = self._told[0] if self._told else "release"
            return None if why == "lease" else self._report(started_at, why)
        if outcome.ended_by == "lease" or (self._told and self._told[0] == "lease"):
            return None
        return self._conclude(started_at, outcome)

    @contextmanager
    def _host(self) -> Iterator[Link]:
        link = self._nursery.take()
        try:
            yield link
        finally:
            self._nursery.give_back(link)

    def _command(self) -> Command:
        definition = self._order.definition
        found = target.resolve(definition["script_path"], _roots(self._settings.script_roots))
        arguments = target.split_arguments(definition.get("script_args"))
        environment = process.child_environment(
            process.inheritable(os.environ, self._settings.env_allow),
            run_id=self.claim.run_id,
            attempt=self.claim.attempt,
            scheduled_for=self.claim.scheduled_for,
            worker_id=self.claim.worker_id,
            params=self.claim.params or {},
        )
        argv = target.command(found, arguments)
        is_python = argv[0] == sys.executable and definition.get("isolation") != "fresh"
        return Command(argv, found.root, environment, warm=tuple(argv[1:]) if is_python else None)

    def _start(self, command: Command, link: Link) -> Child | None:
        with self._lock:
            if self._told is not None:
                return None
            self._child = Child(
                command,
                timeout=self._timeout,
                grace=self._settings.kill_grace,
                lease_for=self._lease_left(),
                on_output=self._output.add,
                link=link,
            )
            return self._child

    @property
    def _timeout(self) -> timedelta:
        seconds = self._order.definition.get("timeout_seconds")
        return self._settings.worker_job_timeout if seconds is None else timedelta(seconds=seconds)

    def _lease_left(self) -> timedelta:
        return timedelta(seconds=max(0.0, self._lease_ends - self._clock.elapsed()))

    def _conclude(self, started_at: datetime, outcome: Outcome) -> Report:
        for text, stream in outcome.rest:
            self._output.keep(text, stream)
        measures = {
            "cpu_seconds": outcome.cpu_seconds,
            "max_rss_bytes": outcome.max_rss_bytes,
            "output_bytes": outcome.output_bytes,
            "omitted_bytes": outcome.omitted_bytes,
            "log_output": outcome.tail,
        }
        return self._report(
            started_at,
            "error" if outcome.error or outcome.ended_by == "lost" else outcome.ended_by,
            exit_code=outcome.exit_code,
            error=_explain(outcome, self._timeout),
            measures=measures,
        )

    def _report(self, started_at: datetime, ended_by: str, **more: Any) -> Report:
        result = Result(ended_by, started_at, self._clock.now(), **more)
        return Report(self.claim, result, self._output.kept)


def _roots(roots: Sequence[Path]) -> list[Path]:
    return [root.expanduser().absolute() for root in roots]


def _explain(outcome: Outcome, timeout: timedelta) -> str:
    if outcome.error:
        return outcome.error
    if outcome.ended_by == "lost":
        return "the process that watched the script was killed"
    if outcome.ended_by == "timeout":
        return f"ended at its timeout of {timeout.total_seconds():g} s"
    if outcome.signal:
        return f"ended by signal {outcome.signal}"
    return f"exit code {outcome.exit_code}"
