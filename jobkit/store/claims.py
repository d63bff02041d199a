"""Laws 2 and 3: one live attempt per run, one recorded result per attempt."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit import states
from jobkit.db import OneOf, Prepared, Rarely, Utc, insert_once
from jobkit.models import attempts, kept_kernels, output, runs, workers
from jobkit.states import Ending
from jobkit.store.dispatch import IN_PROGRESS, PENDING

RESCUE_BATCH = 100
_AT = sa.bindparam("at", type_=Utc())
LAST_OUTPUT_BYTES = 4096
Chunk = tuple[int, datetime, str, str]
"""A piece of an attempt's output: its number, when it was read, its text and its stream."""

Progress = tuple[float, str]
"""How far an attempt says it is, 0 to 1, and its words."""


@dataclass(frozen=True)
class Claim:
    """A run that this worker took: what the attempt needs, and the fence of its writes."""

    run_id: int
    job_id: int
    attempt: int
    worker_id: str
    claimed_at: datetime
    scheduled_for: datetime | None
    available_at: datetime
    job_version: int | None
    params: dict[str, Any] | None
    created_at: datetime | None = None
    """When the run was asked for; None in a report that an earlier version spooled."""


@dataclass(frozen=True)
class Result:
    """What an attempt came to, as its worker saw it; a repeat writes the same."""

    ended_by: str
    """exit, error, timeout, cancel or release."""
    started_at: datetime | None
    finished_at: datetime
    exit_code: int | None = None
    error: str = ""
    measures: Mapping[str, Any] = field(default_factory=dict)
    """Further columns of the attempt: cpu_seconds, max_rss_bytes, log_output, metrics ..."""
    reason: str = ""
    """Why it ended well before its end, if it did."""

    @property
    def succeeded(self) -> bool:
        """Whether the script ended by itself, and well."""
        return self.ended_by == "exit" and self.exit_code == 0

    @property
    def status(self) -> str:
        """The status that the attempt's row has for it."""
        return "SUCCESS" if self.succeeded else _STATUSES[self.ended_by]


_STATUSES = {
    "exit": "FAILURE",
    "error": "ERROR",
    "timeout": "TIMEOUT",
    "cancel": "CANCELLED",
    "release": "RELEASED",
}


def claim(
    connection: Connection,
    now: datetime,
    *,
    worker_id: str,
    queue: str,
    lease: timedelta,
    limit: int,
) -> list[Claim]:
    """Take up to `limit` runs of a queue, the most urgent first, in one statement.

    A run can be taken when it is due, not past its start deadline, and first in its lane with
    nothing of that lane in progress. Two workers that meet break the unique index of the lane:
    the later statement fails, and the caller asks again.
    """
    asked = {"at": now, "until": now + lease, "by": worker_id, "of": queue, "most": limit}
    taken = [Claim(*row) for row in _CLAIM.rows(connection, asked)]
    return sorted(taken, key=attrgetter("run_id"))


def claimed_columns() -> tuple[Any, ...]:
    """Return the columns of a run that make a Claim."""
    return (
        runs.c.id.label("run_id"),
        runs.c.job_id,
        runs.c.attempt,
        runs.c.worker_id,
        runs.c.claimed_at,
        runs.c.scheduled_for,
        runs.c.available_at,
        runs.c.job_version,
        runs.c.params,
        runs.c.created_at,
    )


def _claimable(run: Any) -> sa.ColumnElement[bool]:
    in_time = sa.or_(run.c.start_until.is_(None), run.c.start_until >= _AT, run.c.attempt > 0)
    return sa.and_(run.c.status == PENDING, run.c.available_at <= _AT, in_time)


