"""A day of jobkit in seconds: the real tick, claim, renew, finish and rescue in virtual time.

One seed is one history. Schedulers, workers and scripts crash, pause past their lease, lose the
database, repeat an ambiguous commit, and have wall clocks that differ by a minute. The scripts
write a ledger of their own, so that the database does not testify about itself.

    uv run python -m tests.simulation --seeds 1000 --hours 1
    uv run python -m tests.simulation --seed 42 --history
"""

from __future__ import annotations

import argparse
import heapq
import random
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from jobkit import migrations, scheduler, verify
from jobkit.clock import ServerClock
from jobkit.db import Database
from jobkit.errors import DatabaseUnavailable
from jobkit.models import attempts, runs
from jobkit.settings import Settings, load
from jobkit.store import claims, definitions, workers
from jobkit.store.claims import Claim, Result

BEGAN = datetime(2026, 3, 2, 6, 0, tzinfo=UTC)
EPSILON = 0.05
KILL_SECONDS = 0.1


@dataclass(frozen=True)
class Plan:
    """What is simulated. Rates are faults an hour and actor."""

    hours: float = 1.0
    jobs: int = 50
    schedulers: int = 3
    workers: int = 20
    slots: int = 4
    every: int = 60
    usual: float = 25.0
    longest: float = 200.0
    long: float = 0.03
    """The share of scripts that run longer than a lease lasts."""
    kills: float = 4.0
    pauses: float = 4.0
    outages: float = 2.0
    ambiguous: float = 0.01
    """The share of commits whose answer is lost, half of them before they took effect."""
    failing: float = 0.05
    beat: float = 20.0
    """Seconds between heartbeats; a lease lasts four of them."""


CALM = Plan(kills=0, pauses=0, outages=0, ambiguous=0, failing=0, long=0, beat=30.0)


class Skewed(ServerClock):
    """A host's view of the server's time; its own wall clock and stopwatch are off."""

    def __init__(self, world: World, offset: float) -> None:
        self._world = world
        self._offset = offset
        super().__init__(lambda: world.now)

    def elapsed(self) -> float:
        return self._world.seconds + self._offset

    @property
    def wall(self) -> datetime:
        return self._world.now + timedelta(seconds=self._offset % 120 - 60)


@dataclass
class Script:
    """A script that runs: when it would end by itself, and until when its lease lets it."""

    claim: Claim
    began: float
    ends: float
    code: int
    kill_at: float
    why: str = ""


Event = tuple[float, int, Callable[[], None]]
"""Something that an actor does: when, in which order at that instant, and what."""


