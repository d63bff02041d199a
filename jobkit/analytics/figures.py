"""Figures of a replay: waits, lateness, overlaps, utilisation; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobkit.analytics.queueing import Crew, Replayed
from jobkit.analytics.workload import Workload
from jobkit.expectation import quantile
from jobkit.text import duration

LATE_SECONDS = 60.0
"""A run that starts later than so long after its slot is late."""


@dataclass(frozen=True)
class Figures:
    """What a replay came to; durations are seconds."""

    slots: int
    """How many runs could be executed side by side."""
    runs: int
    """Runs that came."""
    started: int
    wait_p50: float
    """From the instant at which a run could start to the one at which it did."""
    wait_p95: float
    wait_p99: float
    wait_max: float
    wait_mean: float
    late: int
    """Slots whose run started more than a minute after them."""
    lateness_p95: float
    """From the slot to the start of its run."""
    skipped: int
    """Slots skipped because an earlier run of their job was unfinished."""
    queued_behind: int
    """Runs that waited for an earlier one of their own job."""
    missed: int
    """Runs that no worker started by their deadline."""
    utilisation: float
    """The share of the slots' time in which they were held."""

    def __str__(self) -> str:
        waits = (duration(round(wait, 1)) for wait in (self.wait_p50, self.wait_p95, self.wait_p99))
        p50, p95, p99 = waits
        overlaps = f"{self.skipped} skipped, {self.queued_behind} waited for their own job"
        return (
            f"wait p50 {p50}, p95 {p95}, p99 {p99}; {self.late} of {self.started} late, "
            f"{overlaps}, {self.missed} missed; {self.slots} slots {self.utilisation:.0%} busy"
        )


def figures(
    load: Workload, order: Sequence[int], crews: Sequence[Crew], found: Replayed
) -> Figures:
    """Add up what became of a workload's runs."""
    waits, zeros = waits_of(load, found)
    late = sorted(
        began - slot
        for began, slot in zip(found.start, load.slot, strict=True)
        if began >= 0 and slot == slot
    )
    slots = sum(crew.slots for crew in crews)
    count = len(waits) + zeros
    return Figures(
        slots=slots,
        runs=len(order),
        started=len(found.start) - found.start.count(-1.0),
        wait_p50=_quantile(waits, zeros, 0.5),
        wait_p95=_quantile(waits, zeros, 0.95),
        wait_p99=_quantile(waits, zeros, 0.99),
        wait_max=waits[-1] if waits else 0.0,
        wait_mean=sum(waits) / count if count else 0.0,
        late=sum(1 for seconds in late if seconds > LATE_SECONDS),
        lateness_p95=quantile(late, 0.95) if late else 0.0,
        skipped=len(found.skipped),
        queued_behind=len(set(found.waited_for_lane)),
        missed=len(found.missed),
        utilisation=found.busy / (slots * load.seconds) if slots and load.seconds else 0.0,
    )


def waits_of(load: Workload, found: Replayed) -> tuple[list[float], int]:
    """Return the waits of all attempts that waited, in order, and how many did not."""
    pairs = zip(found.start, load.arrivals.at, strict=True)
    waits = [began - came for began, came in pairs if began > came]
    waits += [wait for _, wait in found.rewaits if wait > 0]
    waits.sort()
    attempts = len(found.start) - found.start.count(-1.0) + len(found.rewaits)
    return waits, attempts - len(waits)


def _quantile(waits: Sequence[float], zeros: int, share: float) -> float:
    """Return a quantile of ordered waits before which there are so many zeros."""
    count = len(waits) + zeros
    if not count:
        return 0.0
    place = (count - 1) * share
    below = int(place)
    low = waits[below - zeros] if below >= zeros else 0.0
    above = min(below + 1, count - 1)
    high = waits[above - zeros] if above >= zeros else 0.0
    return low + (high - low) * (place - below)
