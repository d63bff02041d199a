"""The command on coverage: which slots have no run that completed, and filling them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import document, out, print_json, table
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from jobkit.analytics.coverage import Coverage
    from jobkit.analytics.filling import Filled

MOST_LISTED = 20
STYLES = {
    "failed": "bold red",
    "missed": "yellow",
    "never dispatched": "yellow",
    "cancelled": "magenta",
    "running": "cyan",
}


def coverage(
    name: Annotated[str | None, typer.Argument(help="One job.", show_default=False)] = None,
    since: Annotated[str, typer.Option("--since", metavar="D", help="How far back.")] = "7d",
    fill: Annotated[bool, typer.Option("--fill", help="Make a run for each hole.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="With --fill: only say what would be run.")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Show every slot that should have been and has no run that completed."""
    if dry_run and not fill:
        raise BadInput("--dry-run says what --fill would do.", "Give both.")
    with o.open_kit() as kit:
        found = kit.log(since).coverage(job=name)
        would = found.fill(dry_run=True) if fill else None
        if not as_json:
            _show(found, kit.settings.timezone)
        if would is not None and not as_json:
            _show_filled(would)
        done = found.fill() if fill and not dry_run else would
        if as_json:
            print_json(_document(found, done))
        elif done is not None and not dry_run:
            out.print(done.words)


def _show(found: Coverage, zone: str) -> None:
    rows = [(escape(figure.job), figure.words) for figure in found.figures]
    table(("job", "coverage"), rows, "No slot was due. See the schedules: jobkit job list")
    if len(rows) > 1:
        out.print(f"[bold]all[/]: {found.total.words}")
    amiss = found.amiss
    if amiss:
        out.print()
        listed = [
            (
                escape(slot["job"]),
                text.instant(slot["slot"], zone),
                f"[{STYLES.get(slot['mark'], 'default')}]{slot['mark']}[/]",
                slot["run_id"],
                escape((slot["reason"] or "").partition("\n")[0]),
            )
            for slot in amiss[-MOST_LISTED:]
        ]
        table(("job", "slot", "mark", "run", "why"), listed, "")
    if len(amiss) > MOST_LISTED:
        out.print(f"and {len(amiss) - MOST_LISTED} before; all: jobkit coverage --json")


def _show_filled(would: Filled) -> None:
    out.print()
    out.print(escape(repr(would)))


def _document(found: Coverage, filled: Filled | None) -> dict[str, Any]:
    return {
        "start": document(found.start),
        "end": document(found.window.end),
        "jobs": [
            {
                "job_id": figure.job_id,
                "job": figure.job,
                "slots": figure.slots,
                "covered": figure.covered,
                "share": figure.share,
                "counts": dict(figure.counts),
                "words": figure.words,
            }
            for figure in found.figures
        ],
        "amiss": document(found.amiss),
        "filled": document(filled),
    }
