"""Queueing: runs replayed through the rules by which workers claim them; pure.

What `store.claims` and `store.dispatch` decide in SQL is decided here on plain lists, because a
month of two hundred hourly jobs has to be replayed while somebody moves a slider: no object for a
run, one heap for each queue and for each group of workers, and no event where nothing waits.
`tests/test_queueing.py` replays what the real statements did and compares every start.

- A free slot takes of its queues in their order, there by priority, `available_at` and id.
- Runs in one lane exclude each other; what waits for its retry keeps its turn before later slots,
  and a manual run does not wait for that.
- A slot that comes while a run of its lane is unfinished meets the job's overlap policy.
- A run that is not started by its deadline is missed.

Left out: the milliseconds of a claim, and the grace of an attempt that is replaced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace
from itertools import compress, pairwise
from math import inf

ALONE = -1
"""The lane of a run that runs beside any other."""

_NEVER = 10**9
"""As the number of tries of a run that is not tried again."""

_RETRIES, _RETURNS, _FREES, _EXPIRES = range(4)


@dataclass(frozen=True)
class Arrivals:
    """Runs as columns, one place a run; seconds count from the window's start."""

    at: list[float]
    """When each was made."""
    seconds: list[float]
    """How long its first attempt holds a slot."""
    lane: list[int]
    """Runs in one lane exclude each other; `ALONE`: with none."""
    queue: list[int]
    priority: list[int]
    overlap: list[str]
    """What becomes of it in a taken lane: a policy for slots, `wait`, or `manual` for a run that a
    person started, which does not wait for a retry to come due."""
    gives_way: frozenset[int] = frozenset()
    """Backfills and catch-ups: while they wait, no slot is skipped for them."""
    again: Mapping[int, Sequence[tuple[float, float]]] = field(default_factory=dict)
    """Of a run that was tried again: the delay before each further attempt, and its seconds."""
    deadline: Mapping[int, float] = field(default_factory=dict)
    """Of a run that must be started by an instant: that instant."""


@dataclass(frozen=True)
class Crew:
    """Workers that serve the same queues in the same order."""

    slots: int
    """Of all of them together."""
    queues: tuple[int, ...]


@dataclass(frozen=True)
class Replayed:
    """What became of the runs."""

    start: list[float]
    """When each first started; -1 for one that never did."""
    skipped: list[int]
    missed: list[int]
    replaced: list[int]
    waited_for_lane: list[int]
    """Runs that waited for an earlier one of their job."""
    rewaits: list[tuple[int, float]]
    """Of further attempts: the run, and the seconds that a free slot was waited for."""
    busy: float
    """Seconds that slots were held, together."""


def in_order(runs: Arrivals, among: Sequence[int], crews: Sequence[Crew]) -> list[int]:
    """Return runs in the order of their arrival.

    Those of one instant, as one tick makes them, are in the order in which workers take them.
    """
    order = sorted(among, key=runs.at.__getitem__)
    rank: dict[int, int] = {}
    for crew in crews:
        for place, queue in enumerate(crew.queues):
            rank.setdefault(queue, place)

    def urgency(run: int) -> tuple[int, int]:
        return rank.get(runs.queue[run], len(rank)), -runs.priority[run]

    at = [runs.at[run] for run in order]
    same = [place for place, (one, next_) in enumerate(pairwise(at)) if one == next_]
    until = 0
    for place in same:
        if place >= until:
            until = place + 2
            while until < len(at) and at[until] == at[place]:
                until += 1
            order[place:until] = sorted(order[place:until], key=urgency)
    return order


