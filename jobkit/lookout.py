"""Lookout: which of some runs have ended, asked again whenever somebody commits."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobkit import live
from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.live import LiveCard
from jobkit.run import run_of
from jobkit.store import history
from jobkit.wakeups import Alarm, Watch

if TYPE_CHECKING:
    from jobkit.kit import Kit
    from jobkit.run import Run

AWAY_SECONDS = 30.0
"""So long a database that has answered before may be away until that is an error."""
POLL_SECONDS = 2.0
PAINT_SECONDS = 1.0
"""How often a card is painted while nothing is committed: it shows elapsed seconds."""
REST = 4
"""After a look that took so long, this many times as long passes before the next."""
LONGEST_REST_SECONDS = 0.25
MOST_CARDS = 5
"""Of what is awaited at the same time, so many have a card."""


class Lookout:
    """One statement and one connection that listens, however many runs are waited for."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watch = Watch(database)
        self._answered_at: float | None = None
        self._rest = 0.0

    def __enter__(self) -> Lookout:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection that listens."""
        self._watch.close()

    def ended(self, run_ids: Sequence[int]) -> list[Any]:
        """Return the rows of those that have ended; none while the database is away for short."""
        began = self._database.clock.elapsed()
        try:
            with self._database.read() as connection:
                rows = history.ended_among(connection, run_ids)
        except DatabaseUnavailable:
            if self._answered_at is None or began - self._answered_at > AWAY_SECONDS:
                raise
            self._rest = LONGEST_REST_SECONDS
            return []
        self._answered_at = self._database.clock.elapsed()
        self._rest = min(REST * (self._answered_at - began), LONGEST_REST_SECONDS)
        return rows

    def pause(self, stop: threading.Event, seconds: float) -> None:
        """Wait for a commit or `stop`, `seconds` at most, and so long that looks cost little."""
        rest = min(self._rest, seconds)
        if rest > 0 and self._database.clock.wait(stop, rest):
            return
        self._watch.wait(stop, seconds - rest)


@dataclass
class Waiter:
    """Somebody who awaits a run: the future, and the card in the cell that does."""

    run: Run
    future: Future[Run]
    card: LiveCard | None
    context: contextvars.Context

    def paint(self) -> None:
        """Paint the card; in the context that began it, by which a kernel knows its cell."""
        if self.card is not None:
            self.context.run(self.card.paint)

    def end(self, *notes: str) -> None:
        """Paint the card for the last time."""
        if self.card is not None:
            self.context.run(self.card.end, *notes)

    def settle(self, run: Run | None, error: BaseException | None = None) -> None:
        """Tell that the run has ended, or why that will not be known."""
        with suppress(InvalidStateError):  # cancelled meanwhile
            if run is None:
                self.future.set_exception(error)
            else:
                self.end()
                self.future.set_result(run)


class Awaiting:
    """Runs that event loops wait for: one thread of our own looks for all, the loops go on."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._lock = threading.Lock()
        self._waiters: list[Waiter] = []
        self._is_looking = False
        self._changed = Alarm()

    def add(self, run: Run) -> Waiter:
        """Begin to look for a run; the future brings it as it has ended."""
        kit = self._kit
        future: Future[Run] = Future()
        card = None
        if sum(it.card is not None for it in self._waiters) < MOST_CARDS:
            card = live.begin(lambda *notes: kit.runs.card(run, *notes))
        waiter = Waiter(run, future, card, contextvars.copy_context())
        future.add_done_callback(lambda _: self._changed.set())
        with self._lock:
            self._waiters.append(waiter)
            if not self._is_looking:
                self._is_looking, self._changed = True, Alarm()
                threading.Thread(
                    target=self._look, args=[self._changed], name="jobkit-await", daemon=True
                ).start()
        self._changed.set()
        return waiter

    def _look(self, changed: Alarm) -> None:
        try:
            with closing(changed), Lookout(self._kit.database) as lookout:
                while True:
                    changed.clear()  # before it looks: who comes later rings again
                    if not (waiters := self._current()):
                        return
                    self._settle(lookout, waiters)
                    for waiter in waiters:
                        if not waiter.future.done():
                            waiter.paint()
                    cards = any(waiter.card is not None for waiter in waiters)
                    lookout.pause(changed, PAINT_SECONDS if cards else POLL_SECONDS)
        except BaseException as error:  # noqa: BLE001 - told to who waits, who would for ever
            with self._lock:
                left, self._waiters, self._is_looking = self._waiters, [], False
            for waiter in left:
                waiter.settle(None, error)

    def _current(self) -> list[Waiter]:
        """Return those who still wait; without one, this thread ends."""
        with self._lock:
            self._waiters = [waiter for waiter in self._waiters if not waiter.future.done()]
            self._is_looking = bool(self._waiters)
            return list(self._waiters)

    def _settle(self, lookout: Lookout, waiters: Sequence[Waiter]) -> None:
        rows = {row.id: row for row in lookout.ended([waiter.run.id for waiter in waiters])}
        for waiter in waiters:
            if (row := rows.get(waiter.run.id)) is not None:
                waiter.settle(run_of(self._kit, row))
