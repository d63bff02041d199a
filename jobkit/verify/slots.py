"""Law 1: each slot of an active job has one run, or one row that says why not."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from jobkit.models import jobs, runs, versions
from jobkit.schedule import Schedule
from jobkit.store.definitions import SCHEDULE, schedule_in, schedule_of
from jobkit.verify.inspection import OURS, ByJob, Inspection, check

_REST = re.compile(r"^(\d+) slots from (\S+) to (\S+) passed")
_SCHEDULED: sa.ColumnElement[bool] = runs.c.trigger == "schedule"


@check(1, "a slot has one run")
def one_run_per_slot(it: Inspection) -> None:
    it.count_runs(_SCHEDULED)
    slots = (runs.c.job_id, runs.c.scheduled_for)
    statement = sa.select(*slots, sa.func.count()).where(it.made, _SCHEDULED)
    for job, slot, count in it.rows(statement.group_by(*slots).having(sa.func.count() > 1)):
        it.breach(f"job {job} has {count} runs for its slot {slot}")


@check(1, "a run's slot is one of its schedule, while that was active")
def on_the_grid(it: Inspection) -> None:
    columns = (runs.c.job_id, runs.c.scheduled_for, runs.c.id, runs.c.job_version)
    statement = sa.select(*columns).where(it.made, _SCHEDULED, OURS).order_by(*columns[:2])
    known = ByJob(it.rows(_VERSIONS))
    for job_id, of_job in groupby(it.rows(statement), key=attrgetter("job_id")):
        documents = {row.version: row.definition for row in known.take(job_id)}
        schedules = {version: schedule_in(document) for version, document in documents.items()}
        for run in of_job:
            if run.scheduled_for is None:
                it.breach(f"run {run.id} is of a schedule and has no slot")
            elif run.job_version in schedules:  # else told by law 8
                it.checked += 1
                _tell_off_grid(it, run, schedules[run.job_version])
                if not documents[run.job_version]["is_active"]:
                    it.breach(f"run {run.id} is of version {run.job_version}, which was paused")


def _tell_off_grid(it: Inspection, run: Any, schedule: Schedule) -> None:
    if schedule.next_after(run.scheduled_for - timedelta(microseconds=1)) != run.scheduled_for:
        it.breach(
            f"run {run.id} has the slot {run.scheduled_for}, which its schedule does not have"
        )


@check(1, "no slot was left out between two that were looked at")
def no_slot_left_out(it: Inspection) -> None:
    columns = (runs.c.job_id, runs.c.scheduled_for, runs.c.reason)
    of_slots = (_SCHEDULED, runs.c.scheduled_for.is_not(None))
    recorded = ByJob(it.rows(sa.select(*columns).where(*of_slots, OURS).order_by(*columns[:2])))
    known = ByJob(it.rows(_VERSIONS))
    cursors = sa.select(jobs.c.id, jobs.c.slots_until).order_by(jobs.c.id)
    for job_id, cursor in it.rows(cursors):
        rows = recorded.take(job_id)
        slots = [row.scheduled_for for row in rows]
        gaps = list(_gaps(rows))
        for period in _periods(known.take(job_id), cursor):
            for slot in _wanted(it, period, slots):
                it.checked += 1
                if not _holds(slots, slot) and not any(a <= slot <= b for a, b in gaps):
                    it.breach(f"job {job_id} has no row for its slot {slot}")


@check(1, "every slot before a job's next one was looked at")
def cursor_has_its_slot(it: Inspection) -> None:
    for job in it.rows(sa.select(jobs).where(jobs.c.is_active, jobs.c.deleted_at.is_(None))):
        it.checked += 1
        upcoming = schedule_of(job).next_after(job.slots_until)
        if upcoming != job.next_run:
            it.breach(f"job {job.id} comes next at {job.next_run}, its schedule at {upcoming}")


CHECKS = (one_run_per_slot, on_the_grid, no_slot_left_out, cursor_has_its_slot)

_VERSIONS = sa.select(
    versions.c.job_id, versions.c.version, versions.c.changed_at, versions.c.definition
).order_by(versions.c.job_id, versions.c.version)


@dataclass(frozen=True)
class _Period:
    """A stretch in which a job had one schedule."""

    schedule: Schedule
    began: datetime
    ended: datetime


def _periods(known: Sequence[Row[Any]], cursor: datetime) -> Iterator[_Period]:
    """Yield the stretches in which a job was active, each with its one schedule."""
    timings = [({name: row.definition.get(name) for name in _TIMING}, row) for row in known]
    changes = [
        (timing, row.changed_at)
        for index, (timing, row) in enumerate(timings)
        if index == 0 or timing != timings[index - 1][0]
    ]
    for (timing, began), (_, ended) in pairwise([*changes, ({}, cursor)]):
        if timing["is_active"] and timing["schedule_type"] != "manual":
            yield _Period(schedule_in(timing), began, ended)


_TIMING = (*SCHEDULE, "is_active")


def _wanted(it: Inspection, period: _Period, slots: Sequence[datetime]) -> Iterator[datetime]:
    """Yield the slots of a period that must have a row, given those of the job that have one."""
    since = max(period.began, it.scope.slots_since or period.began, it.scope.since or period.began)
    last = bisect_right(slots, period.ended) - 1
    # Slots after the last recorded one may not have been looked at when the schedule changed.
    if last >= 0 and slots[last] > since:
        yield from period.schedule.slots(since, slots[last])


def _gaps(rows: Sequence[Row[Any]]) -> Iterator[tuple[datetime, datetime]]:
    """Yield the bounds of slots that one row stands for."""
    for row in rows:
        if row.reason and (rest := _REST.match(row.reason)):
            yield datetime.fromisoformat(rest[2]), datetime.fromisoformat(rest[3])


def _holds(sorted_slots: Sequence[datetime], slot: datetime) -> bool:
    index = bisect_left(sorted_slots, slot)
    return index < len(sorted_slots) and sorted_slots[index] == slot
