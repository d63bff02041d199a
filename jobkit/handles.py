"""What a Kit hands out: jobs, runs, attempts, workers. Each is a picture of a row, with verbs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from difflib import unified_diff
from typing import TYPE_CHECKING, Any, BinaryIO

from jobkit import cards, frames, portraits, text
from jobkit.errors import BadInput
from jobkit.run import Run, own_fields, run_of
from jobkit.states import worker_name

__all__ = [
    "Artifact",
    "Attempt",
    "Backfill",
    "Given",
    "Job",
    "Output",
    "Queue",
    "Run",
    "Slot",
    "Stats",
    "Version",
    "Worker",
    "artifact_of",
    "attempt_of",
    "job_of",
    "run_of",
    "version_of",
    "worker_of",
]

if TYPE_CHECKING:
    from polars import DataFrame

    from jobkit.expectation import Expectation
    from jobkit.kit import Kit
    from jobkit.listings import RunList


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
    timing: tuple[str, str]
    """The schedule as `Kit.add_job` takes it: the keyword and its value."""
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
    keep_kernel_seconds: float | None
    """How long the kernel of a notebook waits after a cell that failed."""
    tags: list[str]
    cell_timeout_seconds: float | None
    keep_outputs: int | None
    """Of how many runs the files are kept; of all, by their age, where None."""
    signature: list[dict[str, Any]]
    """Its parameters, see `jobkit.parameters`; empty for a job that takes anything."""
    defined_in: str | None
    """The notebook and the cell that defined it."""
    alerts: dict[str, Any] | None
    """What it is watched for: `{"late": 900.0, "done-by": "07:30", "failed": True}`."""
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

    def runs(self, limit: int = 20) -> RunList:
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

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return self._kit.jobs.card(self).bundle

    def _repr_html_(self) -> str:
        return self._kit.jobs.card(self).html


@dataclass(frozen=True)
class Slot:
    """A slot that is to come."""

    at: datetime
    note: str
    """What a change of the clocks does to it: moved, repeated; empty for nearly all."""


@dataclass(frozen=True)
class Given:
    """Parameters that runs of a job had."""

    params: dict[str, Any]
    run_id: int
    """The newest run that had them."""
    at: datetime
    """When that was made."""


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

    @property
    def source_diff(self) -> str:
        """How the text that the job carries differs from the version before, as a unified diff."""
        before, after = (self.before or {}).get("source"), self.definition.get("source")
        if self.before is None or before == after:
            return ""
        old, new = (before or "").splitlines(), (after or "").splitlines()
        return "\n".join(unified_diff(old, new, "before", "after", lineterm=""))

    def __repr__(self) -> str:
        return (
            f"<Version {self.version}: {self.change} by {cards.plain(self.changed_by)} "
            f"{text.instant(self.changed_at)}>"
        )

    def _repr_html_(self) -> str:
        return portraits.of_version(self).html


@dataclass(frozen=True)
class Kept:
    """A kernel that waits on its worker's machine after a cell that failed."""

    run_id: int
    attempt: int
    hostname: str
    worker_id: str
    process_id: int | None
    connection_file: str
    cell: int
    """The number of the cell that failed, from 1."""
    cells: int
    """How many the notebook has."""
    source: str
    """The cell's; of a long one the beginning."""
    error: str
    kept_until: datetime
    wish: str | None
    """What somebody asked of it: `go on` or `let go`."""

    def __repr__(self) -> str:
        return (
            f"<Kernel of run {self.run_id} on {self.hostname}, kept until "
            f"{text.instant(self.kept_until)}: cell {self.cell} of {self.cells}, {self.error}>"
        )


