"""The heartbeat: its own thread and its own connection, so that nothing else can delay it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.store import claims
from jobkit.store.claims import Renewal

log = logging.getLogger("jobkit.worker")

Held = list[tuple[int, int]]
HINT_SECONDS = 1.0


class Heartbeat:
    """Renews a worker's row and leases, and hands on what it learned."""

    def __init__(
        self,
        database: Database,
        *,
        worker_id: str,
        every: timedelta,
        lease: timedelta,
        standing: Callable[[], tuple[Held, str, int]],
        learned: Callable[[Held, Renewal, float], None],
    ) -> None:
        # `standing` says what is held, the worker's status and how many runs it has processed;
        # `learned` takes what was asked for, what was renewed and when that was asked.
        self._database = database
        self._worker_id = worker_id
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
            held, status, processed = self._standing()
            renewal = claims.renew(
                connection,
                clock.now(),
                worker_id=self._worker_id,
                lease=self._lease,
                held=held,
                status=status,
                processed=processed,
            )
        self._learned(held, renewal, asked_at)

    def _run(self) -> None:
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
