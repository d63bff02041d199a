"""How fast a month of 200 hourly jobs is replayed, beside a plain queue without jobkit's rules.

    uv run python -m benchmarks.capacity

144,000 runs, three in a hundred of which are retried, are replayed on ever fewer slots. The
baseline is the least that a replay of a queue can be: first come, first served by the slot that is
free first, no priorities, lanes, overlap policies or retries. A simulation is a replay and its
figures, as a slider asks for it; the first one also replays what was recorded.
"""

from __future__ import annotations

import heapq
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from benchmarks.stand import show
from jobkit.analytics.capacity import Study, Team
from jobkit.analytics.queueing import Crew, in_order, replay
from jobkit.analytics.workload import AttemptColumns, Rule, RunColumns, workload

JOBS = 200
HOURS = 30 * 24
ROUNDS = 7


def month(seed: int = 1) -> tuple[RunColumns, AttemptColumns, dict[str, Rule]]:
    """Generate the runs of a month: most jobs on the hour, a minute and a half each."""
    dice = random.Random(seed)
    rows = []
    for job in range(JOBS):
        minute = dice.choice([0, 0, 15, 30, dice.randrange(60)])
        rows += [(hour * 3600 + minute * 60.0, f"job {job}") for hour in range(HOURS)]
    rows.sort()
    count, at = len(rows), [row[0] + dice.random() for row in rows]
    runs = RunColumns(
        list(range(count)), [row[1] for row in rows], ["COMPLETED"] * count,
        ["schedule"] * count, at, [row[0] for row in rows], ["default"] * count,
        [dice.choice([0, 0, 0, 5]) for _ in rows], [None] * count, [None] * count,
    )  # fmt: skip
    tries = []
    for run, came in enumerate(at):
        took = dice.lognormvariate(4.2, 0.7)
        tries.append((run, came, came, came + took))
        if dice.random() < 0.03:
            again = came + took + 30 + 3 * dice.random()
            tries.append((run, again, again, again + took))
    columns: list[list[Any]] = [list(column) for column in zip(*tries, strict=True)]
    policies = ("skip", "skip", "queue", "queue_all", "allow")
    rules = {f"job {job}": Rule(policies[job % len(policies)]) for job in range(JOBS)}
    return runs, AttemptColumns(*columns), rules


def plain(at: list[float], seconds: list[float], slots: int) -> list[float]:
    """Serve whoever comes first by the slot that is free first."""
    free = [0.0] * slots
    starts = []
    for came, took in zip(at, seconds, strict=True):
        start = max(came, free[0])
        heapq.heapreplace(free, start + took)
        starts.append(start)
    return starts


def timed(work: Callable[[], object]) -> list[float]:
    """Do it several times; milliseconds of the processor."""
    found = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        found.append((time.process_time() - began) * 1000)
    return found


def main() -> None:
    """Measure."""
    columns = month()
    start = datetime(2026, 3, 1, tzinfo=UTC)
    load = workload(start, HOURS * 3600, *columns)
    arrivals = load.arrivals
    print(f"{len(load.order):,} runs; processor time, milliseconds")
    show("columns to a workload", "ms", timed(lambda: workload(start, HOURS * 3600, *columns)))
    for slots in (40, 16, 8, 5):
        crews = [Crew(slots, (0,))]
        order = in_order(arrivals, load.order, crews)
        base = timed(lambda slots=slots: plain(arrivals.at, arrivals.seconds, slots))  # type: ignore[misc]
        ours = timed(lambda order=order, crews=crews: replay(arrivals, order, crews))  # type: ignore[misc]
        show(f"{slots} slots: plain queue", "ms", base)
        show(f"{slots} slots: replay", "ms", ours)
    study = Study(load, [Team(4, 4, ())])
    assert study.baseline.figures.started
    show("simulate, 8 workers of 1 slot", "ms", timed(lambda: study.simulate(8, 1)))
    moved = {"job 3": {"shift": "12m"}, "job 7": {"duration_factor": 2}}
    show("simulate, two jobs changed", "ms", timed(lambda: study.simulate(8, 1, moved)))
    began = time.process_time()
    needed = study.needed_workers("30s", slots=1)
    took = time.process_time() - began
    print(f"needed_workers: {needed} of one slot, {len(needed.tried)} replays, {took:.1f} s")
    began = time.process_time()
    found = study.suggest(workers=8, slots=1)
    print(f"suggest: {found!r}, {time.process_time() - began:.1f} s")


if __name__ == "__main__":
    main()
