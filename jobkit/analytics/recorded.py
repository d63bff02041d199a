"""Recorded: what a log holds of the runs of its window, as a workload to be asked about."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Protocol

from jobkit.analytics.capacity import Study, Team
from jobkit.analytics.window import Window, literal
from jobkit.analytics.workload import AttemptColumns, Rule, RunColumns, workload
from jobkit.errors import BadInput
from jobkit.expectation import quantile

if TYPE_CHECKING:
    from polars import DataFrame


class Asked(Protocol):
    """What is needed of a log."""

    @property
    def span(self) -> Window: ...
    def frame(self, sql: str) -> DataFrame: ...


RUNS = """
SELECT run_id, job, status, trigger, epoch(created_at - {start}) AS at,
    epoch(scheduled_for - {start}) AS slot, queue, priority, reason, backfill_id
FROM runs WHERE {made} AND job IS NOT NULL ORDER BY created_at, run_id"""
ATTEMPTS = """
SELECT run_id, epoch(coalesce(queued_at, claimed_at) - {start}) AS queued,
    epoch(claimed_at - {start}) AS claimed,
    epoch(coalesce(finished_at, claimed_at) - {start}) AS finished
FROM attempts WHERE run_id IN (SELECT run_id FROM runs WHERE {made}) ORDER BY run_id, attempt"""
JOBS = """
SELECT job, overlap_policy, start_deadline_seconds, queue, priority FROM jobs
ORDER BY deleted_at IS NULL, job_id"""
WORKERS = """
SELECT queues, slots, count(*) AS workers FROM workers WHERE status <> 'OFFLINE'
GROUP BY queues, slots ORDER BY workers DESC, queues, slots"""


def study(log: Asked) -> Study:
    """Read the runs of a log's window; BadInput when there are none."""
    window = log.span
    assert window.start is not None
    words = {"start": literal(window.start), "made": window.holds("created_at")}
    runs = _columns(log.frame(RUNS.format(**words)))
    if not runs["run_id"]:
        raise BadInput(f"No run was made in {window}.", 'Ask for a longer window, like "30d".')
    tries = AttemptColumns(**_columns(log.frame(ATTEMPTS.format(**words))))
    seconds = (window.end - window.start).total_seconds()
    load = workload(window.start, seconds, RunColumns(**runs), tries, _rules(log))
    waits = sorted(
        max(claimed - queued, 0.0)
        for claimed, queued in zip(tries.claimed, tries.queued, strict=True)
    )
    return Study(load, _teams(log, tries), quantile(waits, 0.95) if waits else None, window.zone)


def _columns(frame: DataFrame) -> dict[str, list[Any]]:
    return {name: frame[name].to_list() for name in frame.columns}


def _rules(log: Asked) -> dict[str, Rule]:
    return {
        name: Rule(overlap, deadline, queue, priority)
        for name, overlap, deadline, queue, priority in log.frame(JOBS).iter_rows()
    }


def _teams(log: Asked, tries: AttemptColumns) -> list[Team]:
    """Return the workers that are online; where none is, the slots that were used at once."""
    online = [
        Team(workers, slots, tuple(queues.split(",")))
        for queues, slots, workers in log.frame(WORKERS).iter_rows()
    ]
    return online or [Team(1, max(1, _most_at_once(tries)), ())]


def _most_at_once(tries: AttemptColumns) -> int:
    most, running = 0, list[float]()
    for claimed, finished in sorted(zip(tries.claimed, tries.finished, strict=True)):
        while running and running[0] <= claimed:
            heapq.heappop(running)
        heapq.heappush(running, finished)
        most = max(most, len(running))
    return most
