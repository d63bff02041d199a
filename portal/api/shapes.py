"""What the API takes and gives: instants in ISO 8601, durations in seconds."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jobkit.schedule import MISFIRE_POLICIES
from jobkit.states import LOST_POLICIES, OVERLAP_POLICIES, RUN_STATUSES

MOST_ID = (1 << 63) - 1
MOST_SEQ = (1 << 31) - 1


def _seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


Seconds = Annotated[float, BeforeValidator(_seconds)]
RunId = Annotated[int, Field(ge=1, le=MOST_ID)]
AttemptNumber = Annotated[int, Field(ge=1, le=1_000_000)]
JobName = Annotated[str, Field(min_length=1, max_length=200)]
FileName = Annotated[str, Field(min_length=1, max_length=1000)]
WorkerName = Annotated[str, Field(min_length=1, max_length=200)]
Word = Annotated[str, Field(max_length=200, pattern=r"^[^\x00]*$")]
Duration = (
    Annotated[str, Field(max_length=64)]
    | Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
)
"""Seconds, or text like `90s` or `15m`."""
Instant = Annotated[str, Field(max_length=64)]
"""ISO 8601; without an offset in the zone of the job."""
Status = Literal[RUN_STATUSES]  # type: ignore[valid-type]
Misfire = Literal[MISFIRE_POLICIES]  # type: ignore[valid-type]
Overlap = Literal[OVERLAP_POLICIES]  # type: ignore[valid-type]
Lost = Literal[LOST_POLICIES]  # type: ignore[valid-type]


class Given(BaseModel):
    """What is sent: nothing besides what is named, and of the types that are named."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Asked(BaseModel):
    """What an address asks for: all of it is text there."""

    model_config = ConfigDict(extra="forbid")


class Shown(BaseModel):
    """What is given back."""

    model_config = ConfigDict(from_attributes=True)


class JobsAsked(Asked):
    """Which jobs."""

    words: Word | None = Field(None, description="What their names hold.")
    active: bool | None = Field(None, description="Only those that are, or are not, paused.")
    after: JobName | None = Field(None, description="`next` of the page before.")
    limit: int = Field(100, ge=1, le=1000)


class RunsAsked(Asked):
    """Which runs."""

    job: JobName | None = None
    status: list[Status] = Field(default_factory=list, description="May be given several times.")
    since: Instant | None = Field(None, description="An age like `7d`, or an instant.")
    after: Word | None = Field(None, description="`next` of the page before.")
    limit: int = Field(50, ge=1, le=1000)


class SlotsAsked(Asked):
    """How many slots."""

    count: int = Field(5, ge=1, le=1000)


class OutputAsked(Asked):
    """Which part of what was printed."""

    attempt: AttemptNumber | None = Field(None, description="The last one where unset.")
    after: int = Field(-1, ge=-1, le=MOST_SEQ, description="`last_seq` of the part before.")


class StatsAsked(Asked):
    """Since when."""

    since: Instant = Field("1d", description="An age like `7d`, or an instant.")


class JobChanges(Given):
    """What a job can be told; what is not given stays as it is."""

    target: Word | None = Field(None, description="A script in one of the script roots.")
    args: list[Annotated[str, Field(max_length=10_000)]] | None = Field(None, max_length=1000)
    cron: Word | None = None
    every: Duration | None = None
    hourly: Annotated[int, Field(ge=0, le=59)] | None = None
    daily: Word | None = Field(None, description="`HH:MM`")
    weekly: Word | None = Field(None, description="A weekday and a time: `mon 09:00`.")
    monthly: Word | None = Field(None, description="A day and a time: `31 06:30`.")
    at: Instant | None = None
    tz: Word | None = Field(None, description="A zone like `Europe/Paris`.")
    starts_at: Instant | None = None
    ends_at: Instant | None = None
    params: dict[str, Any] | None = None
    tags: list[Word] | None = Field(None, max_length=100)
    queue: Word | None = None
    priority: Annotated[int, Field(ge=-10_000, le=10_000)] | None = None
    timeout: Duration | None = Field(None, description="`auto`: by what is usual.")
    retries: Annotated[int, Field(ge=0, le=1000)] | None = None
    retry_delay: Duration | None = None
    misfire: Misfire | None = None
    misfire_window: Duration | None = None
    overlap: Overlap | None = None
    start_deadline: Duration | None = None
    on_worker_lost: Lost | None = None
    kind: Word | None = None
    source: Annotated[str, Field(max_length=1_000_000)] | None = None
    python: Word | None = None
    memory: Annotated[str, Field(max_length=64)] | Annotated[int, Field(ge=1)] | None = None
    nice: Annotated[int, Field(ge=0, le=19)] | None = None
    cwd: Word | None = None
    env_vars: dict[str, str] | None = None
    secrets: list[Word] | None = Field(None, max_length=100)
    isolation: Word | None = None
    alerts: list[Word] | None = Field(
        None, max_length=100, description="`late=15m`, `failed`, ...; an empty list: none."
    )

    def told(self) -> dict[str, Any]:
        """Return what was given."""
        return {name: value for name, value in self if value is not None}


