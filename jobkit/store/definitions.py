"""Jobs and their versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import Prepared
from jobkit.errors import Conflict, NotFound
from jobkit.models import jobs, versions
from jobkit.schedule import Schedule
from jobkit.store import clocks

SCHEDULE = (
    "schedule_type",
    "interval_seconds",
    "schedule_time",
    "schedule_day",
    "cron",
    "timezone",
    "anchor_at",
    "starts_at",
    "ends_at",
)
DEFINITION = (
    "name",
    "script_path",
    "script_args",
    *SCHEDULE,
    "queue",
    "priority",
    "timeout_seconds",
    "timeout_policy",
    "max_retries",
    "retry_delay_seconds",
    "misfire_policy",
    "misfire_window_seconds",
    "overlap_policy",
    "start_deadline_seconds",
    "on_worker_lost",
    "params",
    "kind",
    "source",
    "python",
    "memory_limit_bytes",
    "nice",
    "working_dir",
    "variables",
    "secrets",
    "isolation",
    "tags",
    "signature",
    "defined_in",
    "cell_timeout_seconds",
    "keep_outputs",
    "keep_kernel_seconds",
    "alerts",
    "is_active",
)


@dataclass(frozen=True)
class Author:
    """Who changes a definition, and from where: kept with each version."""

    name: str
    source: str


def schedule_of(job: Any) -> Schedule:
    """Read the schedule from a job's row."""
    return Schedule(
        type=job.schedule_type,
        timezone=job.timezone,
        interval_seconds=job.interval_seconds,
        anchor=job.anchor_at,
        cron=job.cron,
        time=job.schedule_time,
        day=job.schedule_day,
        starts_at=job.starts_at,
        ends_at=job.ends_at,
    )


def schedule_in(document: Mapping[str, Any]) -> Schedule:
    """Read the schedule from a version's definition."""
    values = {name: document.get(name) for name in SCHEDULE}
    for name in ("anchor_at", "starts_at", "ends_at"):
        values[name] = instant_in(values[name])
    return schedule_of(SimpleNamespace(**values))


def instant_in(value: str | None) -> datetime | None:
    """Read an instant of a definition; one of an older system names no time zone."""
    if value is None:
        return None
    instant = datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def insert(
    connection: Connection, values: Mapping[str, Any], now: datetime, author: Author
) -> Row[Any]:
    """Add a job and its version 1; Conflict when the name is taken."""
    name = values["name"]
    taken = sa.select(jobs.c.id).where(jobs.c.name == name, jobs.c.deleted_at.is_(None))
    if connection.scalar(taken) is not None:
        raise Conflict(f"A job named {name!r} exists.", "Choose another name, or edit that job.")
    row = connection.execute(jobs.insert().values(values).returning(jobs)).one()
    _record(connection, row, "created", now, author, before=None)
    if row.alerts:
        clocks.wind(connection, row, now, has_new_slots=False)
    return row


def change(
    connection: Connection,
    job: Row[Any],
    values: Mapping[str, Any],
    what: str,
    now: datetime,
    author: Author,
) -> Row[Any]:
    """Write changed values as a new version; Conflict when somebody else was faster."""
    changed = connection.execute(
        jobs.update()
        .where(jobs.c.id == job.id, jobs.c.version == job.version)
        .values(**values, version=job.version + 1)
        .returning(jobs)
    ).one_or_none()
    if changed is None:
        raise Conflict(
            f"The job {job.name!r} was changed by somebody else.", "Look, and try again."
        )
    _record(connection, changed, what, now, author, before=definition(job))
    if job.alerts or changed.alerts:
        moved = any(getattr(job, name) != getattr(changed, name) for name in SCHEDULE)
        clocks.wind(connection, changed, now, has_new_slots=moved)
    return changed


def definition(job: Any) -> dict[str, Any]:
    """Return a job's definition as a JSON document: the columns that a version keeps."""
    document = {name: getattr(job, name) for name in DEFINITION}
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in document.items()
    }


def _record(
    connection: Connection,
    job: Row[Any],
    what: str,
    now: datetime,
    author: Author,
    before: dict[str, Any] | None,
) -> None:
    connection.execute(
        versions.insert().values(
            job_id=job.id,
            version=job.version,
            change=what,
            changed_at=now,
            changed_by=author.name,
            changed_from=author.source,
            definition=definition(job),
            before=before,
        )
    )


