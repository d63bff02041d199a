"""Sends what is in the outbox, beside the loop of a scheduler: a thread for each channel."""

from __future__ import annotations

import logging
import random
import tempfile
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from jobkit import artifacts
from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable, JobkitError
from jobkit.notify.channels import Channel, channels
from jobkit.notify.undelivered import Undelivered
from jobkit.settings import Settings
from jobkit.store import keepsakes, notices

log = logging.getLogger("jobkit.notify")

LOOK_SECONDS = 5.0
STOP_SECONDS = 2.0
LEASE = timedelta(minutes=5)
"""More than any try takes: then whoever took the notice is dead, and another sends it."""
SERVE_EVERY = timedelta(hours=1)
LARGEST_FILE = 10_000_000
Send = Callable[[Channel, Any, datetime], None]


class Postman:
    """Sends to the channels of a scheduler's settings, each on a thread of its own.

    So a mail server that is slow delays neither a tick nor a chat. Of any number of schedulers one
    sends a notice; if it dies between sending and saying so, it is sent again.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings
        self._channels = channels(settings.notify_urls)
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(it,), name=f"notify-{it.name}", daemon=True)
            for it in self._channels
        ]

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, without waiting long for a try that goes on: it is another's after its lease."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(STOP_SECONDS)

    def deliver(self, channel: Channel, send: Send | None = None) -> bool:
        """Send the next notice of a channel; returns whether there was one.

        No transaction is open while it is sent. DatabaseUnavailable.
        """
        clock = self._database.clock
        with self._database.read() as connection:
            if not notices.is_due(connection, channel.name, clock.now()):
                return False
        with self._database.write() as connection:
            notice = notices.take(connection, channel.name, clock.now(), lease=LEASE)
        if notice is None:
            return False
        error = self._tried(channel, notice, send or self.send)
        with self._database.write() as connection:
            self._write_down(connection, notice, error)
        return True

    def send(self, channel: Channel, notice: Any, now: datetime) -> None:
        """Send a notice; Undelivered when it was not taken."""
        link = self._link(notice.run_id)
        if channel.is_webhook:
            from jobkit.notify import webhook

            webhook.send(channel, notice, now, self._settings, link)
            return
        from jobkit.notify import services

        with tempfile.TemporaryDirectory(prefix="jobkit-notice-") as folder:
            files = self._notebooks(notice.run_id, Path(folder)) if channel.is_mail else []
            services.send(channel, notice, link, files)

    def _tried(self, channel: Channel, notice: Any, send: Send) -> str | None:
        try:
            send(channel, notice, self._database.clock.now())
        except Undelivered as error:
            return str(error)
        except Exception as error:
            log.debug("a channel failed", exc_info=True)
            return f"{type(error).__name__} while it was sent"
        return None

    def _write_down(self, connection: Any, notice: Any, error: str | None) -> None:
        now, most = self._database.clock.now(), self._settings.notify_tries
        if error is None:
            notices.sent(connection, notice, now)
        elif notices.failed(connection, notice, now, random.Random(), error=error, most=most):  # noqa: S311
            log.warning("gave up %r to %s: %s", notice.subject, notice.channel, error)
        else:
            log.info("%r to %s waits for its next try: %s", notice.subject, notice.channel, error)

    def _link(self, run_id: int | None) -> str:
        if self._settings.portal_url is None:
            return ""
        base = self._settings.portal_url.rstrip("/")
        return base if run_id is None else f"{base}/runs/{run_id}"

    def _notebooks(self, run_id: int | None, folder: Path) -> Sequence[Path]:
        """Copy the notebook that the last attempt of a run executed, where it can be had."""
        if run_id is None:
            return []
        with self._database.read() as connection:
            kept = keepsakes.artifacts_of(connection, run_id, None)
        books = [it for it in kept if it.name.endswith(".ipynb") and it.size_bytes <= LARGEST_FILE]
        if not books:
            return []
        path = folder / Path(books[-1].name).name
        try:
            url = self._database.url.render_as_string(hide_password=False)
            store = artifacts.store_for(url, self._settings.artifacts_url)
            path.write_bytes(store.read(books[-1].url))
        except JobkitError as error:
            log.info("the notebook of run %d is not attached: %s", run_id, error)
            return []
        return [path]

    def _run(self, channel: Channel) -> None:
        clock = self._database.clock
        serve_at: datetime | None = None
        while not self._stop.is_set():
            try:
                now = clock.now()
                if serve_at is None or now >= serve_at:
                    with self._database.write() as connection:
                        notices.serve(connection, [channel.name], now)
                    serve_at = now + SERVE_EVERY
                if self.deliver(channel):
                    continue
            except DatabaseUnavailable:
                pass  # the scheduler's own loop says so
            clock.wait(self._stop, LOOK_SECONDS)
