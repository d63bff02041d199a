"""The tables: their columns. Instants are UTC, durations are seconds.

Indexes, partitions and unique constraints are made by `migrations`, which own the physical shape.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlmodel import Field, SQLModel

from jobkit.db import BigId, JsonText, Utc
from jobkit.schedule import MISFIRE_POLICIES, SCHEDULE_TYPES
from jobkit.states import (
    ATTEMPT_STATUSES,
    ISOLATIONS,
    KERNEL_WISHES,
    LOST_POLICIES,
    OVERLAP_POLICIES,
    RUN_STATUSES,
    SEVERITIES,
    TIMEOUT_POLICIES,
    TRIGGERS,
    WORKER_STATUSES,
)

metadata = sa.MetaData()


class Table(SQLModel):
    """The tables of jobkit share one metadata, apart from those of a program that imports it."""

    metadata = metadata


def words(column: str, allowed: tuple[str, ...]) -> sa.CheckConstraint:
    """Let a column hold these words only."""
    listed = ", ".join(f"'{word}'" for word in allowed)
    return sa.CheckConstraint(f"{column} IN ({listed})", name=f"ck_{column}_words")


def _instant(*, nullable: bool = True) -> Any:
    default = None if nullable else ...
    return Field(default, sa_column_args=(), sa_type=Utc, nullable=nullable)


def _json(*, nullable: bool = True) -> Any:
    default = None if nullable else ...
    return Field(default, sa_type=JsonText, nullable=nullable)


def _id() -> Any:
    return Field(default=None, sa_type=BigId, primary_key=True)


def _big(*, nullable: bool = True) -> Any:
    return Field(default=None, sa_type=BigId, nullable=nullable)


class ScheduledJob(Table, table=True):
    """A named definition of what to run and when."""

    __tablename__ = "scheduled_jobs"
    __table_args__ = (
        words("schedule_type", SCHEDULE_TYPES),
        words("misfire_policy", MISFIRE_POLICIES),
        words("overlap_policy", OVERLAP_POLICIES),
        words("on_worker_lost", LOST_POLICIES),
        words("isolation", ISOLATIONS),
        words("timeout_policy", TIMEOUT_POLICIES),
        {"sqlite_autoincrement": True},
    )

    id: int | None = _id()
    name: str
    script_path: str
    script_args: str | None = None
    """Arguments, quoted as for a shell and never given to one."""
    interval_seconds: int | None = None
    schedule_type: str = "manual"
    schedule_time: str | None = None
    schedule_day: int | None = None
    """Weekday, 0 = Monday, or day of the month."""
    is_active: bool = True
    next_run: datetime | None = _instant()
    last_dispatched_at: datetime | None = _instant()
    dispatch_lock_until: datetime | None = _instant()
    """Kept for databases of before; nothing reads it."""
    cron: str | None = None
    timezone: str = "UTC"
    anchor_at: datetime | None = _instant()
    """The instant that interval slots count from; of a once job, its only slot."""
    starts_at: datetime | None = _instant()
    ends_at: datetime | None = _instant()
    queue: str = "default"
    priority: int = 0
    """Higher goes first."""
    timeout_seconds: float | None = None
    timeout_policy: str | None = None
    """`auto`: by what its attempts usually take; `timeout_seconds` is then NULL."""
    max_retries: int = 3
    retry_delay_seconds: float = 30
    misfire_policy: str = "latest"
    misfire_window_seconds: float = 86400
    overlap_policy: str = "skip"
    start_deadline_seconds: float | None = None
    on_worker_lost: str = "retry"
    params: dict[str, Any] | None = _json()
    kind: str | None = None
    """What runs it: python, shell, notebook, sql ...; by the script's suffix where NULL."""
    source: str | None = None
    """Its text, where the job carries it instead of naming a file of the workers."""
    python: str | None = None
    """An interpreter, or the folder of a virtual environment; the worker's own where NULL."""
    memory_limit_bytes: int | None = _big()
    nice: int | None = None
    working_dir: str | None = None
    """Below a script root; the root itself where NULL."""
    variables: dict[str, str] | None = _json()
    """Of the environment of its attempts."""
    secrets: list[str] | None = _json()
    """Names that workers resolve: `NAME` as a file, `env:NAME` also as a variable."""
    isolation: str | None = None
    """`fresh`: always a new interpreter."""
    tags: list[str] | None = _json()
    signature: list[dict[str, Any]] | None = _json()
    """What parameters it takes: name, type, default and choices of each."""
    defined_in: str | None = None
    """The notebook and the cell that defined it."""
    cell_timeout_seconds: float | None = None
    """The longest that one cell of its notebook may take."""
    keep_outputs: int | None = None
    """Of how many runs the files are kept; of all, by their age, where NULL."""
    keep_kernel_seconds: float | None = None
    """How long the kernel of a notebook that failed stays to be looked at."""
    alerts: dict[str, Any] | None = _json()
    """What it is watched for, see `alerting.RULES`."""
    version: int = 1
    slots_until: datetime = _instant(nullable=False)
    """The cursor: the last slot, or instant, that was looked at."""
    created_at: datetime = _instant(nullable=False)
    deleted_at: datetime | None = _instant()