class NewJob(JobChanges):
    """A job."""

    name: JobName
    target: Word = Field(description="A script in one of the script roots.")


class EditedJob(JobChanges):
    """Changes of a job."""

    if_version: Annotated[int, Field(ge=1, le=MOST_SEQ)] | None = Field(
        None, description="Only while that is its version; 409 otherwise."
    )


class Resumed(Given):
    """How a schedule starts again."""

    catch_up: bool = Field(False, description="The misfire policy gets the slots that passed.")


class Ping(Given):
    """How a job goes that runs elsewhere."""

    signal: Literal["start", "success", "fail"] = "success"
    exit_code: Annotated[int, Field(ge=-255, le=255)] | None = Field(
        None, description="Of an end; 0 is a success, all else is none."
    )
    message: Annotated[str, Field(max_length=100_000)] = Field(
        "", description="Kept as output of the run, the last 50,000 characters."
    )
    run: RunId | None = Field(
        None, description="Which run of the job it is; the one that it fits where unset."
    )


class Submitted(Given):
    """Parameters of a run, over the job's own."""

    params: dict[str, Any] = Field(default_factory=dict)


class Job(Shown):
    """A job."""

    id: int
    name: str
    script_path: str
    args: list[str]
    schedule_type: str
    schedule: str = Field(description="In words.")
    timezone: str
    queue: str
    priority: int
    is_active: bool
    next_run: datetime | None
    timeout: Seconds | None
    timeout_policy: str | None
    max_retries: int
    retry_delay: Seconds
    misfire_policy: str
    misfire_window: Seconds
    overlap_policy: str
    start_deadline: Seconds | None
    on_worker_lost: str
    params: dict[str, Any]
    kind: str | None
    source: str | None
    python: str | None
    memory_limit_bytes: int | None
    nice: int | None
    working_dir: str | None
    variables: dict[str, str] | None = Field(description="For editors; null for others.")
    secrets: list[str] | None = Field(description="Names, never values.")
    isolation: str | None
    alerts: dict[str, Any] | None = Field(description="What it is watched for; seconds.")
    tags: list[str]
    version: int
    created_at: datetime


class Jobs(Shown):
    """A page of jobs."""

    items: list[Job]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class Run(Shown):
    """A run."""

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
    progress_text: str | None


class Runs(Shown):
    """A page of runs, the newest first."""

    items: list[Run]
    next: str | None = Field(description="`after` of the next page; null on the last.")


class Attempt(Shown):
    """An attempt that has ended."""

    attempt: int
    status: str
    worker_id: str | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    exit_code: int | None
    signal: int | None
    error_message: str | None
    cpu_seconds: float | None
    max_rss_bytes: int | None
    output_bytes: int | None
    omitted_bytes: int | None
    metrics: dict[str, float] | None
    result: Any


class Attempts(Shown):
    """The attempts of a run."""

    items: list[Attempt]


class Output(Shown):
    """A part of what an attempt printed."""

    text: str
    last_seq: int = Field(description="Ask for what comes after it.")
    attempt: int
    is_complete: bool = Field(description="Whether nothing more will come.")
    omitted_bytes: int


class Artifact(Shown):
    """A file that an attempt left."""

    attempt: int
    name: str
    size: int
    sha256: str
    media_type: str
    created_at: datetime


class Artifacts(Shown):
    """The files that a run's attempts left."""

    items: list[Artifact]


class Slots(Shown):
    """Slots to come."""

    items: list[datetime]


class Worker(Shown):
    """A worker."""

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


class Workers(Shown):
    """The workers, those online first."""

    items: list[Worker]


class Drained(Shown):
    """How many workers were asked."""

    asked: int


class Stats(Shown):
    """Counts since an instant."""

    since: datetime
    runs_by_status: dict[str, int]
    attempts: int
    mean_seconds: float | None
    p95_seconds: float | None
    jobs: int
    active_jobs: int
    workers_by_status: dict[str, int]


class Me(Shown):
    """Who asks."""

    name: str
    role: str


class Problem(BaseModel):
    """What is wrong, and the next step."""

    type: str
    title: str
    status: int
    detail: str
    hint: str
