"""Charts of named things: bars beside each other, and strips of cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby

from jobkit.analytics.charts.chart import RIGHT, TOP, WIDTH, Chart, colour, drawing
from jobkit.analytics.charts.scales import written

ROW = 18
NAME_WIDTH = 150
LONGEST_NAME = 24
LONGEST_LABEL = 44
MOST_ROWS = 60
MOST_BARS = 15
LETTER = 6.4
"""How wide a letter is, about."""


def bars(title: str, names: Sequence[str], values: Sequence[float], *, unit: str = "") -> Chart:
    """Draw one bar for each name, from the left; of many the first 15, and how many more there are.

    `unit`: `seconds`, `share` or `bytes` for how values are written.
    """
    rows = list(zip(names, values, strict=True))
    top = max((value for _, value in rows if value), default=0.0) or 1.0
    shown = [_short(name, LONGEST_LABEL) for name in names[:MOST_BARS]]
    left = round(max((len(name) for name in shown), default=0) * LETTER) + 10
    room = WIDTH - left - RIGHT - 70
    parts = []
    for number, (name, (_, value)) in enumerate(zip(shown, rows, strict=False)):
        y, long = TOP + number * ROW, room * max(0.0, value or 0.0) / top
        label = written(value, unit) if value is not None else ""
        parts.append(
            f'{_name(name, y + 11, left)}<rect x="{left}" y="{y + 2}" width="{long:.0f}" '
            f'height="12" rx="2" fill="{colour(0)}"/>'
            f'<text x="{left + long + 5:.0f}" y="{y + 12}">{escape(label)}</text>'
        )
    if len(rows) > MOST_BARS:
        y = TOP + MOST_BARS * ROW + 11
        parts.append(f'<text x="{left}" y="{y}">and {len(rows) - MOST_BARS} more</text>')
    words = "; ".join(f"{name} {written(value or 0.0, unit)}" for name, value in rows[:5])
    words = f"{len(rows)} bars. The first: {words}." if rows else "Nothing here."
    height = TOP + max(1, min(len(rows), MOST_BARS + 1)) * ROW + 4
    svg = drawing(title, words, height, parts or [_nothing()])
    return Chart(title, words, svg, ("name", "value"), rows, "bars")


def cells(
    title: str,
    rows: Mapping[str, Sequence[str]],
    x: Sequence[object],
    *,
    colours: Mapping[str, str],
    hollow: Sequence[str] = (),
) -> Chart:
    """Draw a strip of cells for each name, one cell for each place of `x`.

    `rows`: the mark of each cell, empty where there is none; `colours`: mark -> number of a colour
    from 1 to 6, or any CSS colour, in the order of the legend; marks in `hollow` are only outlined,
    so that they are told apart without colour.
    """
    shown = dict(list(rows.items())[:MOST_ROWS])
    width = (WIDTH - NAME_WIDTH - RIGHT) / max(1, len(x))
    legend_, below = _cell_legend(colours, hollow)
    parts = [legend_]
    for number, (name, marks) in enumerate(shown.items()):
        y = below + number * ROW
        parts.append(_name(_short(name, LONGEST_NAME), y + 11, NAME_WIDTH))
        parts.extend(_strip(marks, y, width, colours, hollow))
    counted = Counter(mark for marks in rows.values() for mark in marks if mark)
    words = ", ".join(f"{counted[mark]} {mark}" for mark in colours if counted[mark])
    words = f"{len(rows)} rows: {words or 'nothing here'}."
    height = below + max(1, len(shown)) * ROW + 4
    table = [(at, *(marks[number] for marks in rows.values())) for number, at in enumerate(x)]
    svg = drawing(title, words, height, parts)
    return Chart(title, words, svg, ("from", *rows), table, "cells")


def _strip(
    marks: Sequence[str],
    y: int,
    width: float,
    colours: Mapping[str, str],
    hollow: Sequence[str],
) -> list[str]:
    """Draw the cells of one row: neighbours with one mark are one path, which keeps it small."""
    parts, at = [], 0
    gap = 1.0 if width >= 4 else 0.0
    for mark, group in groupby(marks):
        count = len(list(group))
        if mark:
            paint = _paint(mark, colours, hollow)
            wide = width - gap - (1 if mark in hollow else 0)
            x = NAME_WIDTH + at * width
            shape = "".join(
                f"M{x + number * width:.1f} {y + 2}h{wide:.1f}v12h-{wide:.1f}z"
                for number in range(count)
            )
            if not gap:
                long = count * width
                shape = f"M{x:.1f} {y + 2}h{long:.1f}v12h-{long:.1f}z"
            parts.append(f'<path d="{shape}" {paint}><title>{escape(mark)}</title></path>')
        at += count
    return parts


def _paint(mark: str, colours: Mapping[str, str], hollow: Sequence[str]) -> str:
    given = colours.get(mark, "1")
    tint = f"var(--jk-{given})" if given.isdigit() else escape(given)
    return f'fill="none" stroke="{tint}"' if mark in hollow else f'fill="{tint}"'


def _cell_legend(colours: Mapping[str, str], hollow: Sequence[str]) -> tuple[str, int]:
    parts, x, y = [], 0.0, TOP
    for mark in colours:
        wide = 6.2 * len(mark) + 28
        if x + wide > WIDTH:
            x, y = 0.0, y + ROW
        parts.append(
            f'<path d="M{x:.0f} {y}h10v10h-10z" {_paint(mark, colours, hollow)}/>'
            f'<text x="{x + 14:.0f}" y="{y + 9}">{escape(mark)}</text>'
        )
        x += wide
    return "".join(parts), y + ROW + 2


def _short(name: str, longest: int) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"


def _name(name: str, y: int, left: int) -> str:
    return f'<text x="{left - 6}" y="{y}" text-anchor="end">{escape(name)}</text>'


def _nothing() -> str:
    return f'<text x="{WIDTH // 2}" y="{TOP + 10}" text-anchor="middle">nothing here</text>'
