"""A notebook that fills in: its cells, put together from the events that its runner printed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

LONGEST_TEXT = 4000
BROKEN = ("failed", "error")


@dataclass
class Cell:
    """A cell of a notebook and how far it is."""

    id: str
    state: str
    """running, done, failed."""
    started_at: datetime
    ended_at: datetime | None = None
    seconds: float | None = None
    """How long it took, once it has ended."""
    source: str = ""
    """The beginning of its code."""
    text: str = ""
    """The beginning of what it showed, as text."""


def read_cells(chunks: Iterable[tuple[datetime, str]], *, has_ended: bool) -> list[Cell]:
    """Put cells together from chunks of events, one JSON document a line, in their order.

    An event names its cell (`id`) and its `kind`: start, output or end; `text` is the code of a
    start and else what was shown, `status` how it ended. A cell that still runs when its attempt
    `has_ended` has failed.
    """
    cells: dict[str, Cell] = {}
    for at, event in _events(chunks):
        name = str(event.get("id", ""))
        if event.get("kind") == "start" or name not in cells:
            cells[name] = Cell(name, "running", at)
        _take(cells[name], event, at)
    for cell in cells.values():
        if has_ended and cell.state == "running":
            cell.state = "failed"
    return list(cells.values())


def _events(chunks: Iterable[tuple[datetime, str]]) -> Iterator[tuple[datetime, dict[str, Any]]]:
    for at, text in chunks:
        for line in text.splitlines():
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):  # a script may print what looks like one
                continue
            if isinstance(event, dict):
                yield at, event


def _take(cell: Cell, event: dict[str, Any], at: datetime) -> None:
    kind, text, status = event.get("kind"), event.get("text"), event.get("status")
    if kind == "start" and isinstance(text, str):
        cell.source = text[:LONGEST_TEXT]
    elif isinstance(text, str):
        cell.text = (cell.text + text)[:LONGEST_TEXT]
    if kind == "error" or status in BROKEN:
        cell.state = "failed"
    if kind == "end":
        cell.ended_at = at
        cell.state = "failed" if cell.state == "failed" else "done"
        told = event.get("seconds")
        cell.seconds = (at - cell.started_at).total_seconds()
        if isinstance(told, int | float) and not isinstance(told, bool):
            cell.seconds = float(told)
