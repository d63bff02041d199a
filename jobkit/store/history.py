"""What happened: runs, attempts and output, read, counted and, when they are old, cleaned up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import OneOf, Prepared
from jobkit.errors import NotFound
from jobkit.models import attempts, jobs, output, runs, workers
from jobkit.states import FINAL
from jobkit.store import keepsakes, snapshots
from jobkit.store.dispatch import IN_PROGRESS, PENDING

CLEANUP_BATCH = 500
TAIL_CHUNKS = 50


def with_names() -> sa.Select[Any]:
    """Select runs, each with its job's name."""
    return sa.select(runs, jobs.c.name.label("job_name")).join_from(
        runs, jobs, runs.c.job_id == jobs.c.id, isouter=True
    )


def run(connection: Connection, run_id: int) -> Row[Any]:
    """Return one run with its job's name; NotFound otherwise."""
    found: list[Row[Any]] = _RUN.rows(connection, {"of": run_id})
    if not found:
        raise NotFound(f"There is no run {run_id}.", "See the latest: jobkit runs")
    return found[0]


_RUN = Prepared(with_names().where(runs.c.id == sa.bindparam("of")))


def listed(
    connection: Connection,
    *,
    job_ids: Sequence[int] | None = None,
    statuses: Sequence[str] = (),
    since: datetime | None = None,
    limit: int = 50,
    offset: int = 0,
    before: int | None = None,
) -> Sequence[Row[Any]]:
    """Return runs, the newest first, without the first `offset` of them.

    `job_ids`: of these jobs; `before`: with a lower id.
    """
    statement = with_names().limit(limit).offset(offset)
    if job_ids is not None:
        statement = statement.where(runs.c.job_id.in_(job_ids))
    if before is not None:
        statement = statement.where(runs.c.id < before)
    if statuses:
        statement = statement.where(runs.c.status.in_(statuses))
    if since is not None:
        # In the order of the index that finds them: by id the whole table might be read.
        statement = statement.where(runs.c.created_at >= since).order_by(runs.c.created_at.desc())
    statement = statement.order_by(runs.c.id.desc())
    return connection.execute(statement).all()


def params_of(connection: Connection, job_id: int, *, limit: int) -> Sequence[Row[Any]]:
    """Return the parameters of a job's newest runs: rows of `id, created_at, params`."""
    statement = sa.select(runs.c.id, runs.c.created_at, runs.c.params)
    statement = statement.where(runs.c.job_id == job_id).order_by(runs.c.id.desc())
    return connection.execute(statement.limit(limit)).all()


_AMONG = Prepared(with_names().where(OneOf(runs.c.id, "of")))
_ENDED = Prepared(with_names().where(OneOf(runs.c.id, "of"), runs.c.completed_at.is_not(None)))


