"""A notebook that fills in: its cells, put together from the events that its runner printed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, TypeVar

from jobkit.cards import Card
from jobkit.terminal import without_sequences
from jobkit.text import duration

LONGEST_TEXT = 4000
_STATES = {
    "running": "IN_PROGRESS",
    "done": "COMPLETED",
    "failed": "FAILED",
    "skipped": "SKIPPED",
}
Number = TypeVar("Number", int, float)


@dataclass(repr=False)
class Cell:
    """A cell of a notebook and how far it is."""

    number: int
    """From 1, as it stands in the notebook."""
    of: int
    """How many cells the notebook has."""
    state: str
    """running, done, failed, or skipped: its tag says that it is not run."""
    started_at: datetime
    seconds: float | None = None
    """How long it took, once it has ended."""
    source: str = ""
    """The beginning of its code."""
    text: str = ""
    """The beginning of what it showed, as text."""
    error: str = ""
    """Its traceback."""
    usual: float | None = None
    """How many seconds half of its executions took at most, by runs before that succeeded."""

    def __repr__(self) -> str:
        return f"<{self._words()}: {self.state}>"

    def _repr_html_(self) -> str:
        lines = without_sequences(self.error or self.text).strip().splitlines()
        state = _STATES.get(self.state, self.state)
        first = self.source.strip().partition("\n")[0]
        return Card(self._words(), state, [("code", first)], lines=lines).html

    def _words(self) -> str:
        took = f": {duration(self.seconds)}" if self.seconds is not None else ""
        usually = f", usually {duration(self.usual)}" if self.usual is not None else ""
        return f"cell {self.number}{took}{usually}"


def read_cells(chunks: Iterable[tuple[datetime, str]], *, has_ended: bool) -> list[Cell]:
    """Put cells together from chunks of events, one JSON document a line, in their order.

    An event names its cell (`id`, `index`, `of`) and its `kind`: start with the source as `text`;
    output with what is shown, `output` says how; end with `ok` and `seconds`; skip of a cell that
    is not run, with its source. Cells that were not reached are not among them. A cell that still
    runs when its attempt `has_ended` has failed.
    """
    cells: dict[str, Cell] = {}
    for at, event in _events(chunks):
        name = str(event.get("id", ""))
        if event.get("kind") in ("start", "skip") or name not in cells:
            number = _number(event.get("index"), len(cells)) + 1
            cells[name] = Cell(number, _number(event.get("of"), 0), "running", at)
        _take(cells[name], event, at)
    for cell in cells.values():
        if has_ended and cell.state == "running":
            cell.state = "failed"
    return list(cells.values())


def usual_seconds(earlier: Iterable[Sequence[Cell]]) -> dict[str, float]:
    """Return how many seconds cells usually take, by their code, from earlier executions.

    A cell that was edited has no history; one that stands elsewhere now has.
    """
    took: dict[str, list[float]] = {}
    for cells in earlier:
        for cell in cells:
            if cell.state == "done" and cell.seconds is not None:
                took.setdefault(cell.source, []).append(cell.seconds)
    return {source: median(seconds) for source, seconds in took.items()}


def _events(chunks: Iterable[tuple[datetime, str]]) -> Iterator[tuple[datetime, dict[str, Any]]]:
    for at, text in chunks:
        for line in text.split("\n"):  # JSON may hold what else ends lines of text
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):  # a script may print what looks like one
                continue
            if isinstance(event, dict):
                yield at, event


def _take(cell: Cell, event: dict[str, Any], at: datetime) -> None:
    kind, said = event.get("kind"), event.get("text")
    text = said if isinstance(said, str) else ""
    if kind in ("start", "skip"):
        cell.source = text[:LONGEST_TEXT]
        cell.state = "skipped" if kind == "skip" else cell.state
    elif kind == "output" and event.get("output") == "error":
        cell.error = text[-LONGEST_TEXT:]
    elif kind == "output":
        cell.text = (cell.text + text)[:LONGEST_TEXT]
    elif kind == "end":
        cell.state = "failed" if event.get("ok") is False else "done"
        cell.seconds = _number(event.get("seconds"), (at - cell.started_at).total_seconds())


def _number(value: Any, otherwise: Number) -> Number:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return type(otherwise)(value) if is_number and math.isfinite(value) else otherwise
