"""Law 8: history never changes, and every edit is a version."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from jobkit.models import attempts, jobs, runs, versions
from jobkit.states import FINAL
from jobkit.store.definitions import DEFINITION, definition, instant_in
from jobkit.verify.inspection import OURS, SETTLED, TOLERANCE, TRIED, ByJob, Inspection, check


@check(8, "versions of a job are numbered without a gap, and the last one is the job")
def versions_are_whole(it: Inspection) -> None:
    order = (versions.c.job_id, versions.c.version)
    known = ByJob(it.rows(sa.select(versions).order_by(*order)))
    for job in it.rows(sa.select(jobs).order_by(jobs.c.id)):
        kept = known.take(job.id)
        it.checked += len(kept)
        numbers = [version.version for version in kept]
        if numbers != list(range(1, job.version + 1)):
            it.breach(f"job {job.id} is at version {job.version} and keeps {numbers}")
        elif not _same(kept[-1].definition, definition(job)):
            it.breach(f"job {job.id} was changed without a version")
        _tell_jumps(it, kept)


def _tell_jumps(it: Inspection, kept: Sequence[Row[Any]]) -> None:
    for earlier, later in pairwise(kept):
        follows = earlier.version + 1 == later.version
        if follows and not _same(later.before, earlier.definition):
            it.breach(
                f"version {later.version} of job {later.job_id} does not follow from version "
                f"{earlier.version}"
            )


def _same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    def plain(document: dict[str, Any] | None) -> dict[str, Any]:
        values = {name: (document or {}).get(name) for name in DEFINITION}
        return {
            name: instant_in(value) if name.endswith("_at") else value
            for name, value in values.items()
        }

    return plain(one) == plain(other)


@check(8, "a run names a version that there is")
def runs_name_versions(it: Inspection) -> None:
    it.count_runs(OURS)
    known = sa.exists().where(
        versions.c.job_id == runs.c.job_id, versions.c.version == runs.c.job_version
    )
    it.broken_runs("names a version that is not there", sa.and_(OURS, ~known))


@check(8, "a run was made while its version was the job's")
def versions_were_current(it: Inspection) -> None:
    it.count_runs(OURS)
    own, following = versions.alias("own"), versions.alias("following")
    is_own = sa.and_(own.c.job_id == runs.c.job_id, own.c.version == runs.c.job_version)
    is_next = sa.and_(
        following.c.job_id == runs.c.job_id, following.c.version == runs.c.job_version + 1
    )
    columns = (runs.c.id, runs.c.job_version, runs.c.created_at, own.c.changed_at)
    outside = sa.or_(
        runs.c.created_at < own.c.changed_at, runs.c.created_at > following.c.changed_at
    )
    statement = (
        sa.select(*columns, following.c.changed_at.label("replaced_at"))
        .select_from(runs.join(own, is_own).outerjoin(following, is_next))
        .where(it.made, outside)
        .order_by(runs.c.id)
    )
    for row in it.rows(statement):
        # Whoever edits a job and whoever makes its runs wait for each other's row.
        early = row.created_at < row.changed_at - SETTLED
        if early or (row.replaced_at and row.created_at > row.replaced_at + SETTLED):
            it.breach(
                f"run {row.id} was made at {row.created_at}, when version {row.job_version} was "
                "not the job's"
            )


@check(8, "nothing was recorded after the end")
def ends_are_final(it: Inspection) -> None:
    it.count_attempts()
    columns = (attempts.c.dispatch_id, attempts.c.attempt, attempts.c.claimed_at)
    later = sa.and_(runs.c.status.in_(FINAL), attempts.c.claimed_at > runs.c.completed_at)
    statement = sa.select(*columns, runs.c.completed_at).select_from(TRIED)
    for run, number, claimed_at, completed_at in it.rows(statement.where(it.made, OURS, later)):
        if claimed_at > completed_at + TOLERANCE:
            it.breach(
                f"attempt {number} of run {run} began at {claimed_at}, after the run had ended"
            )


CHECKS = (versions_are_whole, runs_name_versions, versions_were_current, ends_are_final)
