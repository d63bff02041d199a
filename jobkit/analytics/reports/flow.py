"""How much was done: throughput, and how busy workers were."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import polars as pl

from jobkit.analytics.buckets import DAY_US, Buckets
from jobkit.analytics.charts import Chart, bars, line, stacked
from jobkit.analytics.report import Report
from jobkit.analytics.reports.grouping import HOUR_US, Grouping, arguments
from jobkit.analytics.reports.hourly import Bounds, Parts, from_rollups, from_rows
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from jobkit.analytics.log import Log

ENDED = ("completed", "failed", "cancelled", "not_run")
QUARTER_US = HOUR_US // 4


def throughput(log: Log, every: str | None, by: str | None) -> Report:
    """Count the runs that ended in the window."""
    grouping = Grouping(log, "epoch_us(completed_at)", every, by)
    inner = f"""SELECT {grouping.columns}count(*) AS ended,
        count(*) FILTER (status = 'COMPLETED') AS completed,
        count(*) FILTER (status IN ('FAILED', 'TIMEOUT')) AS failed,
        count(*) FILTER (status = 'CANCELLED') AS cancelled,
        count(*) FILTER (status IN ('MISSED', 'SKIPPED')) AS not_run
    FROM {grouping.source("runs")} WHERE {log.window.holds("completed_at")} {grouping.clause}"""  # noqa: S608
    return log.report(
        "throughput",
        grouping.named(inner, "ended, " + ", ".join(ENDED)),
        f"throughput({arguments(every=every, by=by)})",
        lambda df: _throughput_chart(df, every, by, log.window.zone),
        grouping.filled(("ended", *ENDED)),
        quick=lambda: _from_rollups(log, grouping, every, by),
        moment="completed_at",
    )


def _from_rollups(
    log: Log, grouping: Grouping, every: str | None, by: str | None
) -> pl.DataFrame | None:
    """Sum throughput from roll-ups; None without any, or where their hours are too coarse."""
    hours = grouping.buckets or (Buckets("days", DAY_US, log.span) if by == "hour" else None)
    if hours is not None and unit_of(hours) != HOUR_US:
        return None
    keys = ("job_id", "queue", "trigger", "worker", "status")
    kind = "ended" if by in ("job", "tag", "worker") else "outcomes"
    wanted = "job_id" if by in ("job", "tag") else by
    kept = [key for key in keys if key in ("status", wanted)]
    raw = ", ".join(kept)
    rolled = ", ".join("worker_id" if key == "worker" else key for key in kept)
    summed = Grouping(log, "us", every, by)

    def sql(files: str) -> str:
        def some(*statuses: str) -> str:
            listed = ", ".join(f"'{status}'" for status in statuses)
            return f"coalesce(sum(n) FILTER (status IN ({listed})), 0)::BIGINT"

        counted = f"""SELECT epoch_us(completed_at) AS us, {raw}, 1 AS n FROM runs
            WHERE {log.window.holds("completed_at")}
            UNION ALL SELECT unit, {rolled}, runs FROM {files} WHERE unit IS NOT NULL"""  # noqa: S608
        inner = f"""SELECT {summed.columns}coalesce(sum(n), 0)::BIGINT AS ended,
            {some("COMPLETED")} AS completed, {some("FAILED", "TIMEOUT")} AS failed,
            {some("CANCELLED")} AS cancelled, {some("MISSED", "SKIPPED")} AS not_run
        FROM {summed.source(f"({counted})")} {summed.clause}"""  # noqa: S608
        return summed.named(inner, "ended, " + ", ".join(ENDED))

    return log.rolled(kind, sql)


def _throughput_chart(df: pl.DataFrame, every: str | None, by: str | None, zone: str) -> Chart:
    if every is None:
        said = df.get_column(by).cast(pl.String).fill_null("none") if by else None
        names = pl.Series(["all"]) if said is None else said
        return bars("Runs that ended", names.to_list(), df.get_column("ended").to_list())
    summed = df.group_by("bucket", maintain_order=True).agg(pl.col(ENDED).sum())
    shown = {
        name.replace("_", " "): summed.get_column(name).to_list()
        for name in ENDED
        if name in ("completed", "failed") or summed.get_column(name).sum()
    }
    return stacked("Runs that ended", summed.get_column("bucket").to_list(), shown, zone=zone)


def unit_of(buckets: Buckets) -> int:
    """Return microseconds that every bucket is a multiple of: an hour where that is possible."""
    if buckets.size % HOUR_US == 0 and all(offset % HOUR_US == 0 for _, offset in buckets.offsets):
        return HOUR_US
    return buckets.size if buckets.is_plain else math.gcd(buckets.size, QUARTER_US)


def utilisation(log: Log, every: str, by: str | None) -> Report:
    """Measure how much of workers' time and slots attempts took."""
    grouping = Grouping(log, "unit", every, None)
    assert grouping.buckets is not None  # every is given
    buckets, unit = grouping.buckets, unit_of(grouping.buckets)
    worker = "worker, " if by == "worker" else ""
    _check_worker(by)
    is_whole = buckets.unit == "time" and buckets.size == unit  # each row is a worker's bucket

    def sql(parts: Parts) -> str:
        summed = (
            "busy_us, work_us" if is_whole else "sum(busy_us) AS busy_us, sum(work_us) AS work_us"
        )
        inner = f"""SELECT {grouping.columns}worker_id AS worker, {summed}
            FROM ({parts.busy}) {"" if is_whole else "GROUP BY 1, 2"}"""  # noqa: S608
        return f"""{parts.clauses}
        SELECT make_timestamp(bucket) AS bucket, {worker}count(*) AS workers,
            sum(coalesce(w.slots, 1))::BIGINT AS slots,
            sum(busy_us)::BIGINT / 1e6 AS busy_seconds, sum(work_us)::BIGINT / 1e6 AS work_seconds
        FROM ({inner}) q LEFT JOIN workers w USING (worker)
        GROUP BY bucket{", worker" if worker else ""} ORDER BY ALL"""  # noqa: S608

    def shaped(df: pl.DataFrame) -> pl.DataFrame:
        filled = grouping.filled(("workers", "slots", "busy_seconds", "work_seconds"))
        seconds = _seconds(log, buckets)
        df = (df if worker else filled(df)).join(seconds, on="bucket", how="left")
        each = pl.col("seconds")
        return df.with_columns(
            busy=(pl.col("busy_seconds") / (pl.col("workers") * each)).fill_nan(0),
            utilisation=(pl.col("work_seconds") / (pl.col("slots") * each)).fill_nan(0),
        ).drop("seconds")

    return log.report(
        "utilisation",
        sql(from_rows(log, unit)),
        f"utilisation({arguments(every=every, by=by)})",
        lambda df: _utilisation_chart(df, log.window.zone),
        shaped,
        quick=lambda: _hourly(log, unit, sql),
    )


