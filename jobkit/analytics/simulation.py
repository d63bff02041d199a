"""Simulation: a workload before and after a change, as figures, a table and a chart."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, fields
from datetime import timedelta
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING

from jobkit.analytics import charts
from jobkit.analytics.charts import Chart
from jobkit.analytics.figures import LATE_SECONDS, Figures
from jobkit.analytics.queueing import Replayed
from jobkit.analytics.workload import Workload
from jobkit.expectation import quantile
from jobkit.text import duration

if TYPE_CHECKING:
    from polars import DataFrame

MOST_BUCKETS = 180
SHOWN_JOBS = 10
_SHARES = ("utilisation",)
_SECONDS = tuple(
    item.name for item in fields(Figures) if item.name.startswith(("wait_", "lateness_"))
)


@dataclass(frozen=True)
class Outcome:
    """One replay: what became of each run, and all of them together."""

    replayed: Replayed = field(repr=False)
    figures: Figures


@dataclass(frozen=True)
class Simulation:
    """What a change does: `before` and `after` are figures, `df` has a row for each job."""

    load: Workload = field(repr=False)
    _before: Outcome = field(repr=False)
    changed: Workload = field(repr=False)
    _after: Outcome = field(repr=False)
    observed_p95: float | None = None
    """The 95th percentile of the waits that were recorded, to compare `before.wait_p95` with."""
    cell: str = field(default="", repr=False)
    """Python that gives the same figures in a fresh kernel."""

    @property
    def before(self) -> Figures:
        """The recorded runs on the workers that are there."""
        return self._before.figures

    @property
    def after(self) -> Figures:
        """The same with the change."""
        return self._after.figures

    @cached_property
    def df(self) -> DataFrame:
        """A row for each job, the longest wait first; waits in seconds."""
        import polars as pl

        before, after = _by_job(self.load, self._before), _by_job(self.changed, self._after)
        names = list(dict.fromkeys([*before, *after]))
        columns: dict[str, list[object]] = {"job": list(names)}
        for measure in ("runs", "wait_p50", "wait_p95", "late", "skipped", "missed"):
            for side, of in (("before", before), ("after", after)):
                columns[f"{measure}_{side}"] = [of.get(name, {}).get(measure) for name in names]
        whole = ("runs", "late", "skipped", "missed")
        schema = {
            name: pl.String if name == "job" else pl.Int64 if name.startswith(whole) else pl.Float64
            for name in columns
        }
        return pl.DataFrame(columns, schema=schema).sort(
            "wait_p95_before", "job", descending=[True, False], nulls_last=True
        )

    @cached_property
    def totals(self) -> DataFrame:
        """A row for each figure, before and after."""
        import polars as pl

        names = [item.name for item in fields(Figures)]
        return pl.DataFrame(
            {
                "figure": names,
                "before": [float(getattr(self.before, name)) for name in names],
                "after": [float(getattr(self.after, name)) for name in names],
            }
        )

    @cached_property
    def chart(self) -> Chart:
        """The 95th percentile of the waits over time, before and after."""
        size = max(3600.0, self.load.seconds / MOST_BUCKETS // 3600 * 3600)
        count = max(1, int(-(-self.load.seconds // size)))
        x = [self.load.start + timedelta(seconds=number * size) for number in range(count)]
        series = {
            "before": _over_time(self.load, self._before, size, count),
            "after": _over_time(self.changed, self._after, size, count),
        }
        return charts.line("Queue wait, 95th percentile", x, series, unit="seconds")

    @property
    def said(self) -> str:
        """Say both, and what the records say."""
        lines = [f"before: {self.before}", f"after:  {self.after}"]
        if self.observed_p95 is not None:
            lines.append(f"recorded: wait p95 {duration(round(self.observed_p95, 1))}")
        if self.load.left_out:
            left = ", ".join(f"{count} {why}" for why, count in self.load.left_out.items())
            lines.append(f"not replayed: {left}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Simulation of {len(self.load.order)} runs\n{self.said}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(item.name.replace('_', ' '))}</th>"
            f"<td>{_written(self.before, item.name)}</td><td>{_written(self.after, item.name)}</td>"
            "</tr>"
            for item in fields(Figures)
        )
        table = (
            f"<table><thead><tr><th></th><th>before</th><th>after</th></tr></thead>{rows}</table>"
        )
        jobs: str = self.df.head(SHOWN_JOBS)._repr_html_()
        notes = "".join(
            f"<p><small>{escape(line)}</small></p>" for line in self.said.split("\n")[2:]
        )
        return f"<div>{self.chart.svg}{table}{jobs}{notes}</div>"


def _written(figures: Figures, name: str) -> str:
    value = getattr(figures, name)
    if name in _SECONDS:
        return duration(round(value, 1))
    return f"{value:.0%}" if name in _SHARES else f"{value:,}"


def _by_job(load: Workload, outcome: Outcome) -> dict[str, dict[str, float]]:
    """Return the figures of each job."""
    found, arrivals = outcome.replayed, load.arrivals
    skipped, missed = set(found.skipped), set(found.missed)
    table = {}
    for name, runs in load.of_job.items():
        started = [run for run in runs if found.start[run] >= 0]
        waits = sorted(found.start[run] - arrivals.at[run] for run in started)
        table[name] = {
            "runs": len(runs),
            "wait_p50": quantile(waits, 0.5) if waits else 0.0,
            "wait_p95": quantile(waits, 0.95) if waits else 0.0,
            "late": sum(found.start[run] - load.slot[run] > LATE_SECONDS for run in started),
            "skipped": sum(run in skipped for run in runs),
            "missed": sum(run in missed for run in runs),
        }
    return table


def _over_time(load: Workload, outcome: Outcome, size: float, count: int) -> list[float | None]:
    """Return the 95th percentile of the waits of the runs that came in each bucket."""
    waits: dict[int, list[float]] = defaultdict(list)
    for came, began in zip(load.arrivals.at, outcome.replayed.start, strict=True):
        if began >= 0:
            waits[int(came // size)].append(began - came)
    return [
        quantile(sorted(waits[place]), 0.95) if waits[place] else None for place in range(count)
    ]
