"""Jobs for a made-up history: some hundreds, a few of which run most of the time (Zipf)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from jobkit.schedule import Schedule
from jobkit.store.definitions import SCHEDULE
from jobkit.testing.words import SUBJECTS, VERBS

MOST_JOBS = 300
RUNS_A_JOB = 100
ON_DEMAND = 1 / 20
"""The part of all jobs that people start, and no schedule."""
SCHEDULED_PART = 0.93
"""The part of all attempts that schedules make."""
ATTEMPTS_A_SLOT = 1.04
DAY = 86400.0
ZONES = ("UTC", "Europe/Paris", "UTC", "America/New_York", "UTC", "Asia/Tokyo")
OVERLAPS = ("skip", "skip", "queue", "skip", "allow", "queue_all")
TAGS = (["sales"], ["sales", "daily figures"], None, ["finance"], ["finance", "close"])
MISFIRES = ("latest", "latest", "all", "skip")
FIELDS = {"type": "schedule_type", "anchor": "anchor_at", "time": "schedule_time"}


@dataclass
class Planned:
    """A job before it is written: its columns, its schedule, and how it behaves."""

    columns: dict[str, Any]
    schedule: Schedule
    median_seconds: float
    flakiness: float
    """How many times as often as others it fails."""
    edited_at: datetime | None = None

    @property
    def is_on_demand(self) -> bool:
        return self.schedule.type == "manual"


def plan(attempts: int, start: datetime, end: datetime, rng: random.Random) -> list[Planned]:
    """Plan jobs whose slots in (start, end] make most of so many attempts, and some on demand."""
    count = max(3, min(MOST_JOBS, attempts // RUNS_A_JOB))
    weights = [1 / (rank + 1) ** 1.05 for rank in range(count)]
    wanted = SCHEDULED_PART * attempts / ATTEMPTS_A_SLOT
    rate = wanted / ((end - start).total_seconds() / DAY) / sum(weights)
    for _ in range(4):  # schedules come in steps: nearer each time
        schedules = [_schedule(index, rate * part, start) for index, part in enumerate(weights)]
        made = sum(schedule.count(start, end) for schedule in schedules)
        if 0.98 * wanted <= made <= wanted:
            break
        rate *= 0.99 * wanted / max(made, 1)
    planned = [_job(index, schedule, rng) for index, schedule in enumerate(schedules)]
    demands = max(1, int(count * ON_DEMAND))
    planned += [_job(count + index, Schedule("manual"), rng) for index in range(demands)]
    planned.append(_long(count + demands))
    for index in range(3, count, 10):
        planned[index].edited_at = start + (end - start) * rng.uniform(0.3, 0.7)
    return planned


def _schedule(index: int, a_day: float, start: datetime) -> Schedule:
    """Return a schedule that comes about so often, of a kind that such jobs have."""
    zone, minute, hour = ZONES[index % len(ZONES)], index * 7 % 60, index * 5 % 24
    clock = f"{hour:02d}:{minute:02d}"
    if a_day >= 18:
        if a_day < 34 and index % 3 == 0:
            return Schedule("hourly", zone, time=f"{minute:02d}")
        if 34 <= a_day < 60 and index % 3 == 1:
            return Schedule("cron", zone, cron="*/30 * * * *")
        seconds = DAY / a_day
        step = 60 if seconds > 600 else 5 if seconds > 60 else 1
        return Schedule(
            "interval", zone, max(1, round(seconds / step)) * step, start + timedelta(seconds=index)
        )
    if a_day >= 4:
        every = min((2, 3, 4, 6), key=lambda hours: abs(24 / hours - a_day))
        if index % 5 == 2:
            return Schedule("interval", zone, every * 3600, start)
        if index % 4 == 1:
            return Schedule("cron", zone, cron=f"{minute} 8-17 * * 1-5")
        return Schedule("cron", zone, cron=f"{minute} */{every} * * *")
    if a_day >= 0.5:
        return Schedule("daily", zone, time=clock)
    if a_day >= 0.08:
        return Schedule("weekly", zone, time=clock, day=index % 7)
    return Schedule("monthly", zone, time=clock, day=1 + index % 31)


def _job(index: int, schedule: Schedule, rng: random.Random) -> Planned:
    subject, verb = SUBJECTS[index % len(SUBJECTS)], VERBS[index // 3 % len(VERBS)]
    often = schedule.interval_seconds or 3600
    median = min(rng.lognormvariate(3.2, 1.2), 0.25 * often, 500.0)
    policy = "allow" if schedule.type == "manual" else OVERLAPS[index % len(OVERLAPS)]
    columns = {
        "name": f"{verb}_{subject}_{index:03d}",
        "script_path": f"{subject}/{verb}_{subject}.py",
        "queue": "heavy" if index % 9 == 4 else "default",
        "tags": TAGS[index % len(TAGS)],
        "timeout_seconds": max(60.0, round(8 * median)),
        "max_retries": (0, 1, 2, 3)[index % 4],
        "retry_delay_seconds": (5.0, 30.0, 60.0)[index % 3],
        "misfire_policy": MISFIRES[index % len(MISFIRES)],
        "overlap_policy": policy,
        "start_deadline_seconds": 600.0 if index % 11 == 6 else None,
        "params": {"region": "eu"} if index % 4 == 2 else None,
        **{name: getattr(schedule, _field(name)) for name in SCHEDULE},
    }
    return Planned(columns, schedule, max(0.2, median), 5.0 if index % 37 == 19 else 1.0)


def _long(index: int) -> Planned:
    """Return a job that takes hours: some of its runs are open at the end."""
    job = _job(index, Schedule("manual"), random.Random(0))  # noqa: S311 - a history, no secret
    job.columns |= {"name": f"train_forecast_{index:03d}", "timeout_seconds": 86400.0}
    job.median_seconds = 4 * 3600.0
    return job


def _field(column: str) -> str:
    short = column.removeprefix("schedule_").removesuffix("_at")
    return short if short in ("type", "time", "day", "anchor") else column


def days(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield the bounds of the days from one instant to another."""
    while start < end:
        upto = min(end, start + timedelta(days=1))
        yield start, upto
        start = upto


def outages(start: datetime, end: datetime) -> Sequence[tuple[datetime, datetime]]:
    """Return two stretches without a scheduler: five hours, and a day and a half."""
    span = end - start
    longest = min(span / 20, timedelta(hours=36))
    first, second = start + span * 0.31, start + span * 0.74
    return ((first, first + min(longest, timedelta(hours=5))), (second, second + longest))
