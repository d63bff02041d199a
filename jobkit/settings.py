"""Settings: declared once here; the README table and `--help` are made from them."""

from __future__ import annotations

import difflib
import ipaddress
import os
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from jobkit import quiet
from jobkit.errors import BadInput
from jobkit.quiet import QuietHours
from jobkit.roles import ROLES
from jobkit.text import parse_duration, parse_size

TOML_FILE = "jobkit.toml"


def _duration(value: object) -> object:
    try:
        return parse_duration(value) if isinstance(value, str) else value
    except BadInput as error:
        raise ValueError(str(error).rstrip(".")) from None


Duration = Annotated[timedelta, BeforeValidator(_duration)]


def _small(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _setting(name: str, default: Any, description: str, **limits: Any) -> Any:
    return Field(default, validation_alias=name, description=description, **limits)


class Settings(BaseSettings):
    """Everything that can be set, from the command line, the environment, `.env` or `jobkit.toml`.

    Durations are seconds, or text like `90s` or `15m`.
    """

    model_config = SettingsConfigDict(
        env_file=".env", extra="ignore", frozen=True, populate_by_name=True, env_ignore_empty=True
    )

    db_url: str = _setting(
        "JOBKIT_DB_URL",
        "sqlite:///jobkit.db",
        "The database; `REFLEX_DB_URL` is read where it is unset.",
        repr=False,
    )
    timezone: str = _setting(
        "JOBKIT_TIMEZONE", "UTC", "The time zone of jobs that name none, and of what people read."
    )
    script_roots: Annotated[tuple[Path, ...], NoDecode] = _setting(
        "JOBKIT_SCRIPT_ROOTS",
        (Path(),),
        "Folders that scripts may lie in, separated as in `PATH`; the current folder where unset.",
    )
    scheduler_poll_interval: Duration = _setting(
        "SCHEDULER_POLL_INTERVAL",
        timedelta(seconds=10),
        "The longest sleep of a scheduler between two ticks.",
        gt=timedelta(0),
    )
    max_retry_attempts: int = _setting(
        "MAX_RETRY_ATTEMPTS", 3, "Retries of a job that names no number.", ge=0, le=1000
    )
    cleanup_retention_days: int = _setting(
        "CLEANUP_RETENTION_DAYS",
        30,
        "Days that ended runs, their attempts and their output are kept; 0 keeps them for ever.",
        ge=0,
        le=36500,
    )
    job_timeout_threshold: Duration = _setting(
        "JOB_TIMEOUT_THRESHOLD",
        timedelta(seconds=600),
        "A run that is older is shown as running long; it is not taken from a live worker.",
        gt=timedelta(0),
    )
    worker_job_timeout: Duration = _setting(
        "WORKER_JOB_TIMEOUT",
        timedelta(seconds=600),
        "The timeout of an attempt whose job names none.",
        gt=timedelta(0),
    )
    worker_poll_interval: Duration = _setting(
        "WORKER_POLL_INTERVAL",
        timedelta(seconds=5),
        "How often a worker with free slots looks for runs when no wake-up reaches it.",
        gt=timedelta(0),
    )
    worker_max_poll_interval: Duration = _setting(
        "WORKER_MAX_POLL_INTERVAL",
        timedelta(seconds=60),
        "The longest wait of a worker while the database is away.",
        gt=timedelta(0),
    )
    worker_heartbeat_interval: Duration = _setting(
        "WORKER_HEARTBEAT_INTERVAL",
        timedelta(seconds=10),
        "How often a worker renews its leases.",
        gt=timedelta(0),
    )
    worker_offline_threshold: Duration = _setting(
        "WORKER_OFFLINE_THRESHOLD",
        timedelta(seconds=180),
        "A worker without a heartbeat for so long is shown as OFFLINE.",
        gt=timedelta(0),
    )
    lease_seconds: Duration | None = _setting(
        "JOBKIT_LEASE_SECONDS",
        None,
        "How long a claim lasts without a heartbeat; the greater of 60 s and four heartbeats "
        "where unset.",
    )
    rescue_grace: Duration = _setting(
        "JOBKIT_RESCUE_GRACE_SECONDS",
        timedelta(seconds=5),
        "How long after its lease a run is taken back.",
        ge=timedelta(0),
    )
    kill_grace: Duration = _setting(
        "JOBKIT_KILL_GRACE_SECONDS",
        timedelta(seconds=5),
        "Between asking a script's processes to end (TERM) and ending them (KILL).",
        ge=timedelta(0),
    )
    shutdown_grace: Duration = _setting(
        "JOBKIT_SHUTDOWN_GRACE_SECONDS",
        timedelta(seconds=20),
        "How long a worker that is told to stop lets its runs go on before it gives them back.",
        ge=timedelta(0),
    )
    slots: int = _setting(
        "JOBKIT_SLOTS", 4, "Runs that a worker executes side by side.", ge=1, le=1000
    )
    queues: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_QUEUES",
        ("default",),
        "Queues that a worker serves, the first one first, separated by commas.",
    )
    spool_dir: Path = _setting(
        "JOBKIT_SPOOL_DIR",
        Path.home() / ".cache" / "jobkit" / "spool",
        "Where a worker keeps results that the database cannot take yet.",
    )
    cache_dir: Path = _setting(
        "JOBKIT_CACHE_DIR",
        Path.home() / ".cache" / "jobkit" / "analytics",
        "Where analytics keep copies of the history on this machine; it may be deleted any time.",
    )
    kinds: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_KINDS",
        (),
        "Kinds of jobs that a worker executes (python, shell, program, notebook, sql, function), "
        "separated by commas; all where unset.",
    )
    interpreters: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_INTERPRETERS",
        (),
        "Interpreters, or folders of virtual environments, that a job may name besides the "
        "worker's own, separated by commas; `*`: any.",
    )
    env_allow: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_ENV_ALLOW",
        ("*",),
        "Variables of its own environment that a worker hands to scripts, as patterns separated "
        "by commas; never jobkit's own.",
    )
    preload: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_PRELOAD",
        (),
        "Modules that a worker imports before it forks Python scripts, separated by commas, like "
        "pandas,polars: scripts that use them start at once.",
    )
    secrets_dir: Path | None = _setting(
        "JOBKIT_SECRETS_DIR",
        None,
        "A folder of secrets, one file each, that a worker looks in before its environment.",
    )
    artifacts_url: str | None = _setting(
        "JOBKIT_ARTIFACTS_URL",
        None,
        "Where files that scripts leave are kept: a folder or s3://bucket/prefix; beside the "
        "database of a laptop where unset.",
    )
    artifacts_limit: int = _setting(
        "JOBKIT_ARTIFACTS_LIMIT",
        1_000_000_000,
        "Bytes of artifacts that are kept of an attempt.",
        ge=0,
    )
    script_text_limit: int = _setting(
        "JOBKIT_SCRIPT_TEXT_LIMIT",
        256_000,
        "Texts of scripts up to so many bytes are kept once, to show later what was edited; "
        "0 keeps none.",
        ge=0,
        le=1_000_000,
    )
    archive_url: str | None = _setting(
        "JOBKIT_ARCHIVE_URL",
        None,
        "Where old runs are archived: a folder or s3://bucket/prefix; a scheduler then archives "
        "each month when it is over for long enough, and clean-up deletes no runs.",
    )
    archive_after_days: int = _setting(
        "JOBKIT_ARCHIVE_AFTER_DAYS",
        30,
        "Days after its end that a month stays in the database before it is archived.",
        ge=0,
        le=36500,
    )
    archive_keep_runs: int = _setting(
        "JOBKIT_ARCHIVE_KEEP_RUNS",
        10,
        "The last runs of each job that stay in the database, however old they are.",
        ge=0,
        le=100_000,
    )
    alert_no_worker: Duration = _setting(
        "JOBKIT_ALERT_NO_WORKER",
        timedelta(minutes=5),
        "An alert fires when no worker has been online for so long; 0: never.",
        ge=timedelta(0),
    )
    alert_no_scheduler: Duration = _setting(
        "JOBKIT_ALERT_NO_SCHEDULER",
        timedelta(minutes=5),
        "An alert fires when workers have seen no scheduler for so long; 0: never.",
        ge=timedelta(0),
    )
    alert_pending: Duration = _setting(
        "JOBKIT_ALERT_PENDING",
        timedelta(minutes=30),
        "An alert fires when a run has been due, and not been started, for so long; 0: never.",
        ge=timedelta(0),
    )
    alert_failed_rate: float = _setting(
        "JOBKIT_ALERT_FAILED_RATE",
        0.1,
        "An alert fires when a larger share of the runs of the last hour failed; 1: never.",
        ge=0,
        le=1,
    )
    alert_failed_least: int = _setting(
        "JOBKIT_ALERT_FAILED_LEAST",
        20,
        "With fewer runs in an hour, the share that failed says nothing.",
        ge=1,
    )
    alert_disk_used: float = _setting(
        "JOBKIT_ALERT_DISK_USED",
        0.9,
        "An alert fires when so much of the disk of a SQLite database, or of a folder of "
        "artifacts, is used; 1: never.",
        gt=0,
        le=1,
    )
    alert_database_size: int | None = _setting(
        "JOBKIT_ALERT_DATABASE_SIZE",
        None,
        "The size that the database may have, like 50GB; an alert fires at 90 % of it.",
        gt=0,
    )
    alert_remind: Duration | None = _setting(
        "JOBKIT_ALERT_REMIND",
        None,
        "How often people are told again of what fires and nobody acknowledged; once where unset.",
        ge=timedelta(minutes=1),
    )
    alert_quiet_hours: str | None = _setting(
        "JOBKIT_ALERT_QUIET_HOURS",
        None,
        "When messages wait that are not urgent, like `22:00-07:00` or `22:00-07:00 Europe/Paris`.",
    )
    log_format: Annotated[Literal["text", "json"], BeforeValidator(_small)] = _setting(
        "JOBKIT_LOG_FORMAT",
        "text",
        "How programs that stay write their log to stderr: `text`, or `json`, an object a line.",
    )
    log_level: Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_small)] = (
        _setting(
            "JOBKIT_LOG_LEVEL",
            "info",
            "The least that they write: `debug` (each attempt), `info`, `warning` or `error`.",
        )
    )
    wakeups: bool = _setting(
        "JOBKIT_WAKEUPS",
        True,
        "Whether commits wake schedulers and workers; `off`: they poll only.",
    )
    metrics_host: str = _setting(
        "JOBKIT_METRICS_HOST",
        "127.0.0.1",
        "The address of `JOBKIT_METRICS_PORT`; whoever reaches it may read.",
    )
    metrics_port: int | None = _setting(
        "JOBKIT_METRICS_PORT",
        None,
        "The port on which a scheduler or a worker shows metrics of its own process; none where "
        "unset, 0: any that is free.",
        ge=0,
        le=65535,
    )
    host: str = _setting("JOBKIT_HOST", "127.0.0.1", "The address that the portal listens on.")
    port: int = _setting("JOBKIT_PORT", 8765, "The port of the portal.", ge=0, le=65535)
    token: str | None = _setting(
        "JOBKIT_TOKEN",
        None,
        "The token that opens the portal; a fresh one at each start if unset.",
        repr=False,
    )
    trusted_hosts: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_TRUSTED_HOSTS",
        (),
        "Host names, separated by commas, that the portal answers to besides its own address.",
    )
    trusted_proxy: str | None = _setting(
        "JOBKIT_TRUSTED_PROXY",
        None,
        "The address of the TLS proxy before the portal, whose `X-Forwarded-*` headers alone are "
        "believed.",
    )
    portal_url: str | None = _setting(
        "JOBKIT_PORTAL_URL",
        None,
        "The portal as people reach it, like https://jobs.example.com: notices lead there.",
    )
    notify_urls: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_NOTIFY_URLS",
        (),
        "Where a scheduler sends notices: Apprise URLs or `webhook+https://...`, separated by "
        "spaces, each with a name if you like (`ops=mailtos://...`); only the names are shown.",
        repr=False,
    )
    notify_tries: int = _setting(
        "JOBKIT_NOTIFY_TRIES",
        10,
        "Tries before a notice is given up, 30 s apart at first, at most an hour.",
        ge=1,
        le=100,
    )
    webhook_secret: str | None = _setting(
        "JOBKIT_WEBHOOK_SECRET",
        None,
        "What webhooks are signed with: `whsec_` and Base64, or any text.",
        repr=False,
    )
    webhook_hosts: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_WEBHOOK_HOSTS",
        (),
        "Hosts that webhooks may be sent to, as names or patterns, separated by commas.",
    )
    webhook_private_hosts: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_WEBHOOK_PRIVATE_HOSTS",
        (),
        "Hosts in private networks that webhooks may be sent to, also without TLS.",
    )
    ping_url: str | None = _setting(
        "JOBKIT_PING_URL",
        None,
        "A check of Healthchecks, or what speaks like it, that schedulers ping: it tells people "
        "when none of them is there any more.",
        repr=False,
    )
    ping_interval: Duration = _setting(
        "JOBKIT_PING_INTERVAL",
        timedelta(seconds=60),
        "How often one of the schedulers pings that URL.",
        ge=timedelta(seconds=1),
    )
    oidc_issuer: str | None = _setting(
        "JOBKIT_OIDC_ISSUER",
        None,
        "The provider of single sign-on (OpenID Connect), by its address; none where unset.",
    )
    oidc_client_id: str | None = _setting(
        "JOBKIT_OIDC_CLIENT_ID", None, "What the provider calls this portal."
    )
    oidc_client_secret: str | None = _setting(
        "JOBKIT_OIDC_CLIENT_SECRET",
        None,
        "What the portal shows to the provider; without one PKCE alone proves it.",
        repr=False,
    )
    oidc_groups: Annotated[tuple[str, ...], NoDecode] = _setting(
        "JOBKIT_OIDC_GROUPS",
        (),
        "Which role a group of the provider gives, like `data=editor,ops=admin`; who is in none of "
        "them stays out.",
    )
    oidc_scopes: str = _setting(
        "JOBKIT_OIDC_SCOPES",
        "openid profile email",
        "What the portal asks the provider for; some give groups for a scope of their own.",
    )
    oidc_groups_claim: str = _setting(
        "JOBKIT_OIDC_GROUPS_CLAIM", "groups", "Where the provider says somebody's groups."
    )
    oidc_name_claim: str = _setting(
        "JOBKIT_OIDC_NAME_CLAIM",
        "preferred_username",
        "Where the provider says what somebody is called.",
    )
    passwords: bool = _setting(
        "JOBKIT_PASSWORDS",
        True,
        "Whether people may sign in by a password; `off`: by single sign-on alone.",
    )
    dispatch_lock_duration: str | None = _setting(
        "DISPATCH_LOCK_DURATION",
        None,
        "Accepted and without effect: slots are unique in the database.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        toml = InitSettingsSource(settings_cls, _read_toml(Path(TOML_FILE)))
        return init_settings, env_settings, dotenv_settings, toml

    @field_validator("script_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return tuple(value.split(os.pathsep)) if isinstance(value, str) else value

    @field_validator(
        "queues",
        "trusted_hosts",
        "kinds",
        "interpreters",
        "env_allow",
        "preload",
        "webhook_hosts",
        "webhook_private_hosts",
        "oidc_groups",
        mode="before",
    )
    @classmethod
    def _split_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())

    @field_validator("notify_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value  # URLs hold commas

    @field_validator("queues")
    @classmethod
    def _at_least_one_queue(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise ValueError("name at least one queue, like default")
        for name in value:
            if name.startswith("@"):  # of runs that no worker executes
                raise ValueError(f"{name!r} is no queue of workers")
        return tuple(dict.fromkeys(value))

    @field_validator("trusted_proxy")
    @classmethod
    def _one_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            return str(ipaddress.ip_address(value))
        except ValueError:
            raise ValueError(f"{value!r} is no address; write one like 127.0.0.1") from None

    @field_validator("alert_database_size", mode="before")
    @classmethod
    def _bytes(cls, value: object) -> object:
        try:
            return parse_size(value) if isinstance(value, str) else value
        except BadInput as error:
            raise ValueError(str(error).rstrip(".")) from None

    @field_validator("alert_quiet_hours")
    @classmethod
    def _times_of_day(cls, value: str | None) -> str | None:
        if value is not None:
            quiet.parse(value, "UTC")
        return value

    @field_validator("oidc_issuer")
    @classmethod
    def _safe_issuer(cls, value: str | None) -> str | None:
        if value is not None and not is_private_url(value):
            raise ValueError("the provider is asked by https, or on this machine")
        return value

    @field_validator("oidc_groups")
    @classmethod
    def _groups_give_roles(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pair in value:
            group, _, role = pair.rpartition("=")
            if not group or role not in ROLES:
                raise ValueError(
                    f"{pair!r} gives no role; write group=role, the role {', '.join(ROLES)}"
                )
        return value

    @field_validator("timezone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{value!r} is no time zone; write one like Europe/Paris") from None
        return value

    @model_validator(mode="after")
    def _lease_outlasts_heartbeats(self) -> Settings:
        shortest = 3 * self.worker_heartbeat_interval
        if self.lease_seconds is not None and self.lease_seconds < shortest:
            raise ValueError(
                f"JOBKIT_LEASE_SECONDS is {self.lease_seconds.total_seconds():g} s, shorter than "
                f"three heartbeats of {self.worker_heartbeat_interval.total_seconds():g} s; one "
                "late heartbeat would lose every run. Raise it to at least "
                f"{shortest.total_seconds():g} s or lower WORKER_HEARTBEAT_INTERVAL"
            )
        return self

    @model_validator(mode="after")
    def _sign_on_is_whole(self) -> Settings:
        if self.oidc_issuer is None:
            if not self.passwords:
                raise ValueError("JOBKIT_PASSWORDS is off and JOBKIT_OIDC_ISSUER names no provider")
        elif self.oidc_client_id is None or not self.oidc_groups:
            raise ValueError(
                "JOBKIT_OIDC_ISSUER needs JOBKIT_OIDC_CLIENT_ID, and JOBKIT_OIDC_GROUPS to say who "
                "may what"
            )
        return self

    @property
    def roles_of_groups(self) -> dict[str, str]:
        """Which role each group of the provider gives."""
        pairs = (pair.rpartition("=") for pair in self.oidc_groups)
        return {group: role for group, _, role in pairs}

    @property
    def lease(self) -> timedelta:
        """How long a claim lasts without a heartbeat."""
        if self.lease_seconds is not None:
            return self.lease_seconds
        return max(timedelta(seconds=60), 4 * self.worker_heartbeat_interval)

    @property
    def quiet_hours(self) -> QuietHours | None:
        """When messages wait that are not urgent."""
        if self.alert_quiet_hours is None:
            return None
        return quiet.parse(self.alert_quiet_hours, self.timezone)

    @property
    def patience(self) -> timedelta:
        """How late a slot may be noticed and still run under the misfire policy `skip`."""
        return self.scheduler_poll_interval + timedelta(seconds=60)


def load(**overrides: Any) -> Settings:
    """Read the settings; what is given here (and not None) wins. BadInput names what is wrong."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise BadInput(_explain(error), "The settings are listed in README.md.") from None
    inherited = os.environ.get("REFLEX_DB_URL")
    if inherited and "db_url" not in settings.model_fields_set:
        return settings.model_copy(update={"db_url": inherited})
    return settings


def is_private_url(url: str) -> bool:
    """Whether what is said to an address is read by nobody else: by TLS, or on this machine."""
    parts = urlsplit(url)
    if parts.scheme == "http":
        return parts.hostname in ("localhost", "127.0.0.1", "::1")
    return parts.scheme == "https" and bool(parts.hostname)


def setting_names() -> dict[str, str]:
    """Return the name in the environment of each field, in the order of declaration."""
    return {field: str(info.validation_alias) for field, info in Settings.model_fields.items()}


def table() -> str:
    """Write the settings as a Markdown table for README.md."""
    rows = ["| setting | default | what it sets |", "|---|---|---|"]
    for field, info in Settings.model_fields.items():
        rows.append(f"| `{info.validation_alias}` | {_default(field)} | {info.description} |")
    return "\n".join(rows)


def _default(field: str) -> str:
    value = Settings.model_fields[field].default
    if value is None or value == ():
        return ""
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}"
    if field in ("spool_dir", "cache_dir"):
        return f"`~/{value.relative_to(Path.home()).as_posix()}`"
    if isinstance(value, tuple):
        return "`" + ",".join(map(str, value)) + "`"
    return f"`{value}`" if isinstance(value, str) else str(value)


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} is not TOML: {error}.", "Correct it or remove it.") from None
    known = set(setting_names().values())
    for key in values:
        if key.upper() not in known:
            near = difflib.get_close_matches(key.upper(), known, 1)
            hint = f"Did you mean {near[0]}?" if near else "See the settings in README.md."
            raise BadInput(f"{path} sets {key}, which is no setting.", hint)
    return {key.upper(): value for key, value in values.items()}


def _explain(error: ValidationError) -> str:
    faults = []
    for fault in error.errors():
        field = str(fault["loc"][0]) if fault["loc"] else ""
        name = setting_names().get(field, field)
        said = fault["msg"].removeprefix("Value error, ")
        given = fault["input"]
        info = Settings.model_fields.get(field)
        if info is not None and not info.repr:
            given = "***"
        shown = f"{given.total_seconds():g}" if isinstance(given, timedelta) else given
        faults.append(f"{name}={shown!r}: {said}" if name else said)
    return "; ".join(faults) + "."