class World:
    """One database, its actors, and the time."""

    def __init__(self, seed: int, plan: Plan, fault: str = "") -> None:
        self.seed, self.plan, self.fault = seed, plan, fault
        self.rng = random.Random(seed)
        self.seconds = 0.0
        self.history: list[str] = []
        self.ledger: dict[tuple[int, int], list[tuple[float, float, int | None]]]
        self.ledger = defaultdict(list)
        self.counts: dict[str, int] = defaultdict(int)
        self.settings: Settings = load(
            db_url="sqlite://", worker_heartbeat_interval=plan.beat, lease_seconds=4 * plan.beat
        )
        self.database = _fresh_database()
        self.is_calming_down = False
        self._queue: list[Event] = []
        self._order = 0
        self._names = 0
        self._add_jobs()
        self.workers: list[Worker] = []
        for _ in range(plan.schedulers):
            self.at(self.rng.random(), Scheduler(self).step)
        for _ in range(plan.workers):
            self.at(self.rng.random(), Worker(self).start)

    @property
    def now(self) -> datetime:
        """The database's time."""
        return BEGAN + timedelta(seconds=self.seconds)

    def name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}{self._names}"

    def at(self, seconds: float, act: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._queue, (max(seconds, self.seconds), self._order, act))

    def after(self, delay: float, act: Callable[[], None]) -> None:
        self.at(self.seconds + delay, act)

    def say(self, words: str) -> None:
        self.history.append(f"{self.now:%H:%M:%S.%f}"[:-3] + f" {words}")

    def happens(self, rate: float, seconds: float) -> bool:
        """Throw the dice for a fault that comes `rate` times an hour, over some seconds."""
        return not self.is_calming_down and self.rng.random() < rate * seconds / 3600

    @contextmanager
    def write(self, actor: Actor) -> Iterator[sa.Connection]:
        """A transaction; sometimes its answer is lost, before or after it took effect."""
        if self.seconds < actor.away_until:
            raise DatabaseUnavailable("away")
        unsure = not self.is_calming_down and self.rng.random() < self.plan.ambiguous
        took_effect = self.rng.random() < 0.5
        try:
            with self.database.write() as connection:
                yield connection
                if unsure and not took_effect:
                    raise DatabaseUnavailable("not committed")
        except DatabaseUnavailable:
            self.counts["commits lost"] += 1
            raise
        if unsure:
            self.counts["answers lost"] += 1
            raise DatabaseUnavailable("committed, and the answer was lost")

    def run(self) -> World:
        """Live through the plan, then calm down until nothing is unfinished."""
        end = self.plan.hours * 3600
        self._until(end)
        self.is_calming_down = True
        self._stop_jobs()
        for _ in range(40):
            self._until(self.seconds + 300)
            if not self._unfinished():
                break
        return self

    def _until(self, end: float) -> None:
        while self._queue and self._queue[0][0] <= end:
            self.seconds, _, act = heapq.heappop(self._queue)
            act()
        self.seconds = end

    def _add_jobs(self) -> None:
        author = definitions.Author("simulation", "tests")
        with self.database.write() as connection:
            for number in range(self.plan.jobs):
                every = self.plan.every
                values = {
                    "name": f"job {number}", "script_path": "x.py", "created_at": BEGAN,
                    "schedule_type": "interval", "interval_seconds": every, "anchor_at": BEGAN,
                    "slots_until": BEGAN, "next_run": BEGAN + timedelta(seconds=every),
                    "overlap_policy": ("skip", "queue", "queue_all", "allow", "replace")[
                        number % 5 if self.plan.kills else 0
                    ],
                    "retry_delay_seconds": 5, "max_retries": 3,
                }  # fmt: skip
                definitions.insert(connection, values, BEGAN, author)

    def _stop_jobs(self) -> None:
        author = definitions.Author("simulation", "tests")
        with self.database.write() as connection:
            scheduler.tick(connection, self.now, self.settings)
            for job in definitions.listed(connection):
                change = {"is_active": False}
                definitions.change(connection, job, change, "paused", self.now, author)

    def _unfinished(self) -> int:
        with self.database.read() as connection:
            statement = sa.select(sa.func.count()).select_from(runs)
            return connection.scalar(statement.where(runs.c.completed_at.is_(None))) or 0

    def breaches(self) -> list[str]:
        """Return what breaks a law, by the audit and by the ledger."""
        scope = verify.Scope(self.now, None, None, timedelta(minutes=2))
        with self.database.read() as connection:
            found = [
                f"law {finding.law}: {breach}"
                for finding in verify.audit(connection, scope)
                for breach in finding.breaches
            ]
            all_runs = connection.execute(sa.select(runs).order_by(runs.c.id)).all()
            wins = connection.execute(
                sa.select(attempts.c.dispatch_id, attempts.c.attempt, attempts.c.status)
            ).all()
        found += _slots_against_arithmetic(self, all_runs)
        found += _ledger_against_rows(self, all_runs, wins)
        return found


def _slots_against_arithmetic(world: World, all_runs: Any) -> list[str]:
    every = world.plan.every
    wanted = range(every, int(world.plan.hours * 3600) + 1, every)
    slots: dict[int, list[float]] = defaultdict(list)
    for run in all_runs:
        if run.scheduled_for is not None:
            slots[run.job_id].append((run.scheduled_for - BEGAN).total_seconds())
    found = [
        f"ledger: job {job} has {len(slots[job])} rows for its {len(wanted)} slots"
        for job in range(1, world.plan.jobs + 1)
        if sorted(slots[job]) != [float(slot) for slot in wanted]
    ]
    return found + [f"ledger: run {run.id} is {run.status}" for run in all_runs
                    if run.status in ("PENDING", "IN_PROGRESS")]  # fmt: skip


