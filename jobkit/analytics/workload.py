"""Workload: recorded runs as arrivals that can be replayed.

Pure: columns in, columns out. What a run would have done that never started (skipped, missed for
want of a worker, still waiting) is not recorded; it is given the median of its job.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from math import nan
from statistics import median

import polars as pl

from jobkit.analytics.queueing import ALONE, Arrivals
from jobkit.states import CAUGHT_UP

NOBODY_LOOKED = "nobody looked"
"""Slots that passed while no scheduler looked are no load: workers had nothing to do with them."""


@dataclass(frozen=True)
class Rule:
    """What of a job's definition decides how its runs wait."""

    overlap: str = "skip"
    start_deadline: float | None = None
    queue: str = "default"
    priority: int = 0


@dataclass(frozen=True)
class RunColumns:
    """Runs as they were recorded, in the order of their making; instants are seconds."""

    run_id: Sequence[int]
    job: Sequence[str]
    status: Sequence[str]
    trigger: Sequence[str]
    at: Sequence[float]
    slot: Sequence[float | None]
    queue: Sequence[str]
    priority: Sequence[int]
    reason: Sequence[str | None]
    backfill_id: Sequence[str | None]

    def only(self, places: Sequence[int]) -> RunColumns:
        """Return the runs at these places."""
        if len(places) == len(self.run_id):
            return self
        columns = {item.name: getattr(self, item.name) for item in fields(self)}
        return RunColumns(
            **{name: [column[place] for place in places] for name, column in columns.items()}
        )


@dataclass(frozen=True)
class AttemptColumns:
    """Their attempts, in their order; instants are seconds."""

    run_id: Sequence[int]
    queued: Sequence[float]
    claimed: Sequence[float]
    finished: Sequence[float]