@dataclass(frozen=True)
class Edit:
    """A cell that was corrected in a kernel that was kept, by which the next attempt went on."""

    run_id: int
    attempt: int
    """The one that had failed."""
    cell: int
    by: str
    at: datetime
    before: str
    after: str

    @property
    def diff(self) -> str:
        """What was changed, as a unified diff."""
        lines = unified_diff(
            self.before.splitlines(), self.after.splitlines(), "before", "after", lineterm=""
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Edit of cell {self.cell} by {self.by}, after attempt {self.attempt}>\n{self.diff}"


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

    def __repr__(self) -> str:
        took = f" after {text.duration(self.duration)}" if self.duration is not None else ""
        why = f", {cards.plain(self.error_message)}" if self.error_message else ""
        return f"<Attempt {self.attempt} of run {self.dispatch_id}: {self.status}{took}{why}>"

    def _repr_html_(self) -> str:
        return portraits.of_attempt(self).html


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
        name = cards.plain(self.name)
        return f"<Artifact {name} of run {self.run_id}: {text.size(self.size)}>"

    def _repr_html_(self) -> str:
        return portraits.of_artifact(self).html


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

    def __repr__(self) -> str:
        end = "" if self.is_complete else ", more may come"
        size = text.size(len(self.text.encode("utf-8", "replace")))
        return f"<Output of attempt {self.attempt}: {size}{end}>"

    def _repr_html_(self) -> str:
        return portraits.of_output(self).html


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

    @property
    def name(self) -> str:
        """Its name: its identity without what makes that its own."""
        return worker_name(self.worker_id)

    def __repr__(self) -> str:
        queues, slots = ", ".join(self.queues), f"{self.slots} slot{'s' * (self.slots != 1)}"
        return f"<Worker {self.worker_id}: {self.status}, {slots}, queues {queues}>"

    def _repr_html_(self) -> str:
        return portraits.of_worker(self).html


@dataclass(frozen=True)
class Queue:
    """What waits and what runs of a queue, and who serves it."""

    name: str
    waiting: int
    """How many runs wait, those that are not due yet among them."""
    due: int
    """How many of these could start now."""
    running: int
    oldest_at: datetime | None
    """Since when the one that is due longest could start."""
    workers: int
    """How many workers take runs of it."""
    slots: int
    """How many runs these can hold, of all their queues."""


@dataclass(frozen=True)
class Backfill:
    """What a backfill made, or would make."""

    slots: list[datetime]
    """Past slots that get a run, oldest first."""
    runs: list[int]
    """The ids of those runs; none in a dry run."""
    skipped: list[datetime]
    """Slots that have a successful or an unfinished run."""
    id: str | None = None
    """What its runs have in common, as their `backfill_id`; None in a dry run."""

    def __repr__(self) -> str:
        made = f"{len(self.runs)} made" if self.runs else "none made"
        return f"<Backfill of {len(self.slots)} slots: {made}, {len(self.skipped)} skipped>"

    def _repr_html_(self) -> str:
        return portraits.of_backfill(self).html


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

    def __repr__(self) -> str:
        counted = ", ".join(f"{n} {word}" for word, n in sorted(self.runs_by_status.items()))
        return f"<Stats since {text.instant(self.since)}: {counted or 'no runs'}>"

    def _repr_html_(self) -> str:
        return portraits.of_stats(self).html


def job_of(kit: Kit, row: Any, *, args: list[str], schedule: str, timing: tuple[str, str]) -> Job:
    """Picture a row of `scheduled_jobs`."""
    return Job(
        kit,
        **own_fields(Job, row)
        | {"params": row.params or {}, "next_run": row.next_run if row.is_active else None}
        | {"tags": row.tags or [], "signature": row.signature or []},
        args=args,
        schedule=schedule,
        timing=timing,
        timeout=_duration(row.timeout_seconds),
        retry_delay=timedelta(seconds=row.retry_delay_seconds),
        misfire_window=timedelta(seconds=row.misfire_window_seconds),
        start_deadline=_duration(row.start_deadline_seconds),
    )


def attempt_of(row: Any) -> Attempt:
    """Picture a row of `job_execution_logs`."""
    return Attempt(**own_fields(Attempt, row))


def artifact_of(kit: Kit, row: Any) -> Artifact:
    """Picture a row of `job_artifacts`."""
    return Artifact(
        kit, **own_fields(Artifact, row) | {"run_id": row.dispatch_id, "size": row.size_bytes}
    )


def kept_of(row: Any) -> Kept:
    """Picture a row of `kept_kernels` whose kernel waits."""
    return Kept(**own_fields(Kept, row) | {"run_id": row.dispatch_id})


def edit_of(row: Any) -> Edit:
    """Picture a row of `kept_kernels` whose kernel went on."""
    return Edit(
        row.dispatch_id,
        row.attempt,
        row.cell,
        by=row.wished_by,
        at=row.went_on_at,
        before=row.source,
        after=row.correction,
    )


def worker_of(row: Any) -> Worker:
    """Picture a row of `worker_registration`."""
    return Worker(**own_fields(Worker, row) | {"queues": row.queues.split(",")})


def version_of(row: Any) -> Version:
    """Picture a row of `job_versions`."""
    return Version(**own_fields(Version, row))


def _duration(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
