"""The history as a whole, hot and archived, and the questions that are asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import polars as pl

from jobkit import text
from jobkit.analytics import fence, recorded, scan, views
from jobkit.analytics.capacity import Needed, Study, Suggestions
from jobkit.analytics.report import Draw, Report
from jobkit.analytics.reports import comparison, faults, flow, punctuality, times
from jobkit.analytics.shelf import Shelf, Sources, Stream
from jobkit.analytics.simulation import Simulation
from jobkit.analytics.snapshot import Snapshot
from jobkit.analytics.window import Given, Window
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from jobkit.analytics.coverage import Coverage

SQL_ROWS = 100_000
SQL_SECONDS = 30.0

Relation = Callable[["Log"], pl.DataFrame]
Quick = Callable[[], pl.DataFrame | None]
"""What answers from roll-ups; None where there are none."""


def _slots(log: Log) -> pl.DataFrame:
    from jobkit.analytics.coverage import slots_of

    return slots_of(log)


DERIVED: dict[str, Relation] = {"slots": _slots}
"""Views that are computed when a statement names them: name -> what makes the frame."""


class Log:
    """The history in a window, as one snapshot that is taken when it is first needed.

    Every report of one Log tells of the same instant; `kit.log(...)` again takes a new one.
    """

    def __init__(
        self,
        shelf: Shelf,
        window: Window,
        now: Callable[[], datetime],
        opening: str,
        kit: Any = None,
    ):
        self.kit = kit
        self.window = window
        self.shelf = shelf
        self._now = now
        self._opening = opening

    @cached_property
    def snapshot(self) -> Snapshot:
        """The look at the database that everything here goes by."""
        return self.shelf.look(self._now())

    @cached_property
    def sources(self) -> Sources:
        """Where the window's rows are."""
        return self.shelf.sources(self.snapshot, self.window)

    @property
    def as_of(self) -> datetime:
        """When the database was looked at."""
        return self.snapshot.as_of

    @property
    def missing(self) -> tuple[str, ...]:
        """Files of the archive that the window needs and that could not be read."""
        return self.sources.missing

    @cached_property
    def span(self) -> Window:
        """The window with a start: of the whole history, its first instant."""
        if self.window.start is not None:
            return self.window
        return self.window.since(self.sources.first or self.window.end)

    # Asking

    def coverage(self, *, job: str | None = None, late: timedelta | str = "1m") -> Coverage:
        """Judge every slot that should have been, by the schedules of each time.

        `job`: a name; `late`: how long after its slot a run may begin. NotFound for no such job.
        """
        from jobkit.analytics.coverage import cover

        return cover(
            self, job=job, late=text.parse_duration(late) if isinstance(late, str) else late
        )

    def frame(self, sql: str) -> pl.DataFrame:
        """Answer a statement of jobkit's own over the views; instants in the window's zone."""
        return self._in_zone(self.rows(sql, views.joins_in(sql)))

    def report(
        self,
        name: str,
        sql: str,
        call: str,
        draw: Draw | None = None,
        shape: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
        joins: Iterable[str | None] = (),
        quick: Quick | None = None,
        moment: str | None = None,
    ) -> Report:
        """Answer a statement of jobkit's own as a report.

        `call`: how it is asked for, like `throughput(every="1h")`; `shape`: what is still done to
        the rows; `joins`: which of `job`, `queue` and `trigger` it reads of `attempts` or `runs`.
        `moment`: a column of which the statement takes only rows in the window.
        `quick`: how roll-ups give the same rows, where there are any.
        """
        rows_read, began = self._rows_read(sql), time.perf_counter()
        wanted = views.JOINED.intersection(name for name in joins if name)
        found = None if quick is None else quick()
        if found is None:
            found = self.rows(sql, wanted, moment=moment)
        df = self._in_zone(found if shape is None else shape(found))
        return Report(
            name=name,
            df=df,
            sql=sql,
            cell=self.cell(call),
            window=self.window,
            as_of=self.as_of,
            rows_read=rows_read,
            milliseconds=(time.perf_counter() - began) * 1000,
            missing=self.missing,
            draw=draw,
        )

    def sql(
        self, statement: str, *, limit: int = SQL_ROWS, timeout: float | timedelta = SQL_SECONDS
    ) -> Report:
        """Answer a SELECT of a person over `runs`, `attempts`, `slots`, `jobs` and `workers`.

        Views hold what touches the window; their instants are in UTC. BadInput for anything but a
        SELECT over them, for more than `limit` rows, and after `timeout` seconds.
        """
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        began = time.perf_counter()
        joins = views.joins_in(statement)
        with self.shelf.cursor() as cursor:
            with fence.limited(cursor, None):
                names = fence.check(cursor, statement, self._known())
            views.create(cursor, names, joins, self.snapshot, self.sources, self.window)
            self._derive(cursor, names)
            with fence.limited(cursor, seconds):
                found = pl.DataFrame(cursor.sql(statement).limit(limit + 1))
        if found.height > limit:
            raise BadInput(
                f"The answer has more than {limit:,} rows.",
                "Count or group them, add LIMIT, or give limit=.",
            )
        return Report(
            name="sql",
            df=self._in_zone(found),
            sql=statement,
            cell=self.cell(f"sql({statement!r})"),
            window=self.window,
            as_of=self.as_of,
            rows_read=self._rows_read(statement),
            milliseconds=(time.perf_counter() - began) * 1000,
            missing=self.missing,
        )

    # The questions

    def throughput(self, every: str | None = "1h", by: str | None = None) -> Report:
        """Count the runs that ended in the window, by bucket and by how they ended.

        `every`: `15m`, `1h`, `1d`, `1w`, `1mo` ... or None; `by`: job, worker, queue, tag, trigger,
        status, or hour (of the day). A run of a job with two tags counts in the groups of both;
        those of jobs without any are one group.
        """
        return flow.throughput(self, every, by)

    def durations(self, by: str | None = "job", every: str | None = None) -> Report:
        """Measure, in seconds, the attempts that succeeded and ended in the window."""
        return times.durations(self, by, every)

    def failures(self, every: str | None = None, by: str | None = None) -> Report:
        """Group the failed attempts that ended in the window by exception and place.

        With `every` or `by` instead: how many attempts failed, and the share of all.
        """
        return faults.failures(self, every, by)

    def queue_wait(self, by: str | None = None, every: str | None = "1h") -> Report:
        """Measure, in seconds, how long what was claimed in the window had waited for it."""
        return times.queue_wait(self, by, every)

    def utilisation(self, every: str = "1h", by: str | None = None) -> Report:
        """Measure how busy workers were: a share of their time, and of their slots.

        Attempts side by side count once for `busy`, and each for `utilisation`. `by`: `worker`.
        """
        return flow.utilisation(self, every, by)

    def concurrency(self, every: str = "1h") -> Report:
        """Count the attempts that ran at once: the most, exactly, and on average."""
        return flow.concurrency(self, every)

    def late(self, after: str = "1m") -> Report:
        """Count, by job, the slots in the window that were kept, late, missed and skipped."""
        return punctuality.late(self, after)

    def retries(self) -> Report:
        """Count, by job, the runs that ended in the window and were tried again."""
        return faults.retries(self)

    def slowest(self, n: int = 20) -> Report:
        """List the attempts that ended in the window and took longest."""
        return times.slowest(self, n)

    def flakiest(self, n: int = 20) -> Report:
        """Rank the jobs whose runs recover by themselves or end now well, now badly."""
        return faults.flakiest(self, n)

    def compare(self, before: Given = None) -> Report:
        """Put the figures of each job beside those of another window.

        `before`: a pair of instants, or a length like `"7d"` up to where this window starts; the
        same length as this window if not given.
        """
        if before is None:
            earlier = self.window.before()
            call = "compare()"
        else:
            start = self.window.start or self.window.end
            earlier = Window.read(before, start, self.window.zone)
            pair = (text.iso(earlier.start or start), text.iso(earlier.end))
            call = f"compare({pair!r})"
        return comparison.compare(self, earlier, call)

    # What if

    @cached_property
    def study(self) -> Study:
        """The runs that were made in the window, to be replayed; read once."""
        return recorded.study(self)

    def simulate(
        self,
        workers: int | None = None,
        slots: int | None = None,
        change: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Simulation:
        """Replay the runs of the window with other workers, or with something changed about jobs.

        `workers`, of `slots` each; by default those that are online. `change`: of a job `shift`
        ("12m", "-1h"), a schedule as for `Kit.add_job`, `duration_factor`, `duration`, `priority`,
        `queue`, `overlap`, or `off=True`; a job that did not run is added by a schedule and a
        duration. BadInput names what is wrong.
        """
        given = {"workers": workers, "slots": slots, "change": change}
        said = ", ".join(f"{name}={value!r}" for name, value in given.items() if value is not None)
        return replace(
            self.study.simulate(workers, slots, change), cell=self.cell(f"simulate({said})")
        )

    def needed_workers(
        self,
        wait_p95: str | timedelta | float = "30s",
        slots: int | None = None,
        change: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Needed:
        """Return the least number of workers with which 95 of 100 waits are at most so long."""
        return self.study.needed_workers(wait_p95, slots, change)

    def suggest(
        self,
        n: int = 3,
        workers: int | None = None,
        slots: int | None = None,
        within: str | timedelta | float = "30m",
    ) -> Suggestions:
        """Return up to `n` jobs that should come earlier or later, by at most `within`."""
        return self.study.suggest(n, workers, slots, within)

    def over(self, window: Window) -> Log:
        """Return another window of the same snapshot."""
        other = Log(self.shelf, window, self._now, self._opening)
        other.__dict__["snapshot"] = self.snapshot
        return other

    def scan(self, view: str = "attempts") -> pl.LazyFrame:
        """Return a view as a polars LazyFrame over the files, so that only what is used is read."""
        if view not in ("runs", "attempts"):
            raise BadInput(f"{view!r} cannot be scanned.", 'Use "runs" or "attempts", or sql().')
        return scan.view(view, self.snapshot, self.sources, self.window)

    def as_local(self, instant: datetime) -> datetime:
        """Return an instant in the window's zone."""
        return instant.astimezone(ZoneInfo(self.window.zone))

    def cell(self, call: str) -> str:
        """Return Python that asks again in a fresh kernel."""
        start, end = self.window.start, self.window.end
        window = None if start is None else (text.iso(start), text.iso(end))
        return (
            f"import jobkit\n\n{self._opening}\n"
            f"log = kit.log({window!r}, tz={self.window.zone!r})\nreport = log.{call}\nreport"
        )

    def _known(self) -> set[str]:
        return {*views.VIEWS, *DERIVED}

    def _derive(self, cursor: Any, names: set[str]) -> None:
        for name in set(DERIVED) & names:
            cursor.register(name, Stream(DERIVED[name](self)))

    def rolled(self, kind: str, sql: Callable[[str], str]) -> pl.DataFrame | None:
        """Answer from a kind of roll-ups and the rows that none stands for; None without any.

        `sql`: what makes a statement of the relation that holds the roll-ups.
        """
        left, files = self.shelf.rolled(kind, self.snapshot, self.sources, self.window)
        if not files:
            return None
        relation = f"read_parquet({views.listed(files)})"
        return self.rows(sql(relation), sources=left, moment="completed_at")

    def rows(
        self,
        sql: str,
        joins: frozenset[str] = frozenset(),
        sources: Sources | None = None,
        moment: str | None = None,
    ) -> pl.DataFrame:
        """Answer a statement of jobkit's own over the views; instants are in UTC."""
        sources = sources or self.sources
        with self.shelf.cursor() as cursor:
            self._derive(cursor, views.tables_in(sql))
            told = views.within(cursor, sql, joins, self.snapshot, sources, self.window, moment)
            return pl.DataFrame(cursor.sql(told))

    def _rows_read(self, sql: str) -> int:
        words = views.words_in(sql)
        return sum(count for kind, count in self.sources.rows.items() if kind in words)

    def _in_zone(self, df: pl.DataFrame) -> pl.DataFrame:
        instants = [name for name, kind in df.schema.items() if isinstance(kind, pl.Datetime)]
        utc = pl.col(instants).dt.replace_time_zone("UTC")
        return df.with_columns(utc.dt.convert_time_zone(self.window.zone)) if instants else df

    def __repr__(self) -> str:
        return f"<Log of {self.window}>"
