"""Live cards: what a notebook shows while one waits, as long as there is a notebook to show it.

A card is displayed once and then updated, four times a second at most; what stays in the saved
notebook is its last state. Nothing is shown in a terminal, or from a thread of one's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from jobkit.cards import Card
from jobkit.clock import stopwatch
from jobkit.ipython import shell

PAUSE_SECONDS = 0.25

_shown: tuple[int, set[int]] = (0, set())
"""The number of a cell's execution, and the runs whose final card it shows."""


def kernel() -> Any:
    """Return the IPython of the kernel that executes a cell in this thread; None elsewhere."""
    found = shell()
    has_kernel = getattr(found, "kernel", None) is not None
    is_main = threading.current_thread() is threading.main_thread()
    return found if has_kernel and is_main else None


def begin(read: Callable[..., Card]) -> LiveCard | None:
    """Show a card in the cell that is executed; None where there is no notebook.

    `read` returns the card as it is now, with the notes that it is given below it.
    """
    return None if kernel() is None else LiveCard(read)


class LiveCard:
    """A card that is displayed and goes on changing until it ends."""

    def __init__(self, read: Callable[..., Card]) -> None:
        from IPython.display import display

        self._read = read
        self._lock = threading.Lock()
        self._has_ended = False
        self._bundle = read().bundle
        self._painted_at = stopwatch()
        self._handle: Any = display(self._bundle, raw=True, display_id=True)

    def paint(self) -> None:
        """Show how it stands now, unless that was just done."""
        with self._lock:
            if not self._has_ended and stopwatch() - self._painted_at >= PAUSE_SECONDS:
                self._paint(self._read().bundle)

    def end(self, *notes: str) -> None:
        """Show the last state, with notes on how it came to that; it stays so."""
        with self._lock:
            if not self._has_ended:
                self._has_ended = True
                self._paint(self._read(*notes).bundle)

    def _paint(self, bundle: dict[str, str]) -> None:
        self._painted_at = stopwatch()
        if bundle != self._bundle:
            self._bundle = bundle
            self._handle.update(bundle, raw=True)


def note_shown(run_id: int) -> None:
    """Remember that the cell that is executed shows a run's last state."""
    global _shown
    found = kernel()
    if found is not None:
        number, runs = _shown
        known = runs if number == found.execution_count else set()
        _shown = (found.execution_count, known | {run_id})


def is_shown(run_id: int) -> bool:
    """Whether the cell that is executed shows a run's last state already."""
    found = kernel()
    return found is not None and _shown[0] == found.execution_count and run_id in _shown[1]
