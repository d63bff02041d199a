"""Runs that happen elsewhere: what they report moves the same rows by the same endings."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import Prepared, Utc, insert_new
from jobkit.errors import Conflict, NotFound
from jobkit.models import output, runs
from jobkit.states import EXTERNAL, EXTERNAL_TIMEOUT
from jobkit.store import claims, dispatch
from jobkit.store.claims import Claim, Result
from jobkit.store.dispatch import IN_PROGRESS, PENDING

START, SUCCESS, FAIL = SIGNALS = ("start", "success", "fail")


@dataclass(frozen=True)
class Ping:
    """What a run that happens elsewhere says of itself."""

    signal: str
    exit_code: int | None = None
    message: str = ""
    omitted_bytes: int = 0
    """Of the message, which were left out."""
    run_id: int | None = None
    """Which run of the job says so; the one that it fits where None."""


def receive(
    connection: Connection,
    job: Row[Any],
    ping: Ping,
    now: datetime,
    rng: random.Random,
    *,
    by: str,
    patience: timedelta,
) -> int:
    """Move a run of a job, whose row is locked, as a ping says. Returns the run's id.

    1. Make the runs of its slots that have come: a ping may be here before a scheduler.
    2. A start begins the run of the newest slot that waits, or a new one.
    3. An end ends the run that was begun last; without one it begins and ends one.

    Conflict and NotFound are about a `run_id` that it does not fit.
    """
    dispatch.dispatch_job(connection, job.id, now, patience=patience)
    held = None if ping.signal == START else _held(connection, job.id, ping.run_id)
    if held is None:
        is_told = ping.signal == START
        held = _begin(connection, job, ping.run_id, now, by)
        began_at = held.claimed_at if is_told else None
    else:
        began_at = held.claimed_at
    _say(connection, held, ping.message, now)
    if ping.signal != START:
        claims.finish(connection, [(held, _result(ping, began_at, now))], now, rng)
    return held.run_id


def _result(ping: Ping, began_at: datetime | None, now: datetime) -> Result:
    code, error = ping.exit_code, ""
    if ping.signal == SUCCESS:
        code = 0
    else:
        first = ping.message.strip().partition("\n")[0][:200]
        error = f"exit code {code}" if code is not None else first or "it said that it failed"
    measures = {
        "log_output": ping.message[-claims.LAST_OUTPUT_BYTES :],
        "output_bytes": len(ping.message.encode()) + ping.omitted_bytes,
        "omitted_bytes": ping.omitted_bytes,
        "launcher": EXTERNAL,
    }
    return Result("exit", began_at, now, code, error, measures)


def _held(connection: Connection, job_id: int, run_id: int | None) -> Claim | None:
    """Return the run that was begun last, or the one that is named, if it goes on."""
    statement = sa.select(*claims.claimed_columns()).where(
        runs.c.job_id == job_id, runs.c.status == IN_PROGRESS
    )
    if run_id is not None:
        statement = statement.where(runs.c.id == run_id)
    last = statement.order_by(runs.c.claimed_at.desc(), runs.c.id.desc()).limit(1)
    found = connection.execute(last.with_for_update()).one_or_none()
    return None if found is None else Claim(*found)


def _begin(
    connection: Connection, job: Row[Any], run_id: int | None, now: datetime, by: str
) -> Claim:
    """Begin the run that waits, or a new one where none does."""
    asked = {"of": job.id, "at": now, "run": run_id}
    waits = (_NAMED if run_id is not None else _NEWEST).scalar(
        connection, asked if run_id is not None else {"of": job.id, "at": now}
    )
    if waits is None and run_id is not None:
        raise _unfit(connection, job, run_id)
    if waits is None:
        row = dispatch.run_row(job, now, trigger="manual", requested_by=by)
        waits = insert_new(connection, runs, [row], (runs.c.id,))[0].id
    until = now + timedelta(seconds=job.timeout_seconds or EXTERNAL_TIMEOUT)
    begun = _BEGIN.rows(
        connection,
        {
            "the_run": waits,
            "status": "IN_PROGRESS",
            "worker_id": EXTERNAL,
            "claimed_at": now,
            "lease_until": until,
        },
    )
    if not begun:  # a scheduler has just ended it
        raise Conflict(f"Run {waits} of {job.name!r} has just ended.", "Ping again.")
    return Claim(*begun[0])


def _unfit(connection: Connection, job: Row[Any], run_id: int) -> Conflict | NotFound:
    run = connection.execute(
        sa.select(runs.c.status).where(runs.c.id == run_id, runs.c.job_id == job.id)
    ).one_or_none()
    if run is None:
        return NotFound(f"The job {job.name!r} has no run {run_id}.", "Leave out which run.")
    return Conflict(
        f"Run {run_id} is {run.status} and stays so.", "Leave out which run: it makes a new one."
    )


def _say(connection: Connection, held: Claim, message: str, now: datetime) -> None:
    if message:
        last = connection.scalar(
            sa.select(sa.func.max(output.c.seq)).where(
                output.c.dispatch_id == held.run_id, output.c.attempt == held.attempt
            )
        )
        number = 0 if last is None else last + 1
        claims.add_output(connection, [(held, [(number, now, message, "output")])])


_WAITS = (
    sa.select(runs.c.id)
    .where(
        runs.c.job_id == sa.bindparam("of"),
        runs.c.status == PENDING,
        runs.c.available_at <= sa.bindparam("at", type_=Utc()),
        sa.or_(runs.c.start_until.is_(None), runs.c.start_until >= sa.bindparam("at", type_=Utc())),
    )
    .order_by(runs.c.scheduled_for.desc(), runs.c.id.desc())
    .limit(1)
    .with_for_update()
)
_NEWEST = Prepared(_WAITS)
_NAMED = Prepared(_WAITS.where(runs.c.id == sa.bindparam("run")))
_BEGIN = Prepared(
    runs.update()
    .where(runs.c.id == sa.bindparam("the_run"), runs.c.status == PENDING)
    .values(attempt=runs.c.attempt + 1)
    .returning(*claims.claimed_columns())
)
