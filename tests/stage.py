"""A literal clock and the steps of schedulers and workers, called by tests one at a time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from jobkit import scheduler
from jobkit.handles import Job, Run
from jobkit.kit import Kit
from jobkit.store import claims, workers
from jobkit.store.claims import Claim, Renewal, Result
from jobkit.testing import ManualClock, connect_at

MONDAY = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)


def at(clock: str, day: int = 2) -> datetime:
    """Return an instant of March 2026, a Monday unless a day is given."""
    parts = [int(part) for part in clock.split(":")]
    return datetime(2026, 3, day, *parts, tzinfo=UTC)


@dataclass
class Stage:
    """A database at a literal instant, and one function for each step that moves it on."""

    kit: Kit
    clock: ManualClock
    lease: timedelta = timedelta(days=1)

    def job(self, name: str = "sales", **definition: Any) -> Job:
        return self.kit.add_job(name, "hello.py", **definition)

    def tick(self, now: datetime | None = None) -> scheduler.Tick:
        if now is not None:
            self.clock.turn_to(now)
        with self.kit.database.write() as connection:
            return scheduler.tick(connection, self.clock.now(), self.kit.settings)

    def register(self, worker: str = "w1") -> None:
        row = {
            "worker_id": worker, "hostname": "laptop", "platform": "Linux", "process_id": 1,
            "queues": "default", "slots": 4, "version": "0",
        }  # fmt: skip
        with self.kit.database.write() as connection:
            workers.register(connection, self.clock.now(), row)

    def claim(self, worker: str = "w1", limit: int = 1, queue: str = "default") -> list[Claim]:
        with self.kit.database.write() as connection:
            return claims.claim(
                connection,
                self.clock.now(),
                worker_id=worker,
                queue=queue,
                lease=self.lease,
                limit=limit,
            )

    def claim_one(self, worker: str = "w1") -> Claim:
        (claim,) = self.claim(worker)
        return claim

    def renew(self, worker: str, *held: Claim) -> Renewal:
        with self.kit.database.write() as connection:
            return claims.renew(
                connection,
                self.clock.now(),
                worker_id=worker,
                lease=self.lease,
                held=[(claim.run_id, claim.attempt) for claim in held],
                status="BUSY",
                processed=0,
            )

    def finish(
        self,
        claim: Claim,
        ended_by: str = "exit",
        exit_code: int | None = 0,
        error: str | None = None,
    ) -> bool:
        now = self.clock.now()
        if error is None:
            error = "" if exit_code == 0 and ended_by == "exit" else f"exit code {exit_code}"
        result = Result(ended_by, claim.claimed_at, now, exit_code, error, {"log_output": "out"})
        with self.kit.database.write() as connection:
            return bool(claims.finish(connection, [(claim, result)], now, random.Random(1)))

    def runs(self, job: str = "sales") -> list[Run]:
        """Return a job's runs, oldest first."""
        return list(reversed(self.kit.runs(job=job, limit=5000)))

    def states(self, job: str = "sales") -> list[str]:
        return [run.status for run in self.runs(job)]


def set_stage(url: str, now: datetime = MONDAY) -> Stage:
    """Open a stage; a script that jobs can name lies in the current folder."""
    kit, clock = connect_at(url, now)
    return Stage(kit, clock)
