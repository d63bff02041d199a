"""Whether slots were kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from jobkit.analytics.charts import bars
from jobkit.analytics.report import Report
from jobkit.analytics.shelf import SKEW
from jobkit.analytics.window import Window
from jobkit.text import parse_duration

if TYPE_CHECKING:
    from jobkit.analytics.log import Log


def late(log: Log, after: str) -> Report:
    """Count, for each job, slots in the window by how they were kept.

    A slot is late when its first attempt was claimed more than `after` behind it.
    """
    limit = parse_duration(after) // timedelta(microseconds=1)
    sql = f"""SELECT coalesce(j.job, '(job ' || q.job_id || ')') AS job, q.slots, q.on_time,
        q.late, q.missed, q.skipped, q.waiting, q.late_by[1] / 1e6 AS p50,
        q.late_by[2] / 1e6 AS p95, q.latest / 1e6 AS max
    FROM (
        SELECT job_id, count(*) AS slots, count(*) FILTER (us <= {limit}) AS on_time,
            count(*) FILTER (us > {limit}) AS late,
            count(*) FILTER (status = 'MISSED' AND us IS NULL) AS missed,
            count(*) FILTER (status = 'SKIPPED' AND us IS NULL) AS skipped,
            count(*) FILTER (status = 'PENDING' AND us IS NULL) AS waiting,
            quantile_cont(us, [0.5, 0.95]) AS late_by, max(us) AS latest
        FROM (
            SELECT job_id, status, CASE WHEN claimed_at IS NOT NULL THEN
                greatest(0, epoch_us(claimed_at) - epoch_us(scheduled_for)) END AS us
            FROM (SELECT r.job_id, r.status, r.scheduled_for,
                coalesce(f.claimed_at, CASE WHEN r.attempts <= 1 THEN r.claimed_at END)
                    AS claimed_at
            FROM (
                SELECT job_id, run_id, status, attempts, claimed_at, scheduled_for,
                    CASE WHEN attempts = 1 AND claimed_at IS NULL THEN 2 ELSE attempts END AS tries
                FROM runs
                WHERE "trigger" = 'schedule' AND {log.window.holds("scheduled_for")}
            ) r LEFT JOIN (
                SELECT run_id, claimed_at, 2 AS least FROM attempts WHERE attempt = 1
            ) f ON f.run_id = r.run_id AND r.tries >= f.least)
        ) GROUP BY job_id
    ) q LEFT JOIN jobs j USING (job_id) ORDER BY q.late + q.missed DESC, job"""  # noqa: S608
    call = f"late(after={after!r})"
    report = _until_now(log).report(
        "late",
        sql,
        call,
        lambda df: bars(
            "Slots late or missed",
            df.get_column("job").to_list(),
            (df.get_column("late") + df.get_column("missed")).to_list(),
        ),
    )
    return replace(report, window=log.window, cell=log.cell(call))


def _until_now(log: Log) -> Log:
    """Return it with the attempts of its slots, which may have been claimed outside of it."""
    window = log.window
    if window.start is None:
        return log
    return log.over(Window(window.start - SKEW, max(window.end, log.as_of), window.zone))
