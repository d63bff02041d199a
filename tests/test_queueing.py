"""The replay waits as queues of known truth do, and starts each run when the real statements do."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from jobkit.analytics.queueing import ALONE, Arrivals, Crew, Replayed, in_order, replay
from jobkit.analytics.workload import AttemptColumns, Rule, RunColumns, Workload, workload
from jobkit.models import attempts, jobs, runs
from jobkit.store import claims
from jobkit.store.claims import Claim, Result
from tests.stage import MONDAY, Stage

# Queues whose truth is known


def poisson(seed: int, count: int, rate: float) -> list[float]:
    dice, now, at = random.Random(seed), 0.0, []
    for _ in range(count):
        now += dice.expovariate(rate)
        at.append(now)
    return at


def side_by_side(at: list[float], seconds: list[float], **more: Any) -> Arrivals:
    count = len(at)
    same: dict[str, Any] = {
        "lane": [ALONE] * count,
        "queue": [0] * count,
        "priority": [0] * count,
        "overlap": ["skip"] * count,
    }
    return Arrivals(at, seconds, **same | more)


def served(arrivals: Arrivals, slots: int) -> Replayed:
    return replay(arrivals, range(len(arrivals.at)), [Crew(slots, (0,))])


def p95(waits: Sequence[float]) -> float:
    return sorted(waits)[int(0.95 * len(waits))]


def waits(arrivals: Arrivals, found: Replayed) -> list[float]:
    return [began - came for began, came in zip(found.start, arrivals.at, strict=True)]


def erlang_p95(rate: float, mean: float, slots: int) -> float:
    """The 95th percentile of the wait of M/M/c, by Erlang's C formula."""
    load = rate * mean
    terms = [load**k / math.factorial(k) for k in range(slots)]
    last = load**slots / math.factorial(slots) * slots / (slots - load)
    waiting = last / (sum(terms) + last)
    return math.log(waiting / 0.05) * mean / (slots - load)


def steady_p95(rate: float, seconds: float) -> float:
    """The 95th percentile of the wait of M/D/1, by Erlang's distribution of 1909."""
    load = rate * seconds

    def share(wait: float) -> float:
        steps = range(int(wait / seconds) + 1)
        terms = (
            (rate * (k * seconds - wait)) ** k
            / math.factorial(k)
            * math.exp(-rate * (k * seconds - wait))
            for k in steps
        )
        return (1 - load) * sum(terms)

    low, high = 0.0, 50 * seconds
    while high - low > seconds / 1000:
        middle = (low + high) / 2
        low, high = (middle, high) if share(middle) < 0.95 else (low, middle)
    return low


@pytest.mark.parametrize(("slots", "rate"), [(1, 0.007), (4, 0.034), (16, 0.148)])
def test_exponential_work_waits_as_erlang_says(slots: int, rate: float) -> None:
    dice, at = random.Random(1), poisson(2, 200_000, rate)
    arrivals = side_by_side(at, [dice.expovariate(0.01) for _ in at])
    known = erlang_p95(rate, 100, slots)
    assert p95(waits(arrivals, served(arrivals, slots))) == pytest.approx(known, rel=0.15)


def test_steady_work_waits_as_erlang_says() -> None:
    at = poisson(3, 200_000, 0.008)
    arrivals = side_by_side(at, [100.0] * len(at))
    assert p95(waits(arrivals, served(arrivals, 1))) == pytest.approx(
        steady_p95(0.008, 100), rel=0.15
    )


def test_steady_work_on_many_slots_waits_about_half_as_long_as_exponential_work() -> None:
    """M/D/c: the mean wait by Cosmetatos' approximation, which is good to a few per cent."""
    rate, slots, load = 0.034, 4, 0.85
    at = poisson(4, 200_000, rate)
    arrivals = side_by_side(at, [100.0] * len(at))
    found = waits(arrivals, served(arrivals, slots))
    terms = [3.4**k / math.factorial(k) for k in range(slots)]
    last = 3.4**slots / math.factorial(slots) / (1 - load)
    exponential = last / (sum(terms) + last) * 100 / (slots * (1 - load))
    factor = 1 + (1 - load) * (slots - 1) * (math.sqrt(4 + 5 * slots) - 2) / (16 * load * slots)
    assert sum(found) / len(found) == pytest.approx(exponential / 2 * factor, rel=0.05)


