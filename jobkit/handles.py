"""What a Kit hands out: jobs, runs, attempts, workers. Each is a picture of a row, with verbs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO

from jobkit import frames, text
from jobkit.cells import Cell
from jobkit.errors import BadInput
from jobkit.states import FINAL

if TYPE_CHECKING:
    from polars import DataFrame

    from jobkit.analytics.comparison import Changes
    from jobkit.expectation import Expectation
    from jobkit.kit import Kit


def _own_fields(cls: type[Any], row: Any) -> dict[str, Any]:
    values: Mapping[str, Any] = row._asdict()
    return {item.name: values[item.name] for item in fields(cls) if item.name in values}


@dataclass(frozen=True)
class Job:
    """A job as it was when it was read."""

    _kit: Kit = field(repr=False, compare=False)
    id: int
    name: str
    script_path: str
    args: list[str]
    schedule_type: str
    schedule: str
    """The schedule in words."""
    timezone: str
    queue: str
    priority: int
    is_active: bool
    next_run: datetime | None
    timeout: timedelta | None
    timeout_policy: str | None
    """`auto`: by what its attempts usually take."""
    max_retries: int
    retry_delay: timedelta
    misfire_policy: str
    misfire_window: timedelta
    overlap_policy: str
    start_deadline: timedelta | None
    on_worker_lost: str
    params: dict[str, Any]
    kind: str | None
    source: str | None
    python: str | None
    memory_limit_bytes: int | None
    nice: int | None
    working_dir: str | None
    variables: dict[str, str] | None
    secrets: list[str] | None
    isolation: str | None
    tags: list[str]
    cell_timeout_seconds: float | None
    keep_outputs: int | None
    """Of how many runs the files are kept; of all, by their age, where None."""
    signature: list[dict[str, Any]]
    """Its parameters, see `jobkit.parameters`; empty for a job that takes anything."""
    defined_in: str | None
    """The notebook and the cell that defined it."""
    version: int
    created_at: datetime

    def submit(self, /, **params: Any) -> Run:
        """Make a manual run, with these parameters over the job's own."""
        return self._kit.submit(self.name, **params)

    def pause(self) -> Job:
        """Stop the schedule; what is unfinished goes on."""
        return self._kit.pause(self.name)

    def resume(self, *, catch_up: bool = False) -> Job:
        """Start the schedule again from now; with `catch_up` by the misfire policy."""
        return self._kit.resume(self.name, catch_up=catch_up)

    def edit(self, **definition: Any) -> Job:
        """Change the definition; a changed schedule starts from now."""
        return self._kit.edit(self.name, **definition)

    def delete(self) -> None:
        """Delete the job; its history stays."""
        self._kit.delete(self.name)

    def next(self, count: int = 5) -> list[datetime]:
        """Return the next slots."""
        return self._kit.next_slots(self.name, count)

    def runs(self, limit: int = 20) -> list[Run]:
        """Return the job's runs, the newest first."""
        return self._kit.runs(job=self.name, limit=limit)

    def expectation(self, **params: Any) -> Expectation:
        """Return how long it usually takes, with these parameters over its own if given."""
        return self._kit.expectation(self.name, params or None)

    def versions(self) -> list[Version]:
        """Return the definition's versions, the newest first."""
        return self._kit.versions(self.name)

    def __repr__(self) -> str:
        state = "" if self.is_active else ", paused"
        upcoming = f", next {text.instant(self.next_run, self.timezone)}" if self.next_run else ""
        return f"<Job {self.name}: {self.schedule}{state}{upcoming}>"


@dataclass(frozen=True)
class Version:
    """One state of a job's definition: who made it, when, from where, and what was before."""

    version: int
    change: str
    changed_at: datetime
    changed_by: str
    changed_from: str
    definition: dict[str, Any]
    before: dict[str, Any] | None

    @property
    def changes(self) -> dict[str, tuple[Any, Any]]:
        """Return what differs from the version before: name -> (before, after)."""
        before = self.before or {}
        return {
            name: (before.get(name), value)
            for name, value in self.definition.items()
            if self.before is not None and before.get(name) != value
        }


