"""Workload: recorded runs as arrivals that can be replayed, and the same with something changed.

Pure: columns in, columns out. What a run would have done that never started (skipped, missed for
want of a worker, still waiting) is not recorded; it is given the median of its job.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from itertools import cycle, islice
from math import nan
from statistics import median
from typing import Any

from jobkit.analytics.queueing import ALONE, Arrivals
from jobkit.errors import BadInput
from jobkit.schedule import Schedule
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
    schedule: Schedule | None = None


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
    """The runs in the order of their arrival."""
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
    tried = _attempts(attempts)
    usual = _medians(runs, tried)
    jobs = list(dict.fromkeys(runs.job))
    queues = list(dict.fromkeys(runs.queue))
    job_of, queue_of = _places(jobs), _places(queues)
    lanes: dict[tuple[str, str | None], int] = {}
    left_out: dict[str, int] = defaultdict(int)
    columns: dict[str, list[Any]] = {name: [] for name in _COLUMNS}
    again: dict[int, list[tuple[float, float]]] = {}
    gives_way: set[int] = set()
    deadline: dict[int, float] = {}
    for place, run_id in enumerate(runs.run_id):
        name, slot = runs.job[place], runs.slot[place]
        took = tried.get(run_id) or _imagined(runs, place, usual.get(name))
        if isinstance(took, str):
            left_out[took] += 1
            continue
        number, rule = len(columns["at"]), rules.get(name, _NO_RULE)
        is_slot = runs.trigger[place] == "schedule"
        values = (
            runs.at[place],
            took[0][1],
            _lane(lanes, name, rule, runs.backfill_id[place]),
            queue_of[runs.queue[place]],
            runs.priority[place],
            rule.overlap if is_slot else _BY_HAND.get(runs.trigger[place], "wait"),
            job_of[name],
            nan if slot is None or not is_slot else slot,
        )
        for column, value in zip(_COLUMNS, values, strict=True):
            columns[column].append(value)
        if len(took) > 1:
            again[number] = took[1:]
        if runs.trigger[place] == "backfill" or runs.reason[place] == CAUGHT_UP:
            gives_way.add(number)
        if is_slot and slot is not None and rule.start_deadline is not None:
            deadline[number] = slot + rule.start_deadline
    arrivals = Arrivals(
        **{name: columns[name] for name in _COLUMNS[:6]},
        gives_way=frozenset(gives_way),
        again=again,
        deadline=deadline,
    )
    order = sorted(range(len(arrivals.at)), key=arrivals.at.__getitem__)
    return Workload(
        start, seconds, arrivals, order, jobs, columns["job"], columns["slot"], queues,
        rules, dict(left_out),
    )  # fmt: skip


_COLUMNS = ("at", "seconds", "lane", "queue", "priority", "overlap", "job", "slot")
_NO_RULE = Rule()
_BY_HAND = {"manual": "manual"}


def _places(names: Sequence[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _attempts(attempts: AttemptColumns) -> dict[int, list[tuple[float, float]]]:
    """Return of each run its attempts: the delay before each, and how long it held its slot."""
    found: dict[int, list[tuple[float, float]]] = {}
    ended: dict[int, float] = {}
    for run_id, queued, claimed, finished in zip(
        attempts.run_id, attempts.queued, attempts.claimed, attempts.finished, strict=True
    ):
        delay = max(queued - ended.get(run_id, queued), 0.0)
        found.setdefault(run_id, []).append((delay, max(finished - claimed, 0.0)))
        ended[run_id] = finished
    return found


def _medians(
    runs: RunColumns, tried: Mapping[int, Sequence[tuple[float, float]]]
) -> dict[str, float]:
    seconds: dict[str, list[float]] = defaultdict(list)
    for run_id, name in zip(runs.run_id, runs.job, strict=True):
        if took := tried.get(run_id):
            seconds[name].append(took[0][1])
    return {name: median(of) for name, of in seconds.items()}


def _imagined(runs: RunColumns, place: int, usual: float | None) -> list[tuple[float, float]] | str:
    """Return what a run without an attempt would have taken, or why it is left out."""
    status, reason = runs.status[place], runs.reason[place] or ""
    if status == "MISSED" and NOBODY_LOOKED in reason:
        return "passed while nobody looked"
    if status == "CANCELLED" and not reason.startswith("replaced"):
        return "cancelled before they started"
    if usual is None:
        return "of jobs of which nothing ever started"
    return [(0.0, usual)]


def _lane(
    lanes: dict[tuple[str, str | None], int], job: str, rule: Rule, backfill_id: str | None
) -> int:
    """Return the lane of a run: its job's, or where overlap is allowed that of its backfill."""
    if rule.overlap != "allow":
        return lanes.setdefault((job, None), len(lanes))
    return ALONE if backfill_id is None else lanes.setdefault((job, backfill_id), len(lanes))


# Changes


@dataclass(frozen=True)
class Change:
    """What is different about one job."""

    shift: float = 0.0
    """Its slots come so many seconds later, or earlier."""
    schedule: Schedule | None = None
    """Its slots come by another schedule."""
    duration_factor: float = 1.0
    duration: float | None = None
    """Each attempt takes so many seconds."""
    priority: int | None = None
    queue: str | None = None
    overlap: str | None = None
    is_off: bool = False
    """It does not run at all."""


