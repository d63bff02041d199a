"""What an attempt prints on its way to the database, and the facts that its lines tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from jobkit.clock import Clock
from jobkit.executors.facts import Fact
from jobkit.store.claims import Chunk, Claim, Progress

WriteOutput = Callable[[Claim, Sequence[Chunk], Progress | None], bool]
MOST_METRICS = 1000


class Output:
    """Numbers the chunks of an attempt and hands them on; keeps those that nobody could take."""

    def __init__(self, claim: Claim, clock: Clock, write: WriteOutput) -> None:
        self._claim = claim
        self._clock = clock
        self._write = write
        self._next = 0
        self._kept: list[Chunk] = []
        self._progress: Progress | None = None
        self.metrics: dict[str, float] = {}
        self.result: Any = None
        self.stopped = ""
        """Why it ended early, as it said itself."""
        self._events = ""

    def add(self, text: str, stream: str) -> None:
        """Take a piece of output and write it if that can be done now; never raises."""
        self.keep(text, stream)
        if self._write(self._claim, self._kept, self._progress):
            self._kept, self._progress = [], None

    def keep(self, text: str, stream: str = "output") -> None:
        """Take a piece of output that is written later, with the result."""
        if text:
            self._events = text if stream == "cell" else self._events
            self._kept.append((self._next, self._clock.now(), text, stream))
            self._next += 1

    def learn(self, fact: Fact) -> None:
        """Take what a line tells; of progress, a metric or a result the last one counts."""
        if fact.kind == "progress":
            self._progress = fact.value, fact.text
        elif fact.kind == "result":
            self.result = fact.value
        elif fact.kind == "stop":
            self.stopped = fact.text
        elif fact.name in self.metrics or len(self.metrics) < MOST_METRICS:
            self.metrics[fact.name] = fact.value

    @property
    def cell(self) -> int | None:
        """The number, from 1, of the notebook's cell that was told of last; None when none was."""
        try:
            number = json.loads(self._events.rstrip().rpartition("\n")[2])["index"]
        except (ValueError, LookupError, TypeError, RecursionError):
            return None
        return number + 1 if isinstance(number, int) else None

    @property
    def kept(self) -> tuple[Chunk, ...]:
        """Chunks that are still to be written."""
        return tuple(self._kept)
