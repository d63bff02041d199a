"""A made-up history of any length, written straight into a database: for benchmarks and trials.

It breaks no law (`jobkit verify` audits it), and a seed always makes the same one.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from jobkit.db import Database, continue_ids, copy_rows, ensure_partitions, without_indexes
from jobkit.errors import BadInput
from jobkit.models import attempts, jobs, output, package_sets, runs, workers
from jobkit.schedule import look
from jobkit.schedule.calendar import stamp
from jobkit.states import CAUGHT_UP
from jobkit.store import definitions
from jobkit.store.definitions import Author
from jobkit.testing import fleet
from jobkit.testing.fleet import Planned
from jobkit.testing.life import (
    ATTEMPT_COLUMNS,
    OUTPUT_COLUMNS,
    RUN_COLUMNS,
    Life,
    World,
    Written,
)
from jobkit.testing.words import PACKAGES, Voice, lengths, package_hash

MONTH = timedelta(days=30.4375)
WORKERS = 40
OPEN = 8
"""Runs of hours that begin just before the end."""
BATCH = 20_000
OUTPUT_BYTES = 300
PATIENCE = timedelta(seconds=70)
_SETTLED = timedelta(seconds=5)
"""No slot is younger: a scheduler would just be making its run."""


@dataclass(frozen=True)
class Made:
    """How much history was made, and of what."""

    jobs: int
    runs: int
    attempts: int
    start: datetime
    end: datetime


_Event = tuple[int, int, int]
"""When, which job, and the slot that comes due; or a wish of somebody, or the end of an outage."""
WISH, OUTAGE = 0, -1


def generate(
    database: Database,
    *,
    attempts: int,
    months: float,
    now: datetime,
    seed: int = 0,
    output_bytes: int = OUTPUT_BYTES,
) -> Made:
    """Fill an empty database with so many attempts over the months before `now`.

    In one transaction: some hundred jobs with schedules of every kind, of which few make most
    runs; 40 workers; retries, timeouts, lost workers, skipped overlaps, two outages of the
    scheduler with missed slots, late starts, edits, and runs that are open at the end.
    `output_bytes`: about how much a successful attempt prints. BadInput for a database with runs,
    and for numbers out of bounds.
    """
    if not (10 <= attempts <= 1_000_000_000 and 0.1 <= months <= 1200 and output_bytes >= 0):
        raise BadInput(
            f"attempts={attempts} over months={months:g} cannot be made.",
            "Use 10 attempts or more, over a tenth of a month to 100 years.",
        )
    with database.filling(), database.write(takes_long=True) as connection:
        if connection.scalar(sa.select(runs.c.id).limit(1)) or connection.scalar(
            sa.select(jobs.c.id).limit(1)
        ):
            raise BadInput(
                "A history is made in an empty database, and this one has jobs.",
                "Name a new one: jobkit --db sqlite:///history.db testing generate-history ...",
            )
        start = month = now - months * MONTH
        while month < now:
            ensure_partitions(connection, month)
            month += timedelta(days=28)
        with without_indexes(connection, runs, _attempts, output):
            return _History(connection, attempts, start, now, seed, output_bytes).make()


_attempts = attempts


class _History:
    def __init__(
        self,
        connection: Connection,
        wanted: int,
        start: datetime,
        end: datetime,
        seed: int,
        output_bytes: int,
    ) -> None:
        self._connection = connection
        self._wanted = wanted
        self.start, self._end = start, end
        self._rng = random.Random(seed)  # noqa: S311 - a history, not a secret
        self._planned = fleet.plan(wanted, start, end, self._rng)
        self._outages = fleet.outages(start, end)
        self._written = Written()
        self._run_id = self._attempts = 0
        hosts = [f"analyst-{number:02d}" for number in range(1, WORKERS // 2 + 1)]
        self._workers = [
            (f"{hosts[index // 2]}-{hashlib.sha256(str(index).encode()).hexdigest()[:8]}",
             hosts[index // 2])
            for index in range(WORKERS)
        ]  # fmt: skip
        self._output_bytes = output_bytes

    def make(self) -> Made:
        self._write_surroundings()
        lives = self._write_jobs()
        *on_demand, long = [i for i, job in enumerate(self._planned) if job.is_on_demand]
        last = self._end - _SETTLED
        span = (last - self.start).total_seconds()
        for began, ended in fleet.days(self.start, last):
            events = self._slots(began, ended)
            upto = (ended - self.start).total_seconds() / span
            missing = self._wanted * upto - self._seen() - fleet.ATTEMPTS_A_SLOT * len(events)
            events += self._wishes(began, ended, int(missing * 0.97), on_demand)
            for event in sorted(events):
                self._live(lives[event[1]], event)
            self._flush()
        # What is still missing was wished for lately.
        middle = last - (last - began) / 2
        while (missing := self._wanted - self._seen()) > 0:
            for event in sorted(self._wishes(middle, last, missing, on_demand)):
                self._live(lives[event[1]], event)
            self._flush(all_of_it=False)
        for event in sorted(self._wishes(last - timedelta(minutes=20), last, OPEN, [long])):
            self._live(lives[event[1]], event)
        self._flush(all_of_it=True)
        self._move_cursors(last)
        continue_ids(self._connection, runs)
        return Made(len(self._planned), self._run_id, self._attempts, self.start, self._end)

    def _seen(self) -> int:
        return self._attempts + len(self._written.attempts)

    def _slots(self, began: datetime, ended: datetime) -> list[_Event]:
        """Return what schedules bring in (began, ended], the slots of outages when these end."""
        events: list[_Event] = []
        dice = self._rng.random
        outages = [(stamp(a), stamp(b)) for a, b in self._outages if a < ended and began < b]
        over = [stamp(b) for _, b in self._outages if began < b <= ended]
        for index, job in enumerate(self._planned):
            if job.is_on_demand:
                continue
            slots = job.schedule.stamps(began, ended)
            for a, b in outages:
                slots = [slot for slot in slots if not a < slot <= b]
            events += [(slot + int(4000 + 90_000 * dice()), index, slot) for slot in slots]
            events += [(at, index, OUTAGE) for at in over]
        return events

    def _wishes(
        self, began: datetime, ended: datetime, count: int, on_demand: list[int]
    ) -> list[_Event]:
        start, span = stamp(began), stamp(ended) - stamp(began)
        rng = self._rng
        return [
            (start + int(span * rng.random()), rng.choice(on_demand), WISH) for _ in range(count)
        ]

    def _live(self, life: Life, event: _Event) -> None:
        at, job, slot = event
        if slot == OUTAGE:
            self._catch_up(life, self._planned[job], at)
            return
        self._run_id += 1
        if slot == WISH:
            life.live(self._run_id, at, None, "manual", None)
            return
        skipped = life.skip_reason(at)
        if skipped is None:
            life.live(self._run_id, at, slot, "schedule", None)
        else:
            life.close(self._run_id, at, slot, "SKIPPED", skipped)

    def _catch_up(self, life: Life, job: Planned, at: int) -> None:
        """Do with the slots of an outage what the first tick after it does."""
        cursor, now = next((a, b) for a, b in self._outages if stamp(b) == at)
        while True:
            gap = look(
                job.schedule,
                cursor,
                now,
                policy=job.columns["misfire_policy"],
                window=timedelta(days=1),
                patience=PATIENCE,
            )
            self._write_gap(life, at, gap)
            cursor = gap.cursor
            if gap.next_run is None or gap.next_run > now:
                return

    def _write_gap(self, life: Life, at: int, gap: Any) -> None:
        words = "passed while nobody looked"
        if gap.rest is not None:
            rest = gap.rest
            span = f"{rest.count} slots from {rest.first.isoformat()} to {rest.last.isoformat()}"
            self._run_id += 1
            life.close(self._run_id, at, stamp(rest.last), "MISSED", f"{span} {words}")
        for slot in gap.missed:
            self._run_id += 1
            life.close(self._run_id, at, stamp(slot), "MISSED", words)
        for slot in gap.run:
            self._run_id += 1
            reason = None if slot == gap.run[-1] else CAUGHT_UP
            life.live(self._run_id, at, stamp(slot), "schedule", reason)

    def _flush(self, *, all_of_it: bool = False) -> None:
        written = self._written
        if len(written.runs) < BATCH and not all_of_it:
            return
        self._attempts += len(written.attempts)
        copy_rows(self._connection, runs, RUN_COLUMNS, written.runs)
        copy_rows(self._connection, _attempts, ATTEMPT_COLUMNS, written.attempts)
        copy_rows(self._connection, output, OUTPUT_COLUMNS, written.output)
        for rows in (written.runs, written.attempts, written.output):
            rows.clear()

    def _write_jobs(self) -> list[Life]:
        world = World(
            stamp(self._end),
            self._rng,
            lengths(self._rng),
            self._workers,
            stamp(self.start + (self._end - self.start) * 0.6),
            self._written,
        )
        return [self._life(world, job) for job in self._planned]

    def _life(self, world: World, job: Planned) -> Life:
        author = Author("ada", "python on analyst-01")
        values = {
            **job.columns,
            "created_at": self.start,
            "is_active": True,
            "slots_until": self.start,
            "next_run": job.schedule.next_after(self.start),
        }
        row = definitions.insert(self._connection, values, self.start, author)
        if job.edited_at is not None:
            edit = {"script_args": "--strict"}
            definitions.change(self._connection, row, edit, "edited", job.edited_at, author)
        script = job.columns["script_path"]
        verb, _, subject = script.rpartition("/")[2].removesuffix(".py").partition("_")
        voice = Voice(script, subject, verb, self._output_bytes)
        return Life(world, row.id, job, voice)

    def _move_cursors(self, last: datetime) -> None:
        for job in self._planned:
            if job.is_on_demand:
                continue
            newest = job.schedule.newest(self.start, last, 1)
            cursor = newest[0] if newest else self.start
            moved = {"slots_until": cursor, "next_run": job.schedule.next_after(cursor)}
            named = jobs.c.name == job.columns["name"]
            self._connection.execute(
                jobs.update().where(named).values(last_dispatched_at=cursor, **moved)
            )

    def _write_surroundings(self) -> None:
        self._connection.execute(
            workers.insert(),
            [
                {
                    "worker_id": worker,
                    "hostname": host,
                    "platform": "Linux",
                    "started_at": self.start,
                    "last_heartbeat": self._end,
                    "status": "BUSY" if index % 2 else "IDLE",
                    "queues": "heavy,default" if index % 5 == 0 else "default",
                    "slots": 4,
                    "process_id": 1000 + index,
                    "version": "0.1.0",
                }
                for index, (worker, host) in enumerate(self._workers)
            ],
        )
        sets = [
            {"sha256": package_hash(index), "packages": packages, "seen_at": self.start}
            for index, packages in enumerate(PACKAGES)
        ]
        self._connection.execute(package_sets.insert(), sets)
