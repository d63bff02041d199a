"""`jobkit notice …`: what people were told, and what nobody took."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import err, out, print_json, table

app = typer.Typer(no_args_is_help=True, help="What people were told, and what nobody took.")

STYLES = {"sent": "green", "waiting": "yellow", "given up": "bold red"}


@app.callback()
def root() -> None:
    """Let `list` be a word of its own, although it is the only one."""


@app.command("list")
def list_(
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="Of this job.")] = None,
    state: Annotated[
        str | None, typer.Option("--state", metavar="S", help="sent, waiting or 'given up'.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many at most.")] = 50,
    as_json: o.AsJson = False,
) -> None:
    """List the notices, the newest first."""
    with o.open_kit() as kit:
        found, now = kit.notices(job=job, state=state, limit=limit), kit.clock.now()
        channels = kit.notices.channels()
    if as_json:
        print_json(found)
        return
    table(
        ("notice", "posted", "channel", "state", "subject", "why"),
        (
            (
                notice.id,
                text.age(notice.created_at, now),
                escape(notice.channel),
                f"[{STYLES[notice.state]}]{notice.state}[/]",
                escape(notice.subject),
                escape(notice.error or ""),
            )
            for notice in found
        ),
        "There is none.",
    )
    if channels:
        out.print(f"[dim]channels: {escape(', '.join(channels))}[/]")
    else:
        err.print("No scheduler sends notices: set JOBKIT_NOTIFY_URLS of one.")
