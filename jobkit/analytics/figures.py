"""Figures of a replay: waits, lateness, overlaps, utilisation; pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from jobkit.analytics.queueing import Crew, Replayed
from jobkit.analytics.workload import Workload
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
    began = pl.Series(found.start, dtype=pl.Float64)
    started = began >= 0
    waits = (began - load.at_series).filter(started)
    if found.rewaits:
        waits = waits.extend(pl.Series([wait for _, wait in found.rewaits], dtype=pl.Float64))
    late = (began - load.slot_series).filter(started & load.slot_series.is_not_nan())
    slots = sum(crew.slots for crew in crews)
    return Figures(
        slots=slots,
        runs=len(order),
        started=int(started.sum()),
        wait_p50=_quantile(waits, 0.5),
        wait_p95=_quantile(waits, 0.95),
        wait_p99=_quantile(waits, 0.99),
        wait_max=_quantile(waits, 1),
        wait_mean=float(waits.mean() or 0.0),  # type: ignore[arg-type]
        late=int((late > LATE_SECONDS).sum()),
        lateness_p95=_quantile(late, 0.95),
        skipped=len(found.skipped),
        queued_behind=len(set(found.waited_for_lane)),
        missed=len(found.missed),
        utilisation=found.busy / (slots * load.seconds) if slots and load.seconds else 0.0,
    )


def _quantile(values: pl.Series, share: float) -> float:
    return float(values.quantile(share, "linear") or 0.0)
