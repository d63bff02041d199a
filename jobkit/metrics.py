"""Metrics for Prometheus: how things stand at a scrape, and what happened to runs so far.

A gauge is asked for at each scrape. Counters and histograms are totals in the database, to which
schedulers add: a scrape costs the same whatever the history, no restart and no clean-up lowers
them, and every portal shows the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from jobkit.db import stored_bytes
from jobkit.states import FINAL, TRIGGERS, WORKER_STATUSES
from jobkit.store import board, duties, tallies
from jobkit.store.tallies import BUCKETS, SUM, Key

if TYPE_CHECKING:
    from jobkit.handles import Queue
    from jobkit.kit import Kit

Values: TypeAlias = Mapping[tuple[str, ...], float]
"""By the values of the labels."""
Buckets: TypeAlias = tuple[list[tuple[str, float]], float]
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HISTOGRAMS = {
    "run_seconds": "Seconds of the last attempt, from its claim.",
    "queue_wait_seconds": "Seconds from due to claimed.",
    "lateness_seconds": "Seconds from the slot to its first claim.",
}


class Meter:
    """What Prometheus scrapes of a database; any thread may."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
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
        with self._kit.database.read() as connection:
            counted = tallies.totals(connection)
        yield from _counters(counted)
        yield from self._standing()

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


def _counters(totals: Mapping[Key, float]) -> Iterator[Metric]:
    # Zeros of what has not happened yet: a rate needs a value before the first failure.
    queues = sorted({"default", *(queue for _, queue, _ in totals)})

    def by(metric: str, labels: Sequence[str]) -> Values:
        pairs = ((queue, label) for queue in queues for label in labels)
        return {pair: totals.get((metric, *pair), 0.0) for pair in pairs}

    def alone(metric: str) -> Values:
        return {(queue,): totals.get((metric, queue, ""), 0.0) for queue in queues}

    of_trigger, of_status = by("runs_dispatched", TRIGGERS), by("runs_finished", FINAL)
    yield _counter("runs_dispatched", "Runs made.", ["queue", "trigger"], of_trigger)
    yield _counter("runs_finished", "Runs ended.", ["queue", "status"], of_status)
    words = "Tries that failed of runs that ended."
    yield _counter("retries", words, ["queue"], alone("retries"))
    words = "Leases that ran out of runs that ended: their worker was lost."
    yield _counter("lease_rescues", words, ["queue"], alone("lease_rescues"))
    for metric, words in HISTOGRAMS.items():
        yield _histogram(
            metric, words, {queue: _buckets(totals, metric, queue) for queue in queues}
        )


def _buckets(totals: Mapping[Key, float], metric: str, queue: str) -> Buckets:
    """Return each upper bound with how many were not longer, and the sum of all."""
    found, below = [], 0.0
    for bound in BUCKETS:
        below += totals.get((metric, queue, bound), 0.0)
        found.append((bound, below))
    return found, totals.get((metric, queue, SUM), 0.0)


def _gauge(name: str, words: str, labels: Sequence[str], values: Values) -> Metric:
    return _filled(GaugeMetricFamily(f"jobkit_{name}", words, labels=labels), values)


def _counter(name: str, words: str, labels: Sequence[str], values: Values) -> Metric:
    return _filled(CounterMetricFamily(f"jobkit_{name}", words, labels=labels), values)


def _filled(made: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    for key in sorted(values):
        made.add_metric(key, values[key])
    return made


def _histogram(name: str, words: str, values: Mapping[str, Buckets]) -> Metric:
    made = HistogramMetricFamily(f"jobkit_{name}", words, labels=["queue"])
    for queue in sorted(values):
        buckets, total = values[queue]
        made.add_metric([queue], buckets, total)
    return made
