"""Hindrance: what keeps a run that waits from starting, in words. A pure rule over what was read.

It asks in the order of the claim: is it due, is its lane free, is it its turn, is there a worker
for its queue, has that worker a slot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobkit.text import duration

PATIENCE = timedelta(seconds=10)
"""A worker may be about to start: its lack is worth telling after so long."""
_NAMED = 3


@dataclass(frozen=True)
class Other:
    """Another unfinished run of the same job, which goes first."""

    id: int
    status: str
    available_at: datetime
    worker: str = ""
    ends_at: datetime | None = None
    """When it is expected to end."""
    wants_cancel: bool = False
    backfill_id: str | None = None


@dataclass(frozen=True)
class Server:
    """A worker that is online."""

    name: str
    queues: tuple[str, ...]
    slots: int
    busy: int
    """How many of its slots hold a run."""
    is_draining: bool = False


@dataclass(frozen=True)
class Scene:
    """A run that waits, and what stands around it."""

    now: datetime
    run_id: int
    queue: str
    available_at: datetime
    attempt: int = 0
    error: str = ""
    start_until: datetime | None = None
    backfill_id: str | None = None
    before: Other | None = None
    """What runs in its lane, or waits there before it."""
    servers: tuple[Server, ...] = ()
    ahead: int = 0
    """How many due runs of the queue go first."""
    ends_at: datetime | None = None
    """When the first of the runs that hold the queue's slots is expected to end."""
    zone: str = "UTC"
    is_external: bool = False
    """Whether it happens elsewhere and is to report itself."""


@dataclass(frozen=True)
class Hindrance:
    """Why a run waits."""

    words: str
    lacks_worker: bool = False
    """Whether nobody will ever take it as things stand."""
    ahead: int = 0
    """How many runs go first."""

    def __str__(self) -> str:
        return self.words


def hindrance(scene: Scene) -> Hindrance:
    """Say what keeps a run from starting."""
    if scene.available_at > scene.now:
        return Hindrance(_not_yet(scene))
    if scene.start_until is not None and scene.start_until < scene.now and not scene.attempt:
        at = _clock(scene.start_until, scene)
        return Hindrance(f"its start deadline passed at {at}: a scheduler will mark it MISSED")
    if scene.is_external:
        return Hindrance(_unheard(scene))
    if scene.before is not None:
        return Hindrance(_turn(scene.before, scene))
    serving = [server for server in scene.servers if scene.queue in server.queues]
    takers = [server for server in serving if not server.is_draining]
    if not takers:
        return Hindrance(_nobody(scene, serving), lacks_worker=True, ahead=scene.ahead)
    slots, busy = sum(it.slots for it in takers), sum(it.busy for it in takers)
    if busy >= slots:
        return Hindrance(_full(scene, slots, busy), ahead=scene.ahead)
    return Hindrance(_soon(scene, takers), ahead=scene.ahead)


def _not_yet(scene: Scene) -> str:
    until = f"{_clock(scene.available_at, scene)}, in {duration(_left(scene.available_at, scene))}"
    if not scene.attempt:
        return f"it is not due before {until}"
    said = f" (attempt {scene.attempt}: {scene.error})" if scene.error else ""
    return f"waits for its retry at {until}{said}"


def _unheard(scene: Scene) -> str:
    if scene.start_until is None:
        return "waits for a ping of where it runs"
    return f"waits for a ping of where it runs, until {_clock(scene.start_until, scene)}"


def _turn(other: Other, scene: Scene) -> str:
    which = f"run {other.id} of the same job"
    if scene.backfill_id is not None and other.backfill_id == scene.backfill_id:
        which = f"run {other.id} of the same backfill, whose runs go one after the other"
    if other.status != "IN_PROGRESS":
        again = other.available_at > scene.now
        when = f", which retries at {_clock(other.available_at, scene)}" if again else ""
        return f"waits for its turn after {which}{when}"
    where = f" on {other.worker}" if other.worker else ""
    if other.wants_cancel:
        return f"waits until {which}, which was asked to end, has ended{where}"
    return f"waits until {which} has ended{where}{_about(other.ends_at, scene, 'expected about')}"


def _nobody(scene: Scene, draining: Sequence[Server]) -> str:
    if draining:
        names = ", ".join(server.name for server in draining[:_NAMED])
        return f"no worker takes runs of queue {scene.queue!r}: {names} finishes and ends"
    if not scene.servers:
        return f"no worker serves queue {scene.queue!r}; none is online. Start one: jobkit worker"
    listed = [f"{it.name} ({', '.join(it.queues)})" for it in scene.servers[:_NAMED]]
    more = len(scene.servers) - _NAMED
    names = ", ".join(listed) + (f" and {more} more" if more > 0 else "")
    return f"no worker serves queue {scene.queue!r}; online: {names}"


def _full(scene: Scene, slots: int, busy: int) -> str:
    are = "is" if slots == 1 else "are"
    noun = "slot" if slots == 1 else "slots"
    until = _about(scene.ends_at, scene, "until about", comma=False)
    said = f"{min(busy, slots)} of {slots} {noun} of queue {scene.queue} {are} busy{until}"
    return said + _first(scene.ahead)


def _soon(scene: Scene, takers: Sequence[Server]) -> str:
    free = next(server for server in takers if server.busy < server.slots)
    since = duration(round(_left(scene.now, scene) - _left(scene.available_at, scene)))
    return f"due for {since}; {free.name} has a free slot{_first(scene.ahead)}"


def _first(ahead: int) -> str:
    if not ahead:
        return ""
    return f"; {ahead:,} {'run goes' if ahead == 1 else 'runs go'} first"


def _about(instant: datetime | None, scene: Scene, words: str, *, comma: bool = True) -> str:
    if instant is None or instant <= scene.now:
        return ""
    return f"{',' if comma else ''} {words} {_clock(instant, scene)}"


def _left(instant: datetime, scene: Scene) -> float:
    return (instant - scene.now).total_seconds()


def _clock(instant: datetime, scene: Scene) -> str:
    """Say the time of day, with the date where it is another day's."""
    zone = ZoneInfo(scene.zone)
    local, today = instant.astimezone(zone), scene.now.astimezone(zone)
    if local.date() == today.date():
        return local.strftime("%H:%M")
    return local.strftime("%Y-%m-%d %H:%M")
