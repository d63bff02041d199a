"""Metrics for Prometheus: how things stand at a scrape, and what happened since the meter began.

A gauge is asked for at each scrape. Counters and histograms grow by the runs that were made or
ended since the scrape before, found by an index: a scrape costs the same whatever the history. They
begin at zero with their program, as counters do; the whole history is `kit.log()`'s.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from jobkit.db import stored_bytes
from jobkit.states import FINAL, TRIGGERS, WORKER_STATUSES
from jobkit.store import board, duties, tallies
from jobkit.store.tallies import Mark

if TYPE_CHECKING:
    from jobkit.handles import Queue
    from jobkit.kit import Kit

Values: TypeAlias = Mapping[tuple[str, ...], float]
"""By the values of the labels."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAG = timedelta(seconds=5)
"""Runs are counted so much later: a commit may become visible after one of a later instant."""
MOST_READ = 20_000
"""Rows of a scrape; what is left is counted by the next one."""
BOUNDS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Seconds: the upper bounds of the buckets of each histogram."""


@dataclass
class Histogram:
    """Durations by bucket."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    total: float = 0.0

    def add(self, duration: timedelta) -> None:
        """Count one; clocks that disagree by a moment count as nothing."""
        seconds = max(duration.total_seconds(), 0.0)
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    @property
    def buckets(self) -> list[tuple[str, float]]:
        """Each upper bound, with how many were not longer."""
        found, below = [], 0
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self.counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found


class Tally:
    """What happened to runs, counted row by row."""

    def __init__(self) -> None:
        self.dispatched: Counter[tuple[str, ...]] = Counter()
        self.finished: Counter[tuple[str, ...]] = Counter()
        self.retries = self.rescues = 0
        self.took: dict[str, Histogram] = {}
        self.waited: dict[str, Histogram] = {}
        self.late: dict[str, Histogram] = {}

    def made(self, run: Any) -> None:
        """Count a run that was made."""
        self.dispatched[run.queue, run.trigger] += 1

    def ended(self, run: Any) -> None:
        """Count a run that ended: its last attempt, and how late its first one was."""
        self.finished[run.queue, run.status] += 1
        self.retries += run.retry_count
        self.rescues += run.lost_count
        if run.claimed_at is None:
            return
        _of(self.took, run.queue).add(run.at - run.claimed_at)
        _of(self.waited, run.queue).add(run.claimed_at - run.available_at)
        if run.trigger == "schedule" and run.attempt == 1:
            _of(self.late, run.queue).add(run.claimed_at - run.scheduled_for)


def _of(histograms: dict[str, Histogram], queue: str) -> Histogram:
    return histograms.setdefault(queue, Histogram())


class Meter:
    """What Prometheus scrapes of a database; any thread may."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._lock = threading.Lock()
        self._tally = Tally()
        self._made = self._ended = Mark(kit.clock.now())
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def exposition(self) -> bytes:
        """Return the metrics as text (`CONTENT_TYPE`); DatabaseUnavailable."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Name nothing beforehand: that would ask the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Ask the database how it stands, and yield the metrics."""
        with self._lock:
            self._count()
            counted = list(_counters(self._tally))
        yield from counted
        yield from self._standing()

    def _count(self) -> None:
        """Count what happened up to a moment ago, the oldest first."""
        until = self._kit.clock.now() - LAG
        with self._kit.database.read() as connection:
            made = tallies.made(connection, self._made, until, MOST_READ)
            ended = tallies.ended(connection, self._ended, until, MOST_READ)
        for run in made:
            self._tally.made(run)
        for run in ended:
            self._tally.ended(run)
        self._made = Mark(made[-1].at, made[-1].id) if made else self._made
        self._ended = Mark(ended[-1].at, ended[-1].id) if ended else self._ended

    def _standing(self) -> Iterator[Metric]:
        kit, now = self._kit, self._kit.clock.now()
        workers, queues = kit.workers(), kit.workers.queues()
        with kit.database.read() as connection:
            jobs, active = board.counts(connection)
            seen_at = duties.last_taken(connection, duties.HEARTBEAT)
            size, archived = stored_bytes(connection), tallies.archived_bytes(connection)
        yield _gauge("jobs", "Jobs.", ["state"], {("active",): active, ("paused",): jobs - active})
        yield from _of_queues(queues, now)
        statuses = Counter(worker.status for worker in workers)
        yield _gauge(
            "workers",
            "Workers that are known.",
            ["status"],
            {(status,): statuses[status] for status in WORKER_STATUSES},
        )
        online = sum(worker.slots for worker in workers if worker.status != "OFFLINE")
        yield _gauge("slots", "Runs that the workers online hold side by side.", [], {(): online})
        busy = sum(queue.running for queue in queues)
        yield _gauge("slots_busy", "Runs that workers hold now.", [], {(): busy})
        if seen_at is not None:
            age = max((now - seen_at).total_seconds(), 0.0)
            words = "Seconds since a scheduler was seen."
            yield _gauge("scheduler_seen_seconds", words, [], {(): age})
        yield _gauge("database_bytes", "Bytes of the database.", [], {(): size})
        yield _gauge("archive_bytes", "Bytes of the archived files.", [], {(): archived})


