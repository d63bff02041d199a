"""The runs of a database: what became of them, and what is asked of them by number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, overload

from jobkit import portraits, text, waiting
from jobkit.cards import Card, last_lines
from jobkit.clock import SystemClock
from jobkit.errors import BadInput, JobFailed, JobkitError
from jobkit.expectation import Expectation
from jobkit.handles import Edit, Kept, Run, Version, edit_of, kept_of, run_of, version_of
from jobkit.hindrance import PATIENCE, hindrance
from jobkit.listings import author
from jobkit.listings.listing import Collection
from jobkit.listings.runlist import FAILED, SUCCEEDED, RunList, Wanted
from jobkit.portraits import Sight
from jobkit.states import RUN_STATUSES
from jobkit.store import (
    definitions,
    history,
    kernels,
    paging,
    queues,
    requests,
    successes,
)
from jobkit.wakeups import notify

if TYPE_CHECKING:
    from polars import DataFrame
    from sqlalchemy.engine import Connection, Row


LIMIT = 50
MOST_IN_FRAME = 1000
PAGE = 500
DAY = timedelta(days=1)
SHOWN_CHANGES = 8
SHOWN_RUNS = 10
TAIL_LENGTH = 3000
LONGEST_CELL = 100_000


class Runs(Collection):
    """The runs of a database, the newest first.

    `kit.runs(job="load", status="failed", since="7d")` lists some, `kit.runs[:10]` the newest;
    `kit.runs[123]` is one of them, `kit.runs["load"]` are those of a job.
    """

    @overload
    def __getitem__(self, asked: int) -> Run: ...
    @overload
    def __getitem__(self, asked: str | slice) -> RunList: ...
    def __getitem__(self, asked: int | str | slice) -> Run | RunList:
        """Return one run by its number, those of a job by its name, or a slice of all.

        NotFound without such a run or job.
        """
        if isinstance(asked, str):
            return self(asked)
        if isinstance(asked, slice):
            return self._slice(asked)
        with self._kit.database.read() as connection:
            return run_of(self._kit, history.run(connection, asked))

    def __call__(
        self,
        job: str | None = None,
        status: str | Sequence[str] | None = None,
        since: timedelta | datetime | str | None = None,
        limit: int = LIMIT,
        *,
        tag: str | None = None,
    ) -> RunList:
        """Return runs, the newest first: of a job, in a status, made since an instant or an age.

        `tag`: of the jobs that have it, or had it when they were deleted.
        """
        since = text.parse_since(since, self._kit.clock.now()) if since is not None else None
        return self._listed(Wanted(job, _statuses(status), since, tag), limit)

    def __iter__(self) -> Iterator[Run]:
        """Yield all runs, the newest first, as they are read, page by page."""
        before = None
        while True:
            with self._kit.database.read() as connection:
                rows = history.listed(connection, before=before, limit=PAGE)
            yield from (run_of(self._kit, row) for row in rows)
            if len(rows) < PAGE:
                return
            before = rows[-1].id

    def _ipython_key_completions_(self) -> list[str]:
        with self._kit.database.read() as connection:
            return definitions.names(connection)

    @property
    def last(self) -> Run | None:
        """The newest run."""
        return self.newest(Wanted())

    @property
    def last_success(self) -> Run | None:
        """The newest run that completed."""
        return self.newest(Wanted(), SUCCEEDED)

    @property
    def last_failure(self) -> Run | None:
        """The newest run that failed or timed out."""
        return self.newest(Wanted(), FAILED)

    @property
    def df(self) -> DataFrame:
        """The newest 1,000 runs as a polars DataFrame; `kit.log()` has the whole history."""
        return self(limit=MOST_IN_FRAME).df

    def newest(self, wanted: Wanted, statuses: Sequence[str] = ()) -> Run | None:
        """Return the newest of the runs that are asked for, in one of these statuses."""
        if wanted.statuses and statuses:
            statuses = [word for word in statuses if word in wanted.statuses]
            if not statuses:
                return None
        found: list[Run] = []
        # One status at a time: an index brings the newest of each, of two it would sort them all.
        for word in statuses or wanted.statuses or (None,):
            one = replace(wanted, statuses=() if word is None else (word,))
            found += self._listed(one, 1)
        return max(found, key=lambda run: run.id, default=None)

    def _slice(self, asked: slice) -> RunList:
        start, stop, step = asked.start or 0, asked.stop, asked.step or 1
        if stop is None or min(start, stop) < 0 or step < 1:
            raise BadInput(
                "Runs are sliced from the newest on, with an end.", "Write kit.runs[:10]."
            )
        listed = self._listed(Wanted(), max(stop - start, 0), start)
        return listed[::step]

    def _listed(self, wanted: Wanted, limit: int, offset: int = 0) -> RunList:
        if limit < 0:
            raise BadInput(f"limit={limit} is negative.", "Give how many runs to list.")
        with self._kit.database.read() as connection:
            rows = history.listed(
                connection,
                job_ids=_job_ids(connection, wanted),
                statuses=wanted.statuses,
                since=wanted.since,
                limit=limit,
                offset=offset,
            )
        return RunList(self._kit, wanted, [run_of(self._kit, row) for row in rows])

    def page(
        self,
        job: str | None = None,
        status: Sequence[str] = (),
        since: timedelta | datetime | str | None = None,
        *,
        after: str | None = None,
        limit: int = 50,
    ) -> tuple[list[Run], str | None]:
        """Return runs as a call does, and the mark after which the next ones come, if any do.

        Pages do not shift when runs are made meanwhile.
        """
        for word in status:
            if word not in RUN_STATUSES:
                raise BadInput(f"{word!r} is no status.", f"Use: {', '.join(RUN_STATUSES)}.")
        with self._kit.database.read() as connection:
            rows = paging.runs(
                connection,
                job_id=definitions.by_name(connection, job).id if job is not None else None,
                statuses=list(status),
                since=text.parse_since(since, self._kit.clock.now()),
                after=None if after is None else paging.read_mark(after),
                limit=limit + 1,
            )
        more = paging.mark(rows[limit - 1]) if len(rows) > limit else None
        return [run_of(self._kit, row) for row in rows[:limit]], more

    def queue(self) -> list[Run]:
        """Return what runs and what waits, in the order in which workers take it."""
        with self._kit.database.read() as connection:
            return [run_of(self._kit, row) for row in history.waiting(connection)]

    def cancel(self, run_id: int) -> Run:
        """End a run that waits, or ask its worker to end it."""
        with self._kit.database.write() as connection:
            if requests.cancel(connection, run_id, self._kit.user, self._kit.clock.now()):
                author.note(self._kit, connection, "cancelled a run", f"run {run_id}")
            notify(connection)
        return self[run_id]

    def kept(self, run_id: int) -> Kept | None:
        """Return where the kernel of a run that failed is kept, and until when; else None."""
        with self._kit.database.read() as connection:
            row = kernels.kept(connection, run_id)
        return kept_of(row) if row is not None else None

    def edits(self, run_id: int) -> list[Edit]:
        """Return the cells that were corrected while a run's kernel was kept, in their order."""
        with self._kit.database.read() as connection:
            history.run(connection, run_id)
            return [edit_of(row) for row in kernels.edits(connection, run_id)]

    def go_on(self, run_id: int, source: str) -> Run:
        """Let a run whose kernel is kept go on with a corrected cell, as its next attempt.

        BadInput when none is kept of it, or when it was asked already.
        """
        if not source.strip():
            raise BadInput("The corrected cell is empty.", "Write what it is to execute.")
        if len(source) > LONGEST_CELL:
            raise BadInput(
                f"The corrected cell has {len(source)} characters.", f"Use up to {LONGEST_CELL}."
            )
        return self._wish(run_id, "go on", source)

    def let_go(self, run_id: int) -> Run:
        """End the kernel that is kept of a run: it is FAILED then. BadInput when there is none."""
        return self._wish(run_id, "let go")

    def _wish(self, run_id: int, what: str, source: str | None = None) -> Run:
        with self._kit.database.write() as connection:
            history.run(connection, run_id)
            kernels.wish(connection, run_id, what, self._kit.user, self._kit.clock.now(), source)
            author.note(self._kit, connection, f"asked a kept kernel to {what}", f"run {run_id}")
            notify(connection)
        return self[run_id]

    def retry(self, run_id: int) -> Run:
        """Make a new run of what a finished run ran."""
        with self._kit.database.write() as connection:
            new = requests.retry(connection, run_id, self._kit.user, self._kit.clock.now())
            author.note(self._kit, connection, "ran a run again", f"run {run_id} as run {new}")
            notify(connection)
        return self[new]

    def reset(self, run_id: int) -> Run:
        """Run again what a run ran: one that runs is asked to end first, one that waits stays."""
        run = self[run_id]
        if run.status == "PENDING":
            return run
        with self._kit.database.write() as connection:
            now, user = self._kit.clock.now(), self._kit.user
            if not run.is_final:
                requests.cancel(connection, run_id, user, now)
            new = requests.repeat(connection, run_id, user, now)
            author.note(self._kit, connection, "reset a run", f"run {run_id} as run {new}")
            notify(connection)
        return self[new]

    # How they stand

    def expectation(self, run: Run) -> Expectation:
        """Return what was usual when a run's last attempt began, and what is unusual about it."""
        with self._kit.database.read() as connection:
            return self._expectation(connection, run)

    def why_waiting(self, run_id: int) -> str:
        """Say what keeps a run from starting; nothing of one that does not wait."""
        with self._kit.database.read() as connection:
            return self._why(connection, history.run(connection, run_id))

    def version(self, run: Run) -> Version | None:
        """Return the version of its job that a run executes, if it is known."""
        if run.job_version is None:
            return None
        with self._kit.database.read() as connection:
            row = definitions.version(connection, run.job_id, run.job_version)
        return None if row is None else version_of(row)

    def glance(self, *notes: str) -> Sight:
        """Return the instant and the zone that cards speak in; the database may be away."""
        try:
            now = self._kit.clock.now()
        except JobkitError:
            now = SystemClock().now()
        return Sight(now, self._kit.settings.timezone, notes=notes)

    def card(self, run: Run, *notes: str) -> Card:
        """Return what is shown of a run as it stands now, or as it was read without a database."""
        try:
            with self._kit.database.read() as connection:
                row = history.run(connection, run.id)
                run = run_of(self._kit, row, run.job_name)
                printed = history.tail_of(connection, row, row.attempt, TAIL_LENGTH)
                seen = replace(
                    self.glance(*notes),
                    expectation=self._expectation(connection, run),
                    why=self._why(connection, row, is_patient=True),
                    lines=last_lines(printed),
                )
        except JobkitError as error:
            seen = self.glance(*notes, f"As it was when it was read. {error.message}")
        return portraits.of_run(run, seen)

    def bundle(self, run: Run) -> dict[str, str]:
        """Return the card of a run, or one line where the same cell has shown it already."""
        return waiting.bundle(run, lambda: self.card(run))

    def overview(self) -> Card:
        """Return what is shown of all runs."""
        with self._kit.database.read() as connection:
            now = self._kit.clock.now()
            counted = history.counts(connection, now - DAY)
        said = ", ".join(f"{count:,} {word}" for word, count in sorted(counted.items()))
        card = portraits.of_runs(self[:SHOWN_RUNS], "", self.glance())
        return replace(card, title=f"Runs made in the last 24 h: {said or 'none'}")

    def _expectation(self, connection: Connection, run: Run) -> Expectation:
        usual = successes.usual(
            connection, run.job_id, params=run.params or {}, before=run.claimed_at
        )
        took = run.duration
        if run.is_running and run.claimed_at is not None:
            took = max(self._kit.clock.now() - run.claimed_at, timedelta(0))
        return usual.about(run.status, run.claimed_at, took)

    def _why(self, connection: Connection, row: Row[Any], *, is_patient: bool = False) -> str:
        if row.status != "PENDING":
            return ""
        now, chosen = self._kit.clock.now(), self._kit.settings
        found = hindrance(
            queues.scene(
                connection,
                row,
                now,
                offline_after=chosen.worker_offline_threshold,
                zone=chosen.timezone,
            )
        )
        if is_patient and found.lacks_worker and now - row.available_at < PATIENCE:
            return f"in queue {row.queue} for a worker"
        return found.words

    # Waiting

    def wait(
        self,
        run_id: int,
        timeout: timedelta | float | str | None = None,
        *,
        live: bool = True,
    ) -> Run:
        """Wait until a run has ended; JobFailed unless it COMPLETED, TimeoutError if it is late."""
        return waiting.wait(self._kit, run_id, timeout, live=live)

    async def awaited(self, run: Run) -> Run:
        """Wait until a run has ended, without holding up the event loop that asks."""
        return await waiting.awaited(self._kit, run)

    def logs(self, run_id: int, follow: bool = False) -> Iterator[str]:
        """Yield the lines of a run's last attempt, with `follow` those that come as well."""
        return waiting.logs(self._kit, run_id, follow)

    def failure(self, run: Run) -> JobFailed:
        """Return what is raised for a run that did not complete."""
        from jobkit.analytics.comparison import compare

        changes = ""
        if run.status in FAILED:
            with suppress(BadInput), self._kit.database.read() as connection:
                found = compare(connection, run.id)
                changes = "" if found.worked_at is None else repr(found)
        lines = changes.splitlines()
        if len(lines) > SHOWN_CHANGES + 1:
            more = f"  and {len(lines) - SHOWN_CHANGES - 1} more: kit.runs[{run.id}].changes()"
            lines = [*lines[: SHOWN_CHANGES + 1], more]
        return JobFailed(
            f"Run {run.id} of {run.job_name} ended as {run.status}"
            f" ({run.reason or run.error_message or 'no reason recorded'}).",
            run_id=run.id,
            status=run.status,
            output=run.output().text[-4096:],
            traceback=run.traceback,
            changes="\n".join(lines),
            where=", ".join(filter(None, (f"attempt {run.attempt}", run.worker_id))),
        )


def _statuses(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Check status words, which may be written small."""
    words = (given,) if isinstance(given, str) else tuple(given or ())
    for word in words:
        if str(word).upper() not in RUN_STATUSES:
            near = get_close_matches(str(word).upper(), RUN_STATUSES, n=1, cutoff=0.5)
            meant = f"Did you mean {near[0]}? " if near else ""
            raise BadInput(f"{word!r} is no status.", f"{meant}Use: {', '.join(RUN_STATUSES)}.")
    return tuple(str(word).upper() for word in words)


def _job_ids(connection: Connection, wanted: Wanted) -> list[int] | None:
    if wanted.job is not None:
        job = definitions.by_name(connection, wanted.job)
        return [job.id] if wanted.tag is None or wanted.tag in (job.tags or ()) else []
    if wanted.tag is None:
        return None
    return list(definitions.tagged(connection, wanted.tag))