def _lane_is_free() -> sa.ColumnElement[bool]:
    other, earlier = runs.alias("other"), runs.alias("earlier")
    same_lane = [
        (run.c.job_id == runs.c.job_id, run.c.lane == runs.c.lane) for run in (other, earlier)
    ]
    busy = sa.exists().where(*same_lane[0], other.c.status == IN_PROGRESS)
    goes_first = sa.or_(
        earlier.c.priority > runs.c.priority,
        sa.and_(earlier.c.priority == runs.c.priority, earlier.c.id < runs.c.id),
    )
    # A run that waits for its retry is unfinished and keeps its turn before later slots;
    # a person who starts a run does not wait for that.
    retries = sa.and_(
        earlier.c.status == PENDING, earlier.c.attempt > 0, runs.c.trigger != "manual"
    )
    waits = sa.exists().where(
        *same_lane[1],
        earlier.c.status == PENDING,
        earlier.c.queue == runs.c.queue,
        goes_first,
        sa.or_(_claimable(earlier), retries),
    )
    return sa.or_(runs.c.lane.is_(None), sa.and_(~busy, ~waits))


def _claim_statement() -> Any:
    picked = (
        sa.select(runs.c.id)
        .where(runs.c.queue == sa.bindparam("of"), _claimable(runs), _lane_is_free())
        .order_by(runs.c.priority.desc(), runs.c.available_at, runs.c.id)
        .limit(sa.bindparam("most"))
        .with_for_update(skip_locked=True)
        .cte("picked")
    )
    return (
        runs.update()
        .where(runs.c.id.in_(sa.select(picked.c.id)), runs.c.status == PENDING)
        .values(
            status=IN_PROGRESS,
            worker_id=sa.bindparam("by"),
            claimed_at=_AT,
            lease_until=sa.bindparam("until"),
            attempt=runs.c.attempt + 1,
            error_message=None,
            progress=None,
            progress_text=None,
        )
        .returning(*claimed_columns())
    )


_CLAIM = Prepared(_claim_statement())


def is_due(connection: Connection, queue: str, now: datetime) -> bool:
    """Whether a run of a queue could start now, were its lane free."""
    return _WAITS.scalar(connection, {"of": queue, "at": now}) is not None


_WAITS = Prepared(
    sa.select(runs.c.id)
    .where(runs.c.status == PENDING, runs.c.queue == sa.bindparam("of"), runs.c.available_at <= _AT)
    .limit(1)
)


def next_available(
    connection: Connection, queues: Sequence[str], after: datetime
) -> list[datetime]:
    """Return when, later than an instant, the first waiting run of each queue can start."""
    soonest = [_FIRST_AFTER.scalar(connection, {"of": queue, "at": after}) for queue in queues]
    return [instant for instant in soonest if instant is not None]


_FIRST_AFTER = Prepared(
    sa.select(sa.func.min(runs.c.available_at)).where(
        runs.c.status == PENDING, runs.c.queue == sa.bindparam("of"), runs.c.available_at > _AT
    )
)


def wishes(connection: Connection, worker_id: str) -> bool:
    """Whether somebody wants this worker to end a run that it holds."""
    return _WISHED.scalar(connection, {"of": worker_id}) is not None


_WISHED = Prepared(
    sa.select(runs.c.id)
    .where(
        runs.c.worker_id == sa.bindparam("of"),
        runs.c.status == IN_PROGRESS,
        runs.c.cancel_requested_at.is_not(None),
    )
    .limit(1)
)


@dataclass(frozen=True)
class Renewal:
    """What a heartbeat brought back."""

    held: frozenset[tuple[int, int]]
    """(run, attempt) pairs whose lease now lasts longer."""
    cancelled: frozenset[tuple[int, int]]
    """Of those, the ones that somebody wants ended."""
    drain: bool
    """Whether somebody asked the worker to stop claiming."""
    is_registered: bool
    """Whether the worker's row is still there; without it nothing was renewed."""


def renew(
    connection: Connection,
    now: datetime,
    *,
    worker_id: str,
    lease: timedelta,
    held: Sequence[tuple[int, int]],
    status: str,
    processed: int,
    clock_ahead: float | None = None,
) -> Renewal:
    """Renew a worker's row and the leases of the runs it holds.

    A run that is not among the returned ones belongs to somebody else: its child must be killed.
    A worker whose row is gone holds nothing any more.
    """
    beat = {
        "of": worker_id,
        "last_heartbeat": now,
        "status": status,
        "jobs_processed": processed,
        "current_job_id": held[0][0] if held else None,
        "clock_ahead_seconds": clock_ahead,
    }
    beaten = _BEAT.rows(connection, beat)
    drain = any(row.drain_requested_at is not None for row in beaten)
    if not beaten or not held:
        return Renewal(frozenset(), frozenset(), drain, bool(beaten))
    renewed = _renew(connection, worker_id, held, now + lease)
    return Renewal(
        frozenset((run.id, run.attempt) for run in renewed),
        frozenset((run.id, run.attempt) for run in renewed if run.cancel_requested_at is not None),
        drain,
        is_registered=True,
    )


