"""A check at work: what it looks at, and how long it may take."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from jobkit.clock import stopwatch
from jobkit.db import Database
from jobkit.doctor.finding import OK, PROBLEM, WARNING, Finding
from jobkit.errors import JobkitError
from jobkit.settings import Settings

log = logging.getLogger("jobkit.doctor")

LIMIT_SECONDS = 12.0  # a server that does not answer says so itself after 10


@dataclass(frozen=True)
class Patient:
    """What is examined: an installation as this machine sees it."""

    settings: Settings
    now: datetime
    """By the clock of this machine."""
    database: Database | None = None
    """None as long as nobody knows whether it answers."""

    @property
    def opened(self) -> Database:
        """The database, for checks that come after it has answered."""
        assert self.database is not None
        return self.database


Look = Callable[[Patient], Iterable[Finding]]


@dataclass(frozen=True)
class Check:
    """One thing to look at."""

    name: str
    look: Look

    def ok(self, words: str) -> Finding:
        """Say that all is well."""
        return Finding(self.name, OK, words)

    def warning(self, words: str, advice: str) -> Finding:
        """Say what may become a problem, or slows things down."""
        return Finding(self.name, WARNING, words, advice)

    def problem(self, words: str, advice: str) -> Finding:
        """Say what is wrong."""
        return Finding(self.name, PROBLEM, words, advice)


def check(name: str) -> Callable[[Callable[[Check, Patient], Iterator[Finding]]], Check]:
    """Make a check of a function, which is handed the check to make findings with."""

    def made(look: Callable[[Check, Patient], Iterator[Finding]]) -> Check:
        made_: Check = Check(name, lambda patient: look(made_, patient))
        return made_

    return made


def run(
    checks: Sequence[Check], patient: Patient, *, limit: float = LIMIT_SECONDS
) -> list[Finding]:
    """Run checks side by side; all have ended, or are given up, after so many seconds."""
    running = [_Running(each, patient) for each in checks]
    until = stopwatch() + limit
    for each in running:
        each.thread.join(max(0.0, until - stopwatch()))
    return [finding for each in running for finding in each.findings(limit)]


class _Running:
    """A check in a thread of its own, which nobody waits for once it is late."""

    def __init__(self, of: Check, patient: Patient) -> None:
        self._check = of
        self._patient = patient
        self._found: list[Finding] | None = None
        self.thread = threading.Thread(target=self._run, name=f"doctor: {of.name}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self._found = list(self._check.look(self._patient))
        except JobkitError as error:
            self._found = [self._check.problem(error.message, error.hint)]
        except Exception as error:
            log.debug("%s", self._check.name, exc_info=True)
            said = f"This could not be looked at: {type(error).__name__}: {error}"
            self._found = [self._check.problem(said, "See what it says; the other checks go on.")]

    def findings(self, limit: float) -> list[Finding]:
        if self._found is None:
            said = f"This gave no answer within {limit:g} s."
            return [self._check.problem(said, "Look whether a disk, a server or a program hangs.")]
        return self._found
