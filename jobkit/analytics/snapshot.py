"""One look at a database: what is new is read, the rest comes from the cache.

Manifest and rows are read in one transaction, so that a run is either in the tables or in the
archive, never in both or in neither, whatever an archiver does meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any

import polars as pl
from sqlalchemy.engine import Connection, Row

from jobkit.analytics.hot import Folder, Gathering, State
from jobkit.analytics.objects import Objects
from jobkit.analytics.shapes import ATTEMPTS, JOBS, MARKED_RUNS, RUNS, WORKERS, frame
from jobkit.states import FINAL
from jobkit.store import manifest, snapshots

Rows = Sequence[Sequence[Any]]
_ID = list(RUNS).index("id")
SKEW = timedelta(days=1)
"""How far an attempt's own instants may lie before its run was made."""


@dataclass(frozen=True)
class Snapshot:
    """The whole history at one instant."""

    as_of: datetime
    state: State
    archived: Sequence[Any]
    """Rows of the manifest: the files that belong to the history."""
    runs: pl.DataFrame
    """Runs that are not in the cache: unfinished, or too new to be sure of those beside them."""
    attempts: pl.DataFrame
    jobs: pl.DataFrame
    workers: pl.DataFrame
    seen: tuple[Any, ...] = ()
    """The rows that it was made of, but for what came new: equal ones make an equal snapshot."""
    lacking: tuple[str, ...] = ()
    """Archive files that could not be read when their rows might still have been in the tables."""


