"""Tells what the cells of a notebook do: their text as it comes, and a line for each event.

An event is one line `::cell {json}`, by which a face shows the notebook filling in: `id`, `index`
(of the cells, from 0), `of` (how many), `kind` (start, output, end; kept: its kernel waits; skip of
a cell that its tag keeps from running), `text` (at most 4 KiB: the source at the start and of what
is skipped), `output` (stdout, stderr, display, result, error), `ok` and `seconds` (at the end),
`at` (an instant).
"""

from __future__ import annotations

import json
import os
import threading
import time
from datetime import UTC, datetime
from typing import Any, Protocol

EVENT_BYTES = 4096
CELL_BYTES = 64 << 10  # of streams that a cell's events repeat; all of it is in the output anyway
BURST = 20
EVENTS_PER_SECOND = 4.0
KEPT_BYTES = 1 << 20  # of streams that a notebook keeps for a cell


class Keeper(Protocol):
    """Writes the notebook as it is to where it is kept."""

    def between_cells(self, document: Any, *, at_once: bool = False) -> None:
        """Write it, unless that takes too much of the time."""

    def at_end(self, document: Any) -> None:
        """Write it."""


class CellTimedOut(Exception):
    """A cell took longer than it may; `exit_code` is what this process shall end with."""

    exit_code = 124

    def __init__(self, index: int, seconds: float) -> None:
        self.seconds = seconds
        super().__init__(f"cell {index + 1} was interrupted: it took longer than {seconds:g} s")


def cell_timeout() -> float | None:
    """Return how many seconds a cell may take, as the run's worker says it."""
    said = os.environ.get("JOBKIT_CELL_TIMEOUT")
    return float(said) if said else None


def is_stop(name: str) -> bool:
    """Say whether an exception of this name ends a notebook early and well: `jobkit.stop()`."""
    return name == "StopRun"


class Narrator:
    """Writes to the descriptors of the process; any thread may call it.

    A stream that is written to often is told in fewer events: some at once, then four a second.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._at_line_start = True
        self._cell: dict[str, Any] = {}
        self._started_at = time.monotonic()
        self._pending = ("", "")
        self._left = CELL_BYTES
        self._allowance, self._counted_at = float(BURST), time.monotonic()

    def start(self, cell: dict[str, Any], index: int, of: int) -> None:
        """Tell that a cell starts."""
        with self._lock:
            self._cell = {"id": cell["id"], "index": index, "of": of}
            self._left = CELL_BYTES
            self._started_at = time.monotonic()
            self._tell("start", text=_cut(cell["source"]))

    def stream(self, name: str, text: str) -> None:
        """Pass on what the cell writes to `stdout` or `stderr`."""
        with self._lock:
            self._write(2 if name == "stderr" else 1, text)
            if self._pending[0] != name:
                self._flush()
            if self._left > 0:
                self._pending = (name, _cut(self._pending[1] + text))
            if self._at_line_start and self._pending[1] and self._may_tell():
                self._flush()

    def output(self, what: str, text: str) -> None:
        """Pass on a display, a result or an error (its traceback, which goes to stderr)."""
        with self._lock:
            self._flush()
            ended = "" if text.endswith("\n") or not text else "\n"
            self._write(2 if what == "error" else 1, text + ended)
            self._tell("output", output=what, text=_cut(text))

    def skip(self, cell: dict[str, Any], index: int, of: int) -> None:
        """Tell that a cell is not run: it says so itself."""
        with self._lock:
            self._cell = {"id": cell["id"], "index": index, "of": of}
            self._tell("skip", text=_cut(cell["source"]))

    def end(self, ok: bool) -> None:
        """Tell that the cell has ended, and whether well."""
        with self._lock:
            self._flush()
            self._tell("end", ok=ok, seconds=round(time.monotonic() - self._started_at, 3))

    def kept(self, **facts: Any) -> None:
        """Tell that the kernel is kept, and where."""
        with self._lock:
            self._tell("kept", **facts)

    def _flush(self) -> None:
        name, text = self._pending
        self._pending = ("", "")
        if text:
            self._left -= len(text)
            self._tell("output", output=name, text=text)

    def _may_tell(self) -> bool:
        now = time.monotonic()
        self._allowance += (now - self._counted_at) * EVENTS_PER_SECOND
        self._allowance, self._counted_at = min(self._allowance, float(BURST)), now
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _tell(self, kind: str, **more: Any) -> None:
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        event = {**self._cell, "kind": kind, **more, "at": at}
        line = "::cell " + json.dumps(event, ensure_ascii=False) + "\n"
        self._write(1, line if self._at_line_start else "\n" + line)

    def _write(self, descriptor: int, text: str) -> None:
        if text:
            data = text.encode("utf-8", "backslashreplace")
            self._at_line_start = text.endswith("\n")
            while data:
                data = data[os.write(descriptor, data) :]


def _cut(text: str) -> str:
    data = text.encode("utf-8", "backslashreplace")
    return data[:EVENT_BYTES].decode("utf-8", "ignore") if len(data) > EVENT_BYTES else text
