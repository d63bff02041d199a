"""Every figure of the reports once more, in plain Python over the rows of the tables."""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from jobkit.kit import Kit
from jobkit.models import attempts, jobs, runs, workers

FAULTS = ("FAILURE", "ERROR", "TIMEOUT", "LOST")


@dataclass
class Facts:
    """All rows of a database, and the window that is asked about."""

    jobs: dict[int, str]
    runs: list[Any]
    attempts: list[Any]
    slots: dict[str, int]
    start: datetime
    end: datetime

    def within(self, moment: datetime | None) -> bool:
        return moment is not None and self.start <= moment < self.end


def read(kit: Kit, start: datetime, end: datetime) -> Facts:
    with kit.database.read() as connection:
        return Facts(
            {row.id: row.name for row in connection.execute(sa.select(jobs))},
            list(connection.execute(sa.select(runs)).all()),
            list(connection.execute(sa.select(attempts)).all()),
            {row.worker_id: row.slots for row in connection.execute(sa.select(workers))},
            start,
            end,
        )


def edges(facts: Facts, every: str, zone: str) -> list[datetime]:
    """Return the beginnings of buckets by walking a zone's calendar."""
    local = facts.start.astimezone(ZoneInfo(zone))
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    step = {"15m": 900, "1h": 3600, "6h": 21600, "1d": None}[every]
    found = []
    while day.astimezone(UTC) < facts.end:
        following = (day + timedelta(days=1)).replace(fold=0)
        at, end = day.astimezone(UTC), following.astimezone(UTC)
        while at < end:
            found.append(at)
            at = end if step is None else at + timedelta(seconds=step)
        day = following
    first = max(at for at in found if at <= facts.start)
    return [at for at in found if first <= at < facts.end]


def in_bucket(at: datetime, starts: list[datetime]) -> datetime:
    return max(start for start in starts if start <= at)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def throughput(facts: Facts, key: Callable[[Any], Any]) -> dict[Any, dict[str, int]]:
    counts: dict[Any, Counter[str]] = defaultdict(Counter)
    for run in facts.runs:
        if facts.within(run.completed_at):
            counts[key(run)][run.status] += 1
    return {
        group: {
            "ended": sum(count.values()),
            "completed": count["COMPLETED"],
            "failed": count["FAILED"] + count["TIMEOUT"],
            "cancelled": count["CANCELLED"],
            "not_run": count["MISSED"] + count["SKIPPED"],
        }
        for group, count in counts.items()
    }


def measured(values: Iterable[tuple[Any, float]]) -> dict[Any, dict[str, float]]:
    groups: dict[Any, list[float]] = defaultdict(list)
    for group, value in values:
        groups[group].append(value)
    return {
        group: {
            "attempts": len(found),
            "mean": statistics.fmean(found),
            "p50": quantile(found, 0.5),
            "p95": quantile(found, 0.95),
            "p99": quantile(found, 0.99),
            "max": max(found),
        }
        for group, found in groups.items()
    }


def durations(facts: Facts, key: Callable[[Any], Any]) -> dict[Any, dict[str, float]]:
    return measured(
        (key(row), (row.finished_at - row.started_at).total_seconds())
        for row in facts.attempts
        if row.status == "SUCCESS" and row.started_at and facts.within(row.finished_at)
    )


def queue_wait(facts: Facts, key: Callable[[Any], Any]) -> dict[Any, dict[str, float]]:
    return measured(
        (key(row), max(0.0, (row.claimed_at - row.queued_at).total_seconds()))
        for row in facts.attempts
        if row.queued_at and facts.within(row.claimed_at)
    )


def failure_rate(facts: Facts, key: Callable[[Any], Any]) -> dict[Any, tuple[int, int]]:
    found: dict[Any, list[bool]] = defaultdict(list)
    for row in facts.attempts:
        ended = row.finished_at or row.claimed_at
        if row.status not in ("RELEASED", "CANCELLED") and facts.within(ended):
            found[key(row)].append(row.status in FAULTS)
    return {group: (len(items), sum(items)) for group, items in found.items()}


