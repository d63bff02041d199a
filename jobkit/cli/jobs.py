"""`jobkit job …`: define jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import jobs_table, out, pairs, print_json, status
from jobkit.errors import BadInput
from jobkit.states import EXTERNAL

if TYPE_CHECKING:
    from jobkit.handles import Job

app = typer.Typer(no_args_is_help=True, help="Define jobs.")

Target = Annotated[
    str | None,
    typer.Argument(help="The script; with --external where it runs.", show_default=False),
]
Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ARG]...", help="The script's arguments; after -- if they have dashes."
    ),
]


@app.command()
def add(
    name: o.Name,
    target: Target = None,
    args: Arguments = None,
    cron: o.Cron = None,
    every: o.Every = None,
    hourly: o.Hourly = None,
    daily: o.Daily = None,
    weekly: o.Weekly = None,
    monthly: o.Monthly = None,
    at: o.At = None,
    tz: o.Zone = None,
    starts_at: o.StartsAt = None,
    ends_at: o.EndsAt = None,
    param: o.Params = None,
    tag: o.Tags = None,
    queue: o.Queue = None,
    priority: o.Priority = None,
    timeout: o.Timeout = None,
    retries: o.Retries = None,
    retry_delay: o.RetryDelay = None,
    misfire: o.Misfire = None,
    misfire_window: o.MisfireWindow = None,
    overlap: o.Overlap = None,
    start_deadline: o.StartDeadline = None,
    on_worker_lost: o.OnWorkerLost = None,
    kind: o.Kind = None,
    external: o.External = False,
    embed: o.Embed = False,
    python: o.Python = None,
    memory: o.Memory = None,
    nice: o.Nice = None,
    cwd: o.WorkingDir = None,
    env: o.EnvVars = None,
    secret: o.Secrets = None,
    isolation: o.Isolation = None,
    keep_kernel: o.KeepKernel = None,
    cell_timeout: o.CellTimeout = None,
    keep: o.Keep = None,
    alert: o.Alerts = None,
    as_json: o.AsJson = False,
) -> None:
    """Add a job; without a schedule it runs on demand."""
    given = _given(locals(), "name", "target", "args", "external")
    if external:
        given["kind"] = EXTERNAL
    if target is None and not external:
        raise BadInput(f"{name!r} names no script to run.", "Give one, or --external.")
    with o.open_kit() as kit:
        job = kit.add_job(name, target or "elsewhere", *(args or ()), **given)
        _said(job, "added", as_json)


@app.command()
def edit(
    name: o.Name,
    target: Annotated[str | None, typer.Option("--target", help="Another script.")] = None,
    arg: Annotated[list[str] | None, typer.Option("--arg", help="Its arguments, one each.")] = None,
    cron: o.Cron = None,
    every: o.Every = None,
    hourly: o.Hourly = None,
    daily: o.Daily = None,
    weekly: o.Weekly = None,
    monthly: o.Monthly = None,
    at: o.At = None,
    tz: o.Zone = None,
    starts_at: o.StartsAt = None,
    ends_at: o.EndsAt = None,
    param: o.Params = None,
    tag: o.Tags = None,
    queue: o.Queue = None,
    priority: o.Priority = None,
    timeout: o.Timeout = None,
    retries: o.Retries = None,
    retry_delay: o.RetryDelay = None,
    misfire: o.Misfire = None,
    misfire_window: o.MisfireWindow = None,
    overlap: o.Overlap = None,
    start_deadline: o.StartDeadline = None,
    on_worker_lost: o.OnWorkerLost = None,
    kind: o.Kind = None,
    embed: o.Embed = False,
    python: o.Python = None,
    memory: o.Memory = None,
    nice: o.Nice = None,
    cwd: o.WorkingDir = None,
    env: o.EnvVars = None,
    secret: o.Secrets = None,
    isolation: o.Isolation = None,
    keep_kernel: o.KeepKernel = None,
    cell_timeout: o.CellTimeout = None,
    keep: o.Keep = None,
    alert: o.Alerts = None,
    as_json: o.AsJson = False,
) -> None:
    """Change a job: what is not given stays; a changed schedule starts from now."""
    given = _given(locals(), "name", "arg")
    with o.open_kit() as kit:
        _said(kit.edit(name, args=arg, **given), "changed", as_json)


def _given(values: dict[str, Any], *without: str) -> dict[str, Any]:
    """Return the keywords of `Kit.add_job` for what was given on the command line."""
    read = {*without, "param", "tag", "env", "secret", "alert", "embed", "as_json"}
    given = {key: value for key, value in values.items() if value is not None and key not in read}
    if values["param"]:
        given["params"] = o.read_params(values["param"])
    if values["tag"]:
        given["tags"] = values["tag"]
    if values["env"]:
        given["env_vars"] = text.parse_pairs("--env", values["env"])
    if values["secret"]:
        given["secrets"] = values["secret"]
    if values["alert"]:
        given["alerts"] = values["alert"]
    if values["embed"]:
        given["source"] = o.read_source(_to_embed(values["target"]))
    return given


def _to_embed(target: str | None) -> str:
    if target is None:
        raise BadInput("--embed names no script.", "Add --target SCRIPT.")
    return target


def _said(job: Job, what: str, as_json: bool) -> None:
    if as_json:
        print_json(job)
        return
    upcoming = f"; next {text.instant(job.next_run, job.timezone)}" if job.next_run else ""
    out.print(f"{what} [bold]{escape(job.name)}[/]: {escape(job.schedule)}{upcoming}")


@app.command("list")
def list_(as_json: o.AsJson = False) -> None:
    """List the jobs."""
    with o.open_kit() as kit:
        jobs = list(kit.jobs)
        if as_json:
            print_json(jobs)
        else:
            jobs_table(jobs, kit.clock.now())


@app.command()
def show(name: o.Name, as_json: o.AsJson = False) -> None:
    """Show a job: its definition, its next slots, its versions."""
    from jobkit import alerting  # it brings cron, which no help needs

    with o.open_kit() as kit:
        job = kit.job(name)
        if as_json:
            print_json(job)
            return
        now = kit.clock.now()
        pairs(
            (
                ("job", escape(job.name)),
                ("script", escape(" ".join([job.script_path, *job.args]))),
                ("executed", _executed(job)),
                ("schedule", f"{escape(job.schedule)} ({job.timezone})"),
                ("state", "active" if job.is_active else "paused"),
                ("next", ", ".join(text.instant(slot, job.timezone) for slot in job.next(3))),
                ("tags", ", ".join(job.tags)),
                ("queue", f"{job.queue}, priority {job.priority}"),
                ("timeout", _timeout(job)),
                ("takes", job.expectation().numbers),
                ("retries", f"{job.max_retries}, after {text.duration(job.retry_delay)}"),
                ("misfire", f"{job.misfire_policy}, within {text.duration(job.misfire_window)}"),
                ("overlap", job.overlap_policy),
                ("start deadline", text.duration(job.start_deadline)),
                ("alerts", " ".join(alerting.words(job.alerts))),
                ("parameters", job.params),
            )
        )
        for version in job.versions():
            changed = ", ".join(version.changes) or version.change
            age = text.age(version.changed_at, now)
            out.print(f"[dim]version {version.version}: {version.changed_by}, {age}: {changed}[/]")
        for run in job.runs(5):
            out.print(f"run {run.id} {status(run.status)} {text.age(run.created_at, now)}")


def _timeout(job: Job) -> str:
    if job.timeout_policy == "auto":
        return f"auto, {job.expectation().timeout_words}"
    return text.duration(job.timeout)


def _executed(job: Job) -> str:
    """Say what differs from the usual way of execution."""
    said = {
        "kind": job.kind,
        "text kept with the job": job.source and text.size(len(job.source.encode())),
        "python": job.python,
        "memory": job.memory_limit_bytes and text.size(job.memory_limit_bytes),
        "nice": job.nice,
        "in": job.working_dir,
        "variables": ", ".join(job.variables or ()),
        "secrets": ", ".join(job.secrets or ()),
        "isolation": job.isolation,
        "keep_kernel_seconds": job.keep_kernel_seconds,
    }
    return escape("; ".join(f"{name} {value}" for name, value in said.items() if value))


@app.command()
def pause(name: o.Name) -> None:
    """Stop a job's schedule; what is unfinished goes on."""
    with o.open_kit() as kit:
        kit.pause(name)
        out.print(f"paused [bold]{escape(name)}[/]")


@app.command()
def resume(
    name: o.Name,
    catch_up: Annotated[
        bool, typer.Option("--catch-up", help="Treat the slots that passed by the misfire policy.")
    ] = False,
) -> None:
    """Start a paused schedule again, from now."""
    with o.open_kit() as kit:
        _said(kit.resume(name, catch_up=catch_up), "resumed", as_json=False)


@app.command()
def delete(name: o.Name) -> None:
    """Delete a job and end its unfinished runs; its history stays."""
    with o.open_kit() as kit:
        kit.delete(name)
        out.print(f"deleted [bold]{escape(name)}[/]")


@app.command("next")
def next_(
    name: o.Name,
    count: Annotated[int, typer.Option("--count", help="How many.")] = 5,
    as_json: o.AsJson = False,
) -> None:
    """Show a job's next slots."""
    with o.open_kit() as kit:
        job = kit.job(name)
        slots = job.next(count)
        if as_json:
            print_json(slots)
        for slot in () if as_json else slots:
            out.print(f"{text.instant(slot, job.timezone)}   {text.iso(slot)}")