def _ledger_against_rows(world: World, all_runs: Any, recorded: Any) -> list[str]:
    by_id = {run.id: run for run in all_runs}
    found = []
    lanes: dict[Any, list[tuple[float, float, str]]] = defaultdict(list)
    for (run_id, attempt), lines in world.ledger.items():
        run, words = by_id[run_id], f"attempt {attempt} of run {run_id}"
        found += _odd_lines(run, attempt, [began for began, _, _ in lines], words)
        for began, ended, _ in lines:
            lanes["run", run_id].append((began, ended, words))
            if run.lane is not None:
                lanes["lane", run.job_id].append((began, ended, words))
    for spans in lanes.values():
        found += [
            f"ledger: {other} began while {one} ran"
            for (_, ended, one), (began, _, other) in pairwise(sorted(spans))
            if began < ended - EPSILON
        ]
    for run_id, attempt, status in recorded:
        codes = [code for _, _, code in world.ledger[run_id, attempt]]
        if status == "SUCCESS" and codes != [0]:
            found.append(f"ledger: attempt {attempt} of run {run_id} is a SUCCESS, ended {codes}")
    return found


def _odd_lines(run: Any, attempt: int, begins: list[float], words: str) -> Iterator[str]:
    if len(begins) > 1:
        yield f"ledger: {words} began {len(begins)} times"
    if attempt > run.attempt:
        yield f"ledger: {words} was never claimed"
    for began in begins:
        instant = BEGAN + timedelta(seconds=began + EPSILON)
        if run.scheduled_for and instant < run.scheduled_for:
            yield f"ledger: {words} began before its slot"


class Actor:
    """A process on some host."""

    kind = ""

    def __init__(self, world: World) -> None:
        self.world = world
        self.name = world.name(self.kind)
        self.clock = Skewed(world, world.rng.uniform(0, 10_000))
        self.away_until = 0.0

    @property
    def now(self) -> datetime:
        return self.clock.wall if self.world.fault == "local clocks" else self.clock.now()

    def suffer(self, seconds: float) -> float | None:
        """Maybe lose the database; return for how long the process now hangs; None if it died."""
        world = self.world
        if world.happens(world.plan.kills, seconds):
            world.counts["kills"] += 1
            return None
        if world.happens(world.plan.outages, seconds):
            world.counts["outages"] += 1
            self.away_until = world.seconds + world.rng.uniform(1, 180)
            world.say(f"{self.name} loses the database")
        if world.happens(world.plan.pauses, seconds):
            world.counts["pauses"] += 1
            return world.rng.uniform(1, 150)
        return 0.0


class Scheduler(Actor):
    """Ticks; a killed one is replaced."""

    kind = "scheduler "
    poll = 10.0

    def step(self) -> None:
        world = self.world
        hangs = self.suffer(self.poll)
        if hangs is None:
            world.say(f"{self.name} is killed")
            world.after(world.rng.uniform(1, 60), Scheduler(world).step)
        elif hangs:
            world.say(f"{self.name} hangs for {hangs:.0f} s")
            world.after(hangs, self.tick)
        else:
            self.tick()

    def tick(self) -> None:
        world = self.world
        try:
            with world.write(self) as connection:
                done = scheduler.tick(connection, self.now, world.settings)
        except DatabaseUnavailable:
            world.after(self.poll, self.step)
            return
        if done.dispatched or done.rescued:
            world.say(f"{self.name} made runs {list(done.dispatched)}, rescued {done.rescued}")
            for worker in world.workers:
                world.after(world.rng.uniform(0.001, 0.05), worker.look)
        if done.again:
            world.after(0.0, self.step)
            return
        wait = self.poll
        if done.next_at is not None:
            wait = min(wait, max(0.0, (done.next_at - self.now).total_seconds()))
        world.after(wait + 0.001, self.step)