_BEAT = Prepared(
    workers.update()
    .where(workers.c.worker_id == sa.bindparam("of"))
    .returning(workers.c.drain_requested_at)
)


_FENCED = runs.update().where(
    OneOf(runs.c.id, "fence_runs"),
    runs.c.worker_id == sa.bindparam("fence_worker"),
    runs.c.attempt == sa.bindparam("fence_attempt"),
    runs.c.status == IN_PROGRESS,
)
"""Only what is still this worker's, in this attempt."""


def _fence(worker_id: str, attempt: int, run_ids: Sequence[int]) -> dict[str, Any]:
    return {"fence_worker": worker_id, "fence_attempt": attempt, "fence_runs": run_ids}


def _renew(
    connection: Connection, worker_id: str, held: Sequence[tuple[int, int]], until: datetime
) -> list[Row[Any]]:
    """Renew leases, those of the same attempt in one statement: mostly all are the first."""
    alike: dict[int, list[int]] = defaultdict(list)
    for run_id, attempt in held:
        alike[attempt].append(run_id)
    renewed: list[Row[Any]] = []
    for attempt, run_ids in alike.items():
        fence = _fence(worker_id, attempt, run_ids)
        renewed += _RENEW.rows(connection, fence | {"lease_until": until})
    return renewed


_RENEW = Prepared(_FENCED.returning(runs.c.id, runs.c.attempt, runs.c.cancel_requested_at))


def finish(
    connection: Connection,
    done: Sequence[tuple[Claim, Result]],
    now: datetime,
    rng: random.Random,
) -> set[tuple[int, int]]:
    """Record what attempts came to and end their runs, or let them wait for their next try.

    1. Of what did not succeed, take the runs' rows, fenced by worker, attempt and state.
    2. Decide each ending from the row as it stands; a success is one whatever the row says.
    3. Write the runs through the same fence; what it returns says what this caller won.
    4. Add the attempts' rows.

    Returns the (run, attempt) pairs that this caller recorded: no repeat, no stale worker's.
    """
    once = {_fence_of(it): (it, result) for it, result in done}
    ended = [
        (it, result, states.succeed(now, result.reason))
        for it, result in once.values()
        if result.succeeded
    ]
    others = {fence: known for fence, known in once.items() if not known[1].succeeded}
    ended += [
        (*ours, _ending(run, ours[1], now, rng))
        for run in _take(connection, [it.run_id for it, _ in others.values()])
        if (ours := others.get((run.id, run.attempt, run.worker_id))) is not None
    ]
    won = _end(connection, [(it, ending) for it, _, ending in ended])
    rows = [
        attempt_row(it.run_id, it, ending, _measured(result), now)
        for it, result, ending in ended
        if (it.run_id, it.attempt) in won
    ]
    insert_once(connection, attempts, rows)
    return won


def _fence_of(claimed: Claim) -> tuple[int, int, str]:
    return claimed.run_id, claimed.attempt, claimed.worker_id


def _take(connection: Connection, run_ids: Sequence[int]) -> Sequence[Row[Any]]:
    return _TAKE.rows(connection, {"of": run_ids}) if run_ids else []


# In the order of their ids: two callers that take the same rows do not wait for each other.
_TAKE = Prepared(
    sa.select(
        *(runs.c[name] for name in ("id", "attempt", "worker_id", "cancel_requested_at")),
        *(runs.c[name] for name in ("retry_count", "max_retries", "retry_delay_seconds")),
        *(runs.c[name] for name in ("lost_count", "on_worker_lost")),
    )
    .where(OneOf(runs.c.id, "of"), runs.c.status == IN_PROGRESS)
    .order_by(runs.c.id)
    .with_for_update()
)


