"""The watchdog: shuts a connection that answers nobody, so that whoever waits for it goes on."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from jobkit.clock import stopwatch


class Watchdog:
    """Watches connections while they are used.

    A connection whose other end is gone without a word stays open for ever: keepalives answer to
    the nearest kernel, and the server's timeouts end with the server. Shutting the socket from
    another thread is what ends the wait, with an error that the waiting thread can act on.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._deadlines: dict[object, tuple[float, int]] = {}
        self._thread: threading.Thread | None = None
        self._wakes_at = float("-inf")

    @contextmanager
    def guard(self, fileno: int, seconds: float) -> Iterator[None]:
        """Shut the socket if the block takes longer than so many seconds."""
        ticket, late_at = object(), stopwatch() + seconds
        with self._changed:
            self._deadlines[ticket] = (late_at, fileno)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
                self._thread.start()
            elif late_at < self._wakes_at:
                self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._deadlines.pop(ticket, None)

    def _watch(self) -> None:
        with self._changed:
            while True:
                first = min((at for at, _ in self._deadlines.values()), default=float("inf"))
                self._wakes_at = first
                self._changed.wait(max(0.0, first - stopwatch()) if self._deadlines else None)
                self._shut_late_ones()

    def _shut_late_ones(self) -> None:
        # Under the lock: a socket that is used no longer may by now be somebody else's.
        now = stopwatch()
        for ticket, (at, fileno) in list(self._deadlines.items()):
            if at <= now:
                del self._deadlines[ticket]
                _shut(fileno)


def _shut(fileno: int) -> None:
    with suppress(OSError):
        opened = socket.socket(fileno=fileno)
        try:
            opened.shutdown(socket.SHUT_RDWR)
        finally:
            opened.detach()
