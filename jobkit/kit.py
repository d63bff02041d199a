"""Kit: the one face that notebooks, the portal and the command line call."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from jobkit import artifacts, definition, migrations, portraits, settings, text
from jobkit.analytics.rollups import ROLLUPS
from jobkit.archive import Archive
from jobkit.artifacts import Store
from jobkit.cards import Card
from jobkit.cells import Cell, read_cells, usual_seconds
from jobkit.clock import SystemClock
from jobkit.db import Database, Pulse
from jobkit.errors import BadInput, JobkitError
from jobkit.expectation import Expectation
from jobkit.handles import Artifact, Attempt, Backfill, Job, Output, Run, Stats, Version
from jobkit.health import Health
from jobkit.listings import (
    Alerts,
    Audit,
    Board,
    Jobs,
    Notices,
    Runs,
    Searching,
    Tokens,
    Traces,
    Users,
    Workers,
    author,
)
from jobkit.listings.jobs import upcoming
from jobkit.listings.overview import numbers
from jobkit.lookout import Awaiting
from jobkit.settings import Settings
from jobkit.store import definitions, duties, history, workers

if TYPE_CHECKING:
    from jobkit.analytics.comparison import Changes
    from jobkit.analytics.filling import Filled
    from jobkit.analytics.log import Log
    from jobkit.analytics.shelf import Shelf
    from jobkit.analytics.window import Given
    from jobkit.doctor import Examination
    from jobkit.metrics import Meter
    from jobkit.verify import Finding


MOST_EARLIER = 20
MOST_REMEMBERED = 100


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
    return upcoming(definition.as_schedule(columns), start, count)


def describe(*, after: datetime | None = None, **timing: Any) -> str:
    """Say a schedule, given as to `Kit.add_job`, in words."""
    start = after or SystemClock().now()
    columns = definition.schedule_columns(timing, settings.load(), start)
    return definition.as_schedule(columns).describe()


class Kit:
    """One database and all that can be asked of it.

    `jobs`, `runs` and `workers` are no plain properties: completion of a notebook does not call
    those, and would not know the names of the jobs.
    """

    def __init__(self, database: Database, chosen: Settings, *, source: str = "python") -> None:
        self.database = database
        self.settings = chosen
        self.clock = database.clock
        self.url = database.name
        self._usual_cells: dict[tuple[int, bool], dict[str, float]] = {}
        self.source = source
        self.address = ""
        self.has_noted = False
        """Whether the audit has anything that this Kit did."""
        self._author: str | None = None
        self._origin: Kit | None = None

    @property
    def user(self) -> str:
        """Who is recorded with what this Kit does: the person at this machine, or somebody else."""
        return self._author or author.user()

    @property
    def who(self) -> str:
        """Who the audit names: the user that it acts as, or else the person and the machine."""
        return self._author or author.here()

    def acting_as(self, name: str, *, source: str | None = None, address: str = "") -> Kit:
        """Return a Kit on the same database that records somebody else with what it does.

        `source`: the face by which they came; `address`: from where. It shares the connections of
        this one, which is to be closed. Any thread may have its own.
        """
        other = Kit(self.database, self.settings, source=source or self.source)
        other.address = address
        other._author = name
        other._usual_cells = self._usual_cells
        other._origin = self._origin or self
        return other

    def close(self) -> None:
        """Close the database's connections; of one that acts as somebody they are not its own."""
        if self._origin is not None:
            return
        if "_shelf" in self.__dict__:
            self._shelf.close()
        self.database.close()

    def __enter__(self) -> Kit:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def card(self) -> Card:
        """Return what is seen of the database at the first glance."""
        try:
            return portraits.of_kit(self.url, numbers(self), self.settings.timezone)
        except JobkitError:
            return portraits.of_kit(self.url, None, self.settings.timezone)

    def __repr__(self) -> str:
        return self.card().text

    def _repr_html_(self) -> str:
        return self.card().html

    def check(self) -> None:
        """Ask the database for an answer; DatabaseUnavailable when there is none."""
        with self.database.read() as connection:
            workers.listed(connection)

    def health(self) -> Health:
        """Say whether runs are made and executed; DatabaseUnavailable when it does not answer."""
        with self.database.read() as connection:
            seen_at = duties.last_taken(connection, duties.HEARTBEAT)
            online = [row for row in workers.listed(connection) if row.status in workers.ONLINE]
        return Health.judge(
            self.clock.now(),
            scheduler_seen_at=seen_at,
            poll=self.settings.scheduler_poll_interval,
            heartbeats=[row.last_heartbeat for row in online],
            threshold=self.settings.worker_offline_threshold,
        )

    def meter(self) -> Meter:
        """Return what Prometheus scrapes of this database."""
        from jobkit.metrics import Meter

        return Meter(self)

    @property
    def pulse(self) -> Pulse:
        """Whether anything was committed since the last look."""
        return self.database.pulse

    # Jobs

    @cached_property
    def jobs(self) -> Jobs:
        """The jobs."""
        return Jobs(self)

    def job(self, name: str) -> Job:
        """Return one job; NotFound otherwise."""
        return self.jobs[name]

    def add_job(self, name: str, target: str, *args: str, **given: Any) -> Job:
        """Add a job whose schedule starts now.

        `target`: a script in one of the script roots; `args`: its arguments. One of `cron`,
        `every`, `hourly`, `daily`, `weekly`, `monthly`, `at`; none for a job that runs on demand.
        Also `tz`, `starts_at`, `ends_at`, `params`, `queue`, `priority`, `timeout`, `retries`,
        `retry_delay`, `misfire`, `misfire_window`, `overlap`, `start_deadline`, `on_worker_lost`.
        `alerts`: what it is watched for, like `"late=15m failed"`, see docs/alerts.md.
        `timeout="auto"`: by what its attempts usually take, see `Expectation.timeout`.
        How it is executed: `kind` (by the target's suffix if not given), `source` (its text, which
        the job then carries; `target` only names it), `python` (an interpreter or the folder of a
        virtual environment), `memory`, `nice`, `cwd`, `env_vars`, `secrets`, `isolation`,
        `keep_kernel`.
        BadInput names what is wrong; nothing is written then.
        """
        return self.jobs.add(name, target, *args, **given)

    def edit(self, name: str, **given: Any) -> Job:
        """Change a job; what is not given stays. A changed schedule starts from now.

        Besides the keywords of `add_job`: `target` and `args`.
        """
        return self.jobs.edit(name, **given)

    def notebook(
        self,
        path: str,
        *,
        name: str | None = None,
        pin: bool = False,
        **given: Any,
    ) -> Job:
        """Make a notebook a job, or make the job that it is be as given; the same makes no version.

        It is run as the file is at that time, and its hash is recorded; `pin`: as it is now. The
        name is the file's if not given. `keep`: of how many runs the files are kept, of those that
        left any the last; `cell_timeout`: how long one cell may take. All else as `add_job` has it.
        Parameters may say their slot: `params={"week": "{{ scheduled_for:%G-W%V }}"}`.
        """
        return self.jobs.notebook(path, name=name, pin=pin, **given)

    def pause(self, name: str) -> Job:
        """Stop a schedule: its slots pass without a row until it is resumed."""
        return self.jobs.pause(name)

    def resume(self, name: str, *, catch_up: bool = False) -> Job:
        """Start a schedule again from now; with `catch_up` the misfire policy gets what passed."""
        return self.jobs.resume(name, catch_up=catch_up)

    def delete(self, name: str) -> None:
        """Delete a job and end its unfinished runs; its history stays."""
        self.jobs.delete(name)

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a job's definition, the newest first."""
        return self.jobs.versions(name)

    def next_slots(self, name: str, count: int = 5) -> list[datetime]:
        """Return the next slots of a job, whether it is paused or not."""
        return self.jobs.next(name, count)

    def submit(self, name: str, /, **params: Any) -> Run:
        """Make a manual run of a job, with these parameters over its own."""
        return self.jobs.submit(name, **params)

    def submit_many(self, name: str, params: Sequence[dict[str, Any]]) -> list[int]:
        """Make a manual run for each set of parameters, all or none; returns their ids in order."""
        return self.jobs.submit_many(name, params)

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
        return self.jobs.backfill(name, start, end, again=again, limit=limit, dry_run=dry_run)

    def fill(
        self, holes: Mapping[int, Sequence[datetime]], *, limit: int = 1, dry_run: bool = False
    ) -> Filled:
        """Make a run for each of these slots, by the job's id, that has none on its way or done."""
        return self.jobs.fill(holes, limit=limit, dry_run=dry_run)

    def ping(
        self,
        name: str,
        signal: str = "success",
        *,
        exit_code: int | None = None,
        message: str = "",
        run_id: int | None = None,
    ) -> Run:
        """Report how a job of the kind `external` goes, which runs elsewhere; returns its run.

        `signal`: `start`, `success` or `fail`. A start begins the run of the newest slot that
        waits, an end ends the run that was begun last, or the waiting one; where none is open, a
        new run is made. `run_id`: which run it is, where several are; Conflict when it has ended.
        `message`: kept as its output, the last 50,000 characters.
        """
        return self.jobs.ping(name, signal, exit_code=exit_code, message=message, run_id=run_id)

    def expectation(self, job: str, params: Mapping[str, Any] | None = None) -> Expectation:
        """Return how long a job usually takes, from its last 200 successes.

        `params`: of runs only that had these over the job's own, where 8 of them succeeded.
        """
        return self.jobs.expectation(job, params)

    # Runs

    @cached_property
    def runs(self) -> Runs:
        """The runs: `kit.runs(job=..., status=..., since="7d", limit=50)` lists some."""
        return Runs(self)

    @property
    def traces(self) -> Traces:
        """What runs left, by their number: attempts, output, files, results."""
        return Traces(self)

    @cached_property
    def awaiting(self) -> Awaiting:
        """Who awaits a run."""
        return Awaiting(self)

    def run(self, run_id: int) -> Run:
        """Return one run; NotFound otherwise."""
        return self.runs[run_id]

    def queue(self) -> list[Run]:
        """Return what runs and what waits, in the order in which workers take it."""
        return self.runs.queue()

    def attempts(self, run_id: int) -> list[Attempt]:
        """Return the attempts of a run that have ended."""
        return self.traces.attempts(run_id)

    def output(self, run_id: int, attempt: int | None = None, after: int = -1) -> Output:
        """Return what an attempt, the last one by default, printed after a numbered chunk."""
        return self.traces.output(run_id, attempt, after)

    def cells(self, run_id: int, attempt: int | None = None) -> list[Cell]:
        """Return the cells of a notebook that an attempt, the last one by default, executes."""
        return self.traces.cells(run_id, attempt)

    def usual_cells(self, job_id: int, before: int, *, has_ended: bool) -> dict[str, float]:
        """Return how many seconds cells took in runs that succeeded before a run, by their code.

        It is asked for once while the run goes on and once when it `has_ended`: an earlier run that
        ends between is counted then, and one that ends later is not.
        """
        key = before, has_ended
        if (known := self._usual_cells.get(key)) is None:
            with self.database.read() as connection:
                earlier = history.cells_before(connection, job_id, before, limit=MOST_EARLIER)
            known = usual_seconds(read_cells(chunks, has_ended=True) for chunks in earlier)
            self._usual_cells[key] = known
            while len(self._usual_cells) > MOST_REMEMBERED:
                self._usual_cells.pop(next(iter(self._usual_cells)))
        return known

    def artifacts(self, run_id: int, attempt: int | None = None) -> list[Artifact]:
        """Return the files that a run's attempts left, or one of them; NotFound without the run."""
        return self.traces.artifacts(run_id, attempt)

    def artifact(self, run_id: int, name: str, attempt: int | None = None) -> Artifact:
        """Return a file that an attempt left, by default the last one that left it; NotFound."""
        return self.traces.artifact(run_id, name, attempt)

    def result(self, run_id: int) -> Any:
        """Return the result of a run's last attempt: JSON, or a DataFrame of `result.parquet`.

        BadInput when it has none.
        """
        return self.traces.result(run_id)

    def packages(self, sha256: str) -> dict[str, str]:
        """Return the versions, by name, that a hash in a provenance stands for; NotFound."""
        return self.traces.packages(sha256)

    def changes(self, run_id: int, attempt: int | None = None) -> Changes:
        """Say what changed since the job last worked before an attempt, by default the last one."""
        return self.traces.changes(run_id, attempt)

    @property
    def search(self) -> Searching:
        """Runs by what is known of them, page after page, and acting on all that match."""
        return Searching(self)

    @property
    def alerts(self) -> Alerts:
        """What fires: acknowledge it, mute a job, see that messages arrive."""
        return Alerts(self)

    @property
    def notices(self) -> Notices:
        """What people were told: `kit.notices(job=..., state="given up")` lists some."""
        return Notices(self)

    @property
    def board(self) -> Board:
        """Jobs and runs at a glance, with as few rows as that takes."""
        return Board(self)

    def wait(
        self, run_id: int, timeout: timedelta | float | str | None = None, *, live: bool = True
    ) -> Run:
        """Wait until a run has ended; JobFailed unless it COMPLETED, TimeoutError if it is late.

        In a notebook a card shows how it stands, unless `live=False`.
        """
        return self.runs.wait(run_id, timeout, live=live)

    def cancel(self, run_id: int) -> Run:
        """End a run that waits, or ask its worker to end it."""
        return self.runs.cancel(run_id)

    def retry(self, run_id: int) -> Run:
        """Make a new run of what a finished run ran."""
        return self.runs.retry(run_id)

    def reset(self, run_id: int) -> Run:
        """Run again what a run ran: one that runs is asked to end first, one that waits stays."""
        return self.runs.reset(run_id)

    def expectation_of(self, run: Run) -> Expectation:
        """Return what was usual when a run's last attempt began, and what is unusual about it."""
        return self.runs.expectation(run)

    # Who may use the portal

    @property
    def users(self) -> Users:
        """The users of the portal: `add`, `set_role`, `disable`, `sign_in` ..."""
        return Users(self)

    @property
    def tokens(self) -> Tokens:
        """The tokens of scripts: `add`, `revoke`, `shown`."""
        return Tokens(self)

    @property
    def audit(self) -> Audit:
        """Who did what, when and from where: `kit.audit(who="anna", since="7d")` lists it.

        Also `kit.audit.export()` and `kit.audit.verify()`.
        """
        return Audit(self)

    # Workers and numbers

    @cached_property
    def workers(self) -> Workers:
        """The workers: `kit.workers()` lists them, those online first."""
        return Workers(self)

    def drain(self, name: str) -> int:
        """Ask workers, by name or identity, to finish their runs and end; returns how many."""
        return self.workers.drain(name)

    def stats(self, since: timedelta | datetime | str = timedelta(days=1)) -> Stats:
        """Count runs, attempts and workers since an instant or an age."""
        start = text.parse_since(since, self.clock.now())
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
        if self._origin is not None:
            return self._origin._shelf
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
        from jobkit import verify

        chosen, now = self.settings, self.clock.now()
        days = chosen.cleanup_retention_days
        scope = verify.Scope(
            now=now,
            since=text.parse_since(since, self.clock.now()),
            slots_since=now - timedelta(days=days) if days else None,
            late=chosen.rescue_grace + 2 * chosen.scheduler_poll_interval + verify.SETTLED,
        )
        with self.database.read(takes_long=True) as connection:
            return verify.audit(connection, verify.narrowed(connection, scope))

    def doctor(self) -> Examination:
        """Look for what is wrong with this installation, as this machine sees it; changes nothing.

        Takes some seconds at most, whatever hangs: what gives no answer is a finding.
        """
        from jobkit import doctor

        return doctor.examine(self.settings, self.database)

    # The archive

    @cached_property
    def archive(self) -> Archive:
        """The archive: `run()`, `verify()`, `restore(month)`, `months()`."""
        return Archive(self.database, self.settings, ROLLUPS, partial(author.note, self))

    # What attempts leave

    @cached_property
    def store(self) -> Store:
        """Where artifacts are kept, by the settings or else by the database's name."""
        if self._origin is not None:
            return self._origin.store
        url = self.database.engine.url.render_as_string(hide_password=False)
        return artifacts.store_for(url, self.settings.artifacts_url)
