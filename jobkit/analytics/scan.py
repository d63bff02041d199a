"""The views as lazy frames of polars."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import timedelta

import polars as pl

from jobkit.analytics.shapes import ATTEMPTS, INSTANT, RUNS
from jobkit.analytics.shelf import SKEW, Sources
from jobkit.analytics.snapshot import Snapshot
from jobkit.analytics.views import ATTEMPTS as ATTEMPT_VIEW
from jobkit.analytics.views import RUNS as RUN_VIEW
from jobkit.analytics.window import Window, naive

_DIFFERENCE = re.compile(r"\(epoch_us\(a\.(\w+)\) - epoch_us\(a\.(\w+)\)\) / 1e6")


def view(name: str, snapshot: Snapshot, sources: Sources, window: Window) -> pl.LazyFrame:
    """Return `runs` or `attempts` with the columns and rows of the view; instants in its zone."""
    jobs = snapshot.jobs.lazy().select(job_id="id", job="name")
    runs = _all(sources.runs, sources.fresh_runs, RUNS)
    if name == "runs":
        found = runs.filter(_run_touches(window))
        columns = RUN_VIEW
    else:
        theirs = runs.select(dispatch_id="id", queue="queue", trigger="trigger")
        found = _all(sources.attempts, sources.fresh_attempts, ATTEMPTS)
        found = found.filter(_attempt_touches(window, sources.longest))
        found = found.join(theirs, on="dispatch_id", how="left")
        columns = ATTEMPT_VIEW
    found = found.join(jobs, on="job_id", how="left")
    made = {column: _expression(sql) for column, (sql, _) in columns.items()}
    utc = pl.col(INSTANT).dt.replace_time_zone("UTC").dt.convert_time_zone(window.zone)
    return found.select(**made).with_columns(utc)


def _all(files: Sequence[str], fresh: pl.DataFrame, schema: dict[str, pl.DataType]) -> pl.LazyFrame:
    scans = [
        pl.scan_parquet(
            file,
            schema=schema,
            missing_columns="insert",
            extra_columns="ignore",
            cast_options=pl.ScanCastOptions(integer_cast="upcast"),
        )
        for file in files
    ]
    return pl.concat([*scans, fresh.lazy()])


def _run_touches(window: Window) -> pl.Expr:
    if window.start is None:
        return pl.lit(value=True)
    made = pl.min_horizontal("created_at", "scheduled_for", "completed_at") < naive(window.end)
    ended, last = pl.col("completed_at"), pl.max_horizontal("completed_at", "scheduled_for")
    within = (ended >= naive(window.start - SKEW)) & (last >= naive(window.start))
    return made & (ended.is_null() | within)


def _attempt_touches(window: Window, longest: timedelta) -> pl.Expr:
    if window.start is None:
        return pl.lit(value=True)
    claimed = pl.col("claimed_at")
    made = claimed < naive(window.end + SKEW)
    made &= pl.min_horizontal("claimed_at", "finished_at") < naive(window.end)
    last = pl.max_horizontal("claimed_at", "finished_at")
    return made & (claimed >= naive(window.start - longest)) & (last >= naive(window.start))


def _expression(sql: str) -> pl.Expr:
    """Return the polars expression of a view's column."""
    difference = _DIFFERENCE.fullmatch(sql)
    if difference is not None:
        later, earlier = difference.groups()
        return (pl.col(later) - pl.col(earlier)).dt.total_microseconds() / 1e6
    return pl.col("job" if sql == "j.name" else sql.partition(".")[2])