class JobVersion(Table, table=True):
    """One state of a job's definition; rows are only added."""

    __tablename__ = "job_versions"

    job_id: int = Field(sa_type=BigId, primary_key=True)
    version: int = Field(primary_key=True)
    change: str
    """What was done: created, edited, paused, resumed, deleted or adopted."""
    changed_at: datetime = _instant(nullable=False)
    changed_by: str
    changed_from: str
    definition: dict[str, Any] = _json(nullable=False)
    before: dict[str, Any] | None = _json()


class JobDispatch(Table, table=True):
    """One run: a slot of a job, or a manual, backfill or repeated occurrence."""

    __tablename__ = "job_dispatch"
    __table_args__ = (
        words("status", RUN_STATUSES),
        words("trigger", TRIGGERS),
        {"sqlite_autoincrement": True},
    )

    id: int | None = _id()
    job_id: int = _big(nullable=False)
    status: str = "PENDING"
    created_at: datetime = _instant(nullable=False)
    claimed_at: datetime | None = _instant()
    completed_at: datetime | None = _instant()
    worker_id: str | None = None
    retry_count: int = 0
    """Tries that failed and were followed by another."""
    error_message: str | None = None
    scheduled_for: datetime | None = _instant()
    trigger: str = "schedule"
    available_at: datetime = _instant(nullable=False)
    attempt: int = 0
    """Claims so far; with `worker_id` the fence of every write by a worker."""
    lease_until: datetime | None = _instant()
    start_until: datetime | None = _instant()
    """Not started by then, the run is MISSED."""
    params: dict[str, Any] | None = _json()
    job_version: int | None = None
    queue: str = "default"
    priority: int = 0
    lane: int | None = None
    """Runs of one job in one lane exclude each other; None runs beside any."""
    max_retries: int = 0
    retry_delay_seconds: float = 30
    on_worker_lost: str = "retry"
    lost_count: int = 0
    cancel_requested_at: datetime | None = _instant()
    reason: str | None = None
    """Why the run is there, or why it ended without an attempt."""
    requested_by: str | None = None
    retry_of: int | None = _big()
    backfill_id: str | None = None
    progress: float | None = None
    """How much of the attempt is done as it says itself, 0 to 1."""
    progress_text: str | None = None
    launcher: str | None = None
    external_id: str | None = None
    external_url: str | None = None
    born: int | None = _big()
    """PostgreSQL's number of the transaction that made it, or brought it back; never archived.

    NULL on SQLite, where ids become visible in their order, and in rows of before this column.
    """


class JobExecutionLog(Table, table=True):
    """One attempt: written once, when it ends, and never changed."""

    __tablename__ = "job_execution_logs"
    __table_args__ = (words("status", ATTEMPT_STATUSES),)

    id: int | None = _id()
    job_id: int = _big(nullable=False)
    run_time: datetime = _instant(nullable=False)
    status: str
    log_output: str | None = None
    """The last 4 KiB of the output; the whole is in `job_output`."""
    dispatch_id: int | None = _big()
    attempt: int | None = None
    worker_id: str | None = None
    scheduled_for: datetime | None = _instant()
    queued_at: datetime | None = _instant()
    claimed_at: datetime = _instant(nullable=False)
    """The claim that began the attempt; PostgreSQL partitions by it."""
    started_at: datetime | None = _instant()
    finished_at: datetime | None = _instant()
    exit_code: int | None = None
    error_message: str | None = None
    cpu_seconds: float | None = None
    max_rss_bytes: int | None = _big()
    output_bytes: int | None = _big()
    omitted_bytes: int | None = _big()
    signal: int | None = None
    metrics: dict[str, float] | None = _json()
    result: Any = _json()
    provenance: dict[str, Any] | None = _json()
    """What it ran on: hash of the script, git commit, parameters, host, Python, packages."""
    launcher: str | None = None
    external_id: str | None = None
    external_url: str | None = None


