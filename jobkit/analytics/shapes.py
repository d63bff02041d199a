"""The columns of what is read, and rows of a database as polars frames of exactly those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from jobkit.store import snapshots

INSTANT = pl.Datetime("us")
"""Naive UTC, as in Parquet and DuckDB."""

_TYPES: dict[str, Any] = {
    **dict.fromkeys(
        ("id", "job_id", "attempt", "retry_count", "job_version", "priority", "lost_count",
         "retry_of", "dispatch_id", "exit_code", "max_rss_bytes", "output_bytes", "omitted_bytes",
         "signal", "mark", "slots", "interval_seconds"),
        pl.Int64,
    ),
    **dict.fromkeys(
        ("created_at", "claimed_at", "completed_at", "scheduled_for", "available_at", "queued_at",
         "started_at", "finished_at", "deleted_at", "last_heartbeat"),
        INSTANT,
    ),
    "cpu_seconds": pl.Float64,
    "start_deadline_seconds": pl.Float64,
    "is_active": pl.Boolean,
}  # fmt: skip


def _schema(names: Sequence[str], **more: Any) -> dict[str, Any]:
    return {name: more.get(name) or _TYPES.get(name, pl.String) for name in names}


RUNS = _schema(snapshots.RUN_COLUMNS)
ATTEMPTS = _schema(snapshots.ATTEMPT_COLUMNS)
JOBS = _schema(snapshots.JOB_COLUMNS, version=pl.Int64)
WORKERS = _schema(snapshots.WORKER_COLUMNS)
MARKED_RUNS = {**RUNS, "mark": pl.Int64}


def frame(rows: Iterable[Sequence[Any]], schema: Mapping[str, Any]) -> pl.DataFrame:
    """Put rows as a driver gives them, instants of SQLite being text, into a frame."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pl.DataFrame(
        [
            _series(name, values, kind)
            for (name, kind), values in zip(schema.items(), columns, strict=True)
        ]
    )


def _series(name: str, values: Sequence[Any], kind: Any) -> pl.Series:
    if len(values) == values.count(None):  # many columns: most runs have no error and no backfill
        return pl.Series(name, [None], dtype=kind).new_from_index(0, len(values))
    if kind == INSTANT:
        first = next((value for value in values if value is not None), None)
        if isinstance(first, str):
            return _instants(pl.Series(name, values, dtype=pl.String))
    if kind == pl.Boolean:
        values = [None if value is None else bool(value) for value in values]
    return pl.Series(name, values, dtype=kind, strict=False)


def _instants(text: pl.Series) -> pl.Series:
    """Read instants as jobkit writes them, which is fast, or as others do, in fewer digits."""
    read = text.str.to_datetime("%Y-%m-%d %H:%M:%S.%6f", time_unit="us", strict=False)
    if read.null_count() == text.null_count():
        return read
    return text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
