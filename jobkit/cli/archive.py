"""The commands on the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import err, out, print_json, table

if TYPE_CHECKING:
    from jobkit.archive import Checked, Passed

app = typer.Typer(help="Months of old runs as Parquet files, in a folder or a bucket.")


@app.callback(invoke_without_command=True)
def archive(
    context: typer.Context,
    before: Annotated[
        str | None,
        typer.Option(
            "--before", metavar="T|D", help="Runs that ended before an instant, or an age like 90d."
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="A folder or s3://bucket/prefix."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would leave.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Archive old runs: by default those of months that ended JOBKIT_ARCHIVE_AFTER_DAYS ago."""
    if context.invoked_subcommand is not None:
        return
    with o.open_kit() as kit:
        passed = kit.archive.run(before, to, dry_run=dry_run)
    if as_json:
        print_json(passed)
    else:
        _tell(passed, "would leave" if dry_run else "archived")
    if passed.faults:
        raise typer.Exit(1)


def _tell(passed: Passed, verb: str) -> None:
    rows = [
        (part.month, part.runs, part.attempts or "", text.size(part.bytes) if part.bytes else "")
        for part in passed.parts
    ]
    table(("month", f"runs {verb}", "attempts", "size"), rows, "Nothing is old enough to leave.")
    if passed.removed:
        err.print(f"{len(passed.removed)} parts of earlier passes have left the tables now")
    if passed.swept:
        err.print(f"swept {passed.swept} files that no manifest names")
    for fault in passed.faults:
        err.print(f"[bold red]{escape(fault)}[/]")


@app.command()
def verify(as_json: o.AsJson = False) -> None:
    """Read and recount every file; exit 1 when one is missing or damaged, or a run is twice."""
    with o.open_kit() as kit:
        checked = kit.archive.verify()
    if as_json:
        print_json(checked)
    else:
        _tell_checked(checked)
    if checked.faults:
        raise typer.Exit(1)


def _tell_checked(checked: Checked) -> None:
    out.print(
        f"{checked.files} files, {checked.runs} runs, {checked.attempts} attempts, "
        f"{text.size(checked.bytes)}: {len(checked.faults)} faults"
    )
    for fault in checked.faults:
        out.print(f"[bold red]{fault.month}[/] {escape(fault.url)}: {escape(fault.words)}")


@app.command()
def restore(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="YYYY-MM.", show_default=False)],
    as_json: o.AsJson = False,
) -> None:
    """Bring a month back into the tables, ids and output included."""
    with o.open_kit() as kit:
        restored = kit.archive.restore(month)
    if as_json:
        print_json(restored)
    else:
        out.print(f"{restored.runs} runs of {restored.month} are in the tables again")
