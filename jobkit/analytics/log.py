"""The history as a whole, hot and archived, and the questions that are asked of it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from jobkit.analytics.window import Window

if TYPE_CHECKING:
    from polars import DataFrame

    from jobkit.analytics.report import Draw, Report


class Log:
    """The history in a window, as one snapshot that is taken when it is first needed.

    Every report of one Log tells of the same instant; `kit.log(...)` again takes a new one.
    """

    def __init__(self, window: Window) -> None:
        self.window = window

    @property
    def as_of(self) -> datetime:
        """When the database was looked at."""
        raise NotImplementedError

    def frame(self, sql: str) -> DataFrame:
        """Answer a statement of jobkit's own over the views."""
        raise NotImplementedError

    def report(self, name: str, sql: str, call: str, draw: Draw | None = None) -> Report:
        """Answer a statement of jobkit's own as a report; `call` is how it is asked for again."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<Log of {self.window}>"