@dataclass(frozen=True)
class Run:
    """A run as it was when it was read; `refresh()` reads it again."""

    _kit: Kit = field(repr=False, compare=False)
    id: int
    job_id: int
    job_name: str
    status: str
    trigger: str
    scheduled_for: datetime | None
    created_at: datetime
    available_at: datetime
    claimed_at: datetime | None
    completed_at: datetime | None
    worker_id: str | None
    attempt: int
    retry_count: int
    max_retries: int
    error_message: str | None
    reason: str | None
    params: dict[str, Any] | None
    job_version: int | None
    queue: str
    priority: int
    cancel_requested_at: datetime | None
    retry_of: int | None
    backfill_id: str | None
    requested_by: str | None
    progress: float | None
    """How much of the attempt is done as it says itself, 0 to 1."""
    progress_text: str | None

    @property
    def is_final(self) -> bool:
        """Whether the run has ended for good."""
        return self.status in FINAL

    @property
    def is_running(self) -> bool:
        """Whether a worker executes it."""
        return self.status == "IN_PROGRESS"

    @property
    def wants_cancel(self) -> bool:
        """Whether somebody asked to end it and it has not ended yet."""
        return self.cancel_requested_at is not None and not self.is_final

    @property
    def duration(self) -> timedelta | None:
        """How long the last attempt took, if it has ended."""
        if self.claimed_at is None or self.completed_at is None:
            return None
        return self.completed_at - self.claimed_at

    def refresh(self) -> Run:
        """Read the run again."""
        return self._kit.run(self.id)

    def wait(self, timeout: timedelta | float | None = None) -> Run:
        """Wait until the run has ended; JobFailed unless it COMPLETED.

        `timeout` in seconds; TimeoutError when it passes first.
        """
        return self._kit.wait(self.id, timeout)

    def cancel(self) -> Run:
        """End the run, or ask its worker to."""
        return self._kit.cancel(self.id)

    def retry(self) -> Run:
        """Make a new run of what this one ran."""
        return self._kit.retry(self.id)

    def attempts(self) -> list[Attempt]:
        """Return the attempts that have ended."""
        return self._kit.attempts(self.id)

    def output(self, attempt: int | None = None, after: int = -1) -> Output:
        """Return what an attempt, the last one by default, printed after a numbered chunk."""
        return self._kit.output(self.id, attempt, after)

    def cells(self, attempt: int | None = None) -> list[Cell]:
        """Return the cells of a notebook that an attempt, the last one by default, executes."""
        return self._kit.cells(self.id, attempt)

    def artifacts(self, attempt: int | None = None) -> list[Artifact]:
        """Return the files that its attempts left, or one of them."""
        return self._kit.artifacts(self.id, attempt)

    def expectation(self) -> Expectation:
        """Return what is usual, the expected end while it runs, and what is unusual about it."""
        return self._kit.expectation_of(self)

    def result(self) -> Any:
        """Return the result of the last attempt: JSON, or the DataFrame of `result.parquet`.

        BadInput when it has none.
        """
        return self._kit.result(self.id)

    def changes(self, attempt: int | None = None) -> Changes:
        """Say what changed since its job last worked: what an attempt ran on, and what it told."""
        return self._kit.changes(self.id, attempt)

    def __repr__(self) -> str:
        why = self.reason or self.error_message
        return f"<Run {self.id} of {self.job_name}: {self.status}{f', {why}' if why else ''}>"


@dataclass(frozen=True)
class Attempt:
    """One execution of a run, as it ended."""

    dispatch_id: int
    attempt: int
    status: str
    worker_id: str | None
    scheduled_for: datetime | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    exit_code: int | None
    cpu_seconds: float | None
    max_rss_bytes: int | None
    output_bytes: int | None
    omitted_bytes: int | None
    log_output: str | None
    error_message: str | None
    signal: int | None
    metrics: dict[str, float] | None
    result: Any
    provenance: dict[str, Any] | None
    """What it ran on."""

    @property
    def duration(self) -> timedelta | None:
        """How long it took."""
        if self.started_at is None or self.finished_at is None:
            return None
        return self.finished_at - self.started_at


