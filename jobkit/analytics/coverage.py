"""Coverage: every slot that should have been, and what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from jobkit.analytics import judging
from jobkit.analytics.hot import Hot
from jobkit.analytics.judging import Bounds, Known
from jobkit.analytics.marks import COVERAGE, COVERED, HOLES, MARKS, Figure
from jobkit.analytics.slots import MICROSECOND
from jobkit.analytics.strip import Row, Strip, step_for
from jobkit.clock import stopwatch
from jobkit.store import snapshots
from jobkit.text import instant

if TYPE_CHECKING:
    from polars import DataFrame

    from jobkit.analytics.filling import Filled
    from jobkit.kit import Kit


LATE = timedelta(minutes=1)
SETTLED = timedelta(minutes=1)
"""How long after its poll interval a scheduler may take to look."""


@dataclass(frozen=True)
class Coverage:
    """Every slot that should have been in a window, and what became of it."""

    _kit: Kit = field(repr=False, compare=False)
    df: DataFrame
    """One row a slot: `job_id, job, slot, mark, reason, run_id, late_seconds`; naive UTC."""
    start: datetime
    end: datetime
    """Slots in [start, end)."""
    sql: str
    """The query that judged them, over the view `runs` and the slots that were due."""
    milliseconds: float
    zone: str = "UTC"

    @cached_property
    def figures(self) -> list[Figure]:
        """One figure for each job that had a slot, by name."""
        return judging.figures(self.df)

    @property
    def total(self) -> Figure:
        """One figure for all jobs together."""
        counts = {
            mark: count
            for mark in MARKS
            if (count := sum(figure.counts.get(mark, 0) for figure in self.figures))
        }
        return Figure(0, "all jobs", counts)

    def holes(self, marks: Collection[str] = HOLES) -> dict[int, list[datetime]]:
        """Return the slots to be filled, by job: failed, missed or never dispatched by default."""
        return judging.holes(self.df, marks)

    def fill(
        self, *, dry_run: bool = False, marks: Collection[str] = HOLES, limit: int = 1
    ) -> Filled:
        """Make a run for each hole; with `dry_run` only say which.

        Slots that meanwhile have a run that completed, waits or runs get none: a repeat makes none.
        `limit`: how many of a job that allows overlap run at once.
        """
        return self._kit.fill(self.holes(marks), limit=limit, dry_run=dry_run)

    @cached_property
    def chart(self) -> Strip:
        """A strip for each job: cells of up to many slots show the worst mark of theirs."""
        step = step_for(self.end - self.start)
        cells: dict[int, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        for job_id, cell, mark, count in _cells(self.df, self.start, step):
            cells[job_id][cell][mark] = count
        rows = [Row(figure.job, figure.words, cells[figure.job_id]) for figure in self.figures]
        return Strip(self.start, self.end, step, tuple(rows), self.zone)

    @property
    def amiss(self) -> list[dict[str, Any]]:
        """The slots that no run completed for, each with its mark and reason; instants in UTC."""
        listed = self.df.filter(~self.df["mark"].is_in(COVERED))
        return [
            row | {"slot": row["slot"].replace(tzinfo=UTC)} for row in listed.iter_rows(named=True)
        ]

    def __len__(self) -> int:
        return len(self.df)

    def __repr__(self) -> str:
        width = max((len(figure.job) for figure in self.figures), default=0)
        listed = [f"  {figure.job:{width}}  {figure.words}" for figure in self.figures]
        return "\n".join([f"Coverage: {self.total.words}", *listed])

    def _repr_html_(self) -> str:
        chart = self.chart
        rows = "".join(
            f"<tr><th scope='row'>{escape(row.name)}</th><td>{chart.row_svg(row)}</td>"
            f"<td style='text-align:left'>{escape(row.words)}</td></tr>"
            for row in chart.rows
        )
        times = f"{instant(self.start, self.zone)} to {instant(self.end, self.zone)}"
        caption = escape(f"Coverage: {self.total.words}; {times}")
        return f"<table><caption>{caption}</caption><tbody>{rows}</tbody></table>"


def cover(
    kit: Kit,
    start: datetime | None,
    end: datetime,
    *,
    job: str | None = None,
    late: timedelta = LATE,
    zone: str = "UTC",
) -> Coverage:
    """Judge the slots in [start, end), of all jobs or of those of one name; none is to come.

    `late`: a run that begins later after its slot is late. Without `start` from the first job on.
    NotFound for a job that never was.
    """
    began, now = stopwatch(), kit.clock.now()
    chosen = kit.settings
    with kit.database.read(takes_long=True) as connection:
        cleaned_until = snapshots.marks(connection).cleaned_until
        known = Known.read(connection, job)
        first = min((row.changed_at for row in known.versions), default=end)
        bounds = Bounds(
            start=first if start is None else start,
            end=min(end, now),
            late=late,
            due_since=now - chosen.scheduler_poll_interval - SETTLED,
            kept_since=cleaned_until,
        )
        df = judging.judge(Hot.read(connection, bounds.start), known, bounds)
    took = (stopwatch() - began) * 1000
    return Coverage(kit, df, bounds.start, bounds.end, bounds.fill(COVERAGE), took, zone)


def _cells(df: DataFrame, start: datetime, step: timedelta) -> Iterator[tuple[int, int, str, int]]:
    import polars

    passed = (polars.col("slot") - start.replace(tzinfo=None)).dt.total_microseconds()
    cell = (passed // (step // MICROSECOND)).alias("cell")
    yield from df.group_by("job_id", cell, "mark").len().iter_rows()
