"""Expectation: how long a job usually takes, what of a run is unusual, and when it will end.

A pure rule over the durations of past successes. Percentiles lie between the two nearest
durations, as DuckDB's `quantile_cont`, so that they are those of the reports.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from jobkit.cards import Card
from jobkit.text import duration, instant

MOST = 200
"""Of a job, so many of the last successes are looked at: what it did a year ago says little."""
LEAST = 8
"""Below so many nothing is called unusual, and no timeout is made of them."""

_LONG = 1.9
_LONGEST = 2.3
_LONG_USUAL = 3.1
_LONG_RARE = 2.0
_RARE = 150
_TAIL = 2.5 / 1.645
"""How much farther from p50 than p95 the longest hundredth begins, in logarithms: of durations that
spread evenly, one in a hundred of which takes long for a reason of its own."""
_SHORT = 4.0
_SHORT_SECONDS = 5.0
_TIMEOUT = 3.0
_TIMEOUT_MORE = timedelta(minutes=5)
_FEW = 0.02
_NEARLY = 0.99


@dataclass(frozen=True)
class Expectation:
    """What past successes say: of a job, or of one of its runs.

    An instant or a duration is None where there are too few of them to tell.
    """

    durations: tuple[float, ...]
    """The seconds that the successes took, the shortest first."""
    source: str = "successes"
    """What they are: successes, or successes with the same parameters."""
    began_at: datetime | None = None
    """When the last attempt of the run began, if this is about a run that has one."""
    took: timedelta | None = None
    """How long that attempt took, or has taken so far."""
    status: str | None = None
    """The status of that run."""
    monthly: float | None = None
    """How often the job succeeds in a month, if that is known."""

    @property
    def count(self) -> int:
        """How many successes it comes from."""
        return len(self.durations)

    @property
    def is_known(self) -> bool:
        """Whether there are enough of them to call anything unusual."""
        return self.count >= LEAST

    @property
    def p50(self) -> timedelta | None:
        """Half of them took no longer."""
        return self._quantile(0.5)

    @property
    def p95(self) -> timedelta | None:
        """95 of 100 took no longer."""
        return self._quantile(0.95)

    @property
    def p99(self) -> timedelta | None:
        """99 of 100 took no longer."""
        return self._quantile(0.99)

    @property
    def longest(self) -> timedelta | None:
        """None of them took longer."""
        return self._quantile(1.0)

    @property
    def timeout(self) -> timedelta | None:
        """What `timeout="auto"` comes to: max(3 x p95, p99 + 5 min)."""
        if not self.is_known or self.p95 is None or self.p99 is None:
            return None
        return max(_TIMEOUT * self.p95, self.p99 + _TIMEOUT_MORE)

    @property
    def long_after(self) -> timedelta | None:
        """After so long an attempt is unusually long.

        1.9 x p99, and at least 2.3 x the longest or 3.1 x p50, whichever is less. Of a job that
        succeeds at most 150 times a month never more than 2 x p99: it has few chances for a false
        mark.

        Of 200 durations p99 is about the third longest: where one of a hundred takes twice as long
        as usual, it is now one of those and now not. So it counts for no more than what p50 and
        p95, which are steadier, make of it.
        """
        if not self.is_known or self.p99 is None:
            return None
        p50, p95, p99 = (quantile(self.durations, share) for share in (0.5, 0.95, 0.99))
        floor = min(_LONGEST * self.durations[-1], _LONG_USUAL * p50)
        steady = min(p99, p50 * (p95 / p50) ** _TAIL) if p50 else p99
        bound = timedelta(seconds=max(_LONG * steady, floor))
        is_rare = self.monthly is not None and self.monthly <= _RARE
        return min(bound, _LONG_RARE * self.p99) if is_rare else bound

    @property
    def short_before(self) -> timedelta | None:
        """A success that took less is unusually short.

        Less than a quarter of p50, than half of the shortest hundredth, and than p50 by 5 s.
        """
        if not self.is_known:
            return None
        usual = quantile(self.durations, 0.5)
        bound = min(usual / _SHORT, quantile(self.durations, 0.01) / 2, usual - _SHORT_SECONDS)
        return timedelta(seconds=bound) if bound > 0 else None

    @property
    def is_long(self) -> bool:
        """Whether the run's last attempt takes, or took, unusually long."""
        return None not in (self.took, self.long_after) and self.took > self.long_after  # type: ignore[operator]

    @property
    def is_short(self) -> bool:
        """Whether the run succeeded unusually fast."""
        if self.status != "COMPLETED" or None in (self.took, self.short_before):
            return False
        return self.took < self.short_before  # type: ignore[operator]

    @property
    def ends_at(self) -> datetime | None:
        """When the attempt that runs is expected to end, given how long it has run already."""
        if self.status != "IN_PROGRESS" or self.took is None or self.began_at is None:
            return None
        if not self.is_known:
            return None
        return self.began_at + timedelta(seconds=self._total()[0])

    @property
    def share(self) -> float | None:
        """How much of the time that the attempt that runs is expected to take has passed.

        From 0 to 0.99: an expected end that has come is still none. None without one.
        """
        if self.ends_at is None or self.took is None:
            return None
        total = self._total()[0]
        return min(self.took.total_seconds() / total, _NEARLY) if total > 0 else _NEARLY

    def about(self, status: str, began_at: datetime | None, took: timedelta | None) -> Expectation:
        """Return what the same successes say of a run."""
        return replace(self, status=status, began_at=began_at, took=took)

    # Words

    @property
    def numbers(self) -> str:
        """Say what is usual: `usually 9 min (p50), p95 11 min, p99 14 min of 200 successes`."""
        if not self.durations:
            return "no success yet"
        p50, p95, p99 = (duration(value) for value in (self.p50, self.p95, self.p99))
        return f"usually {p50} (p50), p95 {p95}, p99 {p99} of {self._basis}"

    @property
    def timeout_words(self) -> str:
        """Say what `timeout="auto"` comes to, and of which numbers."""
        if self.timeout is None:
            return f"none yet: {self._basis}, {LEAST} are needed"
        p95, p99 = duration(self.p95), duration(self.p99)
        return f"{duration(self.timeout)} = max(3 x p95 {p95}, p99 {p99} + 5 min) of {self._basis}"

    @property
    def end_words(self) -> str:
        """Say when the attempt that runs will end, and where that comes from."""
        end, took = self.ends_at, self.took
        if end is None or took is None or self.began_at is None:
            return ""
        total, longer = self._total()
        said = f"about {instant(end)}, in {duration(round(total - took.total_seconds()))}"
        if longer:
            which = f"{longer} of {self._basis} that took longer than {duration(took)}"
            return f"{said}: the median of the {which}"
        rare = f"{self._longer_than(took)} of {self._basis}"
        return f"{said}: a guess, as it has run longer than {rare}"

    @property
    def marks(self) -> tuple[str, ...]:
        """Say what is unusual about the run, each with the numbers it comes from."""
        said = []
        if self.is_long:
            p50, p99, most = (duration(value) for value in (self.p50, self.p99, self.longest))
            usual = f"p50 is {p50}, p99 {p99}, the longest {most} of {self._basis}"
            said.append(f"unusually long: {duration(self.took)}, {usual}")
        if self.is_short:
            usual = f"usually {duration(self.p50)} (p50 of {self._basis})"
            said.append(f"unusually short: {duration(self.took)}, {usual}: did it read anything?")
        return tuple(said)

    def __str__(self) -> str:
        end = f"expected end {self.end_words}" if self.end_words else ""
        return "; ".join(filter(None, (self.numbers, end, *self.marks)))

    def __repr__(self) -> str:
        return f"<Expectation: {self}; timeout {self.timeout_words}>"

    def _repr_html_(self) -> str:
        facts = [
            ("takes", self.numbers),
            ("expected end", self.end_words),
            ("timeout auto", self.timeout_words),
        ]
        return Card("What is usual", facts=facts, notes=self.marks).html

    # Arithmetic

    @property
    def _basis(self) -> str:
        one = self.source.replace("successes", "success", 1)
        return f"{self.count} {one if self.count == 1 else self.source}"

    def _quantile(self, share: float) -> timedelta | None:
        if not self.durations:
            return None
        return timedelta(seconds=quantile(self.durations, share))

    def _longer_than(self, took: timedelta) -> int:
        return bisect_right(self.durations, took.total_seconds())

    def _total(self) -> tuple[float, int]:
        """Return the expected seconds from beginning to end, and of how many durations.

        Of those that took longer than this one has, the median. Where hardly any did, they know
        nothing of what goes on: it is then given as long again as it is over its usual time. So
        each end that does not come true is followed by one twice as far away, and no two minutes
        are promised for an hour.
        """
        elapsed = self.took.total_seconds() if self.took is not None else 0.0
        longer = self.durations[bisect_right(self.durations, elapsed) :]
        middle = quantile(longer, 0.5) if longer else elapsed
        if len(longer) >= max(3, math.ceil(self.count * _FEW)):
            return middle, len(longer)
        return max(middle, 2 * elapsed - quantile(self.durations, 0.5)), 0


def expectation(
    seconds: Iterable[float], source: str = "successes", monthly: float | None = None
) -> Expectation:
    """Return what durations of past successes, at most 200 of them, say.

    `monthly`: how often the job succeeds in a month.
    """
    return Expectation(tuple(sorted(seconds)), source, monthly=monthly)


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of at least one ordered number, between the two nearest."""
    place = (len(ordered) - 1) * share
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
