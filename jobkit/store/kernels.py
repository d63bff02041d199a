"""Kernels that are kept after a cell that failed: by whom, until when, and what is asked of them.

A kernel is kept as long as its attempt is in progress; nothing here has to be undone at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit import states
from jobkit.db import insert_once
from jobkit.errors import BadInput
from jobkit.models import attempts, kept_kernels, runs
from jobkit.store.claims import Claim, attempt_row, measured_of
from jobkit.store.dispatch import IN_PROGRESS


@dataclass(frozen=True)
class Kernel:
    """A kernel that waits on a worker's machine, and the cell that failed in it."""

    hostname: str
    process_id: int | None
    connection_file: str
    cell: int
    """From 1."""
    cells: int
    source: str
    error: str
    kept_until: datetime


@dataclass(frozen=True)
class Wish:
    """What somebody asks of a kernel that is kept."""

    run_id: int
    attempt: int
    what: str
    """`go on` or `let go`."""
    by: str
    correction: str
    """The corrected cell."""


def keep(
    connection: Connection,
    claim: Claim,
    kernel: Kernel,
    *,
    started_at: datetime,
    failed_at: datetime,
    measures: Mapping[str, Any],
    text: str,
) -> bool:
    """Let a kernel be kept when its attempt failed; says whether it may be.

    It may when no try is left, nobody wants the run cancelled, and the worker still has it: while
    tries are left the run is tried again instead. `text`: what the run then says of itself.
    """
    share = kernel.cell / max(kernel.cells, 1)
    statement = (
        runs.update()
        .where(
            *_ours(claim),
            runs.c.retry_count >= runs.c.max_retries,
            runs.c.cancel_requested_at.is_(None),
        )
        .values(progress=share, progress_text=text, error_message=kernel.error)
    )
    if connection.execute(statement).rowcount != 1:
        return False
    row = {
        **kernel.__dict__,
        "dispatch_id": claim.run_id,
        "attempt": claim.attempt,
        "worker_id": claim.worker_id,
        "measures": dict(measures),
        "started_at": started_at,
        "failed_at": failed_at,
    }
    insert_once(connection, kept_kernels, [row])
    return True


def say_ended(connection: Connection, claim: Claim, cell: int) -> None:
    """Let a run no longer say that its kernel is kept."""
    said = f"failed at cell {cell}"
    connection.execute(runs.update().where(*_ours(claim)).values(progress_text=said))


def _ours(claim: Claim) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        runs.c.id == claim.run_id,
        runs.c.worker_id == claim.worker_id,
        runs.c.attempt == claim.attempt,
        runs.c.status == IN_PROGRESS,
    )


_OF_RUN = sa.and_(
    runs.c.id == kept_kernels.c.dispatch_id,
    runs.c.attempt == kept_kernels.c.attempt,
    runs.c.status == IN_PROGRESS,
)


def kept(connection: Connection, run_id: int) -> Row[Any] | None:
    """Return the row of the kernel that is kept of a run now; None when there is none."""
    statement = sa.select(kept_kernels).where(_OF_RUN, runs.c.id == run_id)
    return connection.execute(statement).one_or_none()


def wish(
    connection: Connection,
    run_id: int,
    what: str,
    by: str,
    now: datetime,
    correction: str | None = None,
) -> None:
    """Ask the worker to let a run go on with a corrected cell, or to end it.

    BadInput when no kernel is kept of it, or something is asked of it already.
    """
    row = kept(connection, run_id)
    if row is None or row.kept_until <= now:
        raise BadInput(
            f"No kernel is kept of run {run_id}.",
            f"See how it stands: jobkit show {run_id}. A job keeps it with keep_kernel='15m'.",
        )
    statement = (
        kept_kernels.update()
        .where(
            kept_kernels.c.dispatch_id == run_id,
            kept_kernels.c.attempt == row.attempt,
            sa.or_(kept_kernels.c.wish.is_(None), sa.literal(what) == "let go"),
        )
        .values(wish=what, wished_at=now, wished_by=by, correction=correction)
    )
    if connection.execute(statement).rowcount != 1:
        raise BadInput(
            f"{row.wished_by} asked run {run_id} to {row.wish} already.",
            f"Wait for it: jobkit show {run_id}",
        )


def wishes(connection: Connection, worker_id: str) -> list[Wish]:
    """Return what is asked of the kernels that a worker keeps."""
    statement = sa.select(kept_kernels).where(
        _OF_RUN, runs.c.worker_id == worker_id, kept_kernels.c.wish.is_not(None)
    )
    return [
        Wish(row.dispatch_id, row.attempt, row.wish, row.wished_by, row.correction or "")
        for row in connection.execute(statement)
    ]


def go_on(connection: Connection, claim: Claim, now: datetime, lease: timedelta) -> Claim | None:
    """End an attempt whose kernel is kept as the failure it was, and begin the next one with it.

    Both in the caller's transaction. Returns the claim of the next attempt, also when an earlier
    call did it; None when the worker no longer has the run.
    """
    run = connection.execute(
        sa.select(runs).where(runs.c.id == claim.run_id).with_for_update()
    ).one_or_none()
    if run is None or run.worker_id != claim.worker_id or run.status != "IN_PROGRESS":
        return None
    if run.attempt == claim.attempt + 1:
        return _next(claim, run.claimed_at)
    row = kept(connection, claim.run_id)
    if row is None or run.attempt != claim.attempt or run.cancel_requested_at is not None:
        return None
    ending = states.go_on(run, now, lease, error=row.error)
    connection.execute(runs.update().where(*_ours(claim)).values(ending.run))
    ended = attempt_row(run.id, run, ending, measured_of(row), now)
    insert_once(connection, attempts, [ended])
    connection.execute(
        kept_kernels.update()
        .where(kept_kernels.c.dispatch_id == run.id, kept_kernels.c.attempt == run.attempt)
        .values(went_on_at=now)
    )
    return _next(claim, now)


def _next(claim: Claim, now: datetime) -> Claim:
    return replace(claim, attempt=claim.attempt + 1, claimed_at=now, available_at=now)


def edits(connection: Connection, run_id: int) -> Sequence[Row[Any]]:
    """Return the cells of a run that were corrected while it ran, in their order."""
    statement = (
        sa.select(kept_kernels)
        .where(kept_kernels.c.dispatch_id == run_id, kept_kernels.c.went_on_at.is_not(None))
        .order_by(kept_kernels.c.attempt)
    )
    return connection.execute(statement).all()
