"""Crowding: which jobs meet others at busy times, and where there is room for them; pure."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import median

from jobkit.analytics.workload import Workload

BIN_SECONDS = 60.0
MOST_JOBS = 6
STEPS = 30
"""Places that are tried for a job, on each side of where it is."""


@dataclass(frozen=True)
class Move:
    """A job's slots come so many seconds later, or earlier."""

    job: str
    shift: float


def moves(load: Workload, slots: int, within: float, count: int) -> list[Move]:
    """Return moves that promise most by the demand for slots in each minute.

    What a job demands counts from its arrival, as if nobody waited: it is an estimate, and for the
    replay to judge.
    """
    demand = _demand(load)
    promising: list[tuple[float, Move]] = []
    for job, runs in _crowded(load, demand, slots):
        spans = [(load.arrivals.at[run], load.arrivals.seconds[run]) for run in runs]
        others = list(demand)
        for at, seconds in spans:
            _add(others, at, seconds, -1)
        stays = _excess(others, spans, 0.0, slots)
        for shift in _shifts(spans, within):
            gain = stays - _excess(others, spans, shift, slots)
            promising.append((gain - abs(shift) * 1e-6, Move(job, shift)))
    promising.sort(key=lambda pair: -pair[0])
    return _varied([move for gain, move in promising if gain > 0], count)


def peak(load: Workload) -> int:
    """Return how many runs would be executed at once, at most, if nobody waited."""
    return max(_demand(load))


def _varied(found: list[Move], count: int) -> list[Move]:
    """Of each job at most two, so that more jobs are tried."""
    taken: dict[str, int] = defaultdict(int)
    chosen: list[Move] = []
    for move in found:
        if taken[move.job] < 2 and len(chosen) < count:
            taken[move.job] += 1
            chosen.append(move)
    return chosen


def _demand(load: Workload) -> list[int]:
    """Return how many runs would be executed in each minute if nobody waited."""
    edges = [0] * (int(load.seconds / BIN_SECONDS) + 2)
    last = len(edges) - 1
    arrivals = load.arrivals
    for run in load.order:
        at = arrivals.at[run]
        edges[min(max(int(at / BIN_SECONDS), 0), last)] += 1
        edges[min(max(int((at + arrivals.seconds[run]) / BIN_SECONDS) + 1, 0), last)] -= 1
    return list(accumulate(edges))


def _crowded(load: Workload, demand: list[int], slots: int) -> list[tuple[str, list[int]]]:
    """Return the jobs whose slots take most of crowded minutes, and their runs that have one."""
    scores: list[tuple[float, str, list[int]]] = []
    for job, runs in load.of_job.items():
        own = [run for run in runs if load.slot[run] == load.slot[run]]
        score = 0.0
        for run in own:
            at, seconds = load.arrivals.at[run], load.arrivals.seconds[run]
            if demand[min(max(int(at / BIN_SECONDS), 0), len(demand) - 1)] > slots:
                score += seconds
        if score:
            scores.append((score, job, own))
    scores.sort(key=lambda item: -item[0])
    return [(job, own) for _, job, own in scores[:MOST_JOBS]]


def _shifts(spans: list[tuple[float, float]], within: float) -> list[float]:
    """Return whole minutes on both sides, less than half the time between two slots."""
    gaps = [later - earlier for (earlier, _), (later, _) in pairwise(spans)]
    reach = min(within, median(gaps) / 2 if gaps else within)
    step = max(BIN_SECONDS, reach // (STEPS * BIN_SECONDS) * BIN_SECONDS)
    count = int(reach // step)
    return [sign * number * step for number in range(1, count + 1) for sign in (1, -1)]


def _add(demand: list[int], at: float, seconds: float, more: int) -> None:
    first, last = int(at / BIN_SECONDS), int((at + seconds) / BIN_SECONDS)
    for place in range(max(first, 0), min(last + 1, len(demand))):
        demand[place] += more


def _excess(others: list[int], spans: list[tuple[float, float]], shift: float, slots: int) -> int:
    """Return how much a job meets minutes in which all slots are taken by others."""
    met, size = 0, len(others)
    for at, seconds in spans:
        first = int((at + shift) / BIN_SECONDS)
        last = int((at + shift + seconds) / BIN_SECONDS)
        for place in range(max(first, 0), min(last + 1, size)):
            if others[place] >= slots:
                met += others[place] - slots + 1
    return met
