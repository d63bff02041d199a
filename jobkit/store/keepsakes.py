"""What attempts leave besides their output: artifacts, and what they ran on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.db import OneOf, insert_once
from jobkit.errors import NotFound
from jobkit.models import artifacts, jobs, kept_kernels, package_sets, runs, script_texts
from jobkit.text import clean

if TYPE_CHECKING:
    from jobkit.artifacts import Kept
    from jobkit.executors.packages import PackageSet
    from jobkit.executors.provenance import ScriptText

Attempt = tuple[int, int]
"""A run's id and the number of one of its attempts."""


def add_artifacts(
    connection: Connection, left: Iterable[tuple[Attempt, Sequence[Kept]]], now: datetime
) -> None:
    """Write what attempts left and where it is kept; a repeat does nothing."""
    rows = [
        {
            "dispatch_id": run_id,
            "attempt": attempt,
            "name": item.name,
            "size_bytes": item.size_bytes,
            "sha256": item.sha256,
            "media_type": item.media_type,
            "url": item.url,
            "created_at": now,
        }
        for (run_id, attempt), kept in left
        for item in kept
    ]
    insert_once(connection, artifacts, rows)


def add_packages(connection: Connection, sets: Iterable[PackageSet], now: datetime) -> None:
    """Write the packages of interpreters; those that are known stay as they are."""
    by_hash = {item.sha256: dict(item.packages) for item in sets}
    rows = [
        {"sha256": sha256, "packages": by_hash[sha256], "seen_at": now}
        for sha256 in sorted(by_hash)  # in one order, so that two writers do not wait in a ring
    ]
    insert_once(connection, package_sets, rows)


def add_scripts(connection: Connection, texts: Iterable[ScriptText], now: datetime) -> None:
    """Write the texts of scripts; those that are known stay as they are."""
    by_hash = {item.sha256: clean(item.text) for item in texts}
    rows = [
        {"sha256": sha256, "text": by_hash[sha256], "seen_at": now} for sha256 in sorted(by_hash)
    ]
    insert_once(connection, script_texts, rows)


def scripts(connection: Connection, hashes: Sequence[str]) -> dict[str, str]:
    """Return the texts, by hash, of those of these scripts that are kept."""
    statement = sa.select(script_texts.c.sha256, script_texts.c.text)
    return {
        sha256: text
        for sha256, text in connection.execute(statement.where(script_texts.c.sha256.in_(hashes)))
    }


def artifacts_of(
    connection: Connection, run_id: int, attempt: int | None = None
) -> Sequence[Row[Any]]:
    """Return what a run's attempts left, or one of them, in the order of attempts and names."""
    statement = sa.select(artifacts).where(artifacts.c.dispatch_id == run_id)
    if attempt is not None:
        statement = statement.where(artifacts.c.attempt == attempt)
    return connection.execute(statement.order_by(artifacts.c.attempt, artifacts.c.name)).all()


def artifact(
    connection: Connection, run_id: int, name: str, attempt: int | None = None
) -> Row[Any]:
    """Return one artifact, by default of the last attempt that left it; NotFound otherwise."""
    statement = sa.select(artifacts).where(
        artifacts.c.dispatch_id == run_id, artifacts.c.name == name
    )
    if attempt is not None:
        statement = statement.where(artifacts.c.attempt == attempt)
    row = connection.execute(statement.order_by(artifacts.c.attempt.desc()).limit(1)).one_or_none()
    if row is None:
        which = f"Run {run_id}" if attempt is None else f"Attempt {attempt} of run {run_id}"
        raise NotFound(
            f"{which} left no {name!r}.", f"See what there is: jobkit artifacts {run_id}"
        )
    return row


def packages(connection: Connection, sha256: str) -> dict[str, str]:
    """Return the versions, by name, that a hash in a provenance stands for; NotFound otherwise."""
    chosen = sa.select(package_sets.c.packages).where(package_sets.c.sha256 == sha256)
    found: dict[str, str] | None = connection.execute(chosen).scalar_one_or_none()
    if found is None:
        raise NotFound(f"No packages are known as {sha256}.", "Take the hash of a provenance.")
    return found


def forget(connection: Connection, run_ids: Sequence[int]) -> list[str]:
    """Delete the rows of runs that are cleaned up; returns where their artifacts are kept.

    Those are to be deleted (`jobkit.artifacts.sweep`) when this transaction is committed.
    """
    if not run_ids:
        return []
    connection.execute(_FORGET_KERNELS, {"of": list(run_ids)})
    return list(connection.scalars(_FORGET, {"of": list(run_ids)}))


def forget_old(connection: Connection, before: datetime, limit: int) -> list[str]:
    """Delete the rows of artifacts that were left before an instant; returns where they are kept.

    Those are to be deleted (`jobkit.artifacts.sweep`) when this transaction is committed.
    """
    key = (artifacts.c.dispatch_id, artifacts.c.attempt, artifacts.c.name)
    old = sa.select(*key).where(artifacts.c.created_at < before).order_by(*key).limit(limit)
    statement = artifacts.delete().where(sa.tuple_(*key).in_(old)).returning(artifacts.c.url)
    return list(connection.scalars(statement))


def forget_beyond(connection: Connection, limit: int) -> list[str]:
    """Delete the rows of artifacts of all but the last runs of jobs that keep so many.

    Of up to `limit` runs; returns where they are kept. Those are to be deleted
    (`jobkit.artifacts.sweep`) when this transaction is committed.
    """
    keeping = sa.select(jobs.c.id, jobs.c.keep_outputs).where(jobs.c.keep_outputs.is_not(None))
    beyond: list[int] = []
    for job_id, keep in connection.execute(keeping):
        having = (
            sa.select(artifacts.c.dispatch_id)
            .join(runs, runs.c.id == artifacts.c.dispatch_id)
            .where(runs.c.job_id == job_id)
            .distinct()
            .order_by(artifacts.c.dispatch_id.desc())
        )
        beyond += connection.scalars(having.offset(keep).limit(limit - len(beyond)))
        if len(beyond) >= limit:
            break
    return forget(connection, beyond)


_FORGET_KERNELS = kept_kernels.delete().where(OneOf(kept_kernels.c.dispatch_id, "of"))
_FORGET = artifacts.delete().where(OneOf(artifacts.c.dispatch_id, "of")).returning(artifacts.c.url)
