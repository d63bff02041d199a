"""Filling holes: runs for exactly the slots that have none that completed or is on its way."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from html import escape

from sqlalchemy.engine import Connection

from jobkit import text
from jobkit.errors import BadInput
from jobkit.states import EXTERNAL
from jobkit.store import definitions, requests

MOST_FILLED = 10_000


@dataclass(frozen=True)
class Filled:
    """What filling made, or would make."""

    slots: Mapping[str, list[datetime]]
    """By job: the slots that get a run, oldest first."""
    runs: tuple[int, ...] = ()
    """The ids of those runs; none in a dry run."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Jobs with holes that cannot be filled, and why."""
    backfill_id: str | None = None

    def __len__(self) -> int:
        return sum(len(slots) for slots in self.slots.values())

    @property
    def words(self) -> str:
        """Say it in one line."""
        verb = "would make" if self.backfill_id is None else "made"
        return f"{verb} {len(self)} run{'' if len(self) == 1 else 's'}"

    @property
    def lines(self) -> list[str]:
        """Say it, a line for each job."""
        said = [f"{job}: {_listed(slots)}" for job, slots in self.slots.items()]
        return said + [f"{job}: left out, {why}" for job, why in self.left_out.items()]

    def __repr__(self) -> str:
        return "\n".join([self.words, *(f"  {line}" for line in self.lines)])

    def _repr_html_(self) -> str:
        items = "".join(f"<li>{escape(line)}</li>" for line in self.lines)
        return f"<p>{escape(self.words)}</p><ul>{items}</ul>"


def fill(
    connection: Connection,
    holes: Mapping[int, Sequence[datetime]],
    *,
    by: str,
    now: datetime,
    limit: int = 1,
    dry_run: bool = False,
) -> Filled:
    """Make a run for each of these slots of jobs that none completed for and none is on its way.

    Slots that a scheduler has still to look at are left to it. `limit`: how many of a job that
    allows overlap run at once. A repeat makes nothing: whoever fills a job, or turns its slots into
    runs, holds its row. BadInput for more than 10,000 slots.
    """
    check(holes)
    made: list[int] = []
    slots: dict[str, list[datetime]] = {}
    left_out: dict[str, str] = {}
    backfill_id = uuid.uuid4().hex[:12]
    for job_id in sorted(holes):  # in one order, so that two callers do not wait in a ring
        wanted = sorted(set(holes[job_id]))
        job = definitions.by_id(connection, job_id, lock=not dry_run)
        if job is None:
            left_out[f"job {job_id}"] = "it was deleted"
            continue
        if job.kind == EXTERNAL:
            left_out[job.name] = "it runs elsewhere"
            continue
        done = requests.successful_slots(connection, job_id, wanted[0], wanted[-1])
        seen = [slot for slot in wanted if slot <= job.slots_until]
        if len(seen) < len(wanted):  # the misfire policy decides: a run of ours would be a second
            left_out[job.name] = f"{len(wanted) - len(seen)} slots that no scheduler has looked at"
        missing = [slot for slot in seen if slot not in done]
        if missing:
            slots[job.name] = missing
        if missing and not dry_run:
            made += requests.backfill(
                connection, job, missing, backfill_id=backfill_id, limit=limit, by=by, now=now
            )
    return Filled(slots, tuple(made), left_out, None if dry_run else backfill_id)


def check(holes: Mapping[int, Sequence[datetime]]) -> None:
    """Refuse more holes than are filled at once: BadInput."""
    if (count := sum(map(len, holes.values()))) > MOST_FILLED:
        raise BadInput(
            f"There are {count} holes, and at most {MOST_FILLED} are filled at once.",
            "Take a shorter window, or one job.",
        )


def _listed(slots: Sequence[datetime]) -> str:
    said = [text.instant(slot) for slot in slots]
    if len(said) > 4:
        return f"{len(said)} slots from {said[0]} to {said[-1]}"
    return ", ".join(said)
