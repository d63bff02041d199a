"""Delivery: results go to the database in groups; while one is written, the next one gathers."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.store import claims, keepsakes
from jobkit.wakeups import notify
from jobkit.worker.attempt import Order
from jobkit.worker.spool import Report

log = logging.getLogger("jobkit.worker")

MOST_AT_ONCE = 200


@dataclass
class Parcel:
    """A report on its way, and what became of it."""

    report: Report
    frees_slot: bool = True
    is_written: bool | None = None
    refused: Exception | None = None
    next_order: Order | None = None
    """What its slot executes next."""


class Delivery:
    """Writes reports for many threads: whoever has the turn writes all that wait.

    `take_next` claims, in the same transaction, what the slots that become free execute next;
    `told` hears of each report that was written, and was still its worker's to write.
    """

    def __init__(
        self,
        database: Database,
        rng: random.Random,
        take_next: Callable[[Connection, int], Sequence[Order]] = lambda _connection, _limit: (),
        told: Callable[[Report], object] = lambda _report: None,
    ) -> None:
        self._database = database
        self._rng = rng
        self._take_next = take_next
        self._told = told
        self._turn = threading.Lock()
        self._gathering = threading.Lock()
        self._waiting: list[Parcel] = []

    def deliver(self, report: Report, *, frees_slot: bool = True) -> tuple[bool, Order | None]:
        """Write a report and wait until it is durable; return what its slot executes next, if any.

        The first is False when the database cannot take it now; raises what it says of a report
        that it will never take. One that is no longer its worker's to write is left out: somebody
        else has that run.
        """
        parcel = Parcel(report, frees_slot)
        with self._gathering:
            self._waiting.append(parcel)
        while parcel.is_written is None:
            with self._turn:
                if parcel.is_written is None:
                    self._write_next()
        if parcel.refused is not None:
            raise parcel.refused
        return parcel.is_written, parcel.next_order

    def _write_next(self) -> None:
        with self._gathering:
            group, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
        try:
            self._settle(group)
        except Exception:  # noqa: BLE001 - one of them is at fault: each alone says which
            for parcel in group:
                try:
                    self._settle([parcel])
                except Exception as error:  # noqa: BLE001 - raised again by its own thread
                    parcel.is_written, parcel.refused = False, error

    def _settle(self, group: Sequence[Parcel]) -> None:
        is_written, orders = True, list[Order]()
        try:
            orders = self._write(group)
        except DatabaseUnavailable as error:
            log.warning("%d results wait. %s", len(group), error)
            is_written = False
        for parcel, order in zip_longest((it for it in group if it.frees_slot), orders):
            parcel.next_order = order
        for parcel in group:
            parcel.is_written = is_written

    def _write(self, group: Sequence[Parcel]) -> list[Order]:
        reports, slots = [it.report for it in group], sum(it.frees_slot for it in group)
        try:
            return self._write_and(reports, slots, self._take_next)
        except IntegrityError:  # two workers met in a lane; the loop claims on a fresh look
            return self._write_and(reports, slots, lambda _connection, _limit: ())

    def _write_and(
        self,
        reports: Sequence[Report],
        slots: int,
        take_next: Callable[[Connection, int], Sequence[Order]],
    ) -> list[Order]:
        with self._database.write() as connection:
            done = [(report.claim, report.result) for report in reports]
            won = claims.finish(connection, done, self._database.clock.now(), self._rng)
            said = [(it.claim, it.chunks) for it in reports if it.key in won]
            claims.add_output(connection, said)
            ours = [report for report in reports if report.key in won]
            now = self._database.clock.now()
            keepsakes.add_artifacts(connection, [(it.key, it.artifacts) for it in ours], now)
            # True whoever has the run now; and a worker does not hand them in twice.
            sets = [it.packages for it in reports if it.packages is not None]
            keepsakes.add_packages(connection, sets, now)
            texts = [it.script for it in reports if it.script is not None]
            keepsakes.add_scripts(connection, texts, now)
            notify(connection)
            orders = list(take_next(connection, min(slots, len(won))))
        for report in ours:
            self._told(report)
        return orders
