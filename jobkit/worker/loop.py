"""The worker's loop: claim for free slots, execute, deliver, and stop gracefully."""

from __future__ import annotations

import logging
import os
import platform
import random
import socket
import threading
import uuid
from collections.abc import Sequence
from datetime import timedelta
from importlib.metadata import version
from typing import Any

from sqlalchemy.exc import IntegrityError

from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.executors.sweep import sweep_dead_workers
from jobkit.settings import Settings
from jobkit.store import claims, definitions, workers
from jobkit.store.claims import Chunk, Claim, Renewal
from jobkit.wakeups import Alarm, Watch
from jobkit.worker.attempt import Attempt, Order
from jobkit.worker.delivery import Delivery
from jobkit.worker.heartbeat import Heartbeat, Standing
from jobkit.worker.spool import Report, Spool

log = logging.getLogger("jobkit.worker")

CLAIM_TRIES = 3
OUTPUT_PAUSE_SECONDS = 5.0
LEAST_LOOK_SECONDS = 0.002
REGISTER_SECONDS = 1.0


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
        self.worker_id = self._fresh_id()
        self._until_idle = until_idle
        spread = random.Random()  # noqa: S311 - spreads retries, guards nothing
        self._delivery = Delivery(database, spread)
        self._lock = threading.Lock()
        self._held: dict[tuple[int, int], Attempt] = {}
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
        self._spool = Spool(settings.spool_dir.expanduser(), url)
        self._heartbeat = Heartbeat(
            Database(url),
            every=settings.worker_heartbeat_interval,
            lease=settings.lease,
            standing=self._standing,
            learned=self._learned,
        )

    # What others call

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
        self._register()
        if self._stopping.is_set():
            return
        self._heartbeat.start()
        watch = Watch(self.database)
        self.ready.set()
        try:
            while not self._is_over():
                if self._is_struck_off:
                    self._register_again()
                self._deliver_kept()
                watch.wait(self._wake, self.step())
                self._wake.clear()
        finally:
            watch.close()
            self._wake.close()
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
            due = self._look()
            if self._free == 0 or self._draining:
                return poll
            for queue in due:
                self._claim(queue)
            return self._until_next(poll) if self._free else poll
        except DatabaseUnavailable as error:
            log.warning("%s Trying again.", error)
            return min(poll * 2, self.settings.worker_max_poll_interval.total_seconds())

    # Claiming

    @property
    def _free(self) -> int:
        with self._lock:
            return self.settings.slots - len(self._held)

    def _is_over(self) -> bool:
        if self._stopping.is_set():
            return True
        with self._lock:
            idle = not self._held
        if self._draining:
            return idle
        return self._until_idle and idle and self._finds_nothing()

    def _finds_nothing(self) -> bool:
        try:
            return not self._look()
        except DatabaseUnavailable:
            return False

    def _look(self) -> list[str]:
        """Return the queues in which a run is due; a wish to end one of ours is passed on."""
        with self.database.read() as connection:
            soonest = claims.next_available(connection, self.settings.queues)
            is_wished = bool(self._held) and claims.wishes(connection, self.worker_id)
        if is_wished:
            self._heartbeat.hint()
        now = self.database.clock.now()
        return [queue for queue, instant in soonest.items() if instant <= now]

    def _claim(self, queue: str) -> None:
        if free := self._free:
            for order in self._take(queue, free):
                self._begin(order)

    def _take(self, queue: str, limit: int) -> list[Order]:
        """Claim in one transaction; two workers that meet in a lane ask again on a fresh look."""
        for _ in range(CLAIM_TRIES):
            try:
                with self.database.write() as connection:
                    # Read once it is our turn to write: waiting for it costs nothing of the lease.
                    asked_at = self.database.clock.elapsed()
                    taken = claims.claim(
                        connection,
                        self.database.clock.now(),
                        worker_id=self.worker_id,
                        queue=queue,
                        lease=self.settings.lease,
                        limit=limit,
                    )
                    return [self._order(connection, claim, asked_at) for claim in taken]
            except IntegrityError:
                continue
        return []

    def _order(self, connection: Any, claim: Claim, asked_at: float) -> Order:
        definition = definitions.executed(connection, claim.job_id, claim.job_version)
        return Order(claim, definition, self._local_lease, asked_at)

    @property
    def _local_lease(self) -> timedelta:
        """The child is killed a quarter of the lease before anybody else may have the run."""
        return self.settings.lease * 3 / 4

    def _until_next(self, poll: float) -> float:
        with self.database.read() as connection:
            # What could be claimed now but was not waits for a lane: its end will wake us.
            now = self.database.clock.now()
            later = claims.next_available(connection, self.settings.queues, after=now)
        if not later:
            return poll
        left = (min(later.values()) - self.database.clock.now()).total_seconds()
        return min(poll, max(left, LEAST_LOOK_SECONDS))

    # Executing

    def _begin(self, order: Order) -> None:
        attempt = Attempt(order, self.settings, self.database.clock, self._write_output)
        thread = threading.Thread(
            target=self._execute, args=(attempt,), name=f"run-{order.claim.run_id}", daemon=True
        )
        with self._lock:
            self._held[attempt.key] = attempt
            self._threads.add(thread)
        log.info("run %d, attempt %d", *attempt.key)
        thread.start()
        self._heartbeat.hint()

    def _execute(self, attempt: Attempt) -> None:
        report = self._executed(attempt)
        if report is None:
            log.warning("run %d, attempt %d: the lease is lost; nothing is written", *attempt.key)
            self._let_go(attempt.key)
        elif self._hand_in(report):
            self._let_go(attempt.key)
        else:
            self._spool.keep(report)
        with self._lock:
            self._threads.discard(threading.current_thread())
        self._wake.set()

    def _executed(self, attempt: Attempt) -> Report | None:
        try:
            return attempt.execute()
        except Exception:
            # What we cannot explain we do not report: the lease runs out, and the run is rescued.
            log.exception("run %d, attempt %d: given up", *attempt.key)
            attempt.end("lease", timedelta(0))
            return None

    def _let_go(self, key: tuple[int, int]) -> None:
        with self._lock:
            self._held.pop(key, None)
            self._processed += 1
        self._heartbeat.hint()

    def _write_output(self, claim: Claim, chunks: Sequence[Chunk]) -> bool:
        clock = self.database.clock
        if clock.elapsed() < self._output_again_at:
            return False
        try:
            with self.database.write() as connection:
                claims.write_output(connection, claim, chunks)
        except DatabaseUnavailable:
            self._output_again_at = clock.elapsed() + OUTPUT_PAUSE_SECONDS
            return False
        return True

    # Delivering

    def _hand_in(self, report: Report) -> bool:
        """Deliver; False while the database is away. What it refuses is set aside, not lost."""
        try:
            return self._delivery.deliver(report)
        except Exception:
            path = self._spool.set_aside(report)
            log.exception("run %d: its result is refused and lies in %s", report.key[0], path)
            return True

    def _deliver_kept(self) -> None:
        for path, report in self._spool.kept():
            if not self._hand_in(report):
                return
            path.unlink(missing_ok=True)
            self._let_go(report.key)

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
        self.worker_id = self._fresh_id()
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
            clock.wait(self._hurry, 0.05)
        with self._lock:
            attempts, threads = list(self._held.values()), list(self._threads)
        for attempt in attempts:
            attempt.end("release")
        for thread in threads:
            thread.join()
        self._heartbeat.stop()
        try:
            self._deliver_kept()
            with self.database.write() as connection:
                workers.sign_off(connection, clock.now(), self.worker_id, self._processed)
        except DatabaseUnavailable as error:
            log.warning("could not sign off: %s", error)

    def _running(self) -> bool:
        with self._lock:
            return bool(self._threads)