@dataclass(frozen=True)
class Workload:
    """Runs that can be replayed, and what they are."""

    start: datetime
    seconds: float
    """How long the window is."""
    arrivals: Arrivals
    order: list[int]
    """The runs that come: in the order of their arrival, where no change has moved any."""
    jobs: list[str]
    job: list[int]
    """Of each run its job, as a place in `jobs`."""
    slot: list[float]
    """Of each run its slot; NaN for one that has none."""
    queues: list[str]
    rules: Mapping[str, Rule]
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Recorded runs that are not replayed: why, and how many."""

    @cached_property
    def at_series(self) -> pl.Series:
        """When each run was made."""
        return pl.Series(self.arrivals.at, dtype=pl.Float64)

    @cached_property
    def slot_series(self) -> pl.Series:
        """The slot of each run; NaN for one that has none."""
        return pl.Series(self.slot, dtype=pl.Float64)

    @cached_property
    def of_job(self) -> dict[str, list[int]]:
        """The runs of each job."""
        found: dict[int, list[int]] = defaultdict(list)
        for run in self.order:
            found[self.job[run]].append(run)
        return {self.jobs[job]: runs for job, runs in found.items()}


def workload(
    start: datetime,
    seconds: float,
    runs: RunColumns,
    attempts: AttemptColumns,
    rules: Mapping[str, Rule],
) -> Workload:
    """Make a workload of what was recorded in a window."""
    # Whole columns at a time: a month of many jobs is read while somebody waits.
    first, more = _attempts(attempts)
    seconds_of, left_out = _seconds(runs, first)
    runs = runs.only([place for place, took in enumerate(seconds_of) if took is not None])
    jobs, queues = list(dict.fromkeys(runs.job)), list(dict.fromkeys(runs.queue))
    job_of, queue_of = _places(jobs), _places(queues)
    overlaps = {name: rules.get(name, NO_RULE).overlap for name in jobs}
    is_slot = [trigger == "schedule" for trigger in runs.trigger]
    arrivals = Arrivals(
        at=list(runs.at),
        seconds=[took for took in seconds_of if took is not None],
        lane=_lanes(runs, overlaps),
        queue=[queue_of[name] for name in runs.queue],
        priority=list(runs.priority),
        overlap=[
            overlaps[name] if planned else _BY_HAND.get(trigger, "wait")
            for name, planned, trigger in zip(runs.job, is_slot, runs.trigger, strict=True)
        ],
        gives_way=_giving_way(runs),
        again={place: more[run] for place, run in enumerate(runs.run_id) if run in more},
        deadline=_deadlines(runs, is_slot, rules),
    )
    slots = [
        slot if planned and slot is not None else nan
        for planned, slot in zip(is_slot, runs.slot, strict=True)
    ]
    order = sorted(range(len(arrivals.at)), key=arrivals.at.__getitem__)
    job = [job_of[name] for name in runs.job]
    return Workload(start, seconds, arrivals, order, jobs, job, slots, queues, rules, left_out)


NO_RULE = Rule()
_BY_HAND = {"manual": "manual"}


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _attempts(
    attempts: AttemptColumns,
) -> tuple[dict[int, float], dict[int, list[tuple[float, float]]]]:
    """Return how long the first attempt of each run held its slot, and its further attempts.

    Of those the delay before each, and how long it held its slot.
    """
    first: dict[int, float] = {}
    more: dict[int, list[tuple[float, float]]] = {}
    ended: dict[int, float] = {}
    for run_id, queued, claimed, finished in zip(
        attempts.run_id, attempts.queued, attempts.claimed, attempts.finished, strict=True
    ):
        took = finished - claimed if finished > claimed else 0.0
        if run_id in first:
            delay = max(queued - ended[run_id], 0.0)
            more.setdefault(run_id, []).append((delay, took))
        else:
            first[run_id] = took
        ended[run_id] = finished
    return first, more


def _seconds(
    runs: RunColumns, first: Mapping[int, float]
) -> tuple[list[float | None], dict[str, int]]:
    """Return how long each run held its slot at first; of those left out, why and how many."""
    found: list[float | None] = [first.get(run_id) for run_id in runs.run_id]
    if None not in found:
        return found, {}
    of_job: dict[str, list[float]] = defaultdict(list)
    for name, took in zip(runs.job, found, strict=True):
        if took is not None:
            of_job[name].append(took)
    usual = {name: median(seconds) for name, seconds in of_job.items()}
    left_out: dict[str, int] = defaultdict(int)
    for place, took in enumerate(found):
        if took is None:
            why = _left_out(runs.status[place], runs.reason[place] or "")
            found[place] = None if why else usual.get(runs.job[place])
            if found[place] is None:
                left_out[why or "of jobs of which nothing ever started"] += 1
    return found, dict(left_out)


def _left_out(status: str, reason: str) -> str:
    """Say why a run that never started is no load."""
    if status == "MISSED" and NOBODY_LOOKED in reason:
        return "passed while nobody looked"
    if status == "CANCELLED" and not reason.startswith("replaced"):
        return "cancelled before they started"
    return ""


def _lanes(runs: RunColumns, overlaps: Mapping[str, str]) -> list[int]:
    """Return the lane of each run: its job's, or where overlap is allowed that of its backfill."""
    places = _places([name for name, policy in overlaps.items() if policy != "allow"])
    lanes = [places.get(name, ALONE) for name in runs.job]
    of_backfill: dict[str, int] = {}
    for place, backfill in enumerate(runs.backfill_id):
        if backfill is not None and lanes[place] == ALONE:
            lanes[place] = of_backfill.setdefault(backfill, len(places) + len(of_backfill))
    return lanes


def _giving_way(runs: RunColumns) -> frozenset[int]:
    return frozenset(
        place
        for place, (trigger, reason) in enumerate(zip(runs.trigger, runs.reason, strict=True))
        if trigger == "backfill" or reason == CAUGHT_UP
    )


def _deadlines(
    runs: RunColumns, is_slot: Sequence[bool], rules: Mapping[str, Rule]
) -> dict[int, float]:
    limits = {
        name: rule.start_deadline for name, rule in rules.items() if rule.start_deadline is not None
    }
    if not limits:
        return {}
    return {
        place: slot + limits[name]
        for place, (name, slot) in enumerate(zip(runs.job, runs.slot, strict=True))
        if name in limits and is_slot[place] and slot is not None
    }
