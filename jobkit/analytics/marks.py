"""What became of a slot: one mark for each, by one rule, in one query. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

COVERED = ("on time", "late", "retried", "filled")
"""Marks of slots for which a run COMPLETED."""
OPEN = ("running", "waiting", "forgotten")
"""Marks of slots of which nothing can be said yet, or any more."""
MARKS = {
    "on time": "a run of its own completed",
    "late": "its run completed, and began late",
    "retried": "its run completed after a failed or lost attempt",
    "filled": "a backfill or a repeated run completed later",
    "failed": "its tries are used up",
    "missed": "it passed while nobody looked, or no worker started it in time",
    "skipped": "an earlier run was unfinished",
    "cancelled": "somebody ended it",
    "never dispatched": "there is no row of it",
    "running": "a worker holds it",
    "waiting": "for a worker, its turn or its next try",
    "forgotten": "its row was cleaned up",
}
HOLES = ("failed", "missed", "never dispatched")
"""Marks of slots that are filled unless others are asked for."""
UNSEEN = "no scheduler has looked"
"""Why a slot has no row that a scheduler may still make: to fill it would be to run it twice."""

SUMMED = """
SELECT job_id, run_id, job_version, reason
FROM runs
WHERE trigger = 'schedule' AND status = 'MISSED' AND scheduled_for >= {start}
  AND reason LIKE '% slots from %'
ORDER BY job_id, run_id
""".strip()

COVERAGE = """
WITH happened AS MATERIALIZED (
    SELECT job_id, scheduled_for AS slot, run_id, trigger, status, claimed_at, completed_at,
           retries + lost AS failures, coalesce(reason, error) AS reason
    FROM runs
    WHERE scheduled_for >= {start} AND scheduled_for < {end}
),
own AS (SELECT * FROM happened WHERE trigger = 'schedule'),
other AS (
    SELECT job_id, slot,
           min_by(run_id, completed_at) FILTER (status = 'COMPLETED') AS filled_by,
           min_by(claimed_at, completed_at) FILTER (status = 'COMPLETED') AS filled_at,
           max(run_id) FILTER (status = 'IN_PROGRESS') AS running,
           max(run_id) FILTER (status = 'PENDING') AS waiting,
           max(run_id) FILTER (status IN ('FAILED', 'TIMEOUT')) AS failed,
           max_by(reason, run_id) FILTER (status IN ('FAILED', 'TIMEOUT')) AS failed_for,
           max(run_id) FILTER (status = 'CANCELLED') AS cancelled
    FROM happened WHERE trigger <> 'schedule' GROUP BY job_id, slot
),
expected AS (
    SELECT job_id, slot FROM due
    UNION ALL SELECT job_id, slot FROM summed ANTI JOIN due USING (job_id, slot)
),
found AS (
    SELECT job_id, slot, run_id AS own_run, status, claimed_at, failures, reason,
           epoch(claimed_at - slot) AS behind
    FROM expected FULL JOIN own USING (job_id, slot)
),
judged AS (
    SELECT *,
           CASE
           WHEN status = 'COMPLETED' AND failures > 0 THEN 'retried'
           WHEN status = 'COMPLETED' AND behind > {late} THEN 'late'
           WHEN status = 'COMPLETED' THEN 'on time'
           WHEN filled_by IS NOT NULL THEN 'filled'
           WHEN status = 'IN_PROGRESS' OR running IS NOT NULL THEN 'running'
           WHEN status = 'PENDING' OR waiting IS NOT NULL THEN 'waiting'
           WHEN status IN ('FAILED', 'TIMEOUT') OR failed IS NOT NULL THEN 'failed'
           WHEN status = 'CANCELLED' THEN 'cancelled'
           WHEN status = 'SKIPPED' THEN 'skipped'
           WHEN status = 'MISSED' OR summed_by IS NOT NULL THEN 'missed'
           WHEN cancelled IS NOT NULL THEN 'cancelled'
           WHEN slot > {due_since} THEN 'waiting'
           WHEN slot < {kept_since} THEN 'forgotten'
           ELSE 'never dispatched' END AS mark
    FROM found
    JOIN known USING (job_id)
    LEFT JOIN other USING (job_id, slot)
    LEFT JOIN (SELECT job_id, slot, run_id AS summed_by, reason AS summed_for FROM summed)
        USING (job_id, slot)
)
SELECT job_id, job, slot, mark,
       CASE
       WHEN mark = 'failed' AND failed IS NOT NULL THEN failed_for
       WHEN mark = 'missed' THEN coalesce(reason, summed_for)
       WHEN mark = 'never dispatched' AND slot > cursor THEN '{unseen}'
       WHEN mark = 'never dispatched' THEN 'the job was changed before a scheduler looked'
       WHEN mark = 'waiting' AND own_run IS NULL AND waiting IS NULL THEN 'due now'
       ELSE reason END AS reason,
       CASE mark
       WHEN 'filled' THEN filled_by
       WHEN 'running' THEN coalesce(running, own_run)
       WHEN 'waiting' THEN coalesce(waiting, own_run)
       WHEN 'failed' THEN coalesce(failed, own_run)
       ELSE coalesce(own_run, summed_by, cancelled) END AS run_id,
       CASE
       WHEN mark IN ('on time', 'late', 'retried') THEN behind
       WHEN mark = 'filled' THEN epoch(filled_at - slot) END AS late_seconds
FROM judged
ORDER BY place, slot
""".strip()


@dataclass(frozen=True)
class Figure:
    """How well a job's slots were covered."""

    job_id: int
    job: str
    counts: Mapping[str, int]
    """How many slots have each mark; marks that no slot has are left out."""

    @property
    def slots(self) -> int:
        """How many slots something can be said of."""
        return sum(count for mark, count in self.counts.items() if mark not in OPEN)

    @property
    def covered(self) -> int:
        """For how many of them a run completed."""
        return sum(self.counts.get(mark, 0) for mark in COVERED)

    @property
    def share(self) -> float | None:
        """How many of them that is, from 0 to 1; None without a slot."""
        return self.covered / self.slots if self.slots else None

    @property
    def words(self) -> str:
        """Say it: `98.6 % of 720 slots, 2 late, 1 missed`."""
        parts = [f"{_percent(self.covered, self.slots)} of {self.slots} slots"]
        if self.slots == 1:
            parts = [f"{_percent(self.covered, 1)} of 1 slot"]
        elif not self.slots:
            parts = ["no slot yet"]
        parts += [f"{self.counts[mark]} {mark}" for mark in list(MARKS)[1:] if mark in self.counts]
        return ", ".join(parts)


def _percent(part: int, whole: int) -> str:
    """Say a share with one digit, rounded down: 100 % is all of it."""
    return f"{part * 1000 // whole / 10:.4g} %" if whole else ""
