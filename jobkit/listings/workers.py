"""The workers of a database, and what is asked of them by name."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, overload

from jobkit import portraits
from jobkit.cards import Card
from jobkit.errors import BadInput, NotFound
from jobkit.handles import Queue, Run, Worker, run_of, worker_of
from jobkit.listings import author
from jobkit.listings.listing import Collection, Listing
from jobkit.states import WORKER_STATUSES
from jobkit.store import history, queues, workers
from jobkit.wakeups import notify

if TYPE_CHECKING:
    from polars import DataFrame


TAKERS = ("IDLE", "BUSY")
MOST_HELD = 1000


class WorkerList(Listing[Worker]):
    """Workers as they were when they were asked for, those online first."""

    handle = Worker

    def card(self) -> Card:
        return portraits.of_workers(self)


class Workers(Collection):
    """The workers of a database, those online first.

    `kit.workers(queue="gpu", status="IDLE")` lists some; `kit.workers["box-1"]` is the newest of
    that name, or the one of that identity.
    """

    def __call__(self, *, queue: str | None = None, status: str | None = None) -> WorkerList:
        """Return the workers, those online first; that serve a queue, or stand in a status."""
        if status is not None and status.upper() not in WORKER_STATUSES:
            raise BadInput(f"{status!r} is no status.", f"Use: {', '.join(WORKER_STATUSES)}.")
        with self._kit.database.read() as connection:
            found = [worker_of(row) for row in workers.listed(connection)]
        return WorkerList(
            worker
            for worker in found
            if (queue is None or queue in worker.queues)
            and (status is None or status.upper() == worker.status)
        )

    def __iter__(self) -> Iterator[Worker]:
        return iter(self())

    def __len__(self) -> int:
        return len(self())

    @overload
    def __getitem__(self, asked: str) -> Worker: ...
    @overload
    def __getitem__(self, asked: slice) -> WorkerList: ...
    def __getitem__(self, asked: str | slice) -> Worker | WorkerList:
        """Return a worker by its name or identity, or a slice; NotFound without such a worker."""
        found = self()
        if isinstance(asked, slice):
            return WorkerList(list(found)[asked])
        for worker in found:
            if asked in (worker.worker_id, worker.name):
                return worker
        near = get_close_matches(asked, {worker.name for worker in found}, n=1)
        meant = f"Did you mean {near[0]!r}? " if near else ""
        raise NotFound(f"There is no worker {asked!r}.", f"{meant}See them all: kit.workers")

    def _ipython_key_completions_(self) -> list[str]:
        return [worker.worker_id for worker in self]

    @property
    def df(self) -> DataFrame:
        """The workers as a polars DataFrame, a row for each."""
        return self().df

    def overview(self) -> Card:
        """Return what is shown of all."""
        return self().card()

    def held(self) -> dict[str, list[Run]]:
        """Return the runs that workers hold, by the identity of the worker; up to 1,000."""
        found: dict[str, list[Run]] = {}
        with self._kit.database.read() as connection:
            for row in history.held(connection, MOST_HELD):
                found.setdefault(row.worker_id, []).append(run_of(self._kit, row))
        return found

    def queues(self) -> list[Queue]:
        """Return the queues that have unfinished runs or a worker, by name."""
        now = self._kit.clock.now()
        alive = now - self._kit.settings.worker_offline_threshold
        with self._kit.database.read() as connection:
            depths = {row.queue: row for row in queues.depths(connection, now)}
            listed = [worker_of(row) for row in workers.listed(connection)]
        takers = [it for it in listed if it.status in TAKERS and it.last_heartbeat >= alive]
        names = {name for taker in takers for name in taker.queues} | depths.keys()
        return [
            _queue(name, depths.get(name), [it for it in takers if name in it.queues])
            for name in sorted(names)
        ]

    def drain(self, name: str) -> int:
        """Ask workers, by name or identity, to finish their runs and end; returns how many."""
        with self._kit.database.write() as connection:
            asked = workers.ask_to_drain(connection, self._kit.clock.now(), name)
            author.note(self._kit, connection, "drained workers", f"{name} ({asked})")
            notify(connection)
        return asked


def _queue(name: str, depth: Any, takers: list[Worker]) -> Queue:
    return Queue(
        name,
        waiting=depth.waiting if depth is not None else 0,
        due=depth.due if depth is not None else 0,
        running=depth.running if depth is not None else 0,
        oldest_at=depth.oldest_at if depth is not None else None,
        workers=len(takers),
        slots=sum(it.slots for it in takers),
    )
