"""Kernels that are kept after a cell that failed, on the machine of their worker.

The attempt goes on while its kernel is kept: its lease is renewed, and all that ends an attempt
ends the kernel. Its slot is free meanwhile.
"""

from __future__ import annotations

import logging
import os
import shutil
import socket
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from difflib import unified_diff

from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.settings import Settings
from jobkit.store import claims, keepsakes, kernels
from jobkit.store.kernels import Kernel, Wish
from jobkit.text import duration, iso
from jobkit.wakeups import notify
from jobkit.worker.attempt import Attempt, Order
from jobkit.worker.paused import Paused
from jobkit.worker.spool import Report

log = logging.getLogger("jobkit.worker")

LOOK_SECONDS = 0.25
AGAIN_SECONDS = 1.0
ENDED_BY = {
    "timeout": "until its time was over",
    "let go": "until it was let go",
    "cancel": "until the run was cancelled",
    "release": "until its worker stopped",
    "memory": "until it used too much memory",
    "exit": "until it died",
    "lost": "until it was killed",
}


class Vigil:
    """Watches over the kernel of one attempt that has failed; `report` is what it came to."""

    def __init__(
        self,
        attempt: Attempt,
        paused: Paused,
        report: Report,
        database: Database,
        settings: Settings,
    ) -> None:
        self.attempt = attempt
        self._paused = paused
        self._report = report
        self._database = database
        self._settings = settings
        self._wish: Wish | None = None
        self._is_begun = False
        self.handed_on: Paused | None = None
        """What the next attempt goes on with."""

    def begin(self) -> bool:
        """Write down that the kernel is kept; says whether it may be.

        While tries are left the run is tried again instead.
        """
        now = self._database.clock.now()
        kernel = self._kernel(now + self.attempt.kept_for)
        self._paused.child.give(self.attempt.kept_for)
        pause = 0.0
        while not self._paused.child.idle(pause):
            try:
                return self._write(kernel)
            except DatabaseUnavailable as error:
                log.warning("run %d: its kernel waits. %s", self.attempt.key[0], error)
                pause = AGAIN_SECONDS
        return False

    def wish(self, wish: Wish) -> None:
        """Hear what is asked of the kernel; called from any thread."""
        self._wish = wish

    def watch(self) -> Order | None:
        """Wait until it is asked to go on: the order of the next attempt. None when it ended."""
        pause = LOOK_SECONDS
        while not self._paused.child.idle(pause):
            pause = LOOK_SECONDS
            wish, self._wish = self._wish, None
            if wish is None:
                continue
            if wish.what == "let go":
                self._paused.child.kill("let go")
            elif (order := self._go_on(wish)) is not None:
                return order
            else:
                pause = AGAIN_SECONDS
        return None

    def end(self) -> Report | None:
        """End it if it lives, clear up, and say what it came to; None when the run is not ours."""
        paused, report = self._paused, self._report
        paused.child.kill("let go")
        outcome = paused.child.ended(paused.outcome)
        paused.stack.close()
        self._remove_folder()
        if self._is_begun:
            self._say_ended()
        if outcome.ended_by == "lease":
            return None
        measures = {"cpu_seconds": outcome.cpu_seconds, "max_rss_bytes": outcome.max_rss_bytes}
        result = replace(report.result, measures={**report.result.measures, **measures})
        return replace(report, result=replace(result, error=self._explain(outcome.ended_by)))

    def _say_ended(self) -> None:
        cell = _number(self._paused.facts.get("index")) + 1
        with suppress(DatabaseUnavailable), self._database.write() as connection:
            kernels.say_ended(connection, self._report.claim, cell)

    def _explain(self, ended_by: str) -> str:
        error = self._report.result.error
        if not self._is_begun:
            return error
        until = ENDED_BY.get(ended_by, "until it ended")
        return f"{error}; its kernel was kept {until}"

    def _write(self, kernel: Kernel) -> bool:
        report, claim = self._report, self._report.claim
        result = report.result
        assert result.started_at is not None
        with self._database.write() as connection:
            self._is_begun = kernels.keep(
                connection,
                claim,
                kernel,
                started_at=result.started_at,
                failed_at=result.finished_at,
                measures=result.measures,
                text=f"failed at cell {kernel.cell}, kernel kept until {_clock(kernel.kept_until)}",
            )
            if self._is_begun:
                now = self._database.clock.now()
                claims.add_output(connection, [(claim, report.chunks)])
                keepsakes.add_artifacts(connection, [(report.key, report.artifacts)], now)
                if report.packages is not None:
                    keepsakes.add_packages(connection, [report.packages], now)
                if report.script is not None:
                    keepsakes.add_scripts(connection, [report.script], now)
                notify(connection)
        if self._is_begun:
            log.info(
                "run %d: its kernel is kept for %s", claim.run_id, duration(self.attempt.kept_for)
            )
        return self._is_begun

    def _kernel(self, until: datetime) -> Kernel:
        facts = self._paused.facts
        pid = facts.get("pid")
        return Kernel(
            hostname=socket.gethostname(),
            process_id=pid if isinstance(pid, int) else None,
            connection_file=str(facts.get("connection_file")),
            cell=_number(facts.get("index")) + 1,
            cells=_number(facts.get("of")),
            source=str(facts.get("source", "")),
            error=self._report.result.error,
            kept_until=until,
        )

    def _go_on(self, wish: Wish) -> Order | None:
        """End the attempt and begin the next one; None when that cannot be done, or not now."""
        clock = self._database.clock
        # From here on the next attempt answers for the child: a heartbeat that still asks for this
        # one would end it. Were the lease lost, the host would end it at its own deadline.
        self.attempt.detach()
        asked_at = clock.elapsed()
        try:
            with self._database.write() as connection:
                now = clock.now()
                claim = kernels.go_on(connection, self._report.claim, now, self._settings.lease)
                notify(connection)
        except DatabaseUnavailable as error:
            log.warning("run %d does not go on yet. %s", wish.run_id, error)
            claim, self._wish = None, wish
        if claim is None:
            self.attempt.attach(self._paused.child)
            return None
        self.handed_on = self._corrected(wish, now)
        return self.attempt.followed_by(claim, asked_at)

    def _corrected(self, wish: Wish, now: datetime) -> Paused:
        paused, source = self._paused, str(self._paused.facts.get("source", ""))
        diff = unified_diff(
            source.splitlines(), wish.correction.splitlines(), "before", "after", lineterm=""
        )
        edit = {
            "cell": _number(paused.facts.get("index")) + 1,
            "attempt": wish.attempt,
            "by": wish.by,
            "at": iso(now),
            "diff": "\n".join(diff),
        }
        return replace(paused, edits=(*paused.edits, edit), correction=wish.correction)

    def _remove_folder(self) -> None:
        """Remove what a runner left that was killed."""
        folder = self._paused.folder
        if folder.name.startswith(f"jobkit-{os.getpid()}-"):
            shutil.rmtree(folder, ignore_errors=True)


def _clock(until: datetime) -> str:
    return f"{until:%H:%M:%S} UTC"


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