class Worker(Actor):
    """Claims, beats, executes; its scripts die with it and with their lease."""

    kind = "worker "
    beats_a_poll = 2

    def start(self) -> None:
        world = self.world
        self.held: dict[tuple[int, int], Script] = {}
        self.spool: list[tuple[Script, Result]] = []
        self.hangs_until = 0.0
        self.is_alive = True
        self.more_waits = False
        self.beats = 0
        world.workers.append(self)
        row = {
            "worker_id": self.name, "hostname": "h", "platform": "p", "process_id": 1,
            "queues": "default", "slots": world.plan.slots, "version": "0",
        }  # fmt: skip
        with world.database.write() as connection:
            workers.register(connection, world.now, row)
        self.live()

    @property
    def _acts(self) -> bool:
        return self.is_alive and self.world.seconds >= self.hangs_until

    def live(self) -> None:
        """Beat, and look for work, until something ends it."""
        world = self.world
        if not self.is_alive:
            return
        beat = world.settings.worker_heartbeat_interval.total_seconds()
        hangs = self.suffer(beat)
        if hangs is None:
            self.die()
            return
        if hangs:
            world.say(f"{self.name} hangs for {hangs:.0f} s")
            self.hangs_until = world.seconds + hangs
            world.after(hangs, self.live)
            return
        self.beat()
        self.deliver()
        self.beats += 1
        if self.beats % self.beats_a_poll == 0:
            self.look()
        world.after(beat, self.live)

    def die(self) -> None:
        world = self.world
        world.say(f"{self.name} is killed with {sorted(self.held)}")
        self.is_alive = False
        world.workers.remove(self)
        for script in list(self.held.values()):
            self.end_script(script, "killed")
        self.held = {}
        successor = Worker(world)
        world.after(world.rng.uniform(1, 60), successor.start)

    def beat(self) -> None:
        world = self.world
        asked_at = self.clock.elapsed()
        held = list(self.held)
        try:
            with world.write(self) as connection:
                renewal = claims.renew(
                    connection,
                    self.now,
                    worker_id=self.name,
                    lease=world.settings.lease,
                    held=held,
                    status="BUSY" if held else "IDLE",
                    processed=0,
                )
        except DatabaseUnavailable:
            return
        for key in held:
            script = self.held.get(key)
            if script is None or script.why:
                continue
            if key not in renewal.held:
                world.say(f"{self.name} lost the lease of {key}")
                self.kill(script, "lease")
            elif key in renewal.cancelled:
                self.kill(script, "cancel")
            else:
                script.kill_at = self.local_deadline(asked_at)

    def local_deadline(self, asked_at: float) -> float:
        if self.world.fault == "no local kill":
            return float("inf")
        left = self.world.settings.lease.total_seconds() * 3 / 4
        return asked_at - self.clock._offset + left

    def look(self) -> None:
        world = self.world
        free = world.plan.slots - len(self.held)
        if not self._acts or free <= 0:
            return
        asked_at = self.clock.elapsed()
        if world.fault == "claim race":
            self.look_and_take_later(free, asked_at)
            return
        try:
            with world.write(self) as connection:
                taken = self.claim(connection, free)
        except DatabaseUnavailable:
            return
        # A lane that is free again has its next run: where runs wait, every end is a wake-up.
        self.more_waits = len(taken) == free or world.plan.long > 0
        self.begin(taken, asked_at)

    def claim(self, connection: sa.Connection, free: int) -> list[Claim]:
        return claims.claim(
            connection,
            self.now,
            worker_id=self.name,
            queue="default",
            lease=self.world.settings.lease,
            limit=free,
        )

    def look_and_take_later(self, free: int, asked_at: float) -> None:
        """The mistake of others: pick rows in one transaction and take them in the next."""
        with self.world.database.read() as connection:
            waits = sa.select(runs).where(
                runs.c.status == "PENDING", runs.c.available_at <= self.now
            )
            picked = connection.execute(waits.order_by(runs.c.id).limit(free)).all()

        def take() -> None:
            taken = []
            with self.world.database.write() as connection:
                for run in picked:
                    connection.execute(
                        runs.update().where(runs.c.id == run.id).values(
                            status="IN_PROGRESS", worker_id=self.name, claimed_at=self.now,
                            lease_until=self.now + self.world.settings.lease,
                            attempt=run.attempt + 1, lane=None,
                        )
                    )  # fmt: skip
                    taken.append(
                        Claim(run.id, run.job_id, run.attempt + 1, self.name, self.now,
                              run.scheduled_for, run.available_at, run.job_version, None)
                    )  # fmt: skip
            self.begin(taken, asked_at)

        self.world.after(0.02, take)

    def begin(self, taken: list[Claim], asked_at: float) -> None:
        world = self.world
        for claim in taken:
            is_long = world.rng.random() < world.plan.long
            length = world.rng.uniform(0.2, world.plan.longest if is_long else world.plan.usual)
            code = int(world.rng.random() < world.plan.failing)
            ends = world.seconds + length
            script = Script(claim, world.seconds, ends, code, self.local_deadline(asked_at))
            self.held[claim.run_id, claim.attempt] = script
            world.say(f"{self.name} begins run {claim.run_id}, attempt {claim.attempt}")
            self.watch(script)

    def watch(self, script: Script) -> None:
        """What the shim does: end the script at its end, or when its lease was not renewed."""
        world = self.world
        world.at(min(script.ends, script.kill_at), lambda: self.shim(script))

    def shim(self, script: Script) -> None:
        world = self.world
        if script.why:
            return
        if world.seconds >= script.ends:
            self.end_script(script, "exit")
            self.report(script)
        elif world.seconds >= script.kill_at:
            self.kill(script, "lease")
        else:
            self.watch(script)

    def kill(self, script: Script, why: str) -> None:
        world = self.world
        self.end_script(script, why, KILL_SECONDS)
        if why == "lease":
            world.say(f"{self.name} kills run {script.claim.run_id}: no lease")
            self.held.pop((script.claim.run_id, script.claim.attempt), None)
        else:
            world.after(KILL_SECONDS, lambda: self.report(script))

    def end_script(self, script: Script, why: str, later: float = 0.0) -> None:
        if not script.why:
            script.why = why
            key = script.claim.run_id, script.claim.attempt
            code = script.code if why == "exit" else None
            self.world.ledger[key].append((script.began, self.world.seconds + later, code))

    def report(self, script: Script) -> None:
        """Write the result, as soon as the process acts again; keep it when that fails."""
        world = self.world
        if not self.is_alive:
            return
        if world.seconds < self.hangs_until:
            world.at(self.hangs_until, lambda: self.report(script))
            return
        code = script.code if script.why == "exit" else None
        began, now = self.world.seconds - script.began, self.now
        result = Result(
            script.why, now - timedelta(seconds=began), now, code, f"exit code {code}", {}
        )
        self.spool.append((script, result))
        self.deliver()
        if self.more_waits:
            self.look()

    def deliver(self) -> None:
        world = self.world
        done = [(script.claim, result) for script, result in self.spool]
        if not done:
            return
        try:
            with world.write(self) as connection:
                claims.finish(connection, done, self.now, world.rng)
        except DatabaseUnavailable:
            return
        self.spool.clear()
        for claim, result in done:
            self.held.pop((claim.run_id, claim.attempt), None)
            world.say(f"{self.name} reports run {claim.run_id}: {result.ended_by}")


@cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobkit.db"
        migrations.upgrade(f"sqlite:///{path}")
        opened = sqlite3.connect(path)
        opened.execute("PRAGMA journal_mode = DELETE")  # a database in memory has no WAL
        image = opened.serialize()
        opened.close()
        return image


def _fresh_database() -> Database:
    database = Database("sqlite://")
    raw = database.engine.raw_connection()
    raw.driver_connection.deserialize(_template())  # type: ignore[union-attr]
    raw.close()
    return database


def simulate(seed: int, plan: Plan | None = None, fault: str = "") -> World:
    """Live one history."""
    world = World(seed, plan or Plan(), fault)
    with injected(fault, world):
        return world.run()


@contextmanager
def injected(fault: str, world: World) -> Iterator[None]:
    """Put one of the mistakes of others into the engine for a while."""
    from tests import mistakes

    with mistakes.made(fault, world):
        yield


def main() -> None:
    """Simulate many histories; print the first that breaks a law, and end with 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, help="one history, this one")
    parser.add_argument("--seeds", type=int, default=100, help="so many histories")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first seed")
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--fault", default="", help="a mistake to find")
    parser.add_argument("--history", action="store_true", help="print what happened")
    given = parser.parse_args()
    seeds = (
        [given.seed] if given.seed is not None else range(given.first, given.first + given.seeds)
    )
    total: dict[str, int] = defaultdict(int)
    began = time.monotonic()
    for seed in seeds:
        world = simulate(seed, Plan(hours=given.hours), given.fault)
        for name, count in world.counts.items():
            total[name] += count
        total["attempts"] += len(world.ledger)
        if given.history:
            print("\n".join(world.history))
        if found := world.breaches():
            print("\n".join(world.history[-200:]))
            print(f"seed {seed} breaks a law:", *found[:20], sep="\n  ")
            sys.exit(1)
        world.database.close()
    counts = ", ".join(f"{count} {name}" for name, count in total.items())
    print(f"{len(seeds)} histories, {counts}; no breach; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