def by_name(connection: Connection, name: str, *, lock: bool = False) -> Row[Any]:
    """Return the row of a job that is not deleted; NotFound otherwise."""
    found: list[Row[Any]] = (_NAMED_LOCKED if lock else _NAMED).rows(connection, {"of": name})
    if not found:
        near = get_close_matches(str(name), names(connection), n=3)
        meant = f"Did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise NotFound(f"There is no job named {name!r}.", f"{meant}See them all: jobkit job list")
    return found[0]


def tagged(connection: Connection, tag: str) -> tuple[int, ...]:
    """Return the ids of the jobs, deleted ones too, that have a tag."""
    found = connection.execute(sa.select(jobs.c.id, jobs.c.tags).where(jobs.c.tags.is_not(None)))
    return tuple(job_id for job_id, tags in found if tag in tags)


def names(connection: Connection) -> list[str]:
    """Return the names of all jobs that are not deleted, in their order."""
    statement = sa.select(jobs.c.name).where(jobs.c.deleted_at.is_(None)).order_by(jobs.c.name)
    return list(connection.scalars(statement))


_WITH_NAME = sa.select(jobs).where(jobs.c.name == sa.bindparam("of"), jobs.c.deleted_at.is_(None))
_NAMED = Prepared(_WITH_NAME)
_NAMED_LOCKED = Prepared(_WITH_NAME.with_for_update())


def listed(connection: Connection) -> Sequence[Row[Any]]:
    """Return the rows of all jobs that are not deleted, by name."""
    statement = sa.select(jobs).where(jobs.c.deleted_at.is_(None)).order_by(jobs.c.name)
    return connection.execute(statement).all()


def history(connection: Connection, job_id: int) -> Sequence[Row[Any]]:
    """Return a job's versions, the newest first."""
    statement = sa.select(versions).where(versions.c.job_id == job_id)
    return connection.execute(statement.order_by(versions.c.version.desc())).all()


def version(connection: Connection, job_id: int, number: int) -> Row[Any] | None:
    """Return a version of a job, deleted or not."""
    statement = sa.select(versions)
    return connection.execute(
        statement.where(versions.c.job_id == job_id, versions.c.version == number)
    ).one_or_none()


def all_versions(
    connection: Connection, job_ids: Sequence[int] | None = None
) -> Iterator[Row[Any]]:
    """Yield the versions of all jobs, or of some, deleted ones too, by job and version."""
    columns = (versions.c.job_id, versions.c.version, versions.c.changed_at, versions.c.definition)
    statement = sa.select(*columns).order_by(versions.c.job_id, versions.c.version)
    if job_ids is not None:
        statement = statement.where(versions.c.job_id.in_(job_ids))
    yield from connection.execute(statement.execution_options(yield_per=500))


def cursors(connection: Connection, name: str | None = None) -> Sequence[Row[Any]]:
    """Return what was looked at of each job, deleted ones too, or of those of a name.

    Rows of `id, name, slots_until, deleted_at`, by id.
    """
    statement = sa.select(jobs.c.id, jobs.c.name, jobs.c.slots_until, jobs.c.deleted_at)
    if name is not None:
        statement = statement.where(jobs.c.name == name)
    return connection.execute(statement.order_by(jobs.c.id)).all()


def by_id(connection: Connection, job_id: int, *, lock: bool = False) -> Row[Any] | None:
    """Return the row of a job that is not deleted, if there is one."""
    statement = sa.select(jobs).where(jobs.c.id == job_id, jobs.c.deleted_at.is_(None))
    return connection.execute(statement.with_for_update() if lock else statement).one_or_none()


def executed(connection: Connection, job_id: int, version: int | None) -> dict[str, Any]:
    """Return the definition that a run executes: its version's, or today's where it names none."""
    today = sa.select(jobs.c.version).where(jobs.c.id == job_id).scalar_subquery()
    wanted = today if version is None else version
    statement = sa.select(versions.c.definition).where(
        versions.c.job_id == job_id, versions.c.version == wanted
    )
    found: dict[str, Any] | None = connection.scalar(statement)
    if found is None:
        raise NotFound(f"Version {version} of job {job_id} is gone.", "Run the job anew.")
    return found