# Rules, one by one


def test_the_more_urgent_goes_first_and_then_the_older() -> None:
    arrivals = side_by_side([0, 1, 2, 3], [10, 10, 10, 10], priority=[0, 0, 5, 0])
    assert served(arrivals, 1).start == [0, 20, 10, 30]


def test_a_worker_looks_into_its_queues_in_their_order() -> None:
    arrivals = side_by_side([0, 1, 2], [10, 10, 10], queue=[0, 1, 0])
    assert replay(arrivals, range(3), [Crew(1, (0, 1))]).start == [0, 20, 10]
    assert replay(arrivals, range(3), [Crew(1, (0,)), Crew(1, (1, 0))]).start == [0, 1, 10]
    assert replay(arrivals, range(3), [Crew(1, (0,))]).start == [0, -1, 10]


@pytest.mark.parametrize(
    ("policy", "start"),
    [
        ("skip", [0, -1, -1, 30]),
        ("queue", [0, 10, -1, 30]),
        ("queue_all", [0, 10, 20, 30]),
        ("wait", [0, 10, 20, 30]),
        ("replace", [0, 2, 4, 30]),
    ],
)
def test_a_taken_lane_is_met_by_the_overlap_policy(policy: str, start: list[float]) -> None:
    arrivals = side_by_side([0, 2, 4, 30], [10] * 4, lane=[0] * 4, overlap=[policy] * 4)
    found = served(arrivals, 4)
    assert found.start == start
    assert len(found.skipped) == start.count(-1)
    assert found.busy == (24 if policy == "replace" else 10 * (4 - start.count(-1)))


def test_a_retry_holds_its_lane_and_comes_after_its_delay() -> None:
    arrivals = side_by_side(
        [0, 5, 15], [10, 10, 10], lane=[0, 0, 0], again={0: [(30, 10)]}, overlap=["skip"] * 3
    )
    found = served(arrivals, 1)
    assert found.start == [0, -1, -1]
    assert found.busy == 20
    manual = side_by_side(
        [0, 15], [10, 100], lane=[0, 0], again={0: [(30, 10)]}, overlap=["skip", "manual"]
    )
    found = served(manual, 2)
    assert found.start == [0, 15]  # a person does not wait for the delay
    assert found.rewaits == [(0, 75.0)]  # and the retry, due at 40, waits for the person's run


def test_what_is_not_started_by_its_deadline_is_missed() -> None:
    arrivals = side_by_side([0, 1, 2], [10, 10, 10], deadline={1: 9, 2: 11})
    found = served(arrivals, 1)
    assert (found.start, found.missed) == ([0, -1, 10], [1])


def test_a_waiting_backfill_skips_no_slot() -> None:
    arrivals = side_by_side(
        [0, 1, 2, 3], [10] * 4, lane=[0, 1, 1, 1], priority=[0, -100, 0, 0],
        overlap=["skip", "wait", "skip", "skip"], gives_way=frozenset({1}),
    )  # fmt: skip
    found = served(arrivals, 1)
    assert (found.start, found.skipped) == ([0, 20, 10, -1], [3])


# The real statements


class Lived:
    """What the real scheduler's and workers' functions make of jobs, on a literal clock."""

    def __init__(self, stage: Stage, seed: int, slots: int) -> None:
        self.stage, self.dice, self.slots = stage, random.Random(seed), slots
        self.held: list[tuple[datetime, int, Claim]] = []

    def live(self, hours: float) -> None:
        end = MONDAY + timedelta(hours=hours)
        manual = sorted(MONDAY + self.dice.random() * timedelta(hours=hours) for _ in range(30))
        while True:
            now = min(self._next(manual), end + timedelta(days=1))
            if now > end + timedelta(hours=12):
                return
            if now > end:
                for job in self.stage.kit.jobs:
                    job.pause()
            self.stage.clock.turn_to(now)
            self._finish(now)
            self._claim(now)
            while manual and manual[0] <= now:
                manual.pop(0)
                self.stage.kit.submit(f"job {self.dice.randrange(6)}")
            self.stage.tick()
            self._claim(now)

    def _next(self, manual: list[datetime]) -> datetime:
        with self.stage.kit.database.read() as connection:
            due = connection.scalar(sa.select(sa.func.min(jobs.c.next_run)).where(jobs.c.is_active))
            later = claims.next_available(
                connection, ["default", "etl"], after=self.stage.clock.now()
            )
        coming = [*manual[:1], *(end for end, _, _ in self.held[:1]), *later]
        return min(
            [*coming, *([due] if due is not None else [])],
            default=datetime.max.replace(tzinfo=MONDAY.tzinfo),
        )

    def _finish(self, now: datetime) -> None:
        while self.held and self.held[0][0] <= now:
            _, _, claim = heapq.heappop(self.held)
            code = int(self.dice.random() < 0.15)
            result = Result("exit", claim.claimed_at, now, code, "failed" if code else "")
            with self.stage.kit.database.write() as connection:
                claims.finish(connection, [(claim, result)], now, self.dice)

    def _claim(self, now: datetime) -> None:
        for queue in ("etl", "default"):
            free = self.slots - len(self.held)
            for claim in self.stage.claim("w1", free, queue) if free else ():
                took = timedelta(seconds=round(self.dice.lognormvariate(5, 0.8), 3))
                heapq.heappush(self.held, (now + took, claim.run_id, claim))


