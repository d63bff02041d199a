"""Kit: the one face that notebooks, the portal and the command line call."""

from __future__ import annotations

import getpass
import math
import shlex
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from datetime import datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection, Row

from jobkit import artifacts, definition, migrations, settings, text, verify
from jobkit.analytics.rollups import ROLLUPS
from jobkit.archive import Archive
from jobkit.artifacts import Store
from jobkit.cells import Cell, read_cells
from jobkit.clock import SystemClock
from jobkit.db import Database, Pulse
from jobkit.errors import BadInput, CannotStart, JobFailed, JobkitError, NotFound
from jobkit.executors.target import resolve, split_function
from jobkit.expectation import Expectation
from jobkit.handles import (
    Artifact,
    Attempt,
    Backfill,
    Job,
    Output,
    Run,
    Stats,
    Version,
    Worker,
    artifact_of,
    attempt_of,
    job_of,
    run_of,
    version_of,
    worker_of,
)
from jobkit.settings import Settings
from jobkit.states import RUN_STATUSES
from jobkit.store import definitions, history, keepsakes, manifest, requests, successes, workers
from jobkit.store.definitions import Author, schedule_of
from jobkit.verify import Finding
from jobkit.wakeups import Watch, notify

if TYPE_CHECKING:
    from jobkit.analytics.comparison import Changes
    from jobkit.analytics.filling import Filled
    from jobkit.analytics.log import Log
    from jobkit.analytics.shelf import Shelf
    from jobkit.analytics.window import Given

FIRST = "1970-01-01T00:00:00Z"
MOST_BACKFILLED = 10_000
WAIT_SECONDS = 2.0
RESULT_FILE = "result.parquet"


def connect(url: str | None = None, *, source: str = "python", **overrides: Any) -> Kit:
    """Open a database, by default the one in the settings; an empty one gets its tables.

    `source` is kept with each change of a job. DatabaseRefused for a database that must be
    upgraded first; DatabaseUnavailable when it does not answer.
    """
    chosen = settings.load(db_url=url, **overrides)
    database = Database(chosen.db_url, wakeups=chosen.wakeups)
    try:
        migrations.ensure(database)
    except JobkitError:
        database.close()
        raise
    return Kit(database, chosen, source=source)


def preview(*, after: datetime | None = None, count: int = 5, **timing: Any) -> list[datetime]:
    """Return the next slots of a schedule, given as to `Kit.add_job`; intervals start `after`."""
    start = after or SystemClock().now()
    columns = definition.schedule_columns(timing, settings.load(), start)
    return _next(definition.as_schedule(columns), start, count)


def describe(*, after: datetime | None = None, **timing: Any) -> str:
    """Say a schedule, given as to `Kit.add_job`, in words."""
    start = after or SystemClock().now()
    columns = definition.schedule_columns(timing, settings.load(), start)
    return definition.as_schedule(columns).describe()


