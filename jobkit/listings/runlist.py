"""A list of runs, which knows what was asked for and so the last of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, SupportsIndex, overload

from jobkit import frames, portraits, text
from jobkit.cards import Card
from jobkit.handles import Run
from jobkit.listings.listing import Listing

if TYPE_CHECKING:
    from polars import DataFrame

    from jobkit.kit import Kit

SUCCEEDED = ("COMPLETED",)
FAILED = ("FAILED", "TIMEOUT")


@dataclass(frozen=True)
class Wanted:
    """Which runs are asked for."""

    job: str | None = None
    statuses: tuple[str, ...] = ()
    since: datetime | None = None
    tag: str | None = None

    def __str__(self) -> str:
        since = None if self.since is None else text.instant(self.since)
        named = {"of": self.job, "tagged": self.tag, "since": since}
        return "".join(f" {word} {value}" for word, value in named.items() if value is not None)


class RunList(Listing[Run]):
    """Runs as they were when they were asked for, the newest first."""

    handle = Run

    def __init__(self, kit: Kit, wanted: Wanted, runs: Sequence[Run]) -> None:
        super().__init__(runs)
        self._kit = kit
        self._wanted = wanted

    @overload
    def __getitem__(self, index: SupportsIndex) -> Run: ...
    @overload
    def __getitem__(self, index: slice) -> RunList: ...
    def __getitem__(self, index: SupportsIndex | slice) -> Run | RunList:
        if isinstance(index, slice):
            return RunList(self._kit, self._wanted, super().__getitem__(index))
        return super().__getitem__(index)

    @property
    def last(self) -> Run | None:
        """The newest of them, however many are listed."""
        return self._kit.runs.newest(self._wanted)

    @property
    def last_success(self) -> Run | None:
        """The newest of them that completed, however many are listed."""
        return self._kit.runs.newest(self._wanted, SUCCEEDED)

    @property
    def last_failure(self) -> Run | None:
        """The newest of them that failed or timed out, however many are listed."""
        return self._kit.runs.newest(self._wanted, FAILED)

    @property
    def df(self) -> DataFrame:
        """The list as a polars DataFrame, a row for each; documents are JSON text."""
        return frames.of(Run, self, {"duration": "timedelta"})

    def card(self) -> Card:
        return portraits.of_runs(self, str(self._wanted), self._kit.runs.glance())
