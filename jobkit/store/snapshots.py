"""What a reader of the whole history asks the tables for, so that it asks for each row once.

Columns come as the driver gives them, without conversions: instants are text on SQLite. Runs bear a
mark that rises as they become visible, the transaction on PostgreSQL and the id on SQLite, where
one writes at a time: a reader that has seen everything below a mark asks only for what is above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import OneOf, Prepared, horizon
from jobkit.models import attempts, history_marks, jobs, runs, versions, workers

CHUNK = 20_000

RUN_COLUMNS = (
    "id", "job_id", "status", "created_at", "claimed_at", "completed_at", "worker_id",
    "retry_count", "error_message", "scheduled_for", "trigger", "available_at", "attempt",
    "params", "job_version", "queue", "priority", "lost_count", "reason", "requested_by",
    "retry_of", "backfill_id",
)  # fmt: skip
ATTEMPT_COLUMNS = (
    "id", "job_id", "status", "log_output", "dispatch_id", "attempt", "worker_id",
    "scheduled_for", "queued_at", "claimed_at", "started_at", "finished_at", "exit_code",
    "error_message", "cpu_seconds", "max_rss_bytes", "output_bytes", "omitted_bytes", "signal",
    "metrics", "result", "provenance",
)  # fmt: skip
JOB_COLUMNS = (
    "id", "name", "script_path", "schedule_type", "interval_seconds", "cron", "timezone", "queue",
    "priority", "is_active", "overlap_policy", "start_deadline_seconds", "version", "created_at",
    "deleted_at", "tags",
)  # fmt: skip
WORKER_COLUMNS = (
    "worker_id", "hostname", "platform", "status", "slots", "queues", "started_at",
    "last_heartbeat", "version",
)  # fmt: skip


def _raw(table: sa.Table, names: Sequence[str]) -> list[Any]:
    return [sa.type_coerce(table.c[name], sa.types.NullType()).label(name) for name in names]


_JOBS = sa.select(*_raw(jobs, JOB_COLUMNS)).order_by(jobs.c.id)
_WORKERS = sa.select(*_raw(workers, WORKER_COLUMNS)).order_by(workers.c.worker_id)
_ATTEMPTS = Prepared(
    sa.select(*_raw(attempts, ATTEMPT_COLUMNS)).where(
        OneOf(attempts.c.dispatch_id, "ids"), attempts.c.claimed_at >= sa.bindparam("since")
    )
)
_LOOSE_ATTEMPTS = sa.select(*_raw(attempts, ATTEMPT_COLUMNS)).where(
    attempts.c.dispatch_id.is_(None)
)
_LAST_ID = sa.select(sa.func.max(runs.c.id))
_EXISTING = sa.select(runs.c.id).where(OneOf(runs.c.id, "ids"))
_SURVIVORS = sa.select(runs.c.id).where(
    runs.c.completed_at <= sa.bindparam("until"), runs.c.completed_at.is_not(None)
)


def _mark(connection: Connection) -> Any:
    return runs.c.id if connection.dialect.name == "sqlite" else runs.c.born


def marks(connection: Connection) -> Row[Any]:
    """Return which history this is and what was cleaned up of it; see `JobHistory`."""
    return connection.execute(sa.select(history_marks)).one()


def rename(connection: Connection, identity: str) -> None:
    """Make it another history: what caches hold of it is of a time that was taken back."""
    connection.execute(history_marks.update().values(identity=identity))


def note_cleaned(connection: Connection, count: int, until: datetime) -> None:
    """Note that runs, which had ended by then, leave with this transaction."""
    later = sa.case(
        (history_marks.c.cleaned_until > until, history_marks.c.cleaned_until), else_=until
    )
    connection.execute(
        history_marks.update().values(
            cleaned_runs=history_marks.c.cleaned_runs + count, cleaned_until=later
        )
    )


def settled(connection: Connection) -> int:
    """Return the mark below which every run is visible in this snapshot, or never will be."""
    if connection.dialect.name == "sqlite":
        last: int = (connection.scalar(_LAST_ID) or 0) + 1
        return last
    return horizon(connection)


def runs_since(connection: Connection, mark: int | None) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the runs that became visible at a mark or later, of no mark all, in groups.

    Their columns are `RUN_COLUMNS` and, last, whether they have a mark and which.
    """
    born = _mark(connection)
    asked = _marked(born, mark is not None)
    return asked.batches(connection, CHUNK, {} if mark is None else {"since": mark})


@cache
def _marked(born: sa.ColumnElement[Any], has_start: bool) -> Prepared:
    statement: Any = sa.select(*_raw(runs, RUN_COLUMNS), born.label("mark"))
    return Prepared(statement.where(born >= sa.bindparam("since")) if has_start else statement)


def runs_of(connection: Connection, ids: Sequence[int]) -> Sequence[Row[Any]]:
    """Return these runs, with the columns of `runs_since`; those that are gone are left out."""
    born = _mark(connection)
    statement: Any = sa.select(*_raw(runs, RUN_COLUMNS), born.label("mark"))
    statement = statement.where(OneOf(runs.c.id, "ids"))
    found: Sequence[Row[Any]] = connection.execute(statement, {"ids": list(ids)}).all()
    return found


def attempts_of(
    connection: Connection, run_ids: Sequence[int], since: datetime
) -> list[tuple[Any, ...]]:
    """Return the attempts of runs, none of which was made before `since`: `ATTEMPT_COLUMNS`."""
    of = {"ids": list(run_ids), "since": since}
    return [row for rows in _ATTEMPTS.batches(connection, CHUNK, of) for row in rows]


def loose_attempts(connection: Connection) -> Sequence[Row[Any]]:
    """Return the attempts that an older system left, which belong to no run."""
    return connection.execute(_LOOSE_ATTEMPTS).all()


def existing(connection: Connection, ids: Sequence[int]) -> set[int]:
    """Return which of these runs are in the table."""
    return set(connection.scalars(_EXISTING, {"ids": list(ids)}))


def survivors(connection: Connection, until: datetime) -> set[int]:
    """Return the runs that had ended by an instant and are still in the table."""
    return set(connection.scalars(_SURVIVORS, {"until": until}))


def all_jobs(connection: Connection) -> Sequence[Row[Any]]:
    """Return every job, deleted ones as well, with `JOB_COLUMNS`."""
    return connection.execute(_JOBS).all()


def all_workers(connection: Connection) -> Sequence[Row[Any]]:
    """Return every worker with `WORKER_COLUMNS`."""
    return connection.execute(_WORKERS).all()


def all_versions(connection: Connection) -> Sequence[Row[Any]]:
    """Return every version of every job, in the order in which they came to be."""
    return connection.execute(sa.select(versions).order_by(versions.c.changed_at)).all()
