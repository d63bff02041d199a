"""How long it took: durations, waits in the queue, the slowest attempts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from jobkit.analytics.charts import Chart, bars, line
from jobkit.analytics.report import Report
from jobkit.analytics.reports.grouping import Grouping, arguments

if TYPE_CHECKING:
    from jobkit.analytics.log import Log

PARTS = ("mean", "p50", "p95", "p99", "max")
SUMMED = """count(*) AS attempts, sum(us) AS total,
        quantile_cont(us, [0.5, 0.95, 0.99]) AS q, max(us) AS most"""
SHOWN = """attempts, total::DOUBLE / attempts / 1e6 AS mean, q[1] / 1e6 AS p50,
        q[2] / 1e6 AS p95, q[3] / 1e6 AS p99, most / 1e6 AS max"""


def durations(log: Log, by: str | None, every: str | None) -> Report:
    """Measure attempts that succeeded and ended in the window, from start to end."""
    return _measured(
        log,
        "durations",
        "epoch_us(finished_at) - epoch_us(started_at)",
        "finished_at",
        "status = 'SUCCESS' AND started_at IS NOT NULL",
        by,
        every,
    )


def queue_wait(log: Log, by: str | None, every: str | None) -> Report:
    """Measure attempts that were claimed in the window, from when they could be to the claim."""
    return _measured(
        log,
        "queue_wait",
        "greatest(0, epoch_us(claimed_at) - epoch_us(queued_at))",
        "claimed_at",
        "queued_at IS NOT NULL",
        by,
        every,
    )


def _measured(
    log: Log, name: str, us: str, moment: str, where: str, by: str | None, every: str | None
) -> Report:
    grouping = Grouping(log, f"epoch_us({moment})", every, by)
    rows = f"""(SELECT {_needed(by, moment)}, {us} AS us FROM attempts
        WHERE {where} AND {log.window.holds(moment)})"""  # noqa: S608
    inner = f"SELECT {grouping.columns}{SUMMED} FROM {grouping.source(rows)} {grouping.clause}"  # noqa: S608
    call = f"{name}(by={by!r}, every={every!r})"
    title = "Duration" if name == "durations" else "Wait in the queue"
    return log.report(
        name,
        grouping.named(inner, SHOWN),
        call,
        lambda df: _chart(df, title, by, log.window.zone),
        grouping.filled(("attempts",)),
        joins=grouping.joins,
        moment=moment,
    )


def _needed(by: str | None, moment: str) -> str:
    columns = {
        moment,
        {"job": "job_id", "tag": "job_id", "hour": moment, None: moment}.get(by, by or moment),
    }
    return ", ".join(sorted(columns))


def _chart(df: pl.DataFrame, title: str, by: str | None, zone: str) -> Chart:
    if "bucket" in df.columns:
        if by is not None:
            df = df.group_by("bucket", maintain_order=True).agg(pl.col("p50", "p95", "p99").max())
            title += f", the slowest {by}"
        shown = {name: df.get_column(name).to_list() for name in ("p50", "p95", "p99")}
        return line(title, df.get_column("bucket").to_list(), shown, unit="seconds", zone=zone)
    rows = df.filter(pl.col("attempts") > 0).sort("p95", descending=True)
    names = rows.get_column(by).cast(pl.String).fill_null("none") if by else pl.Series(["all"])
    values = rows.get_column("p95").to_list()
    return bars(f"{title}, p95", names.to_list()[: len(values)], values, unit="seconds")


def slowest(log: Log, n: int) -> Report:
    """List the attempts that took longest, beside what is usual for their job."""
    sql = f"""WITH took AS (
        SELECT job_id, run_id, attempt, attempt_id, status, worker, started_at,
            epoch_us(finished_at) - epoch_us(started_at) AS us
        FROM attempts WHERE started_at IS NOT NULL AND {log.window.holds("finished_at")}
    ), longest AS (SELECT * FROM took ORDER BY us DESC, attempt_id LIMIT {int(n)}),
    usual AS (
        SELECT job_id, quantile_cont(us, 0.5) AS p50 FROM took
        WHERE status = 'SUCCESS' AND job_id IN (SELECT job_id FROM longest) GROUP BY job_id
    )
    SELECT j.job, run_id, attempt, l.status, worker, l.started_at, us / 1e6 AS seconds,
        p50 / 1e6 AS usual_seconds, us / nullif(p50, 0) AS times
    FROM longest l LEFT JOIN usual u USING (job_id) LEFT JOIN jobs j USING (job_id)
    ORDER BY us DESC, attempt_id"""  # noqa: S608
    return log.report(
        "slowest",
        sql,
        f"slowest({arguments(n=n)})",
        lambda df: bars(
            "Slowest attempts",
            [f"{row['job']}, run {row['run_id']}" for row in df.to_dicts()],
            df.get_column("seconds").to_list(),
            unit="seconds",
        ),
    )
