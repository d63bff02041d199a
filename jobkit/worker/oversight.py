"""Oversight: a worker sees that no scheduler is there, which no scheduler can say."""

from __future__ import annotations

import logging
import threading

from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.evaluation import is_scheduler_away, look_for_scheduler
from jobkit.notify import Postman, channels
from jobkit.settings import Settings

log = logging.getLogger("jobkit.worker")

LOOK_SECONDS = 30.0
STOP_SECONDS = 2.0


class Oversight:
    """Looks for a scheduler now and then, on a thread of its own; without one it opens the alert.

    Its message waits for a scheduler, unless this worker's settings name the channels too: then it
    sends what waits for them.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="oversight", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        if self._settings.alert_no_scheduler:
            self._thread.start()

    def stop(self) -> None:
        """End; a try to send that goes on is not waited for."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def look(self) -> bool:
        """Look once; returns whether no scheduler is there. DatabaseUnavailable."""
        now = self._database.clock.now()
        with self._database.read() as connection:
            if not is_scheduler_away(connection, now, self._settings):
                return False
        with self._database.write() as connection:
            look_for_scheduler(connection, now, self._settings)
        self._send()
        return True

    def _send(self) -> None:
        postman = Postman(self._database, self._settings)
        for channel in channels(self._settings.notify_urls):
            while not self._stop.is_set() and postman.deliver(channel):
                pass

    def _run(self) -> None:
        # By no clock that can be turned: this thread would turn it for everybody.
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.look()
            except DatabaseUnavailable:
                pass  # the worker's own loop says so
            except Exception:
                log.exception("no look for a scheduler")