def among(connection: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    """Return these runs, as far as they are there."""
    return _AMONG.rows(connection, {"of": list(ids)})


def ended_among(connection: Connection, ids: Sequence[int]) -> list[Row[Any]]:
    """Return those of these runs that have ended."""
    return [row for row in _ENDED.rows(connection, {"of": list(ids)}) if row.status in FINAL]


def waiting(connection: Connection, limit: int = 200) -> Sequence[Row[Any]]:
    """Return what runs and what waits: in progress first, then in the order of claims."""
    statement = with_names().where(runs.c.status.in_((PENDING, IN_PROGRESS)))
    progress = sa.case((runs.c.status == IN_PROGRESS, 0), else_=1)
    order = (progress, runs.c.priority.desc(), runs.c.available_at, runs.c.id)
    return connection.execute(statement.order_by(*order).limit(limit)).all()


def held(connection: Connection, limit: int) -> Sequence[Row[Any]]:
    """Return what workers hold, the longest first."""
    statement = with_names().where(runs.c.status == IN_PROGRESS, runs.c.worker_id.is_not(None))
    return connection.execute(statement.order_by(runs.c.claimed_at, runs.c.id).limit(limit)).all()


def attempts_of(connection: Connection, run_: Row[Any]) -> Sequence[Row[Any]]:
    """Return the attempts of a run that have ended, in order."""
    statement = (
        sa.select(attempts)
        .where(attempts.c.dispatch_id == run_.id, attempts.c.claimed_at >= run_.created_at)
        .order_by(attempts.c.attempt)
    )
    return connection.execute(statement).all()


def last_success(connection: Connection, job_id: int, before: datetime) -> Row[Any] | None:
    """Return a job's last successful attempt that was claimed before an instant.

    With the version that its run executed, as `job_version`.
    """
    statement = (
        sa.select(attempts, runs.c.job_version)
        .join_from(attempts, runs, runs.c.id == attempts.c.dispatch_id)
        .where(
            attempts.c.job_id == job_id,
            attempts.c.status == "SUCCESS",
            attempts.c.claimed_at < before,
        )
        .order_by(attempts.c.claimed_at.desc())
        .limit(1)
    )
    return connection.execute(statement).one_or_none()


def output_of(
    connection: Connection, run_: Row[Any], attempt: int, *, after: int, stream: str = "output"
) -> Sequence[Row[Any]]:
    """Return the chunks of a stream of an attempt that come after the chunk numbered `after`."""
    statement = (
        sa.select(output.c.seq, output.c.at, output.c.text)
        .where(
            output.c.dispatch_id == run_.id,
            output.c.attempt == attempt,
            output.c.seq > after,
            output.c.stream == stream,
            output.c.claimed_at >= run_.created_at,
        )
        .order_by(output.c.seq)
    )
    return connection.execute(statement).all()


def cells_before(
    connection: Connection, job_id: int, before: int, *, limit: int
) -> list[list[tuple[datetime, str]]]:
    """Return the events of cells of the last runs of a job that succeeded before a run."""
    succeeded = (
        sa.select(runs.c.id, runs.c.attempt, runs.c.created_at)
        .where(runs.c.job_id == job_id, runs.c.id < before, runs.c.status == "COMPLETED")
        .order_by(runs.c.id.desc())
        .limit(limit)
    )
    return [
        [
            (chunk.at, chunk.text)
            for chunk in output_of(connection, run_, run_.attempt, after=-1, stream="cell")
        ]
        for run_ in connection.execute(succeeded).all()
    ]


def tail_of(connection: Connection, run_: Row[Any], attempt: int, most: int) -> str:
    """Return about the last `most` characters that an attempt printed, of its last 50 chunks."""
    length = sa.func.length(output.c.text)
    end = sa.case(
        (length > most, sa.func.substr(output.c.text, length - most + 1)), else_=output.c.text
    )
    statement = (
        sa.select(end)
        .where(
            output.c.dispatch_id == run_.id,
            output.c.attempt == attempt,
            output.c.stream == "output",
            output.c.claimed_at >= run_.created_at,
        )
        .order_by(output.c.seq.desc())
        .limit(TAIL_CHUNKS)
    )
    found = ""
    for text in connection.scalars(statement):
        found = text + found
        if len(found) >= most:
            break
    return found[-most:]


def waiting_counts(connection: Connection, now: datetime, late: timedelta) -> tuple[int, int, int]:
    """Return how many runs are in progress, how many are due, and of those how many are late."""
    due = sa.and_(runs.c.status == PENDING, runs.c.available_at <= now)
    is_late = sa.and_(due, runs.c.available_at < now - late)
    columns = [
        sa.func.coalesce(sa.func.sum(sa.case((condition, 1), else_=0)), 0)
        for condition in (runs.c.status == IN_PROGRESS, due, is_late)
    ]
    unfinished = runs.c.status.in_((PENDING, IN_PROGRESS))
    running, waits, behind = connection.execute(sa.select(*columns).where(unfinished)).one()
    return int(running), int(waits), int(behind)


def counts(connection: Connection, since: datetime) -> dict[str, int]:
    """Return how many runs made since then stand in each status."""
    statement = (
        sa.select(runs.c.status, sa.func.count())
        .where(runs.c.created_at >= since)
        .group_by(runs.c.status)
    )
    return {status: count for status, count in connection.execute(statement)}


def all_counts(connection: Connection) -> dict[str, int]:
    """Return how many runs there are in each status."""
    statement = sa.select(runs.c.status, sa.func.count()).group_by(runs.c.status)
    return {status: count for status, count in connection.execute(statement)}


def durations(connection: Connection, since: datetime) -> list[float]:
    """Return the seconds that each successful attempt since then took."""
    statement = sa.select(attempts.c.started_at, attempts.c.finished_at).where(
        attempts.c.claimed_at >= since,
        attempts.c.status == "SUCCESS",
        attempts.c.started_at.is_not(None),
        attempts.c.finished_at.is_not(None),
    )
    return [(end - start).total_seconds() for start, end in connection.execute(statement)]


def attempt_counts(connection: Connection, since: datetime) -> dict[str, int]:
    """Return how many attempts claimed since then ended in each status."""
    statement = (
        sa.select(attempts.c.status, sa.func.count())
        .where(attempts.c.claimed_at >= since)
        .group_by(attempts.c.status)
    )
    return {status: count for status, count in connection.execute(statement)}


def worker_counts(connection: Connection) -> dict[str, int]:
    """Return how many workers stand in each status."""
    statement = sa.select(workers.c.status, sa.func.count()).group_by(workers.c.status)
    return {status: count for status, count in connection.execute(statement)}


@dataclass(frozen=True)
class Cleaned:
    """Runs that were deleted, and where their artifacts are kept, which are to go as well."""

    run_ids: tuple[int, ...] = ()
    urls: tuple[str, ...] = ()


def clean_up(connection: Connection, now: datetime, *, keep: timedelta) -> Cleaned:
    """Delete up to 500 runs that ended long ago, with their attempts, output and artifacts' rows.

    What an older system left (it names no version) is kept for ever. Where runs are archived this
    is not called: see `clean_up_artifacts`.
    """
    old = (
        sa.select(runs.c.id, runs.c.completed_at)
        .where(
            runs.c.completed_at.is_not(None),
            runs.c.completed_at < now - keep,
            runs.c.status.in_(FINAL),
            runs.c.job_version.is_not(None),
        )
        .order_by(runs.c.completed_at)
        .limit(CLEANUP_BATCH)
        .with_for_update(skip_locked=True)
    )
    found = connection.execute(old).all()
    ids = [run_id for run_id, _ in found]
    urls = keepsakes.forget(connection, ids)
    if ids:
        snapshots.note_cleaned(connection, len(ids), max(ended_at for _, ended_at in found))
        connection.execute(output.delete().where(output.c.dispatch_id.in_(ids)))
        connection.execute(attempts.delete().where(attempts.c.dispatch_id.in_(ids)))
        connection.execute(runs.delete().where(runs.c.id.in_(ids)))
    return Cleaned(tuple(ids), tuple(urls))


def keep_last(connection: Connection) -> Cleaned:
    """Delete the rows of artifacts that their jobs keep of fewer runs; the runs stay."""
    return Cleaned((), tuple(keepsakes.forget_beyond(connection, CLEANUP_BATCH)))


def clean_up_artifacts(connection: Connection, now: datetime, *, keep: timedelta) -> Cleaned:
    """Delete the rows of up to 500 artifacts that were left long ago; their runs stay.

    For databases with an archive, which takes runs but no artifacts.
    """
    return Cleaned((), tuple(keepsakes.forget_old(connection, now - keep, CLEANUP_BATCH)))
