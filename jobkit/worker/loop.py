"""The worker's loop: claim for free slots, execute, deliver, and stop gracefully."""

from __future__ import annotations

import logging
import os
import platform
import random
import socket
import threading
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from sqlalchemy.engine import Connection

from jobkit import logs
from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.executors.sweep import sweep_dead_workers
from jobkit.settings import Settings
from jobkit.store import claims, kernels, workers
from jobkit.store.claims import Chunk, Claim, Progress, Renewal
from jobkit.wakeups import Alarm, Watch
from jobkit.worker.attempt import Attempt, Order
from jobkit.worker.claiming import Claiming
from jobkit.worker.delivery import Delivery
from jobkit.worker.heartbeat import Heartbeat, Standing
from jobkit.worker.keeping import Vigil
from jobkit.worker.oversight import Oversight
from jobkit.worker.paused import Paused
from jobkit.worker.spool import Report, Spool
from jobkit.worker.workshop import Workshop

log = logging.getLogger("jobkit.worker")

FULL_SECONDS = 0.2
OUTPUT_PAUSE_SECONDS = 5.0
REGISTER_SECONDS = 1.0


@dataclass(frozen=True)
class Doings:
    """What a worker did since it began, and what it holds."""

    slots: int
    busy: int
    """Slots in which something runs."""
    begun: int
    """Attempts that it took on."""
    ended: dict[str, int]
    """Attempts by their status; LOST: the lease ran out here, and nothing was written."""


