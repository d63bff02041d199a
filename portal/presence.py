"""Who was let in a moment ago: a poll does not ask the database each time whose session it is."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import jobkit
from jobkit import passwords
from jobkit.clock import stopwatch

GOOD_SECONDS = 15.0
"""After so long the database is asked anyway: a session also ends by the clock."""
OLD_SECONDS = 5.0
"""How long a poll is still let in by a session that another program ended."""
MOST_KEPT = 2000


@dataclass(frozen=True)
class _Known:
    who: jobkit.Principal
    pulse: str
    at: float


class Presence:
    """Whose sessions are, as they were known last. Nothing is kept of those that are none.

    While nothing was committed a session is what it was. After a commit the database is asked
    again, by a poll only after some seconds.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._turn = 0

    def who(
        self,
        secret: str,
        pulse: str,
        ask: Callable[[], jobkit.Principal | None],
        *,
        may_be_old: bool,
    ) -> jobkit.Principal | None:
        """Return whose session it is; None when it has ended.

        `pulse`: of the database, read before; `ask`: what asks it; `may_be_old`: whether an answer
        will do that some seconds ago was right.
        """
        key, now = passwords.fingerprint(secret), stopwatch()
        with self._lock:
            known, turn = self._known.get(key), self._turn
        if known is not None and _is_good(known, pulse, now, may_be_old=may_be_old):
            return known.who
        found = ask()
        with self._lock:
            if found is None:
                self._known.pop(key, None)
            elif turn == self._turn:  # else it may have been ended while it was asked for
                self._known[key] = _Known(found, pulse, now)
                self._known.move_to_end(key)
                while len(self._known) > MOST_KEPT:
                    self._known.popitem(last=False)
        return found

    def forget(self) -> None:
        """Ask the database of everybody again."""
        with self._lock:
            self._turn += 1
            self._known.clear()


def _is_good(known: _Known, pulse: str, now: float, *, may_be_old: bool) -> bool:
    age = now - known.at
    return age < GOOD_SECONDS if known.pulse == pulse else may_be_old and age < OLD_SECONDS
