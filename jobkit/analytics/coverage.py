"""Coverage: every slot that should have been, and what became of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from jobkit.analytics import filling, judging, views
from jobkit.analytics.judging import Bounds, Known
from jobkit.analytics.marks import COVERAGE, COVERED, HOLES, MARKS, Figure
from jobkit.analytics.shelf import Stream
from jobkit.analytics.slots import MICROSECOND
from jobkit.analytics.strip import Row, Strip, step_for
from jobkit.analytics.window import Window
from jobkit.clock import stopwatch
from jobkit.errors import BadInput
from jobkit.store import snapshots

if TYPE_CHECKING:
    from polars import DataFrame

    from jobkit.analytics.filling import Filled
    from jobkit.analytics.log import Log
    from jobkit.kit import Kit


LATE = timedelta(minutes=1)
SETTLED = timedelta(minutes=1)
"""How long after its poll interval a scheduler may take to look."""


@dataclass(frozen=True)
class Coverage:
    """Every slot that should have been in a window, and what became of it."""

    _kit: Kit = field(repr=False, compare=False)
    _judged: DataFrame
    window: Window
    """Slots in it are judged, those to come are not."""
    as_of: datetime
    """When the database was looked at."""
    sql: str
    """The query that judged them, over the view `runs` and the slots that were due."""
    cell: str
    """Python that gives the same figures in a fresh kernel."""
    milliseconds: float
    missing: tuple[str, ...] = ()
    """Files of the archive that could not be read: slots whose runs they hold seem lost."""

    @cached_property
    def df(self) -> DataFrame:
        """One row a slot: `job_id, job, slot, mark, reason, run_id, late_seconds`."""
        import polars

        slot = polars.col("slot").dt.replace_time_zone("UTC")
        return self._judged.with_columns(slot.dt.convert_time_zone(self.window.zone))

    @cached_property
    def figures(self) -> list[Figure]:
        """One figure for each job that had a slot, by name."""
        return judging.figures(self._judged)

    @property
    def start(self) -> datetime:
        """The first instant that is looked at."""
        assert self.window.start is not None  # of the whole history it is that of the first job
        return self.window.start

    @property
    def caption(self) -> str:
        """Say the figure of all jobs, of which time it is, and what is missing."""
        said = f"Coverage: {self.total.words}; {self.window}"
        if self.missing:
            said += f"; NOT READ, so missing here: {', '.join(self.missing)}"
        return said

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
        return judging.holes(self._judged, marks)

    @property
    def hole_count(self) -> int:
        """How many slots `holes` returns."""
        return judging.count_holes(self._judged)

    def fill(
        self, *, dry_run: bool = False, marks: Collection[str] = HOLES, limit: int = 1
    ) -> Filled:
        """Make a run for each hole; with `dry_run` only say which.

        Slots that meanwhile have a run that completed, waits or runs get none: a repeat makes none.
        `limit`: how many of a job that allows overlap run at once.
        """
        return self._kit.fill(self.to_fill(marks), limit=limit, dry_run=dry_run)

    def to_fill(self, marks: Collection[str] = HOLES) -> dict[int, list[datetime]]:
        """Return the holes as `Kit.fill` takes them; BadInput where they cannot all be known.

        BadInput as well for more than are filled at once.
        """
        if self.missing:
            raise BadInput(
                f"Files of the archive cannot be read: {', '.join(self.missing)}. Slots whose runs "
                "they hold would be run again.",
                "See what is wrong with them: jobkit archive verify",
            )
        found = self.holes(marks)
        filling.check(found)
        return found

    @cached_property
    def chart(self) -> Strip:
        """A strip for each job: cells of up to many slots show the worst mark of theirs."""
        return self.strip(self.figures)

    @cached_property
    def worst_first(self) -> list[Figure]:
        """The figures, those of jobs with the most holes first."""
        return sorted(
            self.figures,
            key=lambda figure: (-sum(figure.counts.get(mark, 0) for mark in HOLES), figure.job),
        )

    def strip(self, figures: Sequence[Figure]) -> Strip:
        """Return the strips of some jobs, in their order."""
        start, end = self.start, self.window.end
        step = step_for(end - start)
        cells: dict[int, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        wanted = self._judged["job_id"].is_in([figure.job_id for figure in figures])
        for job_id, cell, mark, count in _cells(self._judged.filter(wanted), start, step):
            cells[job_id][cell][mark] = count
        rows = [Row(figure.job, figure.words, cells[figure.job_id]) for figure in figures]
        return Strip(start, end, step, tuple(rows), self.window.zone)

    @property
    def amiss(self) -> list[dict[str, Any]]:
        """The slots that no run completed for, each with its mark and reason; instants in UTC."""
        return _in_utc(self._judged.filter(~self._judged["mark"].is_in(COVERED)))

    def newest_amiss(self, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Return the newest of the slots that are `amiss`, the newest first, and how many are."""
        listed = self._judged.filter(~self._judged["mark"].is_in(COVERED))
        newest = listed.top_k(limit, by=("slot", "job"), reverse=(False, True))
        ordered = newest.sort("slot", "job", descending=(True, False))
        return _in_utc(ordered), listed.height

    def __len__(self) -> int:
        return self._judged.height

    def __repr__(self) -> str:
        width = max((len(figure.job) for figure in self.figures), default=0)
        listed = [f"  {figure.job:{width}}  {figure.words}" for figure in self.figures]
        return "\n".join([self.caption, *listed])

    def _repr_html_(self) -> str:
        chart = self.chart
        rows = "".join(
            f"<tr><th scope='row'>{escape(row.name)}</th><td>{chart.row_svg(row)}</td>"
            f"<td style='text-align:left'>{escape(row.words)}</td></tr>"
            for row in chart.rows
        )
        caption = escape(self.caption)
        return f"<table><caption>{caption}</caption><tbody>{rows}</tbody></table>"