def _of_queues(queues: Sequence[Queue], now: datetime) -> Iterator[Metric]:
    def by(count: Any) -> dict[tuple[str, ...], float]:
        return {(queue.name,): count(queue) for queue in queues}

    label = ["queue"]
    yield _gauge("queue_waiting", "Runs that wait.", label, by(lambda it: it.waiting))
    yield _gauge("queue_due", "Runs that could start now.", label, by(lambda it: it.due))
    yield _gauge("queue_running", "Runs in progress.", label, by(lambda it: it.running))
    yield _gauge(
        "queue_oldest_seconds",
        "Seconds that the run has waited that is due longest.",
        label,
        by(lambda it: 0.0 if it.oldest_at is None else (now - it.oldest_at).total_seconds()),
    )


def _counters(tally: Tally) -> Iterator[Metric]:
    # Zeros of what has not happened yet: a rate needs a value before the first failure.
    queues = {"default", *(queue for queue, _ in (*tally.dispatched, *tally.finished))}
    dispatched: Values = {
        (queue, it): tally.dispatched[queue, it] for queue in queues for it in TRIGGERS
    }
    finished: Values = {(queue, it): tally.finished[queue, it] for queue in queues for it in FINAL}
    yield _counter("runs_dispatched", "Runs made.", ["queue", "trigger"], dispatched)
    yield _counter("runs_finished", "Runs ended.", ["queue", "status"], finished)
    yield _counter("retries", "Tries that failed of runs that ended.", [], {(): tally.retries})
    words = "Leases that ran out of runs that ended: their worker was lost."
    yield _counter("lease_rescues", words, [], {(): tally.rescues})
    yield _histogram("run_seconds", "Seconds of the last attempt, from its claim.", tally.took)
    yield _histogram("queue_wait_seconds", "Seconds from due to claimed.", tally.waited)
    yield _histogram("lateness_seconds", "Seconds from the slot to its first claim.", tally.late)


def _gauge(name: str, words: str, labels: Sequence[str], values: Values) -> Metric:
    return _filled(GaugeMetricFamily(f"jobkit_{name}", words, labels=labels), values)


def _counter(name: str, words: str, labels: Sequence[str], values: Values) -> Metric:
    return _filled(CounterMetricFamily(f"jobkit_{name}", words, labels=labels), values)


def _filled(made: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    for key in sorted(values):
        made.add_metric(key, values[key])
    return made


def _histogram(name: str, words: str, values: Mapping[str, Histogram]) -> Metric:
    made = HistogramMetricFamily(f"jobkit_{name}", words, labels=["queue"])
    for queue in sorted(values):
        made.add_metric([queue], values[queue].buckets, values[queue].total)
    return made
