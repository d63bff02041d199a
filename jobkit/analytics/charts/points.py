"""A chart of single values over time: a mark for each, whose shape says what kind it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape

from jobkit.analytics.charts.chart import WIDTH, Chart, colour, drawing
from jobkit.analytics.charts.scales import written
from jobkit.analytics.charts.series import HEIGHT, Plot

SHAPES = (
    "m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0",
    "m-3-3l6 6m0-6l-6 6",
    "m0-4l4 7h-8z",
    "m-3-3h6v6h-6z",
)
"""Beside colour, what tells kinds apart: a dot, a cross, a triangle, a square."""
ROOM = 40
"""What is left free at the right, as a part of the whole time."""
OPEN = (1,)
"""What is drawn as lines."""


@dataclass(frozen=True)
class Point:
    """A value, when it was, and what it is of."""

    at: datetime
    value: float
    kind: str
    name: str
    """What is told of it where the pointer rests."""


def points(
    title: str, found: Sequence[Point], kinds: Sequence[str], *, unit: str = "", zone: str = "UTC"
) -> Chart:
    """Draw a mark for each value; `kinds` are the names of what may occur, in their order.

    `unit`: as for `line`.
    """
    x = [it.at for it in found]
    room = max((x[-1] - x[0]) / ROOM, timedelta(minutes=1)) if x else None
    plot = Plot(x, max((it.value for it in found), default=0.0), unit, zone, room)
    there = [kind for kind in kinds if any(it.kind == kind for it in found)]
    parts = [*plot.axes(), *(_mark(plot, it, kinds.index(it.kind), unit) for it in found)]
    parts.append(_legend(there, kinds))
    words = " ".join(_summary(kind, found, unit) for kind in there) or "There are none yet."
    rows = [(it.at, it.name, it.kind, written(it.value, unit)) for it in reversed(found)]
    columns = ("from", "what", "state", "value")
    return Chart(title, words, drawing(title, words, HEIGHT, parts), columns, rows, "points")


def _mark(plot: Plot, point: Point, kind: int, unit: str) -> str:
    x, y = plot.across(point.at), plot.down(point.value)
    said = escape(f"{point.name}: {point.kind}, {written(point.value, unit)}")
    return f"<g><title>{said}</title>{_shape(kind, x, y)}</g>"


def _shape(kind: int, x: float, y: float) -> str:
    number = kind % len(SHAPES)
    look = 'fill="none" stroke-width="2" stroke' if number in OPEN else "fill"
    return f'<path d="M{x:.1f} {y:.1f}{SHAPES[number]}" {look}="{colour(number)}"/>'


def _legend(there: Sequence[str], kinds: Sequence[str]) -> str:
    parts, x = [], float(WIDTH - 8)
    for kind in reversed(there):
        x -= 6.2 * len(kind)
        parts.append(f'<text x="{x:.0f}" y="12">{escape(kind)}</text>')
        parts.append(_shape(kinds.index(kind), x - 9, 8))
        x -= 26
    return "".join(parts)


def _summary(kind: str, found: Sequence[Point], unit: str) -> str:
    values = sorted(it.value for it in found if it.kind == kind)
    if len(values) == 1:
        return f"{kind}: 1, {written(values[0], unit)}."
    low, middle, high = values[0], values[len(values) // 2], values[-1]
    said = ", ".join((f"{written(low, unit)} to {written(high, unit)}", "half up to "))
    return f"{kind}: {len(values)}, {said}{written(middle, unit)}."
