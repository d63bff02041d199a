"""Which slots a job should have had, by the schedule that it had at that time. Pure.

A version of a job's definition holds from its change on, up to and with the instant of the next
one: an edited or resumed schedule has its first slot after the edit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise
from operator import attrgetter
from typing import Any, Protocol

from jobkit.schedule import Schedule
from jobkit.store.definitions import schedule_in

MICROSECOND = timedelta(microseconds=1)
_SUMMED = re.compile(r"\d+ slots from (\S+) to (\S+) passed")


class Version(Protocol):
    """One state of a job's definition."""

    @property
    def job_id(self) -> int: ...
    @property
    def version(self) -> int: ...
    @property
    def changed_at(self) -> datetime: ...
    @property
    def definition(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class Period:
    """A stretch in which a job came due by one schedule: its slots in (began, ended]."""

    job_id: int
    schedule: Schedule
    began: datetime
    ended: datetime


@dataclass(frozen=True)
class Summed:
    """A row that stands for many missed slots."""

    job_id: int
    run_id: int
    reason: str
    first: datetime
    last: datetime


@dataclass
class Slots:
    """Slots of many jobs, as columns: microseconds since 1970."""

    job_id: list[int] = field(default_factory=list)
    slot: list[int] = field(default_factory=list)
    run_id: list[int] = field(default_factory=list)
    """Of the row that stands for the slot with others; none of slots that are due."""
    reason: list[str] = field(default_factory=list)

    def add(self, job_id: int, slots: Sequence[int]) -> None:
        """Add slots of a job."""
        self.job_id += [job_id] * len(slots)
        self.slot += slots


def periods(versions: Iterable[Version], until: datetime) -> Iterator[Period]:
    """Yield the stretches in which jobs were active; versions come by job and number."""
    for job_id, of_job in groupby(versions, key=attrgetter("job_id")):
        known = [(row.definition, row.changed_at) for row in of_job]
        for (definition, began), (_, ended) in pairwise([*known, ({}, until)]):
            if definition.get("is_active") and definition.get("schedule_type") != "manual":
                yield Period(job_id, schedule_in(definition), began, ended)


def due(found: Iterable[Period], start: datetime, end: datetime) -> Slots:
    """Return the slots of periods in [start, end)."""
    slots = Slots()
    for period in found:
        began, ended = max(period.began, start - MICROSECOND), min(period.ended, end - MICROSECOND)
        if began < ended:
            slots.add(period.job_id, period.schedule.stamps(began, ended))
    return slots


def summed(job_id: int, run_id: int, reason: str) -> Summed | None:
    """Read from a row's reason which slots it stands for; None when for its own only."""
    found = _SUMMED.match(reason)
    if found is None:
        return None
    first, last = (datetime.fromisoformat(at).astimezone(UTC) for at in found.groups())
    return Summed(job_id, run_id, reason, first, last)


def missed(rows: Iterable[tuple[Summed, Schedule]], start: datetime, end: datetime) -> Slots:
    """Return the slots in [start, end) that rows stand for, each with its job's schedule then."""
    slots = Slots()
    for row, schedule in rows:
        after, until = max(row.first, start) - MICROSECOND, min(row.last, end - MICROSECOND)
        stamps = schedule.stamps(after, until)
        slots.add(row.job_id, stamps)
        slots.run_id += [row.run_id] * len(stamps)
        slots.reason += [row.reason] * len(stamps)
    return slots