class JobOutput(Table, table=True):
    """One chunk of what an attempt printed, 256 KB at most."""

    __tablename__ = "job_output"

    dispatch_id: int = Field(sa_type=BigId, primary_key=True)
    attempt: int = Field(primary_key=True)
    seq: int = Field(primary_key=True)
    claimed_at: datetime = Field(sa_type=Utc, primary_key=True)
    at: datetime = _instant(nullable=False)
    stream: str = "output"
    """`output`, both streams in the order of writing; `cell`, an event of a notebook as JSON."""
    text: str


class JobArtifact(Table, table=True):
    """A file that an attempt left, and where it is kept."""

    __tablename__ = "job_artifacts"

    dispatch_id: int = Field(sa_type=BigId, primary_key=True)
    attempt: int = Field(primary_key=True)
    name: str = Field(primary_key=True)
    size_bytes: int = _big(nullable=False)
    sha256: str
    media_type: str
    url: str
    created_at: datetime = _instant(nullable=False)


class KeptKernel(Table, table=True):
    """A kernel that waits on its worker's machine after a cell that failed.

    It is kept as long as its attempt is in progress; what is asked of it stands here.
    """

    __tablename__ = "kept_kernels"
    __table_args__ = (words("wish", KERNEL_WISHES),)

    dispatch_id: int = Field(sa_type=BigId, primary_key=True)
    attempt: int = Field(primary_key=True)
    worker_id: str
    hostname: str
    process_id: int | None = None
    connection_file: str
    """Readable by the worker's user alone."""
    cell: int
    """The number of the cell that failed, from 1."""
    cells: int
    """How many the notebook has."""
    source: str
    error: str
    measures: dict[str, Any] = _json(nullable=False)
    """Columns of the attempt as far as they are known."""
    started_at: datetime = _instant(nullable=False)
    failed_at: datetime = _instant(nullable=False)
    kept_until: datetime = _instant(nullable=False)
    wish: str | None = None
    wished_at: datetime | None = _instant()
    wished_by: str | None = None
    correction: str | None = None
    """The corrected cell, with the wish to go on."""
    went_on_at: datetime | None = _instant()
    """When the next attempt took over the kernel."""


class JobArchive(Table, table=True):
    """One Parquet file of the archive; the files of a part come and go in one transaction.

    While `removed_at` is NULL, rows that the file holds may still be in the tables.
    """

    __tablename__ = "job_archives"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: int | None = _id()
    part: str
    """A UUID that the files of a part share."""
    kind: str
    """`runs`, `attempts`, or the name of a roll-up."""
    month: str
    """`YYYY-MM`, in UTC, of the runs' ends."""
    url: str
    rows: int = _big(nullable=False)
    first_id: int | None = _big()
    last_id: int | None = _big()
    first_at: datetime | None = _instant()
    """Of `completed_at` of runs, of `claimed_at` of attempts; NULL of a file without rows."""
    last_at: datetime | None = _instant()
    bytes: int = _big(nullable=False)
    sha256: str
    created_at: datetime = _instant(nullable=False)
    removed_at: datetime | None = _instant()
    restoring_at: datetime | None = _instant()
    """Since when rows come back into the tables; until the part is gone, it alone counts."""


class JobHistory(Table, table=True):
    """The one row that says which history this is, and what was cleaned up of it.

    Caches go by it: those of another database are not mixed up, and rows that are gone are seen.
    """

    __tablename__ = "job_history"

    identity: str = Field(primary_key=True)
    cleaned_runs: int = _big(nullable=False)
    cleaned_until: datetime | None = _instant()
    """No run that ended later was cleaned up."""


class PackageSet(Table, table=True):
    """The packages of an interpreter; provenance names them by their hash."""

    __tablename__ = "package_sets"

    sha256: str = Field(primary_key=True)
    packages: dict[str, str] = _json(nullable=False)
    seen_at: datetime = _instant(nullable=False)


class ScriptText(Table, table=True):
    """The text of a script; provenance names it by the hash of its bytes."""

    __tablename__ = "script_texts"

    sha256: str = Field(primary_key=True)
    text: str
    """Without the values of secrets."""
    seen_at: datetime = _instant(nullable=False)