class Jobs:
    """The jobs of a database: iterate, count, take one by its name, add one."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __iter__(self) -> Iterator[Job]:
        with self._kit.database.read() as connection:
            rows = definitions.listed(connection)
        return iter([self._kit._job(row) for row in rows])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, name: str) -> Job:
        return self._kit.job(name)

    def __contains__(self, name: object) -> bool:
        return any(job.name == name for job in self)

    def add(self, name: str, target: str, *args: str, **given: Any) -> Job:
        """Add a job; see `Kit.add_job`."""
        return self._kit.add_job(name, target, *args, **given)

    def __repr__(self) -> str:
        return f"<{len(self)} jobs: {', '.join(job.name for job in self)}>"


class Kit:
    """One database and all that can be asked of it."""

    def __init__(self, database: Database, chosen: Settings, *, source: str = "python") -> None:
        self.database = database
        self.settings = chosen
        self.clock = database.clock
        self.url = database.name
        self._source = source

    def close(self) -> None:
        """Close the database's connections."""
        if "_shelf" in self.__dict__:
            self._shelf.close()
        self.database.close()

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Kit on {self.url}>"

    def check(self) -> None:
        """Ask the database for an answer; DatabaseUnavailable when there is none."""
        with self.database.read() as connection:
            workers.listed(connection)

    @property
    def pulse(self) -> Pulse:
        """Whether anything was committed since the last look."""
        return self.database.pulse

    # Jobs

    @property
    def jobs(self) -> Jobs:
        """The jobs."""
        return Jobs(self)

    def job(self, name: str) -> Job:
        """Return one job; NotFound otherwise."""
        with self.database.read() as connection:
            return self._job(definitions.by_name(connection, name))

    def add_job(self, name: str, target: str, *args: str, **given: Any) -> Job:
        """Add a job whose schedule starts now.

        `target`: a script in one of the script roots; `args`: its arguments. One of `cron`,
        `every`, `hourly`, `daily`, `weekly`, `monthly`, `at`; none for a job that runs on demand.
        Also `tz`, `starts_at`, `ends_at`, `params`, `queue`, `priority`, `timeout`, `retries`,
        `retry_delay`, `misfire`, `misfire_window`, `overlap`, `start_deadline`, `on_worker_lost`.
        `timeout="auto"`: by what its attempts usually take, see `Expectation.timeout`.
        How it is executed: `kind` (by the target's suffix if not given), `source` (its text, which
        the job then carries; `target` only names it), `python` (an interpreter or the folder of a
        virtual environment), `memory`, `nice`, `cwd`, `env_vars`, `secrets`, `isolation`.
        BadInput names what is wrong; nothing is written then.
        """
        definition.check_keywords(given)
        now = self.clock.now()
        values = {
            "name": definition.name_column(name),
            "script_path": self._checked_target(target, given),
            "script_args": definition.arguments_column(args),
            "created_at": now,
            "is_active": True,
            "max_retries": self.settings.max_retry_attempts,
            **definition.schedule_columns(given, self.settings, now),
            **definition.other_columns(given),
        }
        with self.database.write() as connection:
            row = definitions.insert(connection, values, now, self._author())
            notify(connection)
        return self._job(row)

    def edit(self, name: str, **given: Any) -> Job:
        """Change a job; what is not given stays. A changed schedule starts from now.

        Besides the keywords of `add_job`: `target` and `args`.
        """
        target, args = given.pop("target", None), given.pop("args", None)
        definition.check_keywords(given)
        values = definition.other_columns(given)
        if target is not None:
            values["script_path"] = self._checked_target(target, given)
            values.setdefault("source", None)
        if args is not None:
            values["script_args"] = definition.arguments_column(args)
        now = self.clock.now()
        timed = definition.SCHEDULE_KEYWORDS + definition.BOUND_KEYWORDS
        with self.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            if any(given.get(word) is not None for word in timed):
                values |= definition.schedule_columns(given, self.settings, now, current=job)
            if not values:
                raise BadInput(f"Nothing to change in {name!r}.", "Give what is to be different.")
            return self._job(self._change(connection, job, values, "edited"))

    def pause(self, name: str) -> Job:
        """Stop a schedule: its slots pass without a row until it is resumed."""
        with self.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            if not job.is_active:
                return self._job(job)
            return self._job(self._change(connection, job, {"is_active": False}, "paused"))

    def resume(self, name: str, *, catch_up: bool = False) -> Job:
        """Start a schedule again from now; with `catch_up` the misfire policy gets what passed."""
        now = self.clock.now()
        with self.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            if job.is_active:
                return self._job(job)
            values: dict[str, Any] = {"is_active": True}
            if not catch_up:
                upcoming = schedule_of(job).next_after(now)
                values |= {"slots_until": now, "next_run": upcoming}
            return self._job(self._change(connection, job, values, "resumed"))

    def delete(self, name: str) -> None:
        """Delete a job and end its unfinished runs; its history stays."""
        now = self.clock.now()
        with self.database.write() as connection:
            job = definitions.by_name(connection, name, lock=True)
            self._change(connection, job, {"is_active": False, "deleted_at": now}, "deleted")
            requests.abandon(connection, job.id, now)

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a job's definition, the newest first."""
        with self.database.read() as connection:
            job = definitions.by_name(connection, name)
            return [version_of(row) for row in definitions.history(connection, job.id)]

    def next_slots(self, name: str, count: int = 5) -> list[datetime]:
        """Return the next slots of a job, whether it is paused or not."""
        with self.database.read() as connection:
            job = definitions.by_name(connection, name)
        return _next(schedule_of(job), self.clock.now(), count)

    def _change(
        self, connection: Connection, job: Row[Any], values: dict[str, Any], what: str
    ) -> Row[Any]:
        now = self.clock.now()
        changed = definitions.change(connection, job, values, what, now, self._author())
        notify(connection)
        return changed

    def _checked_target(self, target: str, given: Mapping[str, Any]) -> str:
        if given.get("source") is not None:
            return definition.name_column(target)  # the text travels; this only names it
        try:
            path, _function = split_function(target)
            resolve(path, [root.absolute() for root in self.settings.script_roots])
        except CannotStart as error:
            raise BadInput(error.message, error.hint) from None
        return target

    def _author(self) -> Author:
        return Author(self._user(), f"{self._source} on {socket.gethostname()}")

    def _user(self) -> str:
        try:
            return getpass.getuser()
        except (OSError, KeyError):  # a container's user may have no name
            return "unknown"

    def _job(self, row: Row[Any]) -> Job:
        try:
            args = shlex.split(row.script_args or "")
        except ValueError:  # adopted; the attempt will say what is wrong with it
            args = [row.script_args]
        return job_of(self, row, args=args, schedule=schedule_of(row).describe())

    # Runs

    def submit(self, name: str, **params: Any) -> Run:
        """Make a manual run of a job, with these parameters over its own."""
        checked = definition.params_column(params)
        with self.database.write() as connection:
            job = definitions.by_name(connection, name)
            row = requests.submit(connection, job, checked, self._user(), self.clock.now())
            notify(connection)
        return run_of(self, row, name)

    def submit_many(self, name: str, params: Sequence[dict[str, Any]]) -> list[int]:
        """Make a manual run for each set of parameters, all or none; returns their ids in order."""
        checked = [definition.params_column(given) for given in params]
        with self.database.write() as connection:
            job = definitions.by_name(connection, name)
            now, user = self.clock.now(), self._user()
            made = requests.submit_many(connection, job, checked, user, now)
            notify(connection)
        return made

    def run(self, run_id: int) -> Run:
        """Return one run; NotFound otherwise."""
        with self.database.read() as connection:
            return run_of(self, history.run(connection, run_id))

    def runs(
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
        with self.database.read() as connection:
            job_id = definitions.by_name(connection, job).id if job is not None else None
            rows = history.listed(
                connection,
                job_id=job_id,
                statuses=statuses,
                since=self._instant(since),
                limit=limit,
            )
        return [run_of(self, row) for row in rows]

    def latest_runs(self) -> dict[int, Run]:
        """Return the newest run of each job, by the job's id."""
        with self.database.read() as connection:
            ids = [row.id for row in definitions.listed(connection)]
            rows = history.latest_of_each(connection, ids)
        return {job_id: run_of(self, row) for job_id, row in rows.items()}

    def queue(self) -> list[Run]:
        """Return what runs and what waits, in the order in which workers take it."""
        with self.database.read() as connection:
            return [run_of(self, row) for row in history.waiting(connection)]

    def attempts(self, run_id: int) -> list[Attempt]:
        """Return the attempts of a run that have ended."""
        with self.database.read() as connection:
            run = history.run(connection, run_id)
            return [attempt_of(row) for row in history.attempts_of(connection, run)]

    def output(self, run_id: int, attempt: int | None = None, after: int = -1) -> Output:
        """Return what an attempt, the last one by default, printed after a numbered chunk."""
        with self.database.read() as connection:
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
        with self.database.read() as connection:
            run = history.run(connection, run_id)
            number = run.attempt if attempt is None else attempt
            chunks = history.output_of(connection, run, number, after=-1, stream="cell")
        has_ended = run.status not in ("PENDING", "IN_PROGRESS") or number < run.attempt
        return read_cells([(chunk.at, chunk.text) for chunk in chunks], has_ended=has_ended)

    # The archive

    @cached_property
    def archive(self) -> Archive:
        """The archive: `run()`, `verify()`, `restore(month)`, `months()`."""
        return Archive(self.database, self.settings, ROLLUPS)

    # What attempts leave

    @cached_property
    def store(self) -> Store:
        """Where artifacts are kept, by the settings or else by the database's name."""
        url = self.database.engine.url.render_as_string(hide_password=False)
        return artifacts.store_for(url, self.settings.artifacts_url)

    def artifacts(self, run_id: int, attempt: int | None = None) -> list[Artifact]:
        """Return the files that a run's attempts left, or one of them; NotFound without the run."""
        with self.database.read() as connection:
            history.run(connection, run_id)
            rows = keepsakes.artifacts_of(connection, run_id, attempt)
        return [artifact_of(self, row) for row in rows]

    def artifact(self, run_id: int, name: str, attempt: int | None = None) -> Artifact:
        """Return a file that an attempt left, by default the last one that left it; NotFound."""
        with self.database.read() as connection:
            history.run(connection, run_id)
            return artifact_of(self, keepsakes.artifact(connection, run_id, name, attempt))

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
        with self.database.read() as connection:
            return keepsakes.packages(connection, sha256)

    def changes(self, run_id: int, attempt: int | None = None) -> Changes:
        """Say what changed since the job last worked before an attempt, by default the last one."""
        from jobkit.analytics.comparison import archived_success, compare

        with self.database.read() as connection:
            found = compare(connection, run_id, attempt)
            has_archive = found.worked_at is None and manifest.is_used(connection)
        if not has_archive:
            return found
        with suppress(BadInput):  # without the extra analytics nothing reads the archive
            worked = archived_success(self.log((FIRST, found.began_at)), found.job_id)
            with self.database.read() as connection:
                return compare(connection, run_id, attempt, worked)
        return found

    def wait(self, run_id: int, timeout: timedelta | float | None = None) -> Run:
        """Wait until a run has ended; JobFailed unless it COMPLETED, TimeoutError if it is late."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        until = math.inf if seconds is None else self.clock.elapsed() + seconds
        with closing(Watch(self.database)) as watch:
            while not (run := self.run(run_id)).is_final:
                left = until - self.clock.elapsed()
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
        with self.database.write() as connection:
            requests.cancel(connection, run_id, self._user(), self.clock.now())
            notify(connection)
        return self.run(run_id)

    def retry(self, run_id: int) -> Run:
        """Make a new run of what a finished run ran."""
        with self.database.write() as connection:
            new = requests.retry(connection, run_id, self._user(), self.clock.now())
            notify(connection)
        return self.run(new)

    def reset(self, run_id: int) -> Run:
        """Run again what a run ran: one that runs is asked to end first, one that waits stays."""
        run = self.run(run_id)
        if run.status == "PENDING":
            return run
        with self.database.write() as connection:
            now, user = self.clock.now(), self._user()
            if not run.is_final:
                requests.cancel(connection, run_id, user, now)
            new = requests.repeat(connection, run_id, user, now)
            notify(connection)
        return self.run(new)

    def backfill(
        self,
        name: str,
        start: datetime,
        end: datetime,
        *,
        again: bool = False,
        limit: int = 1,
        dry_run: bool = False,
    ) -> Backfill:
        """Make runs for a job's slots in [start, end], oldest first, `limit` of them at once.

        Slots with a successful or an unfinished run are skipped, with `again` they are not.
        """
        now = self.clock.now()
        end = min(end, now)
        if start > end:
            raise BadInput(f"From {start} to {end} there is no past slot.", "Give --from and --to.")
        if not 1 <= limit <= 1000:
            raise BadInput(f"limit={limit} is out of bounds.", "Use 1 to 1000.")
        with self.database.write() as connection:
            job = definitions.by_name(connection, name)
            wanted = _between(schedule_of(job), start, end)
            done: set[datetime] = set()
            if not again:
                done = requests.successful_slots(connection, job.id, start, end)
            slots = [slot for slot in wanted if slot not in done]
            skipped = [slot for slot in wanted if slot in done]
            if dry_run:
                return Backfill(slots, [], skipped)
            made = requests.backfill(
                connection,
                job,
                slots,
                backfill_id=uuid.uuid4().hex[:12],
                limit=limit,
                by=self._user(),
                now=now,
            )
            notify(connection)
        return Backfill(slots, made, skipped)

    def fill(
        self, holes: Mapping[int, Sequence[datetime]], *, limit: int = 1, dry_run: bool = False
    ) -> Filled:
        """Make a run for each of these slots, by the job's id, that has none on its way or done."""
        from jobkit.analytics.filling import fill

        with self.database.write() as connection:
            made = fill(
                connection,
                holes,
                by=self._user(),
                now=self.clock.now(),
                limit=limit,
                dry_run=dry_run,
            )
            notify(connection)
        return made

    # What is usual

    def expectation(self, job: str, params: Mapping[str, Any] | None = None) -> Expectation:
        """Return how long a job usually takes, from its last 200 successes.

        `params`: of runs only that had these over the job's own, where 8 of them succeeded.
        """
        checked = None if params is None else definition.params_column(params)
        with self.database.read() as connection:
            row = definitions.by_name(connection, job)
            wanted = None if checked is None else {**(row.params or {}), **checked}
            return successes.usual(connection, row.id, params=wanted)

    def expectation_of(self, run: Run) -> Expectation:
        """Return what was usual when a run's last attempt began, and what is unusual about it."""
        with self.database.read() as connection:
            usual = successes.usual(
                connection, run.job_id, params=run.params or {}, before=run.claimed_at
            )
        took = run.duration
        if run.is_running and run.claimed_at is not None:
            took = max(self.clock.now() - run.claimed_at, timedelta(0))
        return usual.about(run.status, run.claimed_at, took)

    # Workers and numbers

    def workers(self) -> list[Worker]:
        """Return all workers, those online first."""
        with self.database.read() as connection:
            return [worker_of(row) for row in workers.listed(connection)]

    def drain(self, name: str) -> int:
        """Ask workers, by name or identity, to finish their runs and end; returns how many."""
        with self.database.write() as connection:
            asked = workers.ask_to_drain(connection, self.clock.now(), name)
            notify(connection)
        return asked

    def stats(self, since: timedelta | datetime | str = timedelta(days=1)) -> Stats:
        """Count runs, attempts and workers since an instant or an age."""
        start = self._instant(since)
        assert start is not None
        with self.database.read(takes_long=True) as connection:
            counted = history.attempt_counts(connection, start)
            seconds = sorted(history.durations(connection, start))
            jobs = definitions.listed(connection)
            return Stats(
                since=start,
                runs_by_status=history.counts(connection, start),
                attempts=sum(counted.values()),
                mean_seconds=sum(seconds) / len(seconds) if seconds else None,
                p95_seconds=seconds[math.ceil(len(seconds) * 0.95) - 1] if seconds else None,
                jobs=len(jobs),
                active_jobs=sum(job.is_active for job in jobs),
                workers_by_status=history.worker_counts(connection),
            )

    def log(self, window: Given = "7d", tz: str | None = None) -> Log:
        """Return the history in a window, of the tables and the archive as one, to be asked.

        `window`: `"7d"`, a pair of instants, or None for all; `tz`: the zone of what people read,
        by default that of the settings. BadInput names what is wrong.
        """
        try:
            from jobkit.analytics.log import Log
            from jobkit.analytics.window import Window
        except ImportError:
            raise BadInput(
                "This needs the extra analytics.", "Install it: pip install 'jobkit[analytics]'."
            ) from None
        chosen = Window.read(window, self.clock.now(), tz or self.settings.timezone)
        return Log(self._shelf, chosen, self.clock.now, self._opening(), kit=self)

    @cached_property
    def _shelf(self) -> Shelf:
        from jobkit.analytics.shelf import Shelf

        return Shelf(self.database, self.settings.cache_dir)

    def _opening(self) -> str:
        """Return the Python that opens this database; a password is never written."""
        if self.database.url.password:
            return f"kit = jobkit.connect()  # JOBKIT_DB_URL: {self.url}"
        return f"kit = jobkit.connect({self.database.engine.url.render_as_string()!r})"

    def verify(self, since: timedelta | datetime | str | None = None) -> list[Finding]:
        """Audit the laws, reading only; returns what each check looked at and what breaks it.

        `since`: leave out runs made before an instant or an age.
        """
        chosen, now = self.settings, self.clock.now()
        days = chosen.cleanup_retention_days
        scope = verify.Scope(
            now=now,
            since=self._instant(since),
            slots_since=now - timedelta(days=days) if days else None,
            late=chosen.rescue_grace + 2 * chosen.scheduler_poll_interval + verify.SETTLED,
        )
        with self.database.read(takes_long=True) as connection:
            return verify.audit(connection, verify.narrowed(connection, scope))

    def _instant(self, since: timedelta | datetime | str | None) -> datetime | None:
        if isinstance(since, str):
            since = text.parse_duration(since)
        if isinstance(since, timedelta):
            return self.clock.now() - since
        return since


def _next(schedule: Any, after: datetime, count: int) -> list[datetime]:
    if not 1 <= count <= 10_000:
        raise BadInput(f"count={count} is out of bounds.", "Use 1 to 10000.")
    slots: list[datetime] = []
    while len(slots) < count and (slot := schedule.next_after(slots[-1] if slots else after)):
        slots.append(slot)
    return slots


def _between(schedule: Any, start: datetime, end: datetime) -> list[datetime]:
    just_before = start - timedelta(microseconds=1)
    slots = list(islice(schedule.slots(just_before, end), MOST_BACKFILLED + 1))
    if len(slots) > MOST_BACKFILLED:
        raise BadInput(
            f"That range holds more than {MOST_BACKFILLED} slots.", "Fill it in shorter ranges."
        )
    return slots
