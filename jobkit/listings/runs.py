"""The runs of a database: what became of them, and what is asked of them by number."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobkit import text
from jobkit.cells import Cell, read_cells
from jobkit.errors import BadInput, JobFailed, NotFound
from jobkit.expectation import Expectation
from jobkit.handles import Artifact, Attempt, Output, Run, artifact_of, attempt_of, run_of
from jobkit.listings import author
from jobkit.states import RUN_STATUSES
from jobkit.store import definitions, history, keepsakes, manifest, requests, successes
from jobkit.wakeups import Watch, notify

if TYPE_CHECKING:
    from jobkit.analytics.comparison import Changes
    from jobkit.kit import Kit

FIRST = "1970-01-01T00:00:00Z"
WAIT_SECONDS = 2.0
RESULT_FILE = "result.parquet"


class Runs:
    """The runs of a database: call it to list some, take one by its number."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __getitem__(self, run_id: int) -> Run:
        """Return one run; NotFound otherwise."""
        with self._kit.database.read() as connection:
            return run_of(self._kit, history.run(connection, run_id))

    def __call__(
        self,
        job: str | None = None,
        status: str | Sequence[str] | None = None,
        since: timedelta | datetime | str | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Return runs, the newest first: of a job, in a status, made since an instant or an age."""
        statuses = [status] if isinstance(status, str) else list(status or ())
        for word in statuses:
            if word not in RUN_STATUSES:
                raise BadInput(f"{word!r} is no status.", f"Use: {', '.join(RUN_STATUSES)}.")
        with self._kit.database.read() as connection:
            job_id = definitions.by_name(connection, job).id if job is not None else None
            rows = history.listed(
                connection,
                job_id=job_id,
                statuses=statuses,
                since=text.parse_since(since, self._kit.clock.now()),
                limit=limit,
            )
        return [run_of(self._kit, row) for row in rows]

    def latest_of_jobs(self) -> dict[int, Run]:
        """Return the newest run of each job, by the job's id."""
        with self._kit.database.read() as connection:
            ids = [row.id for row in definitions.listed(connection)]
            rows = history.latest_of_each(connection, ids)
        return {job_id: run_of(self._kit, row) for job_id, row in rows.items()}

    def queue(self) -> list[Run]:
        """Return what runs and what waits, in the order in which workers take it."""
        with self._kit.database.read() as connection:
            return [run_of(self._kit, row) for row in history.waiting(connection)]

    def attempts(self, run_id: int) -> list[Attempt]:
        """Return the attempts of a run that have ended."""
        with self._kit.database.read() as connection:
            run = history.run(connection, run_id)
            return [attempt_of(row) for row in history.attempts_of(connection, run)]

    def output(self, run_id: int, attempt: int | None = None, after: int = -1) -> Output:
        """Return what an attempt, the last one by default, printed after a numbered chunk."""
        with self._kit.database.read() as connection:
            run = history.run(connection, run_id)
            number = run.attempt if attempt is None else attempt
            chunks = history.output_of(connection, run, number, after=after)
            ended = {row.attempt: row for row in history.attempts_of(connection, run)}
        mine = ended.get(number)
        return Output(
            text="".join(chunk.text for chunk in chunks),
            last_seq=chunks[-1].seq if chunks else after,
            attempt=number,
            is_complete=mine is not None or run.status not in ("PENDING", "IN_PROGRESS"),
            omitted_bytes=(mine.omitted_bytes or 0) if mine is not None else 0,
        )

    def cells(self, run_id: int, attempt: int | None = None) -> list[Cell]:
        """Return the cells of a notebook that an attempt, the last one by default, executes."""
        with self._kit.database.read() as connection:
            run = history.run(connection, run_id)
            number = run.attempt if attempt is None else attempt
            chunks = history.output_of(connection, run, number, after=-1, stream="cell")
        has_ended = run.status not in ("PENDING", "IN_PROGRESS") or number < run.attempt
        cells = read_cells([(chunk.at, chunk.text) for chunk in chunks], has_ended=has_ended)
        usual = self._kit.usual_cells(run.job_id, run_id) if cells else {}
        for cell in cells:
            cell.usual = usual.get(cell.source)
        return cells

    def artifacts(self, run_id: int, attempt: int | None = None) -> list[Artifact]:
        """Return the files that a run's attempts left, or one of them; NotFound without the run."""
        with self._kit.database.read() as connection:
            history.run(connection, run_id)
            rows = keepsakes.artifacts_of(connection, run_id, attempt)
        return [artifact_of(self._kit, row) for row in rows]

    def artifact(self, run_id: int, name: str, attempt: int | None = None) -> Artifact:
        """Return a file that an attempt left, by default the last one that left it; NotFound."""
        with self._kit.database.read() as connection:
            history.run(connection, run_id)
            return artifact_of(self._kit, keepsakes.artifact(connection, run_id, name, attempt))

    def result(self, run_id: int) -> Any:
        """Return the result of a run's last attempt: JSON, or a DataFrame of `result.parquet`.

        BadInput when it has none.
        """
        ended = self.attempts(run_id)
        if ended and ended[-1].result is not None:
            return ended[-1].result
        try:
            return self.artifact(run_id, RESULT_FILE, ended[-1].attempt if ended else 0).df()
        except NotFound:
            raise BadInput(
                f"Run {run_id} has no result.",
                "A script prints `::result {json}`, or leaves result.parquet.",
            ) from None

    def packages(self, sha256: str) -> dict[str, str]:
        """Return the versions, by name, that a hash in a provenance stands for; NotFound."""
        with self._kit.database.read() as connection:
            return keepsakes.packages(connection, sha256)

    def changes(self, run_id: int, attempt: int | None = None) -> Changes:
        """Say what changed since the job last worked before an attempt, by default the last one."""
        from jobkit.analytics.comparison import archived_success, compare

        with self._kit.database.read() as connection:
            found = compare(connection, run_id, attempt)
            has_archive = found.worked_at is None and manifest.is_used(connection)
        if not has_archive:
            return found
        with suppress(BadInput):  # without the extra analytics nothing reads the archive
            worked = archived_success(self._kit.log((FIRST, found.began_at)), found.job_id)
            with self._kit.database.read() as connection:
                return compare(connection, run_id, attempt, worked)
        return found

    def wait(self, run_id: int, timeout: timedelta | float | None = None) -> Run:
        """Wait until a run has ended; JobFailed unless it COMPLETED, TimeoutError if it is late."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        until = math.inf if seconds is None else self._kit.clock.elapsed() + seconds
        with closing(Watch(self._kit.database)) as watch:
            while not (run := self[run_id]).is_final:
                left = until - self._kit.clock.elapsed()
                if left <= 0:
                    raise TimeoutError(f"run {run_id} is still {run.status} after {seconds:g} s")
                watch.wait(threading.Event(), min(left, WAIT_SECONDS))
        if run.status != "COMPLETED":
            raise JobFailed(
                f"Run {run_id} of {run.job_name} ended as {run.status}"
                f" ({run.reason or run.error_message or 'no reason recorded'}).",
                run_id=run_id,
                status=run.status,
                output=run.output().text[-4096:],
            )
        return run

    def cancel(self, run_id: int) -> Run:
        """End a run that waits, or ask its worker to end it."""
        with self._kit.database.write() as connection:
            requests.cancel(connection, run_id, author.user(), self._kit.clock.now())
            notify(connection)
        return self[run_id]

    def retry(self, run_id: int) -> Run:
        """Make a new run of what a finished run ran."""
        with self._kit.database.write() as connection:
            new = requests.retry(connection, run_id, author.user(), self._kit.clock.now())
            notify(connection)
        return self[new]

    def reset(self, run_id: int) -> Run:
        """Run again what a run ran: one that runs is asked to end first, one that waits stays."""
        run = self[run_id]
        if run.status == "PENDING":
            return run
        with self._kit.database.write() as connection:
            now, user = self._kit.clock.now(), author.user()
            if not run.is_final:
                requests.cancel(connection, run_id, user, now)
            new = requests.repeat(connection, run_id, user, now)
            notify(connection)
        return self[new]

    def expectation(self, run: Run) -> Expectation:
        """Return what was usual when a run's last attempt began, and what is unusual about it."""
        with self._kit.database.read() as connection:
            usual = successes.usual(
                connection, run.job_id, params=run.params or {}, before=run.claimed_at
            )
        took = run.duration
        if run.is_running and run.claimed_at is not None:
            took = max(self._kit.clock.now() - run.claimed_at, timedelta(0))
        return usual.about(run.status, run.claimed_at, took)