class WorkerRegistration(Table, table=True):
    """A worker process; its identity is fresh at each start and never used again."""

    __tablename__ = "worker_registration"
    __table_args__ = (words("status", WORKER_STATUSES),)

    worker_id: str = Field(primary_key=True)
    hostname: str = ""
    platform: str = ""
    started_at: datetime = _instant(nullable=False)
    last_heartbeat: datetime = _instant(nullable=False)
    status: str = "IDLE"
    jobs_processed: int = 0
    current_job_id: int | None = _big()
    process_id: int | None = None
    queues: str = "default"
    """Separated by commas, the preferred one first."""
    slots: int = 1
    version: str = ""
    drain_requested_at: datetime | None = _instant()
    clock_ahead_seconds: float | None = None
    """Its machine's clock minus the database's, at its last heartbeat."""


class SchedulerDuty(Table, table=True):
    """A piece of housekeeping and when it is next due; whoever moves the instant does it."""

    __tablename__ = "scheduler_duties"

    name: str = Field(primary_key=True)
    next_at: datetime = _instant(nullable=False)
    taken_by: str | None = None
    taken_at: datetime | None = _instant()


class NoticeChannel(Table, table=True):
    """A way to tell people something, by its name; its address is known to schedulers only."""

    __tablename__ = "notice_channels"

    name: str = Field(primary_key=True)
    seen_at: datetime = _instant(nullable=False)
    """When a scheduler that sends to it last said so."""


class Notice(Table, table=True):
    """Something that people are to be told by one channel, until it is sent or given up."""

    __tablename__ = "notices"
    __table_args__ = (words("severity", SEVERITIES),)

    id: int | None = _id()
    key: str
    """Of what it is about: the same is told once."""
    channel: str
    subject: str
    text: str
    severity: str
    job: str | None = None
    run_id: int | None = _big()
    created_at: datetime = _instant(nullable=False)
    available_at: datetime = _instant(nullable=False)
    """Not sent before; while it is being sent, until when whoever does has the time to."""
    tries: int = 0
    """With the id the fence of every write of whoever sends it."""
    sent_at: datetime | None = _instant()
    given_up_at: datetime | None = _instant()
    error: str | None = None
    """Why the last try failed."""


class Alert(Table, table=True):
    """An outage of a job or of the installation; of each key one at most is open."""

    __tablename__ = "alerts"
    __table_args__ = (words("severity", SEVERITIES), {"sqlite_autoincrement": True})

    id: int | None = _id()
    key: str
    kind: str
    severity: str
    job_id: int | None = _big()
    run_id: int | None = _big()
    text: str
    value: float | None = None
    about_at: datetime | None = _instant()
    """The slot, or the end of a run, that it is about: what is not later is told already."""
    opened_at: datetime = _instant(nullable=False)
    seen_at: datetime = _instant(nullable=False)
    """When it was still so."""
    told_at: datetime | None = _instant()
    """When its message was posted; NULL while it is muted."""
    reminded_at: datetime | None = _instant()
    resolved_at: datetime | None = _instant()
    resolution: str | None = None
    acknowledged_at: datetime | None = _instant()
    acknowledged_by: str | None = None


class AlertClock(Table, table=True):
    """When a job is to be looked at next for what did not happen."""

    __tablename__ = "alert_clocks"

    job_id: int = Field(sa_type=BigId, primary_key=True)
    kind: str = Field(primary_key=True)
    since_at: datetime = _instant(nullable=False)
    """What was before does not count."""
    due_at: datetime | None = _instant()
    """NULL: not until the alert that is open is over."""


class AlertMute(Table, table=True):
    """Until when nothing is told: of `all`, or of a job by its id."""

    __tablename__ = "alert_mutes"

    scope: str = Field(primary_key=True)
    until_at: datetime = _instant(nullable=False)
    muted_at: datetime = _instant(nullable=False)
    muted_by: str


class AlertMark(Table, table=True):
    """How far something was looked at."""

    __tablename__ = "alert_marks"

    name: str = Field(primary_key=True)
    at: datetime = _instant(nullable=False)


class MetricTotal(Table, table=True):
    """How often something happened to runs since the first look, or how long it took; it grows."""

    __tablename__ = "metric_totals"

    metric: str = Field(primary_key=True)
    queue: str = Field(primary_key=True)
    label: str = Field(primary_key=True)
    """A trigger, a status, the upper bound of a bucket, `sum` of durations, or nothing."""
    value: float


class MetricMark(Table, table=True):
    """The last run that is counted, by an instant of it and its id."""

    __tablename__ = "metric_marks"

    name: str = Field(primary_key=True)
    at: datetime = _instant(nullable=False)
    run_id: int = _big(nullable=False)


