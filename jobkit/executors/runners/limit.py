"""A limit of time for what the main thread executes: it is interrupted, and at last given up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

AGAIN_SECONDS = 1.0
"""After which an interrupt that ended nothing is repeated."""
GIVE_UP_SECONDS = 5.0
"""How long what was interrupted may take to end."""


class Limit:
    """Lets KeyboardInterrupt be raised in the main thread after some seconds, and each second.

    `give_up` is called, in another thread, when that ends nothing: code may swallow the interrupt
    or sit in a library. Code that holds Python's lock keeps that thread from running, too.
    """

    def __init__(self, seconds: float, give_up: Callable[[], None]) -> None:
        self._seconds = seconds
        self._give_up = give_up
        self._is_over = threading.Event()
        self._raises = False
        self.is_late = False
        """Whether an interrupt was raised."""

    def begin(self) -> None:
        """Count from now on."""
        self._raises = True
        signal.signal(signal.SIGINT, self._interrupted)
        threading.Thread(target=self._watch, daemon=True).start()

    def end(self) -> None:
        """Let nothing be raised any more, also of a signal that is on its way."""
        self._raises = False
        self._is_over.set()

    def _interrupted(self, *_: Any) -> None:
        if self._raises:
            self.is_late = True
            raise KeyboardInterrupt

    def _watch(self) -> None:
        if self._is_over.wait(self._seconds):
            return
        for _ in range(round(GIVE_UP_SECONDS / AGAIN_SECONDS)):
            _interrupt()
            if self._is_over.wait(AGAIN_SECONDS):
                return
        self._give_up()


def _interrupt() -> None:
    """Interrupt the main thread; where the system can, what sleeps or reads in it wakes up."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)  # type: ignore[arg-type]
    else:
        signal.raise_signal(signal.SIGINT)
