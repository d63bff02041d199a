"""Strips of marks as SVG: jobs down, time across, each cell the worst mark of its slots. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from itertools import groupby

from jobkit import text

MOST_CELLS = 96
MOST_TITLES = 300
"""Cells that say what they show when pointed at; the others are merged."""
CELL, ROW, LABEL, AXIS = 8, 18, 190, 20
"""Pixels: a cell's width, a row's height, the width of the names, the height of the axis."""
LONGEST_NAME = 28
_HEIGHT = 14
_STEPS = [
    timedelta(seconds=seconds)
    for seconds in (60, 300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
]


@dataclass(frozen=True)
class Look:
    """How a mark is drawn: colour alone says nothing, so its height differs as well."""

    colour: str
    height: int
    """Pixels, 14 at most."""
    is_hollow: bool = False


LOOKS = {
    # The worst first: it is what a cell shows.
    "failed": Look("#d1383d", 14),
    "missed": Look("#d9730d", 14),
    "never dispatched": Look("#d9730d", 14, is_hollow=True),
    "cancelled": Look("#9351b8", 11),
    "skipped": Look("#8a8f9c", 4),
    "late": Look("#c29b00", 9),
    "retried": Look("#7fa32a", 9),
    "filled": Look("#3d9a8b", 9, is_hollow=True),
    "running": Look("#3b6fd9", 9),
    "waiting": Look("#3b6fd9", 9, is_hollow=True),
    "on time": Look("#2f9e5b", 9),
    "forgotten": Look("#8a8f9c", 2),
}
WORST = {mark: rank for rank, mark in enumerate(LOOKS)}

Counts = Mapping[str, int]
"""How many slots have each mark."""


@dataclass(frozen=True)
class Row:
    """The strip of one job: the marks of its slots by the number of their cell."""

    name: str
    words: str
    cells: Mapping[int, Counts]


@dataclass(frozen=True)
class Strip:
    """Strips of jobs over one window, cut into cells of one width."""

    start: datetime
    end: datetime
    step: timedelta
    rows: tuple[Row, ...]
    zone: str = "UTC"

    @property
    def columns(self) -> int:
        """How many cells a row has."""
        return -((self.start - self.end) // self.step)

    @property
    def svg(self) -> str:
        """All rows with their names, and the time below them."""
        width = LABEL + self.columns * CELL
        height = len(self.rows) * ROW + AXIS
        opening = (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" font-family="system-ui, sans-serif" '
            f'font-size="12" fill="currentColor" aria-label="{escape(self._said())}">'
        )
        parts = [opening]
        for index, row in enumerate(self.rows):
            top = index * ROW
            parts.append(f"<g><title>{escape(f'{row.name}: {row.words}')}</title>")
            parts.append(f'<text x="0" y="{top + 13}">{escape(_short(row.name))}</text></g>')
            parts += self._cells(row, LABEL, top + (ROW - _HEIGHT) // 2)
        parts += self._axis(LABEL, height - 5, width)
        return "".join(parts) + "</svg>"

    def row_svg(self, row: Row) -> str:
        """One row without its name, for a table that has it."""
        width = self.columns * CELL
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {_HEIGHT}" '
            f'width="{width}" height="{_HEIGHT}" preserveAspectRatio="none" '
            f'aria-label="{escape(row.words)}">{"".join(self._cells(row, 0, 0))}</svg>'
        )

    def _repr_svg_(self) -> str:
        return self.svg

    def _said(self) -> str:
        return "Coverage. " + " ".join(f"{row.name}: {row.words}." for row in self.rows[:20])

    def _axis(self, left: int, y: int, right: int) -> Iterator[str]:
        yield f'<text x="{left}" y="{y}">{escape(text.instant(self.start, self.zone))}</text>'
        ends = escape(text.instant(self.end, self.zone))
        yield f'<text x="{right}" y="{y}" text-anchor="end">{ends}</text>'

    def _cells(self, row: Row, left: int, top: int) -> Iterator[str]:
        """Draw each stretch of cells that show the same mark; what is amiss says what it is."""
        shown = [(cell, worst(row.cells[cell])) for cell in sorted(row.cells)]
        titles = MOST_TITLES // max(len(self.rows), 1)
        for mark, cells in _stretches(shown):
            x, look = left + cells[0] * CELL, LOOKS[mark]
            y, width = top + _HEIGHT - look.height, len(cells) * CELL - 1
            title = ""
            if mark != "on time" and titles > 0:
                titles -= 1
                title = f"<title>{escape(self._title(row, cells))}</title>"
            paint = f'fill="{look.colour}"'
            if look.is_hollow:
                x, y, width = x + 1, y + 1, width - 2
                paint = f'fill="none" stroke="{look.colour}" stroke-width="2"'
            height = look.height - (2 if look.is_hollow else 0)
            box = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" {paint}'
            yield f"{box}>{title}</rect>" if title else f"{box}/>"

    def _title(self, row: Row, cells: Sequence[int]) -> str:
        total: dict[str, int] = defaultdict(int)
        for cell in cells:
            for mark, count in row.cells[cell].items():
                total[mark] += count
        counted = ", ".join(f"{total[mark]} {mark}" for mark in LOOKS if mark in total)
        return f"from {text.instant(self.start + cells[0] * self.step, self.zone)}: {counted}"


def step_for(length: timedelta) -> timedelta:
    """Return how wide cells are, so that a window has 96 at most."""
    for step in _STEPS:
        if length <= step * MOST_CELLS:
            return step
    return length / MOST_CELLS


def worst(counts: Counts) -> str:
    """Return the mark that a cell shows."""
    return min(counts, key=lambda mark: WORST[mark])


def _stretches(shown: Iterable[tuple[int, str]]) -> Iterator[tuple[str, list[int]]]:
    """Yield marks with the neighbouring cells that show them."""
    numbered = ((cell, mark, cell - index) for index, (cell, mark) in enumerate(shown))
    for (mark, _), group in groupby(numbered, key=lambda item: (item[1], item[2])):
        yield mark, [cell for cell, _, _ in group]


def _short(name: str) -> str:
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