def recorded(stage: Stage) -> tuple[Workload, dict[int, tuple[str, datetime | None]]]:
    """Read what was lived as a workload, and of each run its status and its first start."""
    with stage.kit.database.read() as connection:
        rows = connection.execute(
            sa.select(runs, jobs.c.name).join(jobs, jobs.c.id == runs.c.job_id).order_by(runs.c.id)
        ).all()
        tries = connection.execute(sa.select(attempts).order_by(attempts.c.id)).all()
        known = connection.execute(sa.select(jobs)).all()

    def since(instant: datetime) -> float:
        return (instant - MONDAY).total_seconds()

    columns = RunColumns(
        [row.id for row in rows], [row.name for row in rows], [row.status for row in rows],
        [row.trigger for row in rows], [since(row.created_at) for row in rows],
        [row.scheduled_for and since(row.scheduled_for) for row in rows],
        [row.queue for row in rows], [row.priority for row in rows],
        [row.reason for row in rows], [row.backfill_id for row in rows],
    )  # fmt: skip
    ended = AttemptColumns(
        [row.dispatch_id for row in tries], [since(row.queued_at) for row in tries],
        [since(row.claimed_at) for row in tries], [since(row.finished_at) for row in tries],
    )  # fmt: skip
    rules = {job.name: Rule(job.overlap_policy, job.start_deadline_seconds) for job in known}
    first = {row.dispatch_id: row.claimed_at for row in reversed(tries)}
    lived = {row.id: (row.status, first.get(row.id)) for row in rows}
    return workload(MONDAY, 6 * 3600, columns, ended, rules), lived


@pytest.mark.parametrize(("seed", "slots"), [(1, 3), (2, 4), (3, 6)])
def test_each_run_starts_when_the_real_statements_start_it(
    stage: Stage, seed: int, slots: int
) -> None:
    policies = ("skip", "queue", "queue_all", "allow", "skip", "queue")
    for number, policy in enumerate(policies):
        stage.job(
            f"job {number}",
            every=f"{3 + 2 * number}m",
            overlap=policy,
            priority=number % 3,
            queue="etl" if number % 2 else "default",
            retries=2,
            start_deadline="4m" if number == 4 else None,
        )
    Lived(stage, seed, slots).live(hours=6)
    load, lived = recorded(stage)
    order = [load.queues.index("etl"), load.queues.index("default")]
    crews = [Crew(slots, tuple(order))]
    found = replay(load.arrivals, in_order(load.arrivals, load.order, crews), crews)
    assert not load.left_out
    assert len(lived) > 250
    run_ids = list(lived)
    skipped = {run_ids[run] for run in found.skipped}
    assert skipped == {run for run, (status, _) in lived.items() if status == "SKIPPED"}
    missed = {run_ids[run] for run in found.missed}
    assert missed == {run for run, (status, _) in lived.items() if status == "MISSED"}
    for place, (_, began) in enumerate(lived.values()):
        if began is not None:
            assert found.start[place] == pytest.approx((began - MONDAY).total_seconds(), abs=0.01)
    waited = [wait for wait in (s - a for s, a in zip(found.start, load.arrivals.at, strict=True))]
    assert p95(waited) > 60
