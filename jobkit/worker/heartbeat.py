"""The heartbeat: its own thread and its own connection, so that nothing else can delay it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from jobkit import logs
from jobkit.clock import ahead_of
from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.store import claims
from jobkit.store.claims import Renewal

log = logging.getLogger("jobkit.worker")

Held = list[tuple[int, int]]


@dataclass(frozen=True)
class Standing:
    """What a worker says of itself with each beat."""

    worker_id: str
    held: Held
    status: str
    processed: int
    """How many runs it has ended."""


HINT_SECONDS = 1.0


class Heartbeat:
    """Renews a worker's row and leases, and hands on what it learned."""

    def __init__(
        self,
        database: Database,
        *,
        every: timedelta,
        lease: timedelta,
        standing: Callable[[], Standing],
        learned: Callable[[Standing, Renewal, float], None],
    ) -> None:
        # `learned` takes what was asked for, what was renewed and when that was asked.
        self._database = database
        self._every = every.total_seconds()
        self._lease = lease
        self._standing = standing
        self._learned = learned
        self._stop = threading.Event()
        self._hint = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def hint(self) -> None:
        """Beat soon, within a second: what the worker holds has changed."""
        self._hint.set()

    def stop(self) -> None:
        """End the thread and close its connection."""
        self._stop.set()
        self._hint.set()
        self._thread.join()
        self._database.close()

    def beat(self) -> None:
        """Renew once; raises DatabaseUnavailable.

        The lease counts from before the statement was sent: the database may not count from later.
        """
        clock = self._database.clock
        with self._database.write() as connection:
            asked_at = clock.elapsed()
            said, now = self._standing(), clock.now()
            renewal = claims.renew(
                connection,
                now,
                worker_id=said.worker_id,
                lease=self._lease,
                held=said.held,
                status=said.status,
                processed=said.processed,
                clock_ahead=round(ahead_of(now), 3),
            )
        self._learned(said, renewal, asked_at)

    def _run(self) -> None:
        with logs.about(worker=self._standing().worker_id):
            self._beat_on()

    def _beat_on(self) -> None:
        clock = self._database.clock
        while not self._stop.is_set():
            began = clock.elapsed()
            try:
                self.beat()
                pause = self._every
            except DatabaseUnavailable as error:
                log.warning("no heartbeat: %s", error)
                pause = min(self._every, 1.0)
            clock.wait(self._hint, pause)
            clock.wait(self._stop, began + HINT_SECONDS - clock.elapsed())
            self._hint.clear()
