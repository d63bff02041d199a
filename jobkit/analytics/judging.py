"""The judgement of slots: what was due is computed, and joined with what happened."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from jobkit.analytics import slots
from jobkit.analytics.marks import COVERAGE, HOLES, MARKS, SUMMED, UNSEEN, Figure
from jobkit.errors import BadInput, NotFound
from jobkit.store import definitions
from jobkit.store.definitions import schedule_in

if TYPE_CHECKING:
    from polars import DataFrame, Expr
    from sqlalchemy.engine import Connection, Row


@dataclass(frozen=True)
class Known:
    """What the database knows of jobs: read before what happened, so that no slot seems lost."""

    jobs: tuple[Row[Any], ...]
    versions: tuple[Row[Any], ...]

    @classmethod
    def read(cls, connection: Connection, job: str | None = None) -> Known:
        """Read jobs, deleted ones too, or those of one name, and the versions of each."""
        found = definitions.cursors(connection, job)
        if job is not None and not found:
            raise NotFound(f"There is no job named {job!r}.", "See them all: jobkit job list")
        ids = None if job is None else [row.id for row in found]
        return cls(tuple(found), tuple(definitions.all_versions(connection, ids)))


class Past(Protocol):
    """Answers SQL over the view `runs`, of the tables and the archive, and over given frames."""

    def query(self, sql: str, frames: Mapping[str, DataFrame]) -> DataFrame: ...


@dataclass(frozen=True)
class Bounds:
    """What is looked at, and by which limits."""

    start: datetime
    end: datetime
    """Slots in [start, end)."""
    late: timedelta
    """A run that began later after its slot is late."""
    due_since: datetime
    """A younger slot without a row is due now: a scheduler looks soon."""
    kept_since: datetime | None
    """Rows of older slots may have been cleaned up."""

    def fill(self, sql: str) -> str:
        """Write the bounds into a query."""
        return sql.format(
            start=_literal(self.start),
            end=_literal(self.end),
            unseen=UNSEEN,
            late=self.late.total_seconds(),
            due_since=_literal(self.due_since),
            kept_since=_literal(self.kept_since) if self.kept_since else "TIMESTAMP '-infinity'",
        )


def judge(past: Past, known: Known, bounds: Bounds) -> DataFrame:
    """Return one row for each slot: `job_id, job, slot, mark, reason, run_id, late_seconds`.

    1. Compute the slots that were due, by the schedule of each time.
    2. Read rows that stand for many missed slots, and list those.
    3. Join both with what happened, in one query.
    """
    due = slots.due(slots.periods(known.versions, bounds.end), bounds.start, bounds.end)
    frames = {
        "known": _jobs(known),
        "due": _frame(due),
        "summed": _frame(_missed(past, known, bounds)),
    }
    return past.query(bounds.fill(COVERAGE), frames)


def _missed(past: Past, known: Known, bounds: Bounds) -> slots.Slots:
    """List the slots that rows stand for, by the schedule of the version that each names."""
    rows = past.query(bounds.fill(SUMMED), {}).iter_rows()
    definition = {(row.job_id, row.version): row.definition for row in known.versions}
    found = [
        (row, schedule_in(definition[job_id, version]))
        for job_id, run_id, version, reason in rows
        if (row := slots.summed(job_id, run_id, reason)) and (job_id, version) in definition
    ]
    return slots.missed(found, bounds.start, bounds.end)


def _jobs(known: Known) -> DataFrame:
    import polars

    jobs = sorted(known.jobs, key=lambda job: (job.name, job.id))
    return polars.DataFrame(
        {
            "job_id": [job.id for job in jobs],
            "job": [job.name for job in jobs],
            "place": list(range(len(jobs))),
            "cursor": [_seen_until(job).replace(tzinfo=None) for job in jobs],
        },
        schema={
            "job_id": polars.Int64,
            "job": polars.String,
            "place": polars.Int32,
            "cursor": polars.Datetime("us"),
        },
    )


def _seen_until(job: Row[Any]) -> datetime:
    """Return up to when no scheduler has anything left to look at."""
    seen: datetime = job.slots_until if job.deleted_at is None else job.deleted_at
    return seen


def _frame(found: slots.Slots) -> DataFrame:
    import polars

    blank = [None] * len(found.slot)
    columns = {
        "job_id": polars.Series(found.job_id, dtype=polars.Int64),
        "slot": polars.Series(found.slot, dtype=polars.Int64).cast(polars.Datetime("us")),
        "run_id": polars.Series(found.run_id or blank, dtype=polars.Int64),
        "reason": polars.Series(found.reason or blank, dtype=polars.String),
    }
    return polars.DataFrame(columns)


def figures(df: DataFrame) -> list[Figure]:
    """Count the marks of each job, the jobs by name."""
    import polars

    counts: dict[tuple[str, int], dict[str, int]] = defaultdict(dict)
    marks = list(MARKS)
    # Names are long, and a group has one: they are not compared.
    grouped = df.group_by("job_id", "mark").agg(polars.col("job").first(), polars.len()).iter_rows()
    for job_id, mark, job, count in sorted(grouped, key=lambda row: marks.index(row[1])):
        counts[job, job_id][mark] = count
    return [Figure(job_id, job, marks) for (job, job_id), marks in sorted(counts.items())]


def holes(df: DataFrame, marks: Collection[str] = HOLES) -> dict[int, list[datetime]]:
    """Return the slots that have one of these marks, by job, oldest first.

    Those that a scheduler has still to look at are left to it.
    """
    found: dict[int, list[datetime]] = defaultdict(list)
    chosen = df.filter(_is_hole(marks)).select("job_id", "slot").sort("slot")
    for job_id, slot in chosen.iter_rows():
        found[job_id].append(slot.replace(tzinfo=UTC))
    return dict(found)


def count_holes(df: DataFrame) -> int:
    """Count the slots that `holes` returns."""
    return df.filter(_is_hole(HOLES)).height


def _is_hole(marks: Collection[str]) -> Expr:
    import polars

    for mark in marks:
        if mark not in MARKS:
            raise BadInput(f"{mark!r} is no mark.", f"Use: {', '.join(MARKS)}.")
    is_seen = (polars.col("reason") != UNSEEN).fill_null(value=True)
    return polars.col("mark").is_in(list(marks)) & is_seen


def _literal(instant: datetime) -> str:
    naive = instant.astimezone(UTC).replace(tzinfo=None)
    return f"TIMESTAMP '{naive.isoformat(' ', 'microseconds')}'"
