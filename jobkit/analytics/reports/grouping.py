"""By what a question may be grouped, and the buckets of its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import polars as pl

from jobkit.analytics.buckets import Buckets
from jobkit.analytics.window import Window
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from jobkit.analytics.log import Log

HOUR_US = 3_600_000_000
COLUMNS = ("job", "worker", "queue", "tag", "trigger", "status", "hour")


def key(by: str | None, us: str, window: Window) -> str | None:
    """Return SQL for what rows are grouped by; `us` is their instant in microseconds."""
    if by is None:
        return None
    if by not in COLUMNS:
        raise BadInput(f"by={by!r} is nothing to group by.", f"Use: {', '.join(COLUMNS)}.")
    if by == "hour":
        hours = Buckets("days", 24 * HOUR_US, window)
        return f"({us} + {hours.offset(us)}) // {HOUR_US} % 24"
    return "job_id" if by == "job" else by


class Grouping:
    """The columns that a question is grouped by: a bucket of time, a thing, both or neither.

    Tags are those that jobs have now. What is of a job with two counts in the groups of both; that
    of jobs without any is the group NULL.
    """

    def __init__(self, log: Log, us: str, every: str | None, by: str | None) -> None:
        self.by = by
        self.buckets = None if every is None else Buckets.read(every, log.span)
        group = key(by, us, log.span)
        made = {}
        if self.buckets is not None:
            made["bucket"] = self.buckets.sql(us)
        if by is not None and group is not None:
            made[by] = group
        self._made = made

    @property
    def names(self) -> list[str]:
        """The columns of the answer."""
        return list(self._made)

    @property
    def columns(self) -> str:
        """SQL that computes the columns, with a comma behind it."""
        return "".join(f"{made} AS {name}, " for name, made in self._made.items())

    @property
    def clause(self) -> str:
        """SQL that groups by them: by their places, as a view may have columns of these names."""
        places = ", ".join(str(place) for place in range(1, len(self._made) + 1))
        return f"GROUP BY {places}" if places else ""

    @property
    def joins(self) -> list[str]:
        """What attempts must be joined with their runs for."""
        return [name for name in ("queue", "trigger") if name == self.by]

    def source(self, rows: str) -> str:
        """Return what to select from, `rows` being a relation that has `job_id`."""
        if self.by != "tag":
            return rows
        return f"{rows} LEFT JOIN (SELECT job_id, unnest(tags) AS tag FROM jobs) USING (job_id)"  # noqa: S608

    def named(self, inner: str, rest: str) -> str:
        """Return the statement with names of jobs for their numbers and instants for buckets.

        `rest`: the other columns, made of those of `inner`.
        """
        shown, source = [], f"({inner}) q"
        for name in self._made:
            if name == "bucket":
                shown.append("make_timestamp(q.bucket) AS bucket")
            elif name == "job":
                shown.append("coalesce(j.job, '(job ' || q.job || ')') AS job")
                source += " LEFT JOIN jobs j ON j.job_id = q.job"
            else:
                shown.append(f"q.{name}")
        order = f" ORDER BY {', '.join(self._made)}" if self._made else ""
        return f"SELECT {', '.join([*shown, rest])} FROM {source}{order}"  # noqa: S608

    def filled(self, zeros: Sequence[str]) -> Filled:
        """Return what adds the empty buckets, with 0 in these columns."""
        return Filled(self, zeros)


class Filled:
    """Adds rows for the buckets in which nothing was, unless rows are grouped further."""

    def __init__(self, grouping: Grouping, zeros: Sequence[str]) -> None:
        self._grouping = grouping
        self._zeros = list(zeros)

    def __call__(self, df: pl.DataFrame) -> pl.DataFrame:
        buckets = self._grouping.buckets
        if buckets is None or self._grouping.by is not None:
            return df
        starts = pl.Series(buckets.edges_us()[:-1], dtype=pl.Int64)
        everything = pl.DataFrame({"bucket": starts.cast(pl.Datetime("us"))})
        full = everything.join(df, on="bucket", how="left").sort("bucket")
        return full.with_columns(pl.col(self._zeros).fill_null(0)).select(df.columns)


def arguments(**given: object) -> str:
    """Write arguments as Python."""
    return ", ".join(f"{name}={value!r}" for name, value in given.items())