class Look:
    """One transaction's worth of reading."""

    def __init__(self, connection: Connection, folder: Folder, objects: Objects) -> None:
        self._connection = connection
        self._folder = folder
        self._objects = objects
        self._fresh_runs: list[pl.DataFrame] = []
        self._fresh_attempts: list[pl.DataFrame] = []
        self._lacking: list[str] = []
        self._witnesses: list[tuple[int, str]] = []

    def take(self, known: State, now: datetime, last: Snapshot | None = None) -> Snapshot:
        """Read what is new since a state; the snapshot bears the next state.

        1. Begin anew where the cache is of another history.
        2. Take out of it what was cleaned up, and what the archive holds.
        3. Ask again for runs that were unfinished, and read those that are new.
        4. Keep what is final; the rest belongs to this snapshot only.

        Where nothing changed since the last snapshot of the state, it is that one again.
        """
        marks = snapshots.marks(self._connection)
        archived = manifest.listed(self._connection)
        until = snapshots.settled(self._connection)
        again = self._asked_again(known)
        jobs = snapshots.all_jobs(self._connection)
        workers = snapshots.all_workers(self._connection)
        seen = (marks, list(archived), list(again), list(jobs), list(workers))
        groups = snapshots.runs_since(self._connection, known.since)
        new = next(groups, [])
        is_same = last is not None and last.state is known and not new and seen == last.seen
        if last is not None and is_same and until >= (known.since or 0) and not last.lacking:
            return replace(last, as_of=now, state=replace(known, since=until))
        if _is_another(known, again, archived, until):
            known, again = State(), []
            groups = snapshots.runs_since(self._connection, None)
            new = next(groups, [])
        covered = self._covered(archived)
        state = self._without_cleaned(known, marks)
        state = self._without_archived(state, archived, covered)
        self._witnesses = [state.witness] if state.witness else []
        gathering = Gathering(self._folder, state)
        open_ids: list[int] = []
        if known.since is None:
            loose = frame(snapshots.loose_attempts(self._connection), ATTEMPTS)
            gathering.add(pl.DataFrame(schema=RUNS), loose)
        for group in _groups(known, again, new, groups):
            runs = frame(group, MARKED_RUNS).filter(~pl.col("id").is_in(covered.implode()))
            self._sort(self._unseen(state, runs), until, gathering, open_ids)
        state = gathering.finish(
            state,
            since=until,
            open_ids=tuple(open_ids),
            cleaned_runs=marks.cleaned_runs,
            witness=max(self._witnesses, default=None),
        )
        return Snapshot(
            as_of=now,
            state=state,
            archived=archived,
            runs=_joined(self._fresh_runs, RUNS),
            attempts=_joined(self._fresh_attempts, ATTEMPTS),
            jobs=frame(jobs, JOBS),
            workers=frame(workers, WORKERS),
            seen=seen,
            lacking=tuple(self._lacking),
        )

    def _asked_again(self, known: State) -> Sequence[Row[Any]]:
        wanted = [*known.open_ids, *([known.witness[0]] if known.witness else [])]
        return snapshots.runs_of(self._connection, wanted) if wanted else []

    def _unseen(self, state: State, runs: pl.DataFrame) -> pl.DataFrame:
        """Leave out runs that are in the cache: a restored one has a new mark."""
        if state.witness is None:
            return runs
        is_old = (pl.col("id") <= state.witness[0]) & ~pl.col("id").is_in(list(state.open_ids))
        if runs.filter(is_old).is_empty():
            return runs
        known = self._folder.ids(state).get_column("id")
        return runs.filter(~pl.col("id").is_in(known.implode()))

    def _sort(
        self, runs: pl.DataFrame, until: int, gathering: Gathering, open_ids: list[int]
    ) -> None:
        """Keep final runs, remember open ones; those from the horizon on are read again."""
        if runs.is_empty():
            return
        attempts = self._attempts(runs)
        is_settled = pl.col("mark").is_null() | (pl.col("mark") < until)
        is_kept = is_settled & pl.col("status").is_in(FINAL)
        kept, fresh = runs.filter(is_kept), runs.filter(~is_kept)
        open_ids += fresh.filter(is_settled).get_column("id").to_list()
        theirs = pl.col("dispatch_id").is_in(kept.get_column("id").implode())
        gathering.add(kept, attempts.filter(theirs))
        self._fresh_runs.append(fresh.select(list(RUNS)))
        self._fresh_attempts.append(attempts.filter(~theirs))
        if (witness := _witness(kept)) is not None:
            self._witnesses.append(witness)

    def _attempts(self, runs: pl.DataFrame) -> pl.DataFrame:
        ids = runs.get_column("id").to_list()
        first: Any = runs.get_column("created_at").min()
        since = (first - SKEW).replace(tzinfo=UTC)
        return frame(snapshots.attempts_of(self._connection, ids, since), ATTEMPTS)

    # What left

    def _without_cleaned(self, state: State, marks: Row[Any]) -> State:
        if marks.cleaned_runs == state.cleaned_runs or not state.parts:
            return state
        ended = pl.col("completed_at") <= marks.cleaned_until.replace(tzinfo=None)
        known = self._folder.ids(state, "completed_at").filter(ended).get_column("id")
        left = snapshots.survivors(self._connection, marks.cleaned_until)
        return self._without(state, known.filter(~known.is_in(list(left))))

    def _covered(self, archived: Sequence[Any]) -> pl.Series:
        """Return the ids of runs that the archive holds while they may still be in the tables."""
        files = [row for row in archived if row.removed_at is None]
        read = [self._readable(row, files) for row in files if row.kind == "runs"]
        found = [ids for ids in read if ids is not None]
        return pl.concat([pl.Series("id", [], dtype=pl.Int64), *found])

    def _readable(self, row: Any, files: Sequence[Any]) -> pl.Series | None:
        """Return the ids of a part whose files are all here: else its rows still count as hot."""
        others = [other for other in files if other.part == row.part]
        unread = [o for o in others if o.kind in _KINDS and self._objects.fetch(o) is None]
        self._lacking += [other.url for other in unread]
        return None if unread else self._objects.ids(row)

    def _without_archived(self, state: State, archived: Sequence[Any], covered: pl.Series) -> State:
        parts = {row.part: row for row in archived if row.kind == "runs"}
        done = [part for part in state.applied if part in parts]
        if state.since is None:  # nothing is cached yet
            done = [part for part, row in parts.items() if row.removed_at is not None]
        gone = [covered]
        for part, row in parts.items():
            if part in done or row.url in self._lacking:
                continue
            ids = self._objects.ids(row)
            gone.append(self._vanished(state, row) if ids is None else ids)
            done.append(part)
        return replace(self._without(state, pl.concat(gone)), applied=tuple(done))

    def _vanished(self, state: State, row: Any) -> pl.Series:
        """Return the cached runs that left the tables for a file that cannot be read."""
        within = pl.col("id").is_between(row.first_id, row.last_id)
        known = self._folder.ids(state).filter(within).get_column("id")
        left = snapshots.existing(self._connection, known.to_list())
        return known.filter(~known.is_in(list(left)))

    def _without(self, state: State, gone: pl.Series) -> State:
        if gone.is_empty() or not state.parts:
            return state
        parts = tuple(self._folder.without(state.parts, gone))
        if parts == state.parts:
            return state
        left = replace(state, parts=parts)
        return replace(left, witness=_witness(self._folder.ids(left, "created_at")))


def _groups(
    known: State, again: Sequence[Row[Any]], new: Rows, more: Iterable[Rows]
) -> Iterator[Rows]:
    """Yield the runs that are asked for again, and then those that are new."""
    witness = known.witness[0] if known.witness else None
    asked = [row for row in again if row.id != witness or row.id in known.open_ids]
    if asked:
        yield asked
    ids = {row.id for row in asked}
    for group in chain([new], more):
        yield [row for row in group if row[_ID] not in ids] if ids else group


def _is_another(
    known: State, again: Sequence[Row[Any]], archived: Sequence[Any], until: int
) -> bool:
    """Whether a state is of a history that this one does not go on: a restored part, a copy."""
    if known.since is None:
        return False
    if until < known.since or not set(known.applied) <= {row.part for row in archived}:
        return True
    if known.witness is None:
        return False
    there = [row for row in again if row.id == known.witness[0]]
    return _witness(frame(there, MARKED_RUNS)) != known.witness


def _witness(runs: pl.DataFrame) -> tuple[int, str] | None:
    if runs.is_empty():
        return None
    last = runs.filter(pl.col("id") == pl.col("id").max())
    return last.get_column("id").item(0), last.get_column("created_at").item(0).isoformat()


def _joined(frames: Sequence[pl.DataFrame], schema: dict[str, Any]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=schema), *frames])


_KINDS = ("runs", "attempts")