class PortalUser(Table, table=True):
    """Somebody who may sign in to the portal."""

    __tablename__ = "portal_users"

    id: int | None = _id()
    name: str
    role: str
    password_hash: str
    created_at: datetime = _instant(nullable=False)
    password_at: datetime = _instant(nullable=False)
    disabled_at: datetime | None = _instant()
    subject: str | None = None
    """Who they are to the provider of single sign-on: its issuer and its name for them."""
    is_service: bool = False
    """Whether it is no person: it holds tokens and cannot sign in."""


class PortalSession(Table, table=True):
    """A browser in which a user is signed in; the hash of what its cookie holds."""

    __tablename__ = "portal_sessions"

    sha256: str = Field(primary_key=True)
    user_id: int = _big(nullable=False)
    created_at: datetime = _instant(nullable=False)
    seen_at: datetime = _instant(nullable=False)
    address: str
    browser: str


class PortalToken(Table, table=True):
    """A token that scripts show; the hash of it."""

    __tablename__ = "portal_tokens"

    id: int | None = _id()
    name: str
    sha256: str
    role: str
    user_id: int | None = _big()
    """Whose it is: it may no more than they may, and nothing once they may nothing."""
    created_at: datetime = _instant(nullable=False)
    created_by: str
    expires_at: datetime | None = _instant()
    used_at: datetime | None = _instant()
    revoked_at: datetime | None = _instant()
    jobs: list[str] | None = _json()
    """Patterns of the names of jobs that it is for; for all where NULL."""


class PortalGuess(Table, table=True):
    """How often a password was wrong for a name, from an address, or both; what is a hash."""

    __tablename__ = "portal_guesses"

    sha256: str = Field(primary_key=True)
    tries: int
    at: datetime = _instant(nullable=False)
    locked_until: datetime | None = _instant()


class PortalAudit(Table, table=True):
    """What somebody did by any face of jobkit, or tried to; rows are only added.

    The table has the name of the face that had it first.
    """

    __tablename__ = "portal_audit"

    id: int | None = _id()
    at: datetime = _instant(nullable=False)
    who: str
    what: str
    about: str
    address: str
    face: str = ""
    """The command line, Python, a notebook, the portal or its API."""
    number: int | None = _big()
    """Its place in the chain, from 1 and without a gap; NULL until it is sealed."""
    sha256: str | None = None
    """Of the hash before it and of what the row says: see `jobkit.chain`."""


class AuditHead(Table, table=True):
    """The one row that says where the chain of the audit ends; who seals holds it."""

    __tablename__ = "audit_head"

    one: int = Field(primary_key=True)
    number: int = _big(nullable=False)
    sha256: str


jobs = ScheduledJob.__table__  # type: ignore[attr-defined]
versions = JobVersion.__table__  # type: ignore[attr-defined]
runs = JobDispatch.__table__  # type: ignore[attr-defined]
attempts = JobExecutionLog.__table__  # type: ignore[attr-defined]
output = JobOutput.__table__  # type: ignore[attr-defined]
artifacts = JobArtifact.__table__  # type: ignore[attr-defined]
kept_kernels = KeptKernel.__table__  # type: ignore[attr-defined]
archives = JobArchive.__table__  # type: ignore[attr-defined]
history_marks = JobHistory.__table__  # type: ignore[attr-defined]
package_sets = PackageSet.__table__  # type: ignore[attr-defined]
script_texts = ScriptText.__table__  # type: ignore[attr-defined]
workers = WorkerRegistration.__table__  # type: ignore[attr-defined]
duties = SchedulerDuty.__table__  # type: ignore[attr-defined]
notice_channels = NoticeChannel.__table__  # type: ignore[attr-defined]
notices = Notice.__table__  # type: ignore[attr-defined]
alerts = Alert.__table__  # type: ignore[attr-defined]
alert_clocks = AlertClock.__table__  # type: ignore[attr-defined]
alert_mutes = AlertMute.__table__  # type: ignore[attr-defined]
alert_marks = AlertMark.__table__  # type: ignore[attr-defined]
metric_totals = MetricTotal.__table__  # type: ignore[attr-defined]
metric_marks = MetricMark.__table__  # type: ignore[attr-defined]
users = PortalUser.__table__  # type: ignore[attr-defined]
sessions = PortalSession.__table__  # type: ignore[attr-defined]
tokens = PortalToken.__table__  # type: ignore[attr-defined]
guesses = PortalGuess.__table__  # type: ignore[attr-defined]
audit = PortalAudit.__table__  # type: ignore[attr-defined]
audit_head = AuditHead.__table__  # type: ignore[attr-defined]
