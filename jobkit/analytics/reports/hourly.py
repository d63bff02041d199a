"""Which hours of a window roll-ups answer for, and of which rows must be counted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from jobkit.analytics.hours import among, claimed_in, claims_of
from jobkit.analytics.rollups import BUSY, HOUR_US, PEAKS, PIECES
from jobkit.analytics.shelf import Sources
from jobkit.analytics.window import literal, micros, naive

if TYPE_CHECKING:
    from jobkit.analytics.log import Log

CROWDS = f"""SELECT unit, peak, work_us FROM ({PEAKS}) JOIN (
    SELECT unit, sum(e - s)::BIGINT AS work_us FROM pieces GROUP BY unit
) USING (unit)"""  # noqa: S608
"""For each unit: the most attempts at once, and time in attempts."""


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
    crowds: str = CROWDS
    sources: Sources | None = None
    """Where rows are read; None: from all that the window has."""


RUNNING = """SELECT worker, epoch_us(claimed_at), {high} FROM runs
        WHERE status = 'IN_PROGRESS' AND claimed_at < {end}"""


def from_rows(log: Log, unit: int) -> Parts:
    """Count attempts from claim to end, and those that still run, as far as the window goes."""
    at = Bounds.of(log)
    running = RUNNING.format(high=at.high, end=literal(log.window.end))
    return Parts(_clauses(at, unit, running, "TRUE", "TRUE"))


def _clauses(at: Bounds, unit: int, running: str, claimed: str, where: str) -> str:
    """Return WITH clauses; `claimed` says which attempts may have pieces, `where` which count."""
    spans = f"""SELECT worker_id, greatest(s, {at.low}) AS s,
        least(greatest(s, e), {at.high}) AS e FROM (
        SELECT worker AS worker_id, epoch_us(claimed_at) AS s,
            epoch_us(coalesce(finished_at, started_at, claimed_at)) AS e
        FROM attempts WHERE {claimed}
        UNION ALL {running}
    ) WHERE (greatest(s, e) > {at.low} OR s >= {at.low}) AND s < {at.high}"""  # noqa: S608
    cut = PIECES.replace("{unit}", str(unit))
    return f"WITH spans AS ({spans}), pieces AS (SELECT * FROM ({cut}) WHERE {where})"  # noqa: S608


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
    low = at.low if log.window.start else at.low // HOUR_US * HOUR_US  # nothing is before the first
    running = _running(log, at)
    cut = {edge // HOUR_US * HOUR_US for edge in (low, at.high) if edge % HOUR_US}
    counted = cut | tally.loose | _fresh(log, running, at)
    counted = {hour for hour in counted if low < hour + HOUR_US and hour < at.high}
    within = among(sorted(counted))
    claims = claims_of(sorted(counted), log.sources.longest)
    whole = f"unit >= {-(-low // HOUR_US) * HOUR_US} AND unit < {at.high // HOUR_US * HOUR_US}"
    rolled = f"WHERE {whole} AND NOT ({within})"
    return Parts(
        _clauses(at, unit, _values(running), claimed_in(claims), within),
        f"SELECT * FROM read_parquet({_quoted(tally.busy)}) {rolled} UNION ALL ({BUSY})",  # noqa: S608
        f"SELECT * FROM read_parquet({_quoted(tally.crowds)}) {rolled} UNION ALL ({CROWDS})",  # noqa: S608
        log.shelf.claimed(log.snapshot, log.sources, claims),
    )


def _running(log: Log, at: Bounds) -> pl.DataFrame:
    """Return what is in progress: no run that is kept in a file is."""
    running = log.sources.fresh_runs.filter(
        pl.col("claimed_at") < naive(log.window.end), status="IN_PROGRESS"
    )
    claimed = pl.col("claimed_at").dt.epoch("us")
    return running.select("worker_id", s=claimed, e=pl.lit(at.high, dtype=pl.Int64))


def _values(spans: pl.DataFrame) -> str:
    if spans.is_empty():
        return "SELECT NULL, NULL, NULL WHERE FALSE"
    rows = [
        f"({'NULL' if worker is None else _quoted(worker)}, {s}, {e})"
        for worker, s, e in spans.iter_rows()
    ]
    return f"VALUES {', '.join(rows)}"


def _fresh(log: Log, running: pl.DataFrame, at: Bounds) -> set[int]:
    """Return the hours in which rows are that no file has."""
    s, e = pl.col("s"), pl.col("e")
    ended = pl.coalesce("finished_at", "started_at", "claimed_at").dt.epoch("us")
    claimed = pl.col("claimed_at").dt.epoch("us")
    spans = pl.concat(
        [log.sources.fresh_attempts.select(s=claimed, e=ended), running.drop("worker_id")]
    )
    spans = spans.with_columns(e=pl.max_horizontal(e, s + 1)).filter(s < at.high, e > at.low)
    spans = spans.with_columns(s=s.clip(lower_bound=at.low), e=e.clip(upper_bound=at.high))
    hours = spans.select(unit=pl.int_ranges(s // HOUR_US * HOUR_US, e, HOUR_US)).explode("unit")
    return set(hours.get_column("unit").unique().drop_nulls())


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
