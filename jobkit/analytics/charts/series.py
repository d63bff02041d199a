"""Charts along an axis of time or of numbers: lines, stacked columns, histograms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from html import escape

from jobkit.analytics.charts.chart import (
    BOTTOM,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Chart,
    colour,
    drawing,
    legend,
)
from jobkit.analytics.charts.scales import ticks, time_ticks, written

HEIGHT = 180
DASHES = {1: "6 3", 2: "2 2", 3: "8 3 2 3", 4: "1 3", 5: "4 4"}
"""Beside colour, what tells lines apart."""

Values = Sequence[float | None]


def line(
    title: str,
    x: Sequence[datetime],
    series: Mapping[str, Values],
    *,
    unit: str = "",
    zone: str = "UTC",
) -> Chart:
    """Draw series over time as lines; a value that is None leaves a gap.

    `unit`: `seconds`, `share` or `bytes` for how the axis is written.
    """
    plot = Plot(x, _top(series.values()), unit, zone)
    parts = plot.axes()
    for number, values in enumerate(series.values()):
        dash = f' stroke-dasharray="{DASHES[number]}"' if number in DASHES else ""
        parts.append(
            f'<path d="{plot.path(values)}" fill="none" stroke="{colour(number)}" '
            f'stroke-width="1.6" stroke-linejoin="round"{dash}/>'
        )
    parts.append(legend(list(series), DASHES) if len(series) > 1 else "")
    return _chart(title, x, series, parts, unit, "line")


def stacked(
    title: str,
    x: Sequence[datetime],
    series: Mapping[str, Values],
    *,
    unit: str = "",
    zone: str = "UTC",
) -> Chart:
    """Draw counts over time as columns that stand on each other, the first at the bottom."""
    sums: list[list[float]] = []
    for values in series.values():
        below = sums[-1] if sums else [0.0] * len(x)
        sums.append([low + (value or 0.0) for low, value in zip(below, values, strict=True)])
    plot = Plot(x, _top(sums), unit, zone)
    areas = [
        f'<path d="{plot.steps(values)}" fill="{colour(number)}"/>'
        for number, values in reversed(list(enumerate(sums)))
    ]
    parts = [*areas, *plot.axes(), legend(list(series)) if len(series) > 1 else ""]
    return _chart(title, x, series, parts, unit, "stacked")


def histogram(
    title: str, edges: Sequence[float], counts: Sequence[int], *, unit: str = "seconds"
) -> Chart:
    """Draw how many values lie between neighbouring edges, of which there is one more."""
    top = ticks(max(counts, default=0))
    parts = _grid(top, "")
    width = (WIDTH - LEFT - RIGHT) / max(1, len(counts))
    height = HEIGHT - TOP - BOTTOM
    for number, count in enumerate(counts):
        tall = height * count / top[-1]
        parts.append(
            f'<rect x="{LEFT + number * width:.1f}" y="{HEIGHT - BOTTOM - tall:.1f}" '
            f'width="{max(0.5, width - 1):.1f}" height="{tall:.1f}" fill="{colour(0)}"/>'
        )
    for number in range(0, len(edges), max(1, len(edges) // 6)):
        x = LEFT + number * width
        parts.append(_bottom_label(x, written(edges[number], unit)))
    words = f"{sum(counts)} values in {len(counts)} ranges."
    labels = [written(edge, unit) for edge in edges]
    rows = [(f"{labels[at]} to {labels[at + 1]}", count) for at, count in enumerate(counts)]
    return Chart(
        title, words, drawing(title, words, HEIGHT, parts), ("range", "count"), rows, "stacked"
    )


class Plot:
    """Places of instants and values on the drawing."""

    def __init__(
        self,
        x: Sequence[datetime],
        top: float,
        unit: str,
        zone: str,
        step: timedelta | None = None,
    ) -> None:
        self.x, self.unit, self.zone = x, unit, zone
        self.ticks = ticks(top, unit=unit)
        step = step or (x[-1] - x[-2] if len(x) > 1 else timedelta(hours=1))
        self.end = x[-1] + step if x else None
        self.width = WIDTH - LEFT - RIGHT
        self.height = HEIGHT - TOP - BOTTOM

    def axes(self) -> list[str]:
        """Return the lines and labels of both axes."""
        parts = _grid(self.ticks, self.unit)
        if not self.x or self.end is None:
            middle = LEFT + self.width / 2
            parts.append(f'<text x="{middle:.0f}" y="96" text-anchor="middle">nothing here</text>')
            return parts
        for at, label in time_ticks(self.x[0], self.end, self.zone):
            parts.append(_bottom_label(self.across(at), label))
        return parts

    def across(self, at: datetime) -> float:
        """Return how far from the left an instant is."""
        if self.end is None:
            return LEFT
        return LEFT + self.width * ((at - self.x[0]) / (self.end - self.x[0]))

    def down(self, value: float) -> float:
        """Return how far from the top a value is."""
        return HEIGHT - BOTTOM - self.height * value / self.ticks[-1]

    def path(self, values: Values) -> str:
        """Return the path of a line through what is there, in whole units: two to four bytes."""
        parts, last = [], None
        for at, value in self._thinned(values):
            if value is None:
                last = None
                continue
            here = (round(self.across(at)), round(self.down(value)))
            parts.append(
                f"M{here[0]} {here[1]}h1"
                if last is None
                else f"l{here[0] - last[0]} {here[1] - last[1]}"
            )
            last = here if last is not None else (here[0] + 1, here[1])
        return "".join(parts)

    def steps(self, values: Sequence[float]) -> str:
        """Return the outline of columns that stand side by side."""
        base = HEIGHT - BOTTOM
        parts, tall = [f"M{LEFT} {base}"], base
        for at, value in self._thinned(values):
            here = round(self.down(value or 0.0))
            if here != tall:
                parts.append(f"H{round(self.across(at))}V{here}")
                tall = here
        return "".join(parts) + f"H{WIDTH - RIGHT}V{base}z"

    def _thinned(self, values: Values) -> list[tuple[datetime, float | None]]:
        """Leave one value, the greatest, for each dot of the screen."""
        pairs = list(zip(self.x, values, strict=True))
        each = -(-len(pairs) // (self.width // 2))
        if each <= 1:
            return pairs
        groups = [pairs[low : low + each] for low in range(0, len(pairs), each)]
        return [
            (group[0][0], max((value for _, value in group if value is not None), default=None))
            for group in groups
        ]


def _grid(values: Sequence[float], unit: str) -> list[str]:
    height, parts = HEIGHT - TOP - BOTTOM, []
    for value in values:
        y = round(HEIGHT - BOTTOM - height * value / values[-1])
        parts.append(f'<path class="g" d="M{LEFT} {y}H{WIDTH - RIGHT}"/>')
        label = escape(written(value, unit))
        parts.append(f'<text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{label}</text>')
    return parts


def _bottom_label(x: float, label: str) -> str:
    anchor = "end" if x > WIDTH - 40 else "middle"
    return f'<text x="{x:.0f}" y="{HEIGHT - 5}" text-anchor="{anchor}">{escape(label)}</text>'


def _top(series: object) -> float:
    return max(
        (value for values in series for value in values if value is not None),  # type: ignore[attr-defined]
        default=0.0,
    )


def _chart(
    title: str,
    x: Sequence[datetime],
    series: Mapping[str, Values],
    parts: Sequence[str],
    unit: str,
    kind: str,
) -> Chart:
    words = " ".join(_summary(name, values, unit) for name, values in series.items())
    columns = ("from", *series)
    rows = list(zip(x, *series.values(), strict=True))
    return Chart(title, words, drawing(title, words, HEIGHT, parts), columns, rows, kind)


def _summary(name: str, values: Values, unit: str) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return f"{name}: nothing."
    low, high, last = (written(value, unit) for value in (min(there), max(there), there[-1]))
    return f"{name}: {low} to {high}, at last {last}."
