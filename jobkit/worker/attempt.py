"""One attempt: its child, its output and its result."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from jobkit.artifacts import Kept, collect
from jobkit.clock import Clock
from jobkit.errors import ArtifactsUnavailable, CannotStart
from jobkit.executors.link import Link
from jobkit.executors.process import Child, Outcome
from jobkit.expectation import Expectation
from jobkit.settings import Settings
from jobkit.store.claims import Claim, Result
from jobkit.text import duration, size
from jobkit.worker.output import Output, WriteOutput
from jobkit.worker.paused import Paused
from jobkit.worker.spool import Report
from jobkit.worker.workshop import Prepared, Workshop, keeps_kernel

CELL = "cell_timeout_seconds"
CELL_TIMED_OUT = 124
"""With which a runner of notebooks ends when a cell took too long, as `timeout` does."""
UNKNOWN_TIMEOUT = timedelta(days=1)
"""Of an `auto` timeout while nothing is known: long enough to learn, and no attempt is for ever."""


@dataclass(frozen=True)
class Order:
    """What is to be executed: the definition that the run names, checked only when it starts."""

    claim: Claim
    definition: Mapping[str, Any]
    lease: timedelta
    """How long the child may live from `leased_at` on, unless the lease is renewed."""
    leased_at: float
    """Reading of the stopwatch before the claim was asked for."""
    usual: Expectation | None = None
    """Of a job whose timeout is `auto`: what its attempts usually take."""


class Attempt:
    """Executes one order in a thread of its own; may be told to end from any other."""

    def __init__(
        self,
        order: Order,
        workshop: Workshop,
        settings: Settings,
        clock: Clock,
        write: WriteOutput,
        resumed: Paused | None = None,
    ) -> None:
        # `resumed`: a child that goes on by this attempt.
        self.claim = order.claim
        self._order = order
        self._workshop = workshop
        self._settings = settings
        self._clock = clock
        self._output = Output(order.claim, clock, write)
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._resumed = resumed
        self.paused: Paused | None = None
        """Set when it has failed and its kernel is kept."""
        self._kind = ""
        self._told: tuple[str, timedelta | None] | None = None
        self._lease_ends = order.leased_at + order.lease.total_seconds()

    @property
    def key(self) -> tuple[int, int]:
        """Name the attempt as heartbeats do: (run, attempt)."""
        return self.claim.run_id, self.claim.attempt

    @property
    def job(self) -> str:
        """The name of the job that it is an attempt of."""
        return str(self._order.definition.get("name", ""))

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

        1. Put together what it is started with; what cannot be found or started is an ERROR.
        2. Start it, unless somebody ended the attempt meanwhile.
        3. Wait, while its output is handed on.
        4. Keep the files that it left.
        5. Say what it came to.
        """
        started_at = self._clock.now()
        try:
            with self._resumed.stack if self._resumed else ExitStack() as stack:
                return self._run(stack, started_at)
        except CannotStart as error:
            return self._report(started_at, "error", error=str(error))

    def _run(self, stack: ExitStack, started_at: datetime) -> Report | None:
        recorder, resumed = self._workshop.recorder, self._resumed
        child: Child | None
        if resumed is not None:
            prepared, begun, child = resumed.prepared, resumed.begun, self._take_over(resumed)
        else:
            prepared = stack.enter_context(
                self._workshop.prepared(self.claim, self._order.definition)
            )
            begun = recorder.begin(prepared.subject, prepared.secrets)
            child = self._start(prepared, stack.enter_context(self._host(prepared)))
        self._kind = prepared.subject.kind
        outcome = child.wait() if child is not None else None
        if child is not None and outcome is not None and outcome.kept and self._told:
            outcome = replace(child.ended(outcome), kept=None)
        why = self._told[0] if self._told else "release"
        if why == "lease" or (outcome is not None and outcome.ended_by == "lease"):
            return None
        if outcome is None:
            return self._report(started_at, why)
        artifacts = self._keep(prepared)
        provenance = recorder.finish(begun)
        edits = resumed.edits if resumed is not None else ()
        if child is not None and outcome.kept is not None:
            self.paused = Paused(child, prepared, begun, stack.pop_all(), outcome, edits)
        said = {"edits": list(edits)} if edits else {}
        report = self._conclude(started_at, outcome, provenance.document | said)
        return replace(
            report,
            artifacts=artifacts,
            packages=provenance.packages,
            script=provenance.script,
        )

    @contextmanager
    def _host(self, prepared: Prepared) -> Iterator[Link]:
        nursery = self._workshop.nursery
        is_warm = prepared.command.warm is not None
        link = nursery.take(prepared.python, prepared.modules) if is_warm else nursery.take()
        try:
            yield link
        finally:
            nursery.give_back(link)

    def _start(self, prepared: Prepared, link: Link) -> Child | None:
        with self._lock:
            if self._told is not None:
                return None
            self._child = Child(
                prepared.command,
                timeout=self._timeout,
                grace=self._settings.kill_grace,
                lease_for=self._lease_left(),
                on_output=self._output.add,
                on_fact=self._output.learn,
                secrets=prepared.secrets,
                link=link,
                may_keep=keeps_kernel(self._order.definition),
            )
            return self._child

    def _take_over(self, paused: Paused) -> Child:
        """Let a child go on that was kept; if somebody ended this attempt meanwhile, end it."""
        paused.child.resume(self._output.add, self._output.learn)
        paused.child.give(self._timeout)
        with self._lock:
            self._child = paused.child
            paused.child.extend(self._lease_left())
            if self._told is not None:
                paused.child.kill(*self._told)
        try:
            paused.go_on(self.claim.attempt)
        except OSError:
            paused.child.kill("error")
        return paused.child

    def detach(self) -> None:
        """Let its child be another's: ending this attempt does not end it any more."""
        with self._lock:
            self._child = None

    def attach(self, child: Child) -> None:
        """Take back a child that could not be handed on."""
        with self._lock:
            self._child = child
            child.extend(self._lease_left())
            if self._told is not None:
                child.kill(*self._told)

    @property
    def kept_for(self) -> timedelta:
        """How long its kernel is to be kept."""
        return timedelta(seconds=self._order.definition.get("keep_kernel_seconds") or 0)

    def followed_by(self, claim: Claim, leased_at: float) -> Order:
        """Return the order of the attempt that its kernel goes on by."""
        return replace(self._order, claim=claim, leased_at=leased_at)

    def _keep(self, prepared: Prepared) -> tuple[Kept, ...]:
        """Keep what the script left in its folder; what cannot be kept is said in its output."""
        found = collect(prepared.artifacts, self._settings.artifacts_limit)
        said = found.left_out
        try:
            kept = self._workshop.store.keep(*self.key, found.files)
        except ArtifactsUnavailable as error:
            kept, said = [], f"{len(found.files)} artifacts are lost. {error}"
        if said:
            self._output.keep(f"jobkit: {said}\n")
        return tuple(kept)

    @property
    def _timeout(self) -> timedelta:
        seconds, usual = self._order.definition.get("timeout_seconds"), self._order.usual
        if seconds is not None:
            return timedelta(seconds=seconds)
        default = self._settings.worker_job_timeout
        return default if usual is None else usual.timeout or max(default, UNKNOWN_TIMEOUT)

    def _lease_left(self) -> timedelta:
        return timedelta(seconds=max(0.0, self._lease_ends - self._clock.elapsed()))

    def _conclude(
        self, started_at: datetime, outcome: Outcome, provenance: dict[str, Any]
    ) -> Report:
        for text, stream in outcome.rest:
            self._output.keep(text, stream)
        measures = {
            "cpu_seconds": outcome.cpu_seconds,
            "max_rss_bytes": outcome.max_rss_bytes,
            "output_bytes": outcome.output_bytes,
            "omitted_bytes": outcome.omitted_bytes,
            "log_output": outcome.tail,
            "signal": outcome.signal,
            "metrics": self._output.metrics or None,
            "result": self._output.result,
            "provenance": provenance | {"isolation": "warm" if outcome.is_warm else "fresh"},
        }
        ended_by = "exit" if outcome.ended_by in ("memory", "kept") else outcome.ended_by
        return self._report(
            started_at,
            "error" if outcome.error or ended_by == "lost" else ended_by,
            exit_code=outcome.exit_code,
            error=self._explain(outcome),
            measures=measures,
            reason=self._output.stopped,
        )

    def _explain(self, outcome: Outcome) -> str:
        if outcome.error:
            return outcome.error
        if outcome.kept is not None and outcome.ended_by == "kept":
            return str(outcome.kept.get("error", "a cell failed"))
        if outcome.ended_by == "lost":
            return "the process that watched the script was killed"
        if outcome.ended_by == "memory":
            limit = self._order.definition.get("memory_limit_bytes")
            return f"used {size(outcome.max_rss_bytes)}, more than its limit of {size(limit)}"
        if outcome.ended_by == "timeout":
            usual = self._order.usual
            why = f": {usual.timeout_words}" if usual is not None else ""
            return f"ended at its timeout of {self._timeout.total_seconds():g} s{why}"
        if outcome.signal:
            return f"ended by signal {outcome.signal}"
        if outcome.exit_code == CELL_TIMED_OUT and self._kind == "notebook":
            limit, cell = self._order.definition.get(CELL), self._output.cell
            if limit is not None:
                named = "a cell" if cell is None else f"cell {cell}"
                return f"{named} took longer than {duration(limit)}"
        return f"exit code {outcome.exit_code}"

    def _report(self, started_at: datetime, ended_by: str, **more: Any) -> Report:
        result = Result(ended_by, started_at, self._clock.now(), **more)
        return Report(self.claim, result, self._output.kept)