def _end(connection: Connection, ended: Sequence[tuple[Claim, Ending]]) -> set[tuple[int, int]]:
    """Write endings through the fence, those of the same values in one statement."""
    alike: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for it, ending in ended:
        alike[it.worker_id, it.attempt, *ending.run.items()].append(it.run_id)
    won: set[tuple[int, int]] = set()
    for (worker_id, attempt, *values), run_ids in alike.items():
        fence = _fence(worker_id, attempt, run_ids)
        written = _END.rows(connection, fence | dict(values))
        won.update((run_id, attempt) for (run_id,) in written)
    return won


_END = Prepared(_FENCED.returning(runs.c.id))


def _ending(run: Row[Any], result: Result, now: datetime, rng: random.Random) -> Ending:
    if result.ended_by == "cancel":
        return states.cancel(run, now)
    if result.ended_by == "release":
        return states.release(run, now)
    endings: dict[str, Callable[..., Ending]] = {
        "error": states.error,
        "timeout": states.time_out,
        "exit": states.fail,
    }
    return endings[result.ended_by](run, now, rng, error=result.error)


def _measured(result: Result) -> dict[str, Any]:
    return {
        "started_at": result.started_at,
        "finished_at": result.finished_at,
        "exit_code": result.exit_code,
        **result.measures,
    }


def attempt_row(
    run_id: int, run: Any, ending: Ending, measured: Mapping[str, Any], now: datetime
) -> dict[str, Any]:
    """Return the row of an attempt; what is measured of it overrules what is known otherwise."""
    return {
        "job_id": run.job_id,
        "dispatch_id": run_id,
        "attempt": run.attempt,
        "worker_id": run.worker_id,
        "scheduled_for": run.scheduled_for,
        "queued_at": run.available_at,
        "claimed_at": run.claimed_at,
        "run_time": measured.get("started_at") or run.claimed_at,
        "finished_at": now,
        **_UNMEASURED,
        **measured,
        **ending.attempt,
    }


_UNMEASURED: dict[str, Any] = {
    "started_at": None,
    "exit_code": None,
    "cpu_seconds": None,
    "max_rss_bytes": None,
    "output_bytes": None,
    "omitted_bytes": None,
    "log_output": None,
    "signal": None,
    "metrics": None,
    "result": None,
    "provenance": None,
}


def rescue(connection: Connection, now: datetime, *, grace: timedelta) -> int:
    """Take back runs whose lease ran out, by the lease alone; returns how many this caller took."""
    rescued = 0
    for run in _LAPSED.rows(connection, {"at": now - grace}):
        kept = _KEPT.rows(connection, {"of": run.id, "number": run.attempt})
        ending = _unheard(run, kept, now)
        guard = (runs.c.id == run.id, runs.c.attempt == run.attempt, runs.c.status == IN_PROGRESS)
        still_lapsed = runs.c.lease_until == run.lease_until
        statement = runs.update().where(*guard, still_lapsed).values(ending.run)
        if connection.execute(statement).rowcount == 1:
            said = measured_of(kept[0]) if kept else {"log_output": _said(connection, run)}
            insert_once(connection, attempts, [attempt_row(run.id, run, ending, said, now)])
            rescued += 1
    return rescued


def take_back_all(connection: Connection, now: datetime) -> int:
    """Take back every run that a worker holds, as if its lease had just run out; returns how many.

    What is executed elsewhere, and only reported here, goes on.
    """
    held = runs.update().where(
        runs.c.status == IN_PROGRESS,
        runs.c.queue != states.EXTERNAL_QUEUE,
        runs.c.lease_until >= now,
    )
    connection.execute(held.values(lease_until=now - timedelta(milliseconds=1)))
    taken = 0
    while rescued := rescue(connection, now, grace=timedelta(0)):
        taken += rescued
    return taken


def hold_back(connection: Connection, until: datetime) -> int:
    """Let no run that waits be claimed before an instant; returns how many that concerns."""
    early = runs.update().where(runs.c.status == PENDING, runs.c.available_at < until)
    return connection.execute(early.values(available_at=until)).rowcount