def spans(facts: Facts, now: datetime) -> list[tuple[str, datetime, datetime]]:
    """Return when slots were taken, as far as the window goes."""
    end = min(facts.end, now)
    found = [
        (row.worker_id, row.claimed_at, row.finished_at or row.started_at or row.claimed_at)
        for row in facts.attempts
    ]
    found += [
        (row.worker_id, row.claimed_at, end) for row in facts.runs if row.status == "IN_PROGRESS"
    ]
    return [
        (worker, max(low, facts.start), min(max(low, high), end))
        for worker, low, high in found
        if max(low, high) >= facts.start and low < end
    ]


def busy(found: list[tuple[str, datetime, datetime]], low: datetime, high: datetime) -> Any:
    """Return (worker -> (union, sum)) of seconds, and the most at once, within a bucket."""
    cut = [
        (worker, max(start, low), min(end, high))
        for worker, start, end in found
        if start < high and end > low
    ]
    per_worker: dict[str, tuple[float, float]] = {}
    for worker in {item[0] for item in cut}:
        union, reached = 0.0, low
        mine = sorted((start, end) for name, start, end in cut if name == worker)
        for start, end in mine:
            if end > reached:
                union += (end - max(start, reached)).total_seconds()
                reached = end
        per_worker[worker] = (union, sum((e - s).total_seconds() for s, e in mine))
    peak = max(
        (sum(start <= at < end for _, start, end in cut) for at in {item[1] for item in cut}),
        default=0,
    )
    return per_worker, peak


def late(facts: Facts, limit: float) -> dict[str, tuple[int, ...]]:
    first = {row.dispatch_id: row.claimed_at for row in facts.attempts if row.attempt == 1}
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for run in facts.runs:
        if run.trigger != "schedule" or not facts.within(run.scheduled_for):
            continue
        claimed = first.get(run.id, run.claimed_at if run.attempt <= 1 else None)
        count = counts[facts.jobs[run.job_id]]
        count["slots"] += 1
        if claimed is not None:
            behind = (claimed - run.scheduled_for).total_seconds()
            count["late" if behind > limit else "on_time"] += 1
        else:
            count[run.status] += 1
    names = ("slots", "on_time", "late", "MISSED", "SKIPPED", "PENDING")
    return {job: tuple(count[name] for name in names) for job, count in counts.items()}


def retries(facts: Facts) -> dict[str, tuple[int, ...]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for run in facts.runs:
        if run.attempt > 0 and facts.within(run.completed_at):
            found[facts.jobs[run.job_id]].append(run)
    result = {}
    for job, mine in found.items():
        again = [run for run in mine if run.retry_count + run.lost_count > 0]
        result[job] = (
            len(mine),
            sum(run.attempt for run in mine),
            len(again),
            sum(run.status == "COMPLETED" for run in again),
            sum(run.status in ("FAILED", "TIMEOUT") for run in again),
            sum(run.lost_count for run in mine),
        )
    return result


def flaky(facts: Facts) -> dict[str, tuple[int, int]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for run in facts.runs:
        if run.status in ("COMPLETED", "FAILED", "TIMEOUT") and facts.within(run.completed_at):
            found[run.job_id].append(run)
    result = {}
    for job, mine in found.items():
        mine.sort(key=lambda run: (run.completed_at, run.id))
        count, before = 0, None
        for run in mine:
            fine = run.status == "COMPLETED"
            recovered = fine and run.retry_count + run.lost_count > 0
            count += recovered or (before is not None and fine != before)
            before = fine
        if count:
            result[facts.jobs[job]] = (len(mine), count)
    return result


def slowest(facts: Facts, n: int) -> list[tuple[int, float]]:
    took = [
        ((row.finished_at - row.started_at).total_seconds(), row)
        for row in facts.attempts
        if row.started_at and facts.within(row.finished_at)
    ]
    took.sort(key=lambda pair: (-pair[0], pair[1].id))
    return [(row.dispatch_id, seconds) for seconds, row in took[:n]]