def replay(runs: Arrivals, order: Sequence[int], crews: Sequence[Crew]) -> Replayed:  # noqa: C901
    """Replay runs, given as places in the order of their arrival, on crews of workers.

    A run whose queue no crew serves never starts.
    """
    # One long function on purpose: names of an enclosing function cost a fifth of attributes.
    at, seconds, lanes, queues = runs.at, runs.seconds, runs.lane, runs.queue
    priority, overlap, gives_way = runs.priority, runs.overlap, runs.gives_way
    again, deadline = runs.again, runs.deadline
    count = len(at)
    lane_count = max(lanes, default=-1) + 1
    queue_count = max(queues, default=-1) + 1

    pools = [([-inf] * crew.slots, crew.queues) for crew in crews if crew.slots > 0]
    serving = [[free for free, served in pools if queue in served] for queue in range(queue_count)]
    ready: list[list[tuple[int, float, int]]] = [[] for _ in range(queue_count)]
    only = pools[0][0] if len(pools) == queue_count == 1 and serving[0] else None
    timers: list[tuple[float, int, int]] = []
    blocked: list[list[tuple[int, int]]] = [[] for _ in range(lane_count)]
    free_at = [-inf] * lane_count
    """When the lane of a started run is free again; inf while that is not known."""
    ends_at = [-inf] * lane_count
    """When the last attempt in the lane ends, or ended."""
    holder = [-1] * lane_count
    tried: dict[int, int] = {}
    start = [-1.0] * count
    skipped: list[int] = []
    missed: list[int] = []
    replaced: list[int] = []
    waited_for_lane: list[int] = []
    rewaits: list[tuple[int, float]] = []
    lost_seconds = 0.0
    retried_seconds = 0.0
    waiting = 0
    wake = inf
    clock = -inf
    """When the last timed event happened: a slot may be free for longer than a lane."""

    def begin(run: int, now: float, free: list[float]) -> None:
        """Let a slot take a run."""
        nonlocal wake, retried_seconds
        tries = tried.get(run, 0)
        if tries:
            took = again[run][tries - 1][1]
            retried_seconds += took
        else:
            took = seconds[run]
            start[run] = now
        end = now + took
        heapreplace(free, end)
        lane = lanes[run]
        more = run in again and tries < len(again[run])
        if more:
            heappush(timers, (end, _RETRIES, run))
            wake = min(wake, end)
        if lane >= 0:
            holder[lane] = run
            ends_at[lane] = end
            free_at[lane] = inf if more else end
            if not more and (blocked[lane] or lane in delayed):
                heappush(timers, (end, _FREES, lane))
                wake = min(wake, end)

    def offer(run: int, now: float, available: float) -> None:
        """Start a run whose turn it is, or let it wait for a slot of its queue."""
        nonlocal waiting, wake
        lane, queue = lanes[run], queues[run]
        for free in serving[queue]:
            if free[0] <= now and not waiting:
                if run in tried:
                    rewaits.append((run, now - available))
                begin(run, now, free)
                return
        if lane >= 0:
            holder[lane] = run
            free_at[lane] = inf
        heappush(ready[queue], (-priority[run], available, run))
        waiting += 1
        for free in serving[queue]:
            wake = min(wake, free[0])
        if run not in tried:
            expect_deadline(run)

    def expect_deadline(run: int) -> None:
        nonlocal wake
        if run in deadline:
            heappush(timers, (deadline[run], _EXPIRES, run))
            wake = min(wake, deadline[run])

    def withdraw(run: int) -> bool:
        """Take a run out of its queue; False when it waits in none."""
        nonlocal waiting
        heap = ready[queues[run]]
        kept = [entry for entry in heap if entry[2] != run]
        if len(kept) == len(heap):
            return False
        heap[:] = kept
        heapify(heap)
        waiting -= 1
        return True

    def block(run: int) -> None:
        """Let a run wait until its lane is free."""
        nonlocal wake
        lane = lanes[run]
        waited_for_lane.append(run)
        heappush(blocked[lane], (-priority[run], run))
        if free_at[lane] < inf:
            heappush(timers, (free_at[lane], _FREES, lane))
            wake = min(wake, free_at[lane])
        if run not in tried:
            expect_deadline(run)

    def release(lane: int, now: float) -> None:
        """Give a lane in which nothing runs to the first that waits for it, if that may go."""
        if blocked[lane]:
            _, run = first = blocked[lane][0]
            if overlap[run] == "manual" or precedes_retries(first):
                heappop(blocked[lane])
                offer(run, now, returned.pop(run, at[run]))
                return
        if lane in delayed:
            holder[lane], free_at[lane] = delayed[lane][0], inf
        else:
            free_at[lane] = now

    def precedes_retries(entry: tuple[int, int]) -> bool:
        """Whether a run need not wait for those of its lane whose retry is not due yet."""
        waits = delayed.get(lanes[entry[1]], ())
        return all(entry < (-priority[other], other) for other in waits)

    delayed: dict[int, list[int]] = {}
    """Of a lane, its runs whose retry is not due yet."""
    returned: dict[int, float] = {}
    """Runs whose retry came due while a manual run had their lane, and when it did."""

    def meet(run: int, now: float) -> None:
        """Decide what becomes of a run whose lane is taken."""
        lane, policy = lanes[run], overlap[run]
        held_by = holder[lane]
        is_running = ends_at[lane] > now
        pending = [other for _, other in blocked[lane]]
        if not is_running:
            pending.append(held_by)
        pending += [other for other in delayed.get(lane, ()) if other != held_by]
        minded = [other for other in pending if other in tried or other not in gives_way]
        if policy in ("skip", "queue") and (minded or (is_running and policy == "skip")):
            skipped.append(run)
            return
        if policy == "replace" and (minded or is_running):
            replace(lane, minded, now)
            if free_at[lane] <= now:
                offer(run, now, now)
                return
            is_running = False
        if not is_running and may_go(run, now):
            take_turn(run, now)
        else:
            block(run)

    def may_go(run: int, now: float) -> bool:
        """Whether a run goes first in its lane, in which nothing runs."""
        lane, entry = lanes[run], (-priority[run], run)
        held_by, waits = holder[lane], delayed.get(lane, ())
        has_turn = free_at[lane] > now and held_by != run and held_by not in waits
        if has_turn and entry > (-priority[held_by], held_by):
            return False
        if blocked[lane] and blocked[lane][0] < entry:
            return False
        return overlap[run] == "manual" or precedes_retries(entry)

    def take_turn(run: int, now: float) -> None:
        """Let a run go before the one that had its lane's turn."""
        lane = lanes[run]
        held_by = holder[lane]
        if held_by != run and withdraw(held_by):
            heappush(blocked[lane], (-priority[held_by], held_by))
        offer(run, now, now)

    def replace(lane: int, minded: list[int], now: float) -> None:
        """Cancel what waits in a lane, and end what runs there."""
        nonlocal lost_seconds
        blocked[lane][:] = [entry for entry in blocked[lane] if entry[1] not in minded]
        heapify(blocked[lane])
        replaced.extend(minded)
        kept = [other for other in delayed.pop(lane, ()) if other not in minded]
        if kept:
            delayed[lane] = kept
        for other in minded:
            tried[other] = _NEVER
            withdraw(other)
        held_by, end = holder[lane], ends_at[lane]
        if end > now:
            replaced.append(held_by)
            for free in serving[queues[held_by]]:
                if end in free:
                    free[free.index(end)] = now
                    heapify(free)
                    break
            lost_seconds += end - now
            ends_at[lane] = now
        elif held_by not in minded:
            return
        tried[held_by] = _NEVER
        free_at[lane] = now

    def happen(now: float, what: int, which: int) -> None:
        """Let a timed event happen."""
        nonlocal wake
        if what == _FREES:
            if free_at[which] <= now:
                release(which, now)
        elif what == _RETRIES:
            tries = tried.get(which, 0)
            if tries < len(again[which]):
                tried[which] = tries + 1
                heappush(timers, (now + again[which][tries][0], _RETURNS, which))
                if lanes[which] >= 0:
                    delayed.setdefault(lanes[which], []).append(which)
                    release(lanes[which], now)
        elif what == _RETURNS:
            come_back(which, now)
        elif start[which] < 0 and which not in tried:
            expire(which, now)

    def come_back(run: int, now: float) -> None:
        """Let a run whose retry is due have its turn again."""
        lane = lanes[run]
        if tried[run] > len(again[run]):
            return  # it was replaced
        if lane < 0:
            offer(run, now, now)
            return
        delayed[lane].remove(run)
        if not delayed[lane]:
            del delayed[lane]
        if ends_at[lane] <= now and may_go(run, now):
            take_turn(run, now)
        else:
            returned[run] = now
            block(run)

    def expire(run: int, now: float) -> None:
        lane = lanes[run]
        if withdraw(run):
            missed.append(run)
            if lane >= 0:
                release(lane, now)
        elif lane >= 0 and (-priority[run], run) in blocked[lane]:
            blocked[lane].remove((-priority[run], run))
            heapify(blocked[lane])
            missed.append(run)

    def serve(until: float) -> None:  # noqa: C901
        """Let happen all that happens up to an instant."""
        nonlocal waiting, wake, clock
        while True:
            soonest, chosen, queue = inf, None, -1
            if waiting and only is not None:
                soonest, chosen, queue = only[0], only, 0
            elif waiting:
                for free, served in pools:
                    if free[0] < soonest:
                        for candidate in served:
                            if candidate < queue_count and ready[candidate]:
                                soonest, chosen, queue = free[0], free, candidate
                                break
            timed = timers[0][0] if timers else inf
            if timed <= soonest:
                if timed > until or timed == inf:
                    wake = timed
                    return
                clock = timed
                happen(*heappop(timers))
                continue
            if soonest > until or chosen is None:
                wake = min(soonest, timed)
                return
            _, available, run = heappop(ready[queue])
            waiting -= 1
            now = max(soonest, available, clock)
            lane = lanes[run]
            if lane < 0 or run in again or blocked[lane] or lane in delayed:
                if run in tried:
                    rewaits.append((run, now - available))
                begin(run, now, chosen)
                continue
            start[run] = now
            end = now + seconds[run]
            heapreplace(chosen, end)
            free_at[lane] = ends_at[lane] = end
            holder[lane] = run

    for run in order:
        now = at[run]
        if wake <= now:
            serve(now)
        lane = lanes[run]
        if lane >= 0:
            if free_at[lane] > now:
                meet(run, now)
                continue
            if run not in again:
                for free in serving[queues[run]]:
                    if free[0] <= now:
                        start[run] = now
                        end = now + seconds[run]
                        heapreplace(free, end)
                        free_at[lane] = ends_at[lane] = end
                        holder[lane] = run
                        break
                else:
                    # As `offer` does, without a call: under load most runs come by here.
                    queue = queues[run]
                    heappush(ready[queue], (-priority[run], now, run))
                    waiting += 1
                    free_at[lane] = inf
                    holder[lane] = run
                    for free in serving[queue]:
                        if free[0] < wake:
                            wake = free[0]
                    if run in deadline:
                        expect_deadline(run)
                continue
        offer(run, now, now)
    serve(inf)
    held = sum(compress(seconds, [began >= 0 for began in start]))
    return Replayed(
        start,
        skipped,
        missed,
        replaced,
        waited_for_lane,
        rewaits,
        held + retried_seconds - lost_seconds,
    )
