"""Adjustment: a workload with something changed about its jobs; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import cycle, islice
from typing import Any

from jobkit.analytics.queueing import ALONE
from jobkit.analytics.workload import NO_RULE, Rule, Workload
from jobkit.errors import BadInput
from jobkit.schedule import Schedule

_COLUMNS = ("at", "seconds", "lane", "queue", "priority", "overlap", "job", "slot")
_INSTANT = timedelta(microseconds=1)


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
        rule = load.rules.get(name, NO_RULE)
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
        if self._gone:
            new = range(len(self._load.arrivals.at), len(arrivals.at))
            order = [run for run in (*order, *new) if run not in self._gone]
        elif len(arrivals.at) > len(self._load.arrivals.at):
            order = [*order, *range(len(self._load.arrivals.at), len(arrivals.at))]
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
        if like is not None:
            lane, queue, priority = (columns[place][like] for place in (2, 3, 4))
        else:
            lane = ALONE if rule.overlap == "allow" else max(columns[2], default=-1) + 1
            queue, priority = self._queue(rule.queue), rule.priority
        instants = list(schedule.slots(load.start - _INSTANT, self._end() - _INSTANT))
        models = islice(cycle(sample or [-1]), len(instants))
        made = []
        for instant, model in zip(instants, models, strict=True):
            at, run = (instant - load.start).total_seconds(), len(columns[0])
            took = columns[1][model] if model >= 0 else 0.0
            values = (at, took, lane, queue, priority, rule.overlap, jobs.index(name), at)
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