@dataclass(frozen=True)
class Artifact:
    """A file that an attempt left."""

    _kit: Kit = field(repr=False, compare=False)
    run_id: int
    attempt: int
    name: str
    size: int
    """In bytes."""
    sha256: str
    media_type: str
    url: str
    created_at: datetime

    def open(self) -> BinaryIO:
        """Open it for reading; NotFound when it is kept where this Kit cannot read."""
        return self._kit.store.open(self.url)

    def read(self) -> bytes:
        """Return all of it."""
        return self._kit.store.read(self.url)

    def text(self) -> str:
        """Return it as text; what is no UTF-8 becomes U+FFFD."""
        return self.read().decode("utf-8", "replace")

    def json(self) -> Any:
        """Return what its JSON holds; BadInput when it is none."""
        try:
            return json.loads(self.read())
        except ValueError as error:
            raise BadInput(f"{self.name} is not JSON: {error}.", "Read it as text.") from None

    def df(self) -> DataFrame:
        """Return it as a polars DataFrame: Parquet, CSV, JSON or a JSON document a line."""
        return frames.read(self.name, self.open)

    def head(self, rows: int = 20) -> DataFrame:
        """Return the first rows of it as a polars DataFrame."""
        return frames.read(self.name, self.open, rows)

    def __repr__(self) -> str:
        return f"<Artifact {self.name} of run {self.run_id}: {text.size(self.size)}>"


@dataclass(frozen=True)
class Output:
    """A part of what an attempt printed."""

    text: str
    last_seq: int
    """The number of the last chunk: ask for what comes after it."""
    attempt: int
    is_complete: bool
    """Whether the attempt has ended, so that nothing more will come."""
    omitted_bytes: int = 0


@dataclass(frozen=True)
class Worker:
    """A worker as it was when it was read."""

    worker_id: str
    hostname: str
    platform: str
    started_at: datetime
    last_heartbeat: datetime
    status: str
    jobs_processed: int
    current_job_id: int | None
    process_id: int | None
    queues: list[str]
    slots: int
    version: str


@dataclass(frozen=True)
class Backfill:
    """What a backfill made, or would make."""

    slots: list[datetime]
    """Past slots that get a run, oldest first."""
    runs: list[int]
    """The ids of those runs; none in a dry run."""
    skipped: list[datetime]
    """Slots that have a successful or an unfinished run."""


@dataclass(frozen=True)
class Stats:
    """Counts since an instant."""

    since: datetime
    runs_by_status: dict[str, int]
    attempts: int
    mean_seconds: float | None
    p95_seconds: float | None
    jobs: int
    active_jobs: int
    workers_by_status: dict[str, int]


def job_of(kit: Kit, row: Any, *, args: list[str], schedule: str) -> Job:
    """Picture a row of `scheduled_jobs`."""
    return Job(
        kit,
        **_own_fields(Job, row)
        | {"params": row.params or {}, "next_run": row.next_run if row.is_active else None}
        | {"tags": row.tags or [], "signature": row.signature or []},
        args=args,
        schedule=schedule,
        timeout=_duration(row.timeout_seconds),
        retry_delay=timedelta(seconds=row.retry_delay_seconds),
        misfire_window=timedelta(seconds=row.misfire_window_seconds),
        start_deadline=_duration(row.start_deadline_seconds),
    )


def run_of(kit: Kit, row: Any, job_name: str | None = None) -> Run:
    """Picture a row of `job_dispatch`, which has its job's name unless that is given."""
    name = job_name or row.job_name or f"(job {row.job_id})"
    return Run(kit, **_own_fields(Run, row) | {"job_name": name})


def attempt_of(row: Any) -> Attempt:
    """Picture a row of `job_execution_logs`."""
    return Attempt(**_own_fields(Attempt, row))


def artifact_of(kit: Kit, row: Any) -> Artifact:
    """Picture a row of `job_artifacts`."""
    return Artifact(
        kit, **_own_fields(Artifact, row) | {"run_id": row.dispatch_id, "size": row.size_bytes}
    )


def worker_of(row: Any) -> Worker:
    """Picture a row of `worker_registration`."""
    return Worker(**_own_fields(Worker, row) | {"queues": row.queues.split(",")})


def version_of(row: Any) -> Version:
    """Picture a row of `job_versions`."""
    return Version(**_own_fields(Version, row))


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