def _hourly(log: Log, unit: int, sql: Callable[[Parts], str]) -> pl.DataFrame | None:
    parts = from_rollups(log, unit)
    return None if parts is None else log.rows(sql(parts), sources=parts.sources)


def _check_worker(by: str | None) -> None:
    if by not in (None, "worker"):
        raise BadInput(f"Utilisation is of workers, not by {by!r}.", 'Use by="worker" or None.')


def _utilisation_chart(df: pl.DataFrame, zone: str) -> Chart:
    if "worker" in df.columns:
        total = df.group_by("worker").agg(pl.col("work_seconds").sum()).sort("work_seconds")
        rows = total.reverse()
        names, values = rows.get_column("worker").to_list(), rows.get_column("work_seconds")
        return bars("Time in attempts", names, values.to_list(), unit="seconds")
    shown = {
        "busy workers": df.get_column("busy").to_list(),
        "slots in use": df.get_column("utilisation").to_list(),
    }
    x = df.get_column("bucket").to_list()
    return line("Utilisation", x, shown, unit="share", zone=zone)


def _seconds(log: Log, buckets: Buckets) -> pl.DataFrame:
    """Return how much of each bucket lies in the window and in the past."""
    edges = pl.Series(buckets.edges_us(), dtype=pl.Int64)
    at = Bounds.of(log)
    starts, ends = edges.head(-1), edges.slice(1)
    return pl.DataFrame(
        {
            "bucket": starts.cast(pl.Datetime("us")),
            "seconds": (ends.clip(upper_bound=at.high) - starts.clip(lower_bound=at.low)) / 1e6,
        }
    )


def concurrency(log: Log, every: str) -> Report:
    """Count how many attempts ran at once: the most, exactly, and on average."""
    grouping = Grouping(log, "unit", every, None)
    assert grouping.buckets is not None  # every is given
    buckets, unit = grouping.buckets, unit_of(grouping.buckets)

    def sql(parts: Parts) -> str:
        return f"""{parts.clauses}
        SELECT make_timestamp(bucket) AS bucket, max(peak)::BIGINT AS peak,
            sum(work_us)::BIGINT / 1e6 AS work_seconds
        FROM (SELECT {grouping.columns}peak, work_us FROM ({parts.crowds}))
        GROUP BY bucket ORDER BY bucket"""  # noqa: S608

    def shaped(df: pl.DataFrame) -> pl.DataFrame:
        full = grouping.filled(("peak", "work_seconds"))(df)
        full = full.join(_seconds(log, buckets), on="bucket", how="left")
        mean = (pl.col("work_seconds") / pl.col("seconds")).fill_nan(0)
        return full.select("bucket", "peak", mean=mean)

    return log.report(
        "concurrency",
        sql(from_rows(log, unit)),
        f"concurrency({arguments(every=every)})",
        lambda df: line(
            "Attempts at once",
            df.get_column("bucket").to_list(),
            {"most": df.get_column("peak").to_list(), "mean": df.get_column("mean").to_list()},
            zone=log.window.zone,
        ),
        shaped,
        quick=lambda: _hourly(log, unit, sql),
    )
