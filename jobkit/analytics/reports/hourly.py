"""Which hours of a window roll-ups answer for, and of which rows must be counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from jobkit.analytics.hours import Tally, among, claimed_for
from jobkit.analytics.rollups import BUSY, HOUR_US, PEAKS, PIECES
from jobkit.analytics.window import literal, micros

if TYPE_CHECKING:
    from jobkit.analytics.log import Log

WORK = "SELECT unit, sum(e - s)::BIGINT AS work_us FROM pieces GROUP BY unit"
"""For each unit: time in attempts."""


@dataclass(frozen=True)
class Bounds:
    """The part of a window that is not in the future, in microseconds since 1970."""

    low: int
    high: int

    @classmethod
    def of(cls, log: Log) -> Bounds:
        """Return those of a log; of the whole history the first instant that is known."""
        start = log.span.start or log.span.end
        return cls(micros(start), micros(min(log.window.end, log.as_of)))


@dataclass(frozen=True)
class Parts:
    """The time of attempts as statements read it: pieces, and what they add up to."""

    clauses: str
    """WITH clauses for `pieces`: spans that are cut at the borders of units."""
    busy: str = BUSY
    peaks: str = PEAKS
    work: str = WORK


def from_rows(log: Log, unit: int, where: str = "TRUE", claims: str = "TRUE") -> Parts:
    """Count attempts from claim to end, and those that still run, as far as the window goes.

    `where`: of pieces, which count; `claims`: of attempts, which may have such pieces.
    """
    at = Bounds.of(log)
    spans = f"""SELECT worker_id, greatest(s, {at.low}) AS s,
        least(greatest(s, e), {at.high}) AS e FROM (
        SELECT worker AS worker_id, epoch_us(claimed_at) AS s,
            epoch_us(coalesce(finished_at, started_at, claimed_at)) AS e
        FROM attempts WHERE {claims}
        UNION ALL
        SELECT worker, epoch_us(claimed_at), {at.high} FROM runs
        WHERE status = 'IN_PROGRESS' AND claimed_at < {literal(log.window.end)}
    ) WHERE (greatest(s, e) > {at.low} OR s >= {at.low}) AND s < {at.high}"""  # noqa: S608
    cut = PIECES.replace("{unit}", str(unit))
    return Parts(f"WITH spans AS ({spans}), pieces AS (SELECT * FROM ({cut}) WHERE {where})")  # noqa: S608


def from_rollups(log: Log, unit: int) -> Parts | None:
    """Count rows of the hours that are cut or still change, and take all others from roll-ups.

    None where hours are too coarse, and where there are no files.
    """
    if unit != HOUR_US:
        return None
    tally = log.shelf.tally(log.snapshot, log.sources)
    if tally is None:
        return None
    at = Bounds.of(log)
    counted = sorted(unit for unit in _counted(log, tally, at) if unit + HOUR_US > at.low)
    within = among(counted)
    rows = from_rows(log, unit, within, claimed_for(counted, log.sources.longest))
    first, until = -(-at.low // HOUR_US) * HOUR_US, at.high // HOUR_US * HOUR_US
    rolled = f"WHERE unit >= {first} AND unit < {until} AND NOT ({within})"
    busy, peaks = (f"read_parquet({_quoted(path)}) {rolled}" for path in (tally.busy, tally.peaks))
    return Parts(
        rows.clauses,
        f"SELECT * FROM {busy} UNION ALL ({BUSY})",  # noqa: S608
        f"SELECT * FROM {peaks} UNION ALL ({PEAKS})",  # noqa: S608
        f"SELECT unit, sum(work_us)::BIGINT AS work_us FROM {busy} GROUP BY unit "  # noqa: S608
        f"UNION ALL ({WORK})",
    )


def _counted(log: Log, tally: Tally, at: Bounds) -> set[int]:
    """Return the hours that the window cuts, and those in which rows are that no file has."""
    cut = {edge // HOUR_US * HOUR_US for edge in (at.low, at.high) if edge % HOUR_US}
    s, e = pl.col("s"), pl.col("e")
    claimed = pl.col("claimed_at").dt.epoch("us")
    ended = pl.coalesce("finished_at", "started_at", "claimed_at").dt.epoch("us")
    running = log.sources.fresh_runs.filter(status="IN_PROGRESS")
    spans = pl.concat(
        [
            log.sources.fresh_attempts.select(s=claimed, e=ended),
            running.select(s=claimed, e=pl.lit(at.high, dtype=pl.Int64)),
        ]
    ).with_columns(e=pl.max_horizontal(e, s + 1))
    spans = spans.filter(s < at.high, e > at.low)
    spans = spans.with_columns(s=s.clip(lower_bound=at.low), e=e.clip(upper_bound=at.high))
    hours = spans.select(unit=pl.int_ranges(s // HOUR_US * HOUR_US, e, HOUR_US)).explode("unit")
    return {*cut, *tally.loose, *hours.get_column("unit").unique().drop_nulls()}


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"
