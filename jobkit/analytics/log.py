"""The history as a whole, hot and archived, and the questions that are asked of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from jobkit import text
from jobkit.analytics import fence, views
from jobkit.analytics.report import Draw, Report
from jobkit.analytics.shelf import Shelf, Sources, Stream
from jobkit.analytics.snapshot import Snapshot
from jobkit.analytics.window import EPOCH, Window
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from jobkit.analytics.coverage import Coverage

SQL_ROWS = 100_000
SQL_SECONDS = 30.0

Relation = Callable[["Log"], pl.DataFrame]


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
        first = self._rows(
            "SELECT least((SELECT min(least(created_at, scheduled_for)) FROM runs), "
            "(SELECT min(claimed_at) FROM attempts)) AS first"
        ).item()
        return self.window.since(self.window.end if first is None else _aware(first))

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
        return self._in_zone(self._rows(sql))

    def report(
        self,
        name: str,
        sql: str,
        call: str,
        draw: Draw | None = None,
        shape: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
    ) -> Report:
        """Answer a statement of jobkit's own as a report.

        `call`: how it is asked for, like `throughput(every="1h")`; `shape`: what is still done to
        the rows.
        """
        rows_read, began = self._rows_read(sql), time.perf_counter()
        found = self._rows(sql)
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
        with self._views(statement, self._known()) as cursor, fence.limited(cursor, seconds):
            fence.check(cursor, statement, self._known())
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

    @contextmanager
    def _views(self, sql: str, known: set[str]) -> Iterator[Any]:
        with self.shelf.cursor() as cursor:
            views.create(cursor, sql, self.snapshot, self.sources, self.window)
            for name in known & set(DERIVED) & views.names_in(sql):
                cursor.register(name, Stream(DERIVED[name](self)))
            yield cursor

    def _rows(self, sql: str) -> pl.DataFrame:
        with self._views(sql, set(DERIVED)) as cursor:
            return pl.DataFrame(cursor.sql(sql))

    def _rows_read(self, sql: str) -> int:
        words = views.names_in(sql)
        return sum(count for kind, count in self.sources.rows.items() if kind in words)

    def _in_zone(self, df: pl.DataFrame) -> pl.DataFrame:
        instants = [name for name, kind in df.schema.items() if isinstance(kind, pl.Datetime)]
        utc = pl.col(instants).dt.replace_time_zone("UTC")
        return df.with_columns(utc.dt.convert_time_zone(self.window.zone)) if instants else df

    def __repr__(self) -> str:
        return f"<Log of {self.window}>"


def _aware(instant: datetime) -> datetime:
    return instant.replace(tzinfo=EPOCH.tzinfo)
