"""Enqueueing and no-op throughput beside peers, in one run.

    uv run --group bench python -m benchmarks.peers --on sqlite
    uv run --group bench python -m benchmarks.peers --on postgresql

Each peer is called the way its documentation shows, on one connection, as durable as jobkit: every
commit is on the disk. Peers are pinned in the dependency group `bench`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from benchmarks.engine import BATCH, Bench
from benchmarks.stand import chosen, database, measure, opened

SINGLE = 300
BULK = 20_000
DRAINED = 5_000


class Jobkit:
    """jobkit."""

    name = "jobkit"

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        bench.kit.add_job("any", "any.py", overlap="allow")

    def enqueue(self) -> None:
        self._bench.kit.submit("any")

    def enqueue_many(self, count: int) -> None:
        self._bench.fill(count)

    def drain(self, count: int) -> float:
        """No-ops claimed and finished a second."""
        for left in iter(lambda: self._bench.claim(BATCH), []):
            self._bench.finish(left)
        return self._bench.claim_and_finish(count)

    def close(self) -> None:
        """Its kit is closed by whoever opened it."""


class Huey:
    """Huey on SQLite; it enqueues one by one only."""

    name = "Huey"

    def __init__(self, folder: Path) -> None:
        from huey import SqliteHuey

        self._huey = SqliteHuey(filename=str(folder / "huey.db"), fsync=True, results=False)
        logging.getLogger("huey").setLevel(logging.WARNING)
        self._task = self._huey.task()(_nothing)

    def enqueue(self) -> None:
        self._task()

    def drain(self, count: int) -> float:
        """No-ops taken and finished a second."""
        for _ in range(count):
            self.enqueue()
        began = time.perf_counter()
        for _ in range(count):
            self._huey.execute(self._huey.dequeue())
        return count / (time.perf_counter() - began)

    def close(self) -> None:
        self._huey.storage.close()


class Procrastinate:
    """Procrastinate, with its synchronous connector."""

    name = "Procrastinate"

    def __init__(self, url: str) -> None:
        from procrastinate import App, SyncPsycopgConnector

        logging.getLogger("procrastinate").setLevel(logging.WARNING)
        self._app = App(connector=SyncPsycopgConnector(conninfo=url, min_size=1, max_size=1))
        self._app.open()
        self._app.schema_manager.apply_schema()
        self._task = self._app.task(_nothing, name="nothing")

    def enqueue(self) -> None:
        self._task.defer()

    def enqueue_many(self, count: int) -> None:
        self._task.batch_defer(*[{}] * count)

    def close(self) -> None:
        self._app.close()


class PgQueuer:
    """PgQueuer, on asyncpg, the faster of its drivers."""

    name = "PgQueuer"

    def __init__(self, url: str) -> None:
        self._loop = asyncio.Runner()
        self._loop.run(self._open(url))

    async def _open(self, url: str) -> None:
        import asyncpg
        from pgqueuer import AsyncpgDriver, Queries

        logging.getLogger("pgqueuer").setLevel(logging.WARNING)
        self._url = url
        self._driver = AsyncpgDriver(await asyncpg.connect(url))
        self._queries = Queries(self._driver)
        await self._queries.install()

    def enqueue(self) -> None:
        self._loop.run(self._queries.enqueue("nothing", None))

    def enqueue_many(self, count: int) -> None:
        self._loop.run(self._queries.enqueue(["nothing"] * count, [None] * count, [0] * count))

    def drain(self, count: int) -> float:
        """No-ops taken and finished a second."""
        self._loop.run(self._drain())  # what other measures left
        self.enqueue_many(count)
        began = time.perf_counter()
        self._loop.run(self._drain())
        return count / (time.perf_counter() - began)

    async def _drain(self) -> None:
        import asyncpg
        from pgqueuer import AsyncpgDriver, Queries, QueueManager
        from pgqueuer.types import QueueExecutionMode

        connection = await asyncpg.connect(self._url)
        manager = QueueManager(Queries(AsyncpgDriver(connection)))

        @manager.entrypoint("nothing")
        async def nothing(_job: Any) -> None:
            pass

        await manager.run(batch_size=100, mode=QueueExecutionMode.drain)
        await connection.close()

    def close(self) -> None:
        self._loop.run(self._driver._connection.close())
        self._loop.close()


class Chancy:
    """Chancy, with its synchronous calls."""

    name = "Chancy"

    def __init__(self, url: str) -> None:
        from chancy import Chancy as App
        from chancy import Job, Queue

        async def make() -> None:
            async with App(url) as app:
                await app.migrate()
                await app.declare(Queue("default"))

        asyncio.run(make())
        self._app = App(url, min_connection_pool_size=1, max_connection_pool_size=1)
        self._app.__enter__()
        self._job = Job.from_func(_nothing)

    def enqueue(self) -> None:
        self._app.sync_push(self._job)

    def enqueue_many(self, count: int) -> None:
        for _ in self._app.sync_push_many([self._job] * count):
            pass

    def close(self) -> None:
        self._app.__exit__(None, None, None)


def _nothing() -> None:
    pass


def by_one(peer: Any) -> Callable[[], float]:
    """Enqueue one by one; a second."""

    def take() -> float:
        began = time.perf_counter()
        for _ in range(SINGLE):
            peer.enqueue()
        return SINGLE / (time.perf_counter() - began)

    return take


def by_many(peer: Any) -> Callable[[], float]:
    """Enqueue in one call; a second."""

    def take() -> float:
        began = time.perf_counter()
        peer.enqueue_many(BULK)
        return BULK / (time.perf_counter() - began)

    return take


def drained(peer: Any) -> Callable[[], float]:
    """Take and finish; a second."""
    return lambda: peer.drain(DRAINED)


def main() -> None:
    """Measure."""
    on = chosen(__doc__).on
    with ExitStack() as stack:
        url, folder = stack.enter_context(database(on))
        bench = Bench(stack.enter_context(opened(url, folder)))
        plain = url.replace("+psycopg", "", 1)
        made = [Huey(folder)] if on == "sqlite" else [PgQueuer(plain), Chancy(plain)]
        if on == "postgresql":
            made.append(Procrastinate(plain))
        peers: list[Any] = [Jobkit(bench), *(stack.enter_context(closing(it)) for it in made)]
        measures = (
            ("enqueue one", "enqueue", by_one),
            ("enqueue 20,000 in one call", "enqueue_many", by_many),
            ("no-op, taken and finished", "drain", drained),
        )
        for name, needed, take in measures:
            able = [peer for peer in peers if hasattr(peer, needed)]
            measure(name, "1/s", *((peer.name, take(peer)) for peer in able))


if __name__ == "__main__":
    main()