class Worker:
    """Executes runs of its queues, `slots` at a time, until it is told to stop.

    `until_idle`: end by itself as soon as nothing waits and nothing runs.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        *,
        name: str | None = None,
        until_idle: bool = False,
    ) -> None:
        self.database = database
        self.settings = settings
        self._name = name or socket.gethostname()
        self._claiming = Claiming(database, settings, self._fresh_id())
        self._until_idle = until_idle
        spread = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._delivery = Delivery(database, spread, self._take_next, self._count_end)
        self._lock = threading.Lock()
        self._begun = 0
        self._ended: Counter[str] = Counter()
        self._held: dict[tuple[int, int], Attempt] = {}
        self._vigils: dict[tuple[int, int], Vigil] = {}
        self._threads: set[threading.Thread] = set()
        self.ready = threading.Event()
        self._wake = Alarm()
        self._stopping = threading.Event()
        self._hurry = threading.Event()
        self._draining = False
        self._is_struck_off = False
        self._processed = 0
        self._output_again_at = 0.0
        url = database.url.render_as_string(hide_password=False)
        self._workshop = Workshop(settings, url)
        self._spool = Spool(settings.spool_dir.expanduser(), url)
        self._oversight = Oversight(database, settings)
        self._heartbeat = Heartbeat(
            Database(url),
            every=settings.worker_heartbeat_interval,
            lease=settings.lease,
            standing=self._standing,
            learned=self._learned,
        )

    # What others call

    @property
    def worker_id(self) -> str:
        """The identity that it is registered under; another one after its row was deleted."""
        return self._claiming.worker_id

    def doings(self) -> Doings:
        """Return what it did since it began, and what it holds; any thread may ask."""
        with self._lock:
            busy = len(self._held) - len(self._vigils)
            return Doings(self.settings.slots, busy, self._begun, dict(self._ended))

    def run(self) -> None:
        """Register, work until told to stop, give back what still runs, sign off.

        1. End what a dead worker of this machine left running.
        2. Register, and begin to beat.
        3. Deliver results that an earlier worker had to keep.
        4. Claim and execute until told to stop.
        5. Let runs end within the grace, then give them back.
        6. Deliver what is left, and sign off.
        """
        sweep_dead_workers()
        self._workshop.tidy()
        self._register()
        if self._stopping.is_set():
            return
        self._heartbeat.start()
        self._oversight.start()
        watch = Watch(self.database)
        threading.Thread(target=self._workshop.nursery.warm_up, name="warm-up", daemon=True).start()
        self.ready.set()
        try:
            while not self._is_over():
                if self._is_struck_off:
                    self._register_again()
                self._deliver_kept()
                seconds = self.step()
                self._workshop.nursery.tidy()
                if self._free <= 0:
                    # With no slot free a commit can only bring a wish; a moment gathers many.
                    self.database.clock.wait(self._wake, FULL_SECONDS)
                watch.wait(self._wake, seconds)
                self._wake.clear()
        finally:
            watch.close()
            self._wake.close()
            self._oversight.stop()
            self._wind_down()

    def stop(self) -> None:
        """First call: stop claiming and let runs end. Second call: give them back at once."""
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()
        self._wake.set()

    def step(self) -> float:
        """Look once, claim for the free slots; return the seconds to wait when nothing wakes us."""
        poll = self.settings.worker_poll_interval.total_seconds()
        try:
            if self._is_holding and self._claiming.is_wished():
                self._heartbeat.hint()
            self._hear_wishes()
            if self._free <= 0 or self._draining:
                return poll
            for queue in self._claiming.due():
                if (free := self._free) > 0:
                    for order in self._claiming.take(queue, free):
                        self._begin(order)
            return self._claiming.until_next(poll) if self._free > 0 else poll
        except DatabaseUnavailable as error:
            log.warning("%s Trying again.", error)
            return min(poll * 2, self.settings.worker_max_poll_interval.total_seconds())

    # Claiming

    @property
    def _free(self) -> int:
        with self._lock:  # who keeps a kernel occupies no slot
            return self.settings.slots - len(self._held) + len(self._vigils)

    @property
    def _is_holding(self) -> bool:
        with self._lock:
            return bool(self._held)

    def _is_over(self) -> bool:
        if self._stopping.is_set():
            return True
        is_idle = not self._is_holding
        if self._draining:
            return is_idle
        return self._until_idle and is_idle and self._finds_nothing()

    def _finds_nothing(self) -> bool:
        try:
            return not self._claiming.due()
        except DatabaseUnavailable:
            return False

    def _take_next(self, connection: Connection, limit: int) -> list[Order]:
        """Claim, with the results that free their slots, what these slots execute next."""
        if self._stopping.is_set() or self._draining or self._is_struck_off:
            return []
        return self._claiming.take_next(connection, limit)

    # Executing

    def _begin(self, order: Order) -> None:
        attempt = self._hold(order)
        thread = threading.Thread(target=self._serve, args=(attempt,), name="slot", daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()

    def _hold(self, order: Order, resumed: Paused | None = None) -> Attempt:
        clock = self.database.clock
        attempt = Attempt(order, self._workshop, self.settings, clock, self._write_output, resumed)
        with self._lock:
            self._held[attempt.key] = attempt
            self._begun += 1
        self._heartbeat.hint()
        return attempt

    def _serve(self, first: Attempt) -> None:
        """Be one slot: execute an attempt, and each that its end brings."""
        attempt: Attempt | None = first
        while attempt is not None:
            attempt = self._execute(attempt)
        with self._lock:
            self._threads.discard(threading.current_thread())
        self._wake.set()

    def _execute(self, attempt: Attempt) -> Attempt | None:
        """Execute an attempt and hand in its result; return what its slot was given instead."""
        run_id, number = attempt.key
        ids = {"run_id": run_id, "attempt": number, "job": attempt.job, "worker": self.worker_id}
        with logs.about(**ids):
            log.debug("run %d, attempt %d: begins", run_id, number)
            report = self._executed(attempt)
            if report is not None:
                _tell(report)
            if report is not None and attempt.paused is not None:
                return self._keep(attempt, attempt.paused, report)
            return self._settle(attempt, report)

    def _settle(
        self, attempt: Attempt, report: Report | None, *, frees_slot: bool = True
    ) -> Attempt | None:
        if report is None:
            log.warning("run %d, attempt %d: the lease is lost; nothing is written", *attempt.key)
            self._count("LOST")
            self._let_go(attempt.key)
            return None
        is_settled, order = self._hand_in(report, frees_slot=frees_slot)
        # Held before the other is let go: no slot looks free meanwhile.
        following = self._hold(order) if order is not None else None
        if is_settled:
            self._let_go(attempt.key)
        else:
            self._spool.keep(report)
        return following

    def _executed(self, attempt: Attempt) -> Report | None:
        try:
            return attempt.execute()
        except Exception:
            # What we cannot explain we do not report: the lease runs out, and the run is rescued.
            log.exception("run %d, attempt %d: given up", *attempt.key)
            attempt.end("lease", timedelta(0))
            return None

    def _keep(self, attempt: Attempt, paused: Paused, report: Report) -> Attempt | None:
        """Keep the kernel of an attempt that failed; return the attempt that it goes on by."""
        vigil = Vigil(attempt, paused, report, self.database, self.settings)
        order, is_kept = None, False
        try:
            if not (self._stopping.is_set() or self._draining) and vigil.begin():
                is_kept = True
                with self._lock:
                    self._vigils[attempt.key] = vigil
                self._wake.set()
                order = vigil.watch()
        except Exception:
            log.exception("run %d: its kernel is given up", attempt.key[0])
        following = self._hold(order, vigil.handed_on) if order is not None else None
        with self._lock:
            self._vigils.pop(attempt.key, None)
        if following is None:
            return self._settle(attempt, vigil.end(), frees_slot=not is_kept)
        self._count("FAILURE")  # written as the next attempt began
        self._let_go(attempt.key)
        return following

    def _hear_wishes(self) -> None:
        """Hand on what is asked of the kernels that are kept."""
        with self._lock:
            if not self._vigils:
                return
        with self.database.read() as connection:
            asked = kernels.wishes(connection, self.worker_id)
        with self._lock:
            for wish in asked:
                if (vigil := self._vigils.get((wish.run_id, wish.attempt))) is not None:
                    vigil.wish(wish)

    def _let_kernels_go(self) -> None:
        with self._lock:
            vigils = list(self._vigils.values())
        for vigil in vigils:
            vigil.attempt.end("release")

    def _let_go(self, key: tuple[int, int]) -> None:
        with self._lock:
            self._held.pop(key, None)
            self._processed += 1
        self._heartbeat.hint()

    def _write_output(
        self, claim: Claim, chunks: Sequence[Chunk], progress: Progress | None
    ) -> bool:
        clock = self.database.clock
        if clock.elapsed() < self._output_again_at:
            return False
        try:
            with self.database.write() as connection:
                claims.write_output(connection, claim, chunks, progress)
        except DatabaseUnavailable:
            self._output_again_at = clock.elapsed() + OUTPUT_PAUSE_SECONDS
            return False
        return True

    # Delivering

    def _hand_in(self, report: Report, *, frees_slot: bool = True) -> tuple[bool, Order | None]:
        """Deliver; False while it cannot be. What the database refuses is set aside, not lost.

        Also returns what the slot of the report executes next.
        """
        try:
            is_written, order = self._delivery.deliver(report, frees_slot=frees_slot)
        except Exception:
            log.exception("run %d: its result is refused", report.key[0])
        else:
            for kept in (report.packages, report.script):
                if is_written and kept is not None:
                    self._workshop.recorder.stored(kept)
            return is_written, order
        try:
            path = self._spool.set_aside(report)
        except OSError as error:
            log.warning("run %d: its result cannot be set aside: %s", report.key[0], error)
            return False, None
        log.warning("run %d: its refused result lies in %s", report.key[0], path)
        return True, None

    def _deliver_kept(self) -> None:
        for report in self._spool.kept():
            is_settled, order = self._hand_in(report)
            if order is not None:
                self._begin(order)
            if not is_settled:
                return
            self._spool.discard(report)
            self._let_go(report.key)

    def _count_end(self, report: Report) -> None:
        self._count(report.result.status)

    def _count(self, status: str) -> None:
        with self._lock:
            self._ended[status] += 1

    # Heartbeat

    def _standing(self) -> Standing:
        with self._lock:
            held = list(self._held)
        status = "BUSY" if held else "IDLE"
        if self._draining or self._stopping.is_set():
            status = "DRAINING"
        return Standing(self.worker_id, held, status, self._processed)

    def _learned(self, asked: Standing, renewal: Renewal, asked_at: float) -> None:
        if asked.worker_id == self.worker_id and not renewal.is_registered:
            self._is_struck_off = True
            self._wake.set()
        with self._lock:
            attempts = [self._held[key] for key in asked.held if key in self._held]
        for attempt in attempts:
            if attempt.key in renewal.held:
                attempt.extend(asked_at)
            else:
                attempt.end("lease", timedelta(0))
            if attempt.key in renewal.cancelled:
                attempt.end("cancel")
        if renewal.drain and not self._draining:
            log.info("asked to drain: no more claims")
            self._draining = True
            self._let_kernels_go()
            self._wake.set()

    # Beginning and ending

    def _fresh_id(self) -> str:
        # Fresh at each start and never used again: it is the fence of all that is written.
        return f"{self._name}-{uuid.uuid4().hex[:12]}"

    def _register(self) -> None:
        """Add the worker's row; a database that is away is asked until we are told to stop."""
        while not self._stopping.is_set():
            try:
                with self.database.write() as connection:
                    workers.register(connection, self.database.clock.now(), self._row())
            except DatabaseUnavailable as error:
                log.warning("%s Trying again.", error)
                self.database.clock.wait(self._stopping, REGISTER_SECONDS)
            else:
                return

    def _register_again(self) -> None:
        """Somebody deleted our row: let go of all that was ours, then be a worker of a new name."""
        log.warning("%s is no longer registered: what it runs is given up", self.worker_id)
        with self._lock:
            attempts, threads = list(self._held.values()), list(self._threads)
        for attempt in attempts:
            attempt.end("lease", timedelta(0))
        for thread in threads:
            thread.join()
        self._claiming.worker_id = self._fresh_id()
        self._register()
        self._is_struck_off = False

    def _row(self) -> dict[str, Any]:
        return {
            "worker_id": self.worker_id,
            "hostname": socket.gethostname(),
            "platform": platform.platform(terse=True),
            "process_id": os.getpid(),
            "queues": ",".join(self.settings.queues),
            "slots": self.settings.slots,
            "version": version("jobkit"),
        }

    def _wind_down(self) -> None:
        clock = self.database.clock
        until = clock.elapsed() + self.settings.shutdown_grace.total_seconds()
        while self._running() and not self._hurry.is_set() and clock.elapsed() < until:
            self._let_kernels_go()
            clock.wait(self._hurry, 0.05)
        with self._lock:
            attempts, threads = list(self._held.values()), list(self._threads)
        for attempt in attempts:
            attempt.end("release")
        for thread in threads:
            thread.join()
        self._heartbeat.stop()
        self._workshop.close()
        try:
            self._deliver_kept()
            with self.database.write() as connection:
                workers.sign_off(connection, clock.now(), self.worker_id, self._processed)
        except DatabaseUnavailable as error:
            log.warning("could not sign off: %s", error)

    def _running(self) -> bool:
        with self._lock:
            return bool(self._threads)


def _tell(report: Report) -> None:
    """Log how an attempt ended; that all went well is nothing to tell anybody who did not ask."""
    result = report.result
    level = logging.DEBUG if result.succeeded else logging.INFO
    code = "" if result.exit_code is None else f", exit code {result.exit_code}"
    log.log(level, "run %d, attempt %d: ended by %s%s", *report.key, result.ended_by, code)
