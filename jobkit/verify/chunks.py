"""Law 5: complete output, up to its stated cap."""

from __future__ import annotations

import sqlalchemy as sa

from jobkit.models import attempts, output, runs
from jobkit.verify.inspection import OURS, Inspection, check

CHUNK_BYTES = 256 << 10
_OF_RUNS = output.join(runs, runs.c.id == output.c.dispatch_id)


@check(5, "output is whole: chunks are numbered without a gap")
def output_is_whole(it: Inspection) -> None:
    it.count_attempts()
    key = (output.c.dispatch_id, output.c.attempt)
    chunks, last = sa.func.count(), sa.func.max(output.c.seq)
    statement = sa.select(*key, chunks, last).select_from(_OF_RUNS).where(it.made)
    for run, number, count, seq in it.rows(statement.group_by(*key).having(chunks != last + 1)):
        it.breach(f"attempt {number} of run {run} has {count} chunks, the last with number {seq}")


@check(5, "what was printed is there")
def output_is_there(it: Inspection) -> None:
    it.count_attempts()
    chunks = (
        sa.select(sa.func.count())
        .select_from(output)
        .where(
            output.c.dispatch_id == attempts.c.dispatch_id, output.c.attempt == attempts.c.attempt
        )
        .scalar_subquery()
    )
    omitted = sa.func.coalesce(attempts.c.omitted_bytes, 0)
    # By their number: to weigh the chunks would read all that was ever printed.
    lost = attempts.c.output_bytes - omitted > chunks * CHUNK_BYTES
    it.broken_attempts("printed something that is not there", lost)
    it.broken_attempts("left out more than it printed", omitted > attempts.c.output_bytes)
    unknown = sa.select(output.c.dispatch_id, output.c.attempt).distinct().select_from(_OF_RUNS)
    for run, number in it.rows(unknown.where(it.made, output.c.attempt > runs.c.attempt)):
        it.breach(f"run {run} has output of attempt {number}, which was never claimed")


@check(5, "what is kept belongs to a run")
def nothing_is_orphaned(it: Inspection) -> None:
    """A run goes with its attempts and its output: none of them is left when it is cleaned up."""
    it.count_attempts()
    gone = runs.c.id.is_(None)
    # What is about to be archived or restored may be half there.
    leaving = max((last for _, last in it.scope.leaving), default=None)
    for table, kind in ((attempts, "the result"), (output, "output")):
        key = (table.c.dispatch_id, table.c.attempt)
        joined = table.outerjoin(runs, runs.c.id == table.c.dispatch_id)
        left = sa.select(*key).distinct().select_from(joined)
        left = left.where(gone, table.c.dispatch_id.is_not(None), table.c.attempt.is_not(None))
        if leaving is not None:
            left = left.where(table.c.claimed_at > leaving)
        for run, number in it.rows(left.order_by(*key)):
            it.breach(f"{kind} of attempt {number} is of run {run}, which is not there")
    elsewhere = attempts.c.job_id != runs.c.job_id
    it.broken_attempts("is of another job than its run", sa.and_(OURS, elsewhere))


CHECKS = (output_is_whole, output_is_there, nothing_is_orphaned)
