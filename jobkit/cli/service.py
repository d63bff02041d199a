"""`jobkit service`: the programs that stay in the care of systemd, launchd or Windows."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobkit.cli import options as o
from jobkit.cli.show import err, print_json

if TYPE_CHECKING:
    from jobkit.service import Installation

app = typer.Typer(
    no_args_is_help=True, help="Scheduler, portal and workers as services of this machine."
)

OfMachine = Annotated[
    bool, typer.Option("--system", help="Start with the machine, not when you sign in.")
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="S", help="systemd, launchd or windows; else this machine's."),
]
Folder = Annotated[
    Path | None, typer.Option("--folder", help="Where they run, with the scripts; else here.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be written.")]
Force = Annotated[bool, typer.Option("--force", help="Also what somebody edited.")]
NoStart = Annotated[bool, typer.Option("--no-start", help="Only write the files.")]


@app.command()
def install(
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="How many.")] = 1,
    system: OfMachine = False,
    run_as: Annotated[
        str | None, typer.Option("--run-as", metavar="USER", help="Who they run as.")
    ] = None,
    folder: Folder = None,
    for_: For = None,
    dry_run: DryRun = False,
    force: Force = False,
    no_start: NoStart = False,
) -> None:
    """Write units and start them; the settings of this shell go with them."""
    installation = _installation(
        workers=workers, is_of_machine=system, user=run_as, folder=folder, system=for_
    )
    if dry_run:
        installation.check(force=force)
        _print(installation)
        return
    starts = installation.start()
    for outcome in installation.install(force=force):
        typer.echo(f"{outcome.did:9}  {outcome.path}")
    if no_start or not installation.is_here:
        typer.echo("Then run:" if no_start else f"{installation.plan.system} is not here. There:")
        for command in starts:
            typer.echo(f"  {command}")
        return
    for command in starts:
        typer.echo(f"$ {command}")
        command.run()
    err.print(installation.advice)


@app.command()
def status(system: OfMachine = False, for_: For = None, as_json: o.AsJson = False) -> None:
    """Say what is installed and what of it runs; exit 1 when something is missing or stopped."""
    installation = _installation(is_of_machine=system, system=for_)
    files = installation.status()
    runs = {}
    if installation.is_here:
        runs = {name: command.succeeds() for name, command in installation.ask().items()}
    if as_json:
        print_json({"files": {str(it.path): it.did for it in files}, "runs": runs})
    else:
        for outcome in files:
            typer.echo(f"{outcome.did:9}  {outcome.path}")
        for name, is_active in runs.items():
            typer.echo(f"{'runs' if is_active else 'stopped':9}  {name}")
    if any(it.did == "missing" for it in files) or not all(runs.values()):
        raise typer.Exit(1)


@app.command()
def uninstall(
    system: OfMachine = False, folder: Folder = None, for_: For = None, force: Force = False
) -> None:
    """Stop the services and remove their files; what somebody edited stays."""
    installation = _installation(is_of_machine=system, system=for_, folder=folder)
    if installation.is_here:
        for command in installation.stop(force=force):
            typer.echo(f"$ {command}")
            command.run()
    for outcome in installation.uninstall(force=force):
        typer.echo(f"{outcome.did:9}  {outcome.path}")
    if installation.is_here:
        for command in installation.settle():
            command.run()


def _installation(
    *,
    system: str | None,
    is_of_machine: bool,
    workers: int = 1,
    user: str | None = None,
    folder: Path | None = None,
) -> Installation:
    from jobkit import settings
    from jobkit.service import Installation, make_plan

    names = settings.setting_names().values()
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    if o.chosen.url is not None:
        given["JOBKIT_DB_URL"] = o.chosen.url
    plan = make_plan(
        settings.load(db_url=o.chosen.url),
        system=system,
        workers=workers,
        is_of_machine=is_of_machine,
        user=user,
        folder=folder,
        settings=given,
    )
    return Installation(plan)


def _print(installation: Installation) -> None:
    """Print the files as they would be, with no value of a setting."""
    for file in installation.files:
        typer.echo(f"==> {file.path} (mode {file.mode:04o})")
        typer.echo(_masked(file.marked) if file.is_settings else file.marked)
    for command in installation.start():
        typer.echo(f"$ {command}")


def _masked(text: str) -> str:
    lines = (
        line if line.startswith("#") or not line else f"{line.partition('=')[0]}=***"
        for line in text.split("\n")
    )
    return "\n".join(lines)