def _unheard(run: Row[Any], kept: Sequence[Any], now: datetime) -> Ending:
    if run.queue == states.EXTERNAL_QUEUE:
        return states.fall_silent(run, now)
    return states.lose_kept(run, now, error=kept[0].error) if kept else states.lose(run, now)


def measured_of(kept: Any) -> dict[str, Any]:
    """Return what is known of an attempt that failed and whose kernel was kept."""
    instants = {"started_at": kept.started_at, "finished_at": kept.failed_at, "exit_code": 1}
    return {**kept.measures, **instants}


_KEPT = Prepared(
    sa.select(kept_kernels).where(
        kept_kernels.c.dispatch_id == sa.bindparam("of"),
        kept_kernels.c.attempt == sa.bindparam("number"),
    )
)


def lapsed(at: sa.BindParameter[datetime]) -> sa.ColumnElement[bool]:
    """Whether a run's lease ran out before this instant."""
    return sa.and_(runs.c.status == IN_PROGRESS, Rarely(runs.c.lease_until < at))


_LAPSED = Prepared(
    sa.select(runs)
    .where(lapsed(_AT))
    .order_by(runs.c.lease_until)
    .limit(RESCUE_BATCH)
    .with_for_update(skip_locked=True)
)


def _said(connection: Connection, run: Row[Any]) -> str:
    """Return the end of what a lost attempt printed before it was lost."""
    chunks = (
        sa.select(output.c.text)
        .where(
            output.c.dispatch_id == run.id,
            output.c.attempt == run.attempt,
            output.c.stream == "output",
        )
        .order_by(output.c.seq.desc())
        .limit(1)
    )
    text: str = connection.scalar(chunks) or ""
    return text[-LAST_OUTPUT_BYTES:]


def expire(connection: Connection, now: datetime) -> int:
    """End runs that were not started in time as MISSED; returns how many."""
    unheard = states.expire(now, "no ping in time")
    ended = _EXPIRE_EXTERNAL.count(connection, {"at": now} | unheard.run)
    return ended + _EXPIRE.count(connection, {"at": now} | states.expire(now).run)


EXPIRED = sa.and_(
    runs.c.status == PENDING,
    runs.c.start_until.is_not(None),
    Rarely(runs.c.start_until < _AT),
    runs.c.attempt == 0,
)
_EXPIRE = Prepared(runs.update().where(EXPIRED))
_EXPIRE_EXTERNAL = Prepared(
    runs.update().where(EXPIRED, runs.c.queue == sa.literal(states.EXTERNAL_QUEUE))
)


def write_output(
    connection: Connection,
    claimed: Claim,
    chunks: Sequence[Chunk],
    progress: Progress | None = None,
) -> bool:
    """Add numbered chunks of an attempt's output, and its progress, if it still has the run.

    A repeat of chunks that are there does nothing. Returns whether the run was still ours.
    """
    fence = {
        "fence_run": claimed.run_id,
        "fence_worker": claimed.worker_id,
        "fence_attempt": claimed.attempt,
    }
    if progress is None:
        is_ours = _OURS.scalar(connection, fence) is not None
    else:
        said = {"progress": progress[0], "progress_text": progress[1]}
        is_ours = _PROGRESS.count(connection, fence | said) == 1
    if is_ours:
        add_output(connection, [(claimed, chunks)])
    return is_ours


_FENCE = (
    runs.c.id == sa.bindparam("fence_run"),
    runs.c.worker_id == sa.bindparam("fence_worker"),
    runs.c.attempt == sa.bindparam("fence_attempt"),
    runs.c.status == IN_PROGRESS,
)
_OURS = Prepared(sa.select(runs.c.id).where(*_FENCE).with_for_update())
_PROGRESS = Prepared(runs.update().where(*_FENCE))


def add_output(connection: Connection, said: Sequence[tuple[Claim, Sequence[Chunk]]]) -> None:
    """Add the last chunks of attempts that this transaction has ended."""
    rows = [
        {
            "dispatch_id": claimed.run_id,
            "attempt": claimed.attempt,
            "seq": seq,
            "claimed_at": claimed.claimed_at,
            "at": at,
            "stream": stream,
            "text": text,
        }
        for claimed, chunks in said
        for seq, at, text, stream in chunks
    ]
    insert_once(connection, output, rows)