class Told:
    """What a log tells of runs, and of those that stand for slots of the window but lie later."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def query(self, sql: str, frames: Mapping[str, DataFrame]) -> DataFrame:
        """Answer a statement of jobkit's own over `runs` and given frames; naive UTC."""
        import polars

        log = self._log
        window, sources = log.window, log.sources
        if window.end < log.as_of and not frames:
            window = replace(window, end=log.as_of)
            sources = log.shelf.sources(log.snapshot, window)
        with log.shelf.cursor() as cursor:
            views.create(cursor, {"runs"}, frozenset(), log.snapshot, sources, window)
            for name, frame in frames.items():
                cursor.register(name, Stream(frame))
            return polars.DataFrame(cursor.sql(sql))


def cover(log: Log, *, job: str | None = None, late: timedelta = LATE) -> Coverage:
    """Judge the slots of a log's window, of all jobs or of those of one name; none is to come.

    `late`: a run that begins later after its slot is late. NotFound for a job that never was.
    """
    began, window = stopwatch(), log.window
    bounds, df = _judged(log, job, late)
    return Coverage(
        log.kit,
        df,
        replace(window, start=bounds.start, end=bounds.end),
        as_of=log.as_of,
        sql=bounds.fill(COVERAGE),
        cell=log.cell(f"coverage({'' if job is None else f'job={job!r}'})"),
        milliseconds=(stopwatch() - began) * 1000,
        missing=log.missing,
    )


def slots_of(log: Log) -> DataFrame:
    """Return the slots of a log's window, judged, in naive UTC: the view `slots`."""
    return _judged(log, None, LATE)[1]


def _judged(log: Log, job: str | None, late: timedelta) -> tuple[Bounds, DataFrame]:
    kit: Kit = log.kit
    # Before the log looks, if it has not yet: what a cursor has passed then has its rows.
    with kit.database.read() as connection:
        cleaned_until = snapshots.marks(connection).cleaned_until
        known = Known.read(connection, job)
    first = min((version.changed_at for version in known.versions), default=log.window.end)
    bounds = Bounds(
        start=log.window.start or min(first, log.window.end),
        end=min(log.window.end, log.as_of),
        late=late,
        due_since=log.as_of - kit.settings.scheduler_poll_interval - SETTLED,
        kept_since=cleaned_until,
    )
    return bounds, judging.judge(Told(log), known, bounds)


def _in_utc(df: DataFrame) -> list[dict[str, Any]]:
    return [row | {"slot": row["slot"].replace(tzinfo=UTC)} for row in df.iter_rows(named=True)]


def _cells(df: DataFrame, start: datetime, step: timedelta) -> Iterator[tuple[int, int, str, int]]:
    import polars

    passed = (polars.col("slot") - start.replace(tzinfo=None)).dt.total_microseconds()
    cell = (passed // (step // MICROSECOND)).alias("cell")
    yield from df.group_by("job_id", cell, "mark").len().iter_rows()
