"""What a question is answered with: a table, its chart, and how both came to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any

from jobkit import text
from jobkit.analytics.charts import Chart
from jobkit.analytics.window import Window
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from polars import DataFrame

SHOWN_ROWS = 10

Draw = Callable[["DataFrame"], Chart]


@dataclass(frozen=True)
class Report:
    """The answer to one question about a window of the history."""

    name: str
    df: DataFrame = field(repr=False)
    """The figures; instants are in the zone of the window."""
    sql: str = field(repr=False)
    """The statement that they came from; `kit.log(window).sql(report.sql)` asks it again.

    Reports over time have a row for empty buckets as well, which it leaves out.
    """
    cell: str = field(repr=False)
    """Python that gives the same figures in a fresh kernel."""
    window: Window
    as_of: datetime
    """When the database was looked at."""
    rows_read: int
    """Rows of the tables and files that the statement looked at."""
    milliseconds: float
    missing: tuple[str, ...] = ()
    """Files of the archive that could not be read: the figures lack what is in them."""
    draw: Draw | None = field(default=None, repr=False, compare=False)

    @cached_property
    def chart(self) -> Chart:
        """The figures as a drawing; BadInput for a report that has none."""
        if self.draw is None:
            raise BadInput(f"There is no chart of {self.name}.", "Draw its .df yourself.")
        return self.draw(self.df)

    @property
    def altair(self) -> Any:
        """The chart as one of altair's, to be changed further; BadInput without altair."""
        return self.chart.altair

    @property
    def caption(self) -> str:
        """Say what was asked, when, of how much, and what is missing."""
        said = (
            f"{self.name}, {self.window}, as of {text.instant(self.as_of, self.window.zone)}; "
            f"{self.rows_read:,} rows in {self.milliseconds:.0f} ms"
        )
        if self.missing:
            said += f"; NOT READ, so missing here: {', '.join(self.missing)}"
        return said

    def _repr_html_(self) -> str:
        drawn = self.chart.svg if self.draw is not None and self.df.height else ""
        table = self.df.head(SHOWN_ROWS)._repr_html_()
        more = self.df.height - SHOWN_ROWS
        rest = f" {more} more rows are in .df." if more > 0 else ""
        return f"<div>{drawn}{table}<p><small>{escape(self.caption)}.{rest}</small></p></div>"

    def __repr__(self) -> str:
        return f"{self.caption}\n{self.df}"
