"""Answers to questions that cost much: kept for a while, and never asked twice at the same time.

While nothing was committed an answer is what it was. After a commit one that cost little is asked
for anew; one that cost much stays for a hundred times as long as it took, a minute at most, and is
shown with the time of which it is. Then it is asked for in the background once: who looks meanwhile
sees the one before.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from jobkit.clock import stopwatch

log = logging.getLogger("jobkit.portal")

CHEAP_SECONDS = 0.1
TIMES = 100
LONGEST_SECONDS = 60.0
STALE_SECONDS = 600.0
"""How old an answer may be that is shown while it is asked for anew."""
MOST_KEPT = 24
RENEWING = "portal-renewing"


@dataclass(frozen=True)
class _Answer:
    value: Any
    pulse: str
    at: float
    took: float


class Answers:
    """The last answers, by their question."""

    def __init__(self, *, most_kept: int = MOST_KEPT, stale_seconds: float = STALE_SECONDS) -> None:
        self.edition = 0
        """How often all was forgotten."""
        self._most_kept = most_kept
        self._stale_seconds = stale_seconds
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, _Answer] = OrderedDict()
        self._asking: dict[Hashable, threading.Lock] = {}

    def get(self, key: Hashable, pulse: Callable[[], str], ask: Callable[[], Any]) -> Any:
        """Return an answer; `pulse` says in which state the database is, `ask` asks it."""
        with self._lock:
            known = self._known.get(key)
            asking = self._asking.setdefault(key, threading.Lock())
        if known is not None and _is_good(known, pulse(), stopwatch()):
            return known.value
        if known is None or known.took < CHEAP_SECONDS or self._is_stale(known):
            return self._ask(key, asking, pulse, ask)
        if asking.acquire(blocking=False):
            asking.release()
            renewing = (key, asking, pulse, ask)
            threading.Thread(target=self._renew, args=renewing, name=RENEWING, daemon=True).start()
        return known.value

    def forget(self) -> None:
        """Ask for everything anew."""
        with self._lock:
            self._known.clear()
            self.edition += 1

    def _is_stale(self, known: _Answer) -> bool:
        return stopwatch() - known.at > self._stale_seconds

    def _forget(self, key: Hashable) -> None:
        """Drop a question that never had an answer: anybody may ask for jobs that are not there."""
        with self._lock:
            if key not in self._known:
                self._asking.pop(key, None)

    def _renew(self, *asked: Any) -> None:
        try:
            self._ask(*asked)
        except Exception:
            log.exception("an answer could not be renewed")

    def _ask(
        self,
        key: Hashable,
        asking: threading.Lock,
        pulse: Callable[[], str],
        ask: Callable[[], Any],
    ) -> Any:
        with asking:
            state, began = pulse(), stopwatch()
            with self._lock:
                known = self._known.get(key)
            if known is not None and _is_good(known, state, began):
                return known.value  # somebody asked while this one waited
            try:
                value = ask()
            except Exception:
                self._forget(key)
                raise
            with self._lock:
                self._known[key] = _Answer(value, state, stopwatch(), stopwatch() - began)
                self._known.move_to_end(key)
                while len(self._known) > self._most_kept:
                    self._asking.pop(self._known.popitem(last=False)[0], None)
            return value


def _is_good(known: _Answer, pulse: str, now: float) -> bool:
    kept = LONGEST_SECONDS if known.pulse == pulse else 0.0
    if known.took >= CHEAP_SECONDS:
        kept = max(kept, min(known.took * TIMES, LONGEST_SECONDS))
    return now - known.at < kept
