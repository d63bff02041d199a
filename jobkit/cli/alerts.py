"""`jobkit alert …`: what fires, who looks after it, and what is muted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import err, out, pairs, print_json, table
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from jobkit.listings.alerts import Alert

app = typer.Typer(no_args_is_help=True, help="What fires, who looks after it, what is muted.")

AlertId = Annotated[int, typer.Argument(metavar="ALERT", help="Its id.", show_default=False)]
OfJob = Annotated[str | None, typer.Option("--job", metavar="NAME", help="Of this job.")]
Everything = Annotated[bool, typer.Option("--all", help="Of all jobs, and of the installation.")]
STYLES = {"critical": "bold red", "warning": "yellow"}


@app.command("list")
def list_(
    job: OfJob = None,
    over: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    limit: Annotated[int, typer.Option("--limit", help="How many at most.")] = 100,
    as_json: o.AsJson = False,
) -> None:
    """List the alerts that fire, the newest first."""
    with o.open_kit() as kit:
        found = kit.alerts(job=job, is_open=None if over else True, limit=limit)
        mutes, now = kit.alerts.mutes(), kit.clock.now()
        has_scheduler = kit.alerts.has_scheduler()
    if as_json:
        print_json(found)
        return
    if not has_scheduler:
        err.print("[bold red]No scheduler is there: nothing looks after alerts.[/]")
    _table(found, now)
    for mute in mutes:
        of = escape(mute.job_name or "everything")
        ends = text.age(mute.until, now)
        out.print(f"[dim]muted: {of}, ends {ends}, by {escape(mute.muted_by)}[/]")


def _table(found: Sequence[Alert], now: datetime) -> None:
    table(
        ("alert", "since", "severity", "state", "what"),
        (
            (
                alert.id,
                text.age(alert.opened_at, now),
                f"[{STYLES.get(alert.severity, 'default')}]{alert.severity}[/]",
                _state(alert),
                escape(alert.about),
            )
            for alert in found
        ),
        "Nothing fires.",
    )


def _state(alert: Alert) -> str:
    if not alert.is_open:
        return "resolved"
    if alert.acknowledged_by is not None:
        return f"firing, {escape(alert.acknowledged_by)} looks after it"
    return "firing" if alert.told_at is not None else "firing, not told"


@app.command()
def show(alert_id: AlertId, as_json: o.AsJson = False) -> None:
    """Show an alert."""
    with o.open_kit() as kit:
        alert, now = kit.alerts[alert_id], kit.clock.now()
    if as_json:
        print_json(alert)
        return
    pairs(
        (
            ("alert", alert.id),
            ("what", escape(alert.about)),
            ("kind", alert.kind),
            ("severity", alert.severity),
            ("state", _state(alert)),
            ("since", f"{text.instant(alert.opened_at)}, {text.age(alert.opened_at, now)}"),
            ("told", text.instant(alert.told_at)),
            ("acknowledged", text.instant(alert.acknowledged_at)),
            ("over", text.instant(alert.resolved_at)),
            ("how", escape(alert.resolution or "")),
            ("run", alert.run_id),
        )
    )


@app.command()
def ack(alert_id: AlertId) -> None:
    """Say that somebody looks after an alert: no reminders."""
    with o.open_kit() as kit:
        alert = kit.alerts.ack(alert_id)
    out.print(f"{escape(alert.acknowledged_by or '')} looks after alert {alert.id}")


@app.command()
def mute(
    until: Annotated[str, typer.Argument(metavar="UNTIL", help="An instant, or for so long: 2h.")],
    job: OfJob = None,
    everything: Everything = False,
) -> None:
    """Tell nothing until an instant; what still fires then is told then."""
    _check(job, everything)
    with o.open_kit() as kit:
        made = kit.alerts.mute(until, job=job)
    out.print(f"{escape(job or 'everything')} is muted until {text.instant(made.until)}")


@app.command()
def unmute(job: OfJob = None, everything: Everything = False) -> None:
    """Tell again."""
    _check(job, everything)
    with o.open_kit() as kit:
        kit.alerts.unmute(job=job)
    out.print(f"{escape(job or 'everything')} is not muted any more")


def _check(job: str | None, everything: bool) -> None:
    if (job is None) != everything:
        raise BadInput("Of what is not said.", "Give --job NAME or --all.")


@app.command("test")
def send_test(as_json: o.AsJson = False) -> None:
    """Send a message by every channel, to see that it arrives."""
    with o.open_kit() as kit:
        channels = kit.alerts.test()
    if as_json:
        print_json(channels)
    elif channels:
        out.print(f"a test message goes to {escape(', '.join(channels))}")
    if not channels:
        err.print(
            "No scheduler serves a channel: nothing is sent. docs/alerts.md says how to set one."
        )
        raise typer.Exit(1)
