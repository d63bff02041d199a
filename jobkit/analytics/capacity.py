"""Capacity: what recorded runs would have waited with other workers, schedules or durations.

`simulate` replays a workload as it was and with a change; `needed_workers` and `suggest` ask it
again and again. Nothing is written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jobkit.analytics.adjustment import Change, changed
from jobkit.analytics.crowding import Move, moves, peak
from jobkit.analytics.figures import Figures, figures
from jobkit.analytics.queueing import Crew, Replayed, in_order, replay
from jobkit.analytics.simulation import Outcome, Simulation
from jobkit.analytics.wishes import read_changes, read_seconds
from jobkit.analytics.workload import Workload
from jobkit.errors import BadInput
from jobkit.text import duration

if TYPE_CHECKING:
    from polars import DataFrame

MOST_WORKERS = 10_000
DEFAULT_SLOTS = 4
CANDIDATES = 8
"""So many moves are replayed for suggestions."""
WORTH = 0.9
"""A move is suggested when it takes a tenth off the wait."""


@dataclass(frozen=True)
class Team:
    """The workers of a replay: how many serve which queues, and how many slots each has."""

    workers: int
    slots: int
    queues: tuple[str, ...]
    """In their order; none: all queues."""


class Needed(int):
    """How many workers are needed: a number, with what was tried on the way to it."""

    tried: dict[int, Figures]

    @classmethod
    def of(cls, workers: int, tried: Mapping[int, Figures]) -> Needed:
        """Return the number with its evidence."""
        needed = cls(workers)
        needed.tried = dict(sorted(tried.items()))
        return needed

    @property
    def df(self) -> DataFrame:
        """The figures of each number of workers that was tried."""
        import polars as pl

        return pl.DataFrame(
            [{"workers": workers, **vars(found)} for workers, found in self.tried.items()]
        )


@dataclass(frozen=True)
class Suggestion:
    """A job that should come at another time, and what that does to the waits."""

    job: str
    shift: float
    """So many seconds later; negative: earlier."""
    measure: str
    """The percentile of the wait that is compared."""
    before: float
    after: float
    figures: Figures

    def __str__(self) -> str:
        way = "" if self.shift > 0 else " earlier"
        minutes = duration(abs(self.shift)).removesuffix(" min")
        unit = "" if " " in minutes else " minutes"
        return (
            f"move {self.job} by {minutes}{unit}{way}: {self.measure} wait "
            f"{_coarse(self.before)} to {_coarse(self.after)}"
        )


@dataclass(frozen=True)
class Suggestions:
    """The best moves, the most telling first."""

    found: tuple[Suggestion, ...]
    said: str
    """Why there are none, if there are none."""

    def __iter__(self) -> Any:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, place: int) -> Suggestion:
        return self.found[place]

    @property
    def df(self) -> DataFrame:
        """A row for each."""
        import polars as pl

        columns = ("job", "shift", "measure", "before", "after")
        schema = dict(
            zip(columns, (pl.String, pl.Float64, pl.String, pl.Float64, pl.Float64), strict=True)
        )
        rows = [[getattr(item, name) for name in columns] for item in self.found]
        return pl.DataFrame(rows, schema=schema, orient="row")

    def __repr__(self) -> str:
        return "\n".join(map(str, self.found)) or self.said


class Study:
    """A workload that is asked about: its baseline is replayed once, each change once more."""

    def __init__(
        self,
        load: Workload,
        teams: Sequence[Team],
        observed_p95: float | None = None,
        zone: str = "UTC",
    ) -> None:
        self.load = load
        self.teams = tuple(teams)
        """The workers that are there."""
        self._zone = zone
        self._orders: dict[tuple[tuple[int, ...], ...], list[int]] = {}
        self.observed_p95 = observed_p95
        """The wait that was recorded."""

    @cached_property
    def baseline(self) -> Outcome:
        """What the recorded runs waited with the workers that are there."""
        return self._outcome(self.load, self.teams)

    def simulate(
        self,
        workers: int | None = None,
        slots: int | None = None,
        change: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Simulation:
        """Replay with other workers or jobs; see `Log.simulate`."""
        load = self._changed(change)
        after = self._outcome(load, self._teams(workers, slots))
        return Simulation(self.load, self.baseline, load, after, self.observed_p95)

    def needed_workers(
        self,
        wait_p95: Any = "30s",
        slots: int | None = None,
        change: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Needed:
        """Return the least number of workers with which 95 of 100 waits are at most so long.

        BadInput when no number of workers can do that: runs then wait for their own job.
        """
        limit = read_seconds("wait_p95", wait_p95)
        load = self._changed(change)
        tried: dict[int, Figures] = {}

        def suffices(workers: int) -> bool:
            tried[workers] = self._outcome(load, self._teams(workers, slots)).figures
            return tried[workers].wait_p95 <= limit

        each = self._teams(1, slots)[0].slots
        most = max(1, min(MOST_WORKERS, math.ceil(2 * peak(load) / each)))
        if not suffices(most):
            raise BadInput(
                f"No number of workers brings the wait to {duration(limit)}: 95 of 100 wait "
                f"{_coarse(tried[most].wait_p95)} for earlier runs of their own job.",
                "Run those jobs less often, or let them overlap: --overlap allow.",
            )
        busy = tried[most].utilisation * tried[most].slots
        least = max(1, min(most, math.floor(busy / each)))
        while least < most:
            middle = (least + most) // 2
            least, most = (least, middle) if suffices(middle) else (middle + 1, most)
        return Needed.of(most, tried)

    def suggest(
        self,
        count: int = 3,
        workers: int | None = None,
        slots: int | None = None,
        within: Any = "30m",
    ) -> Suggestions:
        """Return up to `count` jobs whose slots should come earlier or later, by at most `within`.

        Each is replayed by itself; together they may do more or less.
        """
        teams = self._teams(workers, slots)
        base = self._outcome(self.load, teams).figures
        measure = _telling(base)
        if measure is None:
            return Suggestions((), f"Nothing to move: {base}.")
        places = moves(self.load, base.slots, read_seconds("within", within), CANDIDATES)
        tried = [self._tried(move, teams, base, measure) for move in places]
        better = [item for item in tried if item.after <= WORTH * item.before]
        best: dict[str, Suggestion] = {}
        for item in sorted(better, key=lambda item: (item.after, abs(item.shift))):
            best.setdefault(item.job, item)
        found = tuple(best.values())[:count]
        return Suggestions(found, f"No move of one job takes a tenth off the wait: {base}.")

    def _tried(self, move: Move, teams: Sequence[Team], base: Figures, measure: str) -> Suggestion:
        load = changed(self.load, {move.job: Change(shift=move.shift)})
        found = self._outcome(load, teams).figures
        before, after = getattr(base, f"wait_{measure}"), getattr(found, f"wait_{measure}")
        return Suggestion(move.job, move.shift, measure, before, after, found)

    def _changed(self, change: Mapping[str, Mapping[str, Any]] | None) -> Workload:
        if not change:
            return self.load
        return changed(self.load, read_changes(change, self.load.start, self._zone))

    def _teams(self, workers: int | None, slots: int | None) -> tuple[Team, ...]:
        for name, value in (("workers", workers), ("slots", slots)):
            if value is not None and not 1 <= value <= MOST_WORKERS:
                raise BadInput(f"{name}={value} is out of bounds.", f"Use 1 to {MOST_WORKERS}.")
        if workers is None:
            return tuple(replace(team, slots=slots or team.slots) for team in self.teams)
        first = self.teams[0] if self.teams else Team(workers, DEFAULT_SLOTS, ())
        if len({team.queues for team in self.teams}) > 1:
            first = replace(first, queues=())
        return (replace(first, workers=workers, slots=slots or first.slots),)

    def _outcome(self, load: Workload, teams: Sequence[Team]) -> Outcome:
        crews = [_crew(team, load.queues) for team in teams]
        order = self._order(load, crews)
        found: Replayed = replay(load.arrivals, order, crews)
        return Outcome(found, figures(load, order, crews, found))

    def _order(self, load: Workload, crews: Sequence[Crew]) -> list[int]:
        if load is not self.load:
            return in_order(load.arrivals, load.order, crews)
        served = tuple(crew.queues for crew in crews)
        if served not in self._orders:  # a slider of workers asks for the same again
            self._orders[served] = in_order(load.arrivals, load.order, crews)
        return self._orders[served]


def _crew(team: Team, queues: Sequence[str]) -> Crew:
    named = [queues.index(name) for name in team.queues if name in queues]
    served = named if team.queues else range(len(queues))
    return Crew(team.workers * team.slots, tuple(served))


def _telling(base: Figures) -> str | None:
    """Return the first percentile at which somebody waits a second."""
    for measure in ("p95", "p99", "max"):
        if getattr(base, f"wait_{measure}") >= 1:
            return measure
    return None


def _coarse(seconds: float) -> str:
    return duration(round(seconds) if seconds >= 1 else round(seconds, 1))
