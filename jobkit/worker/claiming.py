"""Claiming: takes runs for a worker's free slots, each with the definition that it executes."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from jobkit.db import Database
from jobkit.expectation import Expectation
from jobkit.settings import Settings
from jobkit.store import claims, definitions, successes
from jobkit.store.claims import Claim
from jobkit.worker.attempt import Order

CLAIM_TRIES = 3
LEAST_LOOK_SECONDS = 0.002
MOST_KNOWN = 1000
USUAL_SECONDS = 600.0


class Usual:
    """How long the attempts of jobs usually take, asked again after ten minutes."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, str], tuple[float, Expectation]] = OrderedDict()

    def of(self, connection: Connection, claim: Claim, at: float) -> Expectation:
        """Return what is usual for a run; `at` is a reading of the stopwatch."""
        params = claim.params or {}
        key = claim.job_id, json.dumps(params, sort_keys=True)
        read_at, known = self._known.get(key, (0.0, None))
        if known is not None and at < read_at + USUAL_SECONDS and known.is_known:
            return known
        found = successes.usual(connection, claim.job_id, params=params)
        self._known[key] = at, found
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)
        return found


class Claiming:
    """Looks for runs of a worker's queues, and claims them; safe for many threads."""

    def __init__(self, database: Database, settings: Settings, worker_id: str) -> None:
        self.worker_id = worker_id
        self._database = database
        self._settings = settings
        self._usual = Usual()
        self._known: OrderedDict[tuple[int, int | None], Mapping[str, Any]] = OrderedDict()

    def due(self) -> list[str]:
        """Return the queues in which a run is due."""
        with self._database.read() as connection:
            now = self._database.clock.now()
            return [
                queue for queue in self._settings.queues if claims.is_due(connection, queue, now)
            ]

    def is_wished(self) -> bool:
        """Whether somebody wants a run to end that this worker holds."""
        with self._database.read() as connection:
            return claims.wishes(connection, self.worker_id)

    def until_next(self, poll: float) -> float:
        """Return the seconds until more may be due; `poll` at most."""
        with self._database.read() as connection:
            # What could be claimed now but was not waits for a lane: its end will wake us.
            now = self._database.clock.now()
            later = claims.next_available(connection, self._settings.queues, now)
        if not later:
            return poll
        left = (min(later) - self._database.clock.now()).total_seconds()
        return min(poll, max(left, LEAST_LOOK_SECONDS))

    def take(self, queue: str, limit: int) -> list[Order]:
        """Claim in one transaction; two workers that meet in a lane ask again on a fresh look."""
        for _ in range(CLAIM_TRIES):
            try:
                with self._database.write() as connection:
                    return self._claim(connection, queue, limit)
            except IntegrityError:
                continue
        return []

    def take_next(self, connection: Connection, limit: int) -> list[Order]:
        """Claim for slots that this transaction frees; IntegrityError when two meet in a lane."""
        orders: list[Order] = []
        for queue in self._settings.queues:
            if len(orders) < limit:
                orders += self._claim(connection, queue, limit - len(orders))
        return orders

    def _claim(self, connection: Connection, queue: str, limit: int) -> list[Order]:
        # Read once it is our turn to write: waiting for it costs nothing of the lease.
        asked_at = self._database.clock.elapsed()
        taken = claims.claim(
            connection,
            self._database.clock.now(),
            worker_id=self.worker_id,
            queue=queue,
            lease=self._settings.lease,
            limit=limit,
        )
        # The child is killed a quarter of the lease before anybody else may have the run.
        local_lease = self._settings.lease * 3 / 4
        return [self._order(connection, claim, local_lease, asked_at) for claim in taken]

    def _order(
        self, connection: Connection, claim: Claim, lease: timedelta, asked_at: float
    ) -> Order:
        found = self._definition(connection, claim)
        is_auto = found.get("timeout_policy") == "auto"
        usual = self._usual.of(connection, claim, asked_at) if is_auto else None
        return Order(claim, found, lease, asked_at, usual)

    def _definition(self, connection: Connection, claim: Claim) -> Mapping[str, Any]:
        """Return what a run executes: a version never changes, so one look is enough."""
        key = claim.job_id, claim.job_version
        if (known := self._known.get(key)) is not None:
            return known
        found = definitions.executed(connection, *key)
        if claim.job_version is not None:
            self._known[key] = found
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        return found