def changed(load: Workload, changes: Mapping[str, Change]) -> Workload:
    """Return the workload as it would have been with these changes.

    A job that is not in it may be added by a change with a schedule and a duration.
    """
    edit = _Edit(load)
    for name, change in changes.items():
        edit.apply(name, change)
    return edit.result()


class _Edit:
    """Columns of a workload that are copied once, when the first change of them comes."""

    def __init__(self, load: Workload) -> None:
        self._load = load
        self._arrivals = load.arrivals
        self._columns: dict[str, Any] = {}
        self._gone: set[int] = set()

    def apply(self, name: str, change: Change) -> None:
        """Change the runs of one job."""
        load = self._load
        runs = load.of_job.get(name, [])
        if not runs and (change.schedule is None or change.duration is None):
            raise BadInput(
                f"No run of {name!r} was recorded in this window.",
                "To add a job, give its schedule and its duration.",
            )
        rule = load.rules.get(name, _NO_RULE)
        if change.is_off:
            self._gone.update(runs)
            return
        if change.schedule is not None:
            runs = self._reschedule(name, runs, change.schedule, rule)
        if change.shift:
            self._shift([run for run in runs if self._slots()[run] == self._slots()[run]], change)
        self._take(runs, change)
        for column, value in (("priority", change.priority), ("queue", self._queue(change.queue))):
            if value is not None:
                values = self._own(column)
                for run in runs:
                    values[run] = value
        if change.overlap is not None:
            self._overlap(name, runs, change.overlap)

    def result(self) -> Workload:
        """Return the changed workload."""
        own = self._columns
        arrivals = replace(
            self._arrivals, **{name: own[name] for name in own if hasattr(self._arrivals, name)}
        )
        more = {name: own[name] for name in ("job", "slot", "jobs", "queues") if name in own}
        order = self._load.order
        if "at" in own or self._gone:
            kept: Any = (run for run in range(len(arrivals.at)) if run not in self._gone)
            order = sorted(kept, key=arrivals.at.__getitem__)
        return replace(self._load, arrivals=arrivals, order=order, **more)

    def _own(self, column: str) -> Any:
        if column not in self._columns:
            value = getattr(
                self._arrivals if hasattr(self._arrivals, column) else self._load, column
            )
            self._columns[column] = dict(value) if isinstance(value, Mapping) else list(value)
        return self._columns[column]

    def _slots(self) -> list[float]:
        slots: list[float] = self._columns.get("slot", self._load.slot)
        return slots

    def _queue(self, name: str | None) -> int | None:
        if name is None:
            return None
        queues: list[str] = self._own("queues")
        if name not in queues:
            queues.append(name)
        return queues.index(name)

    def _shift(self, runs: list[int], change: Change) -> None:
        at, slot, deadline = self._own("at"), self._own("slot"), self._own("deadline")
        for run in runs:
            at[run] += change.shift
            slot[run] += change.shift
            if run in deadline:
                deadline[run] += change.shift

    def _take(self, runs: list[int], change: Change) -> None:
        if change.duration is None and change.duration_factor == 1:
            return
        seconds, again = self._own("seconds"), self._own("again")
        for run in runs:
            seconds[run] = self._taken(seconds[run], change)
            if run in again:
                again[run] = [(delay, self._taken(took, change)) for delay, took in again[run]]

    @staticmethod
    def _taken(seconds: float, change: Change) -> float:
        return (seconds if change.duration is None else change.duration) * change.duration_factor

    def _overlap(self, name: str, runs: list[int], policy: str) -> None:
        overlap, lane = self._own("overlap"), self._own("lane")
        was = {lane[run] for run in runs} - {ALONE}
        own_lane = min(was, default=max(lane, default=-1) + 1)
        for run in runs:
            lane[run] = ALONE if policy == "allow" else own_lane
            if overlap[run] not in ("wait", "manual"):
                overlap[run] = policy

    def _reschedule(self, name: str, runs: list[int], schedule: Schedule, rule: Rule) -> list[int]:
        """Replace a job's slots by those of another schedule; their durations come in turn."""
        load, slots = self._load, self._slots()
        old = [run for run in runs if slots[run] == slots[run]]
        self._gone.update(old)
        columns = [self._own(column) for column in _COLUMNS]
        again = self._own("again")
        jobs = self._own("jobs")
        if name not in jobs:
            jobs.append(name)
        sample = old or runs
        like = sample[0] if sample else None
        lane = columns[2][like] if like is not None else max(columns[2], default=-1) + 1
        if like is None and rule.overlap == "allow":
            lane = ALONE
        queue = columns[3][like] if like is not None else self._queue(rule.queue)
        instants = list(schedule.slots(load.start - timedelta(microseconds=1), self._end()))
        models = islice(cycle(sample or [-1]), len(instants))
        made = []
        for instant, model in zip(instants, models, strict=True):
            at, run = (instant - load.start).total_seconds(), len(columns[0])
            took = columns[1][model] if model >= 0 else 0.0
            values = (at, took, lane, queue, rule.priority, rule.overlap, jobs.index(name), at)
            for column, value in zip(columns, values, strict=True):
                column.append(value)
            if model in again:
                again[run] = again[model]
            if rule.start_deadline is not None:
                self._own("deadline")[run] = at + rule.start_deadline
            made.append(run)
        return made + [run for run in runs if run not in self._gone]

    def _end(self) -> datetime:
        return self._load.start + timedelta(seconds=self._load.seconds)
