"""Metrics of one process, for Prometheus: what a scheduler or a worker knows of itself.

What all of them did together is in the database: see `metrics`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    start_http_server,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from jobkit.clock import stopwatch
from jobkit.errors import BadInput
from jobkit.scheduler import Tick
from jobkit.settings import Settings
from jobkit.states import ATTEMPT_STATUSES
from jobkit.worker import Doings

log = logging.getLogger("jobkit")
TICK_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0)
"""The upper bounds of the buckets."""


class Ticks:
    """What a scheduler did, tick by tick."""

    def __init__(self) -> None:
        self.registry = _registry()
        self._last_at = stopwatch()
        self._seconds = Histogram(
            "jobkit_scheduler_tick_seconds",
            "Seconds of a tick.",
            buckets=TICK_SECONDS,
            registry=self.registry,
        )
        age = Gauge(
            "jobkit_scheduler_tick_age_seconds",
            "Seconds since the last tick.",
            registry=self.registry,
        )
        age.set_function(lambda: stopwatch() - self._last_at)
        self._dispatched = self._counter("dispatched", "Runs that it made.")
        self._rescued = self._counter("rescued", "Runs that it took back: their lease ran out.")
        self._expired = self._counter("expired", "Runs that it ended: no worker came in time.")
        self._failed = self._counter("failed_ticks", "Ticks for which the database was away.")

    def add(self, tick: Tick | None, seconds: float) -> None:
        """Count a tick; None: the database was away."""
        if tick is None:
            self._failed.inc()
            return
        self._last_at = stopwatch()
        self._seconds.observe(seconds)
        self._dispatched.inc(len(tick.dispatched))
        self._rescued.inc(tick.rescued)
        self._expired.inc(tick.expired)

    def _counter(self, name: str, words: str) -> Counter:
        return Counter(f"jobkit_scheduler_{name}", words, registry=self.registry)


class Work(Collector):
    """What a worker did and holds, asked for at each scrape."""

    def __init__(self, doings: Callable[[], Doings]) -> None:
        self.registry = _registry()
        self._doings = doings
        self.registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Ask the worker, and yield its metrics."""
        done = self._doings()
        slots = GaugeMetricFamily("jobkit_worker_slots", "Runs side by side.", value=done.slots)
        words = "Slots in which something runs."
        busy = GaugeMetricFamily("jobkit_worker_slots_busy", words, value=done.busy)
        words = "Attempts that it took on."
        claims = CounterMetricFamily("jobkit_worker_claims", words, value=done.begun)
        words = "Attempts that ended."
        ended = CounterMetricFamily("jobkit_worker_attempts", words, labels=["status"])
        for status in ATTEMPT_STATUSES:
            ended.add_metric([status], done.ended.get(status, 0))
        return iter((slots, busy, claims, ended))


@contextmanager
def served(registry: CollectorRegistry, settings: Settings) -> Iterator[int]:
    """Answer Prometheus on the port of the settings; yield it. BadInput: it cannot be had."""
    host, port = settings.metrics_host, settings.metrics_port or 0
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise BadInput(
            f"Metrics cannot be shown on {host}:{port}: {error.strerror or error}.",
            "Each program needs a port of its own: --metrics-port N, or 0 for any.",
        ) from None
    try:
        log.info("metrics on http://%s:%d/metrics", host, server.server_port)
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _registry() -> CollectorRegistry:
    made = CollectorRegistry()
    ProcessCollector(registry=made)
    return made
