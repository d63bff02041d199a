"""What is different from before."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from jobkit.analytics.charts import bars
from jobkit.analytics.report import Report
from jobkit.analytics.reports.faults import FAULTS
from jobkit.analytics.window import Window

if TYPE_CHECKING:
    from jobkit.analytics.log import Log

FIGURES = ("attempts", "failures", "rate", "p50", "p95", "wait_p95")


def _question(window: Window) -> str:
    return f"""SELECT coalesce(j.job, '(job ' || q.job_id || ')') AS job, q.attempts, q.failures,
        q.failures / q.attempts AS rate, q.took[1] / 1e6 AS p50, q.took[2] / 1e6 AS p95,
        q.wait / 1e6 AS wait_p95
    FROM (
        SELECT job_id, count(*) AS attempts, count(*) FILTER (status IN {FAULTS}) AS failures,
            quantile_cont(epoch_us(finished_at) - epoch_us(started_at), [0.5, 0.95])
                FILTER (status = 'SUCCESS') AS took,
            quantile_cont(greatest(0, epoch_us(claimed_at) - epoch_us(queued_at)), 0.95)
                FILTER (queued_at IS NOT NULL) AS wait
        FROM attempts WHERE {window.holds("finished_at")} GROUP BY job_id
    ) q LEFT JOIN jobs j USING (job_id) ORDER BY job"""  # noqa: S608


def compare(log: Log, before: Window, call: str) -> Report:
    """Put each job's figures beside those of another window; the greatest change comes first."""
    earlier = log.over(before)
    then = earlier.frame(_question(before))

    def beside(now: pl.DataFrame) -> pl.DataFrame:
        both = now.join(then, on="job", how="full", coalesce=True, suffix="_before")
        counts = ("attempts", "failures", "attempts_before", "failures_before")
        both = both.with_columns(pl.col(counts).fill_null(0))
        change = pl.col("p50") / pl.col("p50_before")
        names = [name + end for name in FIGURES for end in ("", "_before")]
        ranked = both.select("job", *names, change=change)
        by = pl.col("change").log().abs().fill_nan(None)
        return ranked.sort(by, "job", descending=[True, False], nulls_last=True)

    return log.report(
        "compare",
        _question(log.window),
        call,
        lambda df: bars(
            "Median duration, times what it was",
            df.drop_nulls("change").get_column("job").to_list(),
            df.drop_nulls("change").get_column("change").to_list(),
        ),
        beside,
    )
