"""Definitions that are made to be as their author writes them, as often as it is asked."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy.engine import Row

from jobkit import definition
from jobkit.errors import BadInput
from jobkit.handles import Job
from jobkit.models import jobs
from jobkit.settings import Settings
from jobkit.store.definitions import DEFINITION, SCHEDULE

if TYPE_CHECKING:
    from datetime import datetime

# What says nothing of what a job does: where it was written, and whether somebody paused it.
_KEPT = ("name", "is_active", "defined_in")


@dataclass(frozen=True)
class Deployment:
    """What deploying a definition did."""

    what: Literal["created", "changed", "unchanged"]
    job: Job
    diff: str
    """What differs from what was deployed before: fields, then lines of the source."""

    def __repr__(self) -> str:
        return f"<Deployment of {self.job.name}: {self.what}, version {self.job.version}>"

    def __str__(self) -> str:
        said = f"{self.job.name}: {self.what}, version {self.job.version}"
        return f"{said}\n{self.diff}" if self.diff else said


def wanted(
    target: str, given: Mapping[str, Any], settings: Settings, now: datetime, job: Row[Any] | None
) -> dict[str, Any]:
    """Return all columns of a definition; what is not given is as for a new job.

    A schedule that is the job's already keeps where it stands.
    """
    columns: dict[str, Any] = {name: _default(name) for name in DEFINITION if name not in _KEPT}
    columns |= {"script_path": target}
    columns |= {"max_retries": settings.max_retry_attempts, **definition.other_columns(given)}
    try:
        timing = definition.schedule_columns(given, settings, now)
    except BadInput:
        if job is None:
            raise
        # Its only slot, or its end, has passed: right for the job that is there, not for a new one.
        timing = definition.schedule_columns(given, settings, job.created_at)
        if not _is_same_schedule(timing, job):
            raise
    if job is not None and _is_same_schedule(timing, job):
        timing = {name: getattr(job, name) for name in SCHEDULE}
    return columns | timing


def changes(columns: Mapping[str, Any], job: Row[Any]) -> dict[str, Any]:
    """Return the columns that differ from a job's; nothing when it is as it should be."""
    differing = {name for name in DEFINITION if name in columns and _differs(columns, job, name)}
    if differing & set(SCHEDULE):
        differing |= {"slots_until", "next_run"} & set(columns)
    return {name: columns[name] for name in columns if name in differing}


def diff(columns: Mapping[str, Any], job: Row[Any]) -> str:
    """Say what changes: a line for each field, and the lines of the source."""
    lines = [
        f"{name}: {getattr(job, name)!r} -> {columns[name]!r}"
        for name in DEFINITION
        if name in columns and name not in ("source", "signature") and _differs(columns, job, name)
    ]
    before, after = job.source or "", columns.get("source", job.source) or ""
    lines += difflib.unified_diff(
        before.splitlines(), after.splitlines(), f"version {job.version}", "now", lineterm="", n=2
    )
    return "\n".join(lines)


def _differs(columns: Mapping[str, Any], job: Row[Any], name: str) -> bool:
    return bool(getattr(job, name) != columns[name])


def _is_same_schedule(timing: Mapping[str, Any], job: Row[Any]) -> bool:
    """Say whether a job has this schedule; an interval counts from when it was first deployed."""
    names = [name for name in SCHEDULE if name != "anchor_at" or job.schedule_type != "interval"]
    return all(getattr(job, name) == timing[name] for name in names)


def _default(name: str) -> Any:
    default = jobs.c[name].default
    return default.arg if default is not None else None
