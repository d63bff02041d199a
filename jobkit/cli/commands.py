"""The `jobkit` command: every command and what it is called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

import jobkit
from jobkit import text
from jobkit.cli import (
    accounts,
    alerts,
    archive,
    artifacts,
    audit,
    coverage,
    database,
    jobs,
    metrics,
    notices,
    pings,
    programs,
    runs,
    service,
    sql,
    testing,
)
from jobkit.cli import options as o
from jobkit.cli.show import examination_table, findings_table, out, print_json
from jobkit.errors import BadInput

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="A job scheduler for data teams: one database, any number of schedulers and workers.",
)
app.add_typer(jobs.app, name="job")
app.add_typer(database.app, name="db")
app.add_typer(archive.app, name="archive")
app.add_typer(metrics.app, name="metrics")
app.add_typer(alerts.app, name="alert")
app.add_typer(notices.app, name="notice")
app.add_typer(audit.app, name="audit")
app.add_typer(accounts.users, name="user")
app.add_typer(accounts.tokens, name="token")
app.add_typer(testing.app, name="testing")
app.add_typer(service.app, name="service")

COMMANDS: tuple[Callable[..., None], ...] = (
    programs.up,
    programs.scheduler,
    programs.worker,
    programs.portal,
    runs.run,
    runs.runs,
    runs.show,
    runs.logs,
    artifacts.artifacts,
    runs.cancel,
    runs.retry,
    pings.ping,
    runs.workers,
    runs.queue,
    runs.stats,
    coverage.coverage,
    sql.sql,
)
for command in COMMANDS:
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        out.print(f"jobkit {jobkit.__version__}")
        raise typer.Exit


@app.callback()
def root(
    db: Annotated[
        str | None, typer.Option("--db", metavar="URL", help="The database; see JOBKIT_DB_URL.")
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Remember what was given before the command."""
    o.chosen.url = db


@app.command()
def preview(
    cron: o.Cron = None,
    every: o.Every = None,
    hourly: o.Hourly = None,
    daily: o.Daily = None,
    weekly: o.Weekly = None,
    monthly: o.Monthly = None,
    at: o.At = None,
    tz: o.Zone = None,
    after: Annotated[str | None, typer.Option("--after", metavar="T", help="Not now.")] = None,
    count: Annotated[int, typer.Option("--count", help="How many.")] = 5,
    as_json: o.AsJson = False,
) -> None:
    """Show the next slots of a schedule, in words, in local time and in UTC."""
    from jobkit import settings

    given: dict[str, Any] = {
        "cron": cron,
        "every": every,
        "hourly": hourly,
        "daily": daily,
        "weekly": weekly,
        "monthly": monthly,
        "at": at,
        "tz": tz,
    }
    timing = {word: value for word, value in given.items() if value is not None}
    if not timing.keys() - {"tz"}:
        raise BadInput("There is no schedule to preview.", "Give one: --cron '*/15 8-18 * * 1-5'.")
    zone = tz or settings.load().timezone
    start = text.parse_instant(after, _known(zone)) if after else None
    slots = jobkit.preview(after=start, count=count, **timing)
    if as_json:
        print_json(slots)
        return
    out.print(f"[bold]{jobkit.describe(after=start, **timing)}[/] ({zone})")
    for slot in slots:
        out.print(f"{text.instant(slot, zone):28} {text.iso(slot)}")


def _known(zone: str) -> str:
    from jobkit.schedule import Schedule

    Schedule(type="daily", timezone=zone, time="00:00").validate()
    return zone


@app.command()
def backfill(
    name: o.Name,
    from_: Annotated[str, typer.Option("--from", metavar="T", help="The first instant.")],
    to: Annotated[str, typer.Option("--to", metavar="T", help="The last instant.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be run.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also what was successful.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="How many run at once.")] = 1,
    as_json: o.AsJson = False,
) -> None:
    """Make runs for a job's past slots; those that were successful are skipped."""
    with o.open_kit() as kit:
        zone = kit.job(name).timezone
        start, end = text.parse_instant(from_, zone), text.parse_instant(to, zone)
        done = kit.backfill(name, start, end, again=again, limit=limit, dry_run=dry_run)
        if as_json:
            print_json(done)
            return
        verb = "would make" if dry_run else "made"
        out.print(f"{verb} {len(done.slots)} runs; {len(done.skipped)} slots need none")
        for slot in done.slots[:20]:
            out.print(f"  {text.instant(slot, zone)}")
        if len(done.slots) > 20:
            out.print(f"  and {len(done.slots) - 20} more")


@app.command()
def verify(
    since: Annotated[
        str | None, typer.Option("--since", metavar="D", help="Leave out what is older.")
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Audit the laws on this database, reading only; exit 1 when one is broken."""
    with o.open_kit() as kit:
        findings = kit.verify(since)
    if as_json:
        print_json(findings)
    else:
        findings_table(findings)
    if any(finding.broken for finding in findings):
        raise typer.Exit(1)


@app.command()
def doctor(as_json: o.AsJson = False) -> None:
    """Look for what is wrong with this installation, and say what to do; exit 1 if anything is."""
    from jobkit import doctor as doctors
    from jobkit import settings

    found = doctors.examine(settings.load(db_url=o.chosen.url))
    if as_json:
        print_json(found)
    else:
        examination_table(found)
    if not found.is_well:
        raise typer.Exit(1)
