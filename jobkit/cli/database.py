"""The commands on the database itself: its schema, and copies of a SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import err, out, print_json

if TYPE_CHECKING:
    from jobkit.backup import Restored
    from jobkit.migrations import Standing

app = typer.Typer(no_args_is_help=True, help="The database: its schema and its backups.")


@app.command("upgrade")
def upgrade(
    force: Annotated[bool, typer.Option("--force", help="Ask nothing.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Bring the database to this program's schema; an older system's tables are adopted."""
    from jobkit import migrations, settings
    from jobkit.db import Database

    chosen = settings.load(db_url=o.chosen.url)
    opened = Database(chosen.db_url)
    found = migrations.standing(opened)
    opened.close()
    if not force and _is_terminal():
        _ask(opened.name, found)
    before = migrations.upgrade(chosen.db_url, max_retries=chosen.max_retry_attempts)
    if as_json:
        print_json({"from": before.revision, "to": before.head, "adopted": before.adoptable})
    elif before.is_current:
        out.print(f"{opened.name} is at revision {before.head}: nothing to do")
    elif before.is_ahead:
        out.print(_ahead(opened.name, before.revision, before.head))
    else:
        out.print(f"{opened.name} is now at revision {before.head}")
        for name, count in before.adoptable.items():
            out.print(f"  adopted {count} rows of {name}")


def _ask(name: str, found: Standing) -> None:
    """Let a person confirm what the programs that use a database now do not survive."""
    if found.adoptable:
        err.print(f"{name} holds the tables of an older system:")
        for table, count in found.adoptable.items():
            err.print(f"  {table}: {count} rows")
        err.print("They are brought into the new shape in one transaction; every row is kept.")
        err.print("Stop the older system's programs first, and keep a copy of the database.")
        typer.confirm("Adopt them?", abort=True, err=True)
    elif found.stops_others:
        err.print(f"Programs that use {name} now cannot go on after this upgrade.")
        typer.confirm("Are all of them stopped?", abort=True, err=True)


@app.command("check")
def check(as_json: o.AsJson = False) -> None:
    """Say whether the database answers and is at this program's revision."""
    from jobkit import migrations, settings
    from jobkit.db import Database

    opened = Database(settings.load(db_url=o.chosen.url).db_url)
    found = migrations.standing(opened)
    opened.close()
    if as_json:
        print_json({"url": opened.name, "revision": found.revision, "head": found.head})
    else:
        out.print(f"{opened.name}: revision {found.revision or 'none'}, this program {found.head}")
    if found.is_ahead:
        err.print(_ahead(opened.name, found.revision, found.head))
    elif not found.is_current:
        err.print("Run: jobkit db upgrade")
        raise typer.Exit(1)


@app.command()
def backup(
    file: Annotated[str, typer.Argument(help="The file to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that exists.")] = False,
    as_json: o.AsJson = False,
) -> None:
    """Copy a SQLite database to a file while programs use it; the copy is checked."""
    from jobkit import backup as backups
    from jobkit import settings

    made = backups.back_up(settings.load(db_url=o.chosen.url), file, force=force)
    if as_json:
        print_json(made)
        return
    out.print(f"{escape(made.file)}: {text.size(made.bytes)}, revision {made.revision or 'none'}")
    out.print(f"  {_counted(made.runs)}")
    out.print("It does not hold, so keep as well:")
    for words in made.beside:
        out.print(f"  {escape(words)}")


@app.command()
def restore(
    file: Annotated[str, typer.Argument(help="A backup.", show_default=False)],
    force: Annotated[
        bool, typer.Option("--force", help="Though programs use the database, or it is damaged.")
    ] = False,
    as_json: o.AsJson = False,
) -> None:
    """Let a SQLite database hold what a backup holds; what it held is kept beside it."""
    from jobkit import backup as backups
    from jobkit import settings
    from jobkit.listings import author

    chosen = settings.load(db_url=o.chosen.url)
    done = backups.restore(chosen, file, force=force, by=author.here())
    if as_json:
        print_json(done)
        return
    out.print(f"{escape(done.file)} holds what {escape(file)} held")
    _tell_restored(done)


def _tell_restored(done: Restored) -> None:
    out.print(f"  {_counted(done.runs)}")
    if done.former is not None:
        out.print(f"  what it held before is in {escape(done.former)}")
    out.print("It is of its time, and these are of today:")
    for words in done.beside:
        out.print(f"  {escape(words)}")
    if done.needs_upgrade:
        err.print("Run: jobkit db upgrade")


def _counted(runs: dict[str, int]) -> str:
    unfinished = runs.get("PENDING", 0) + runs.get("IN_PROGRESS", 0)
    return f"{sum(runs.values())} runs, {unfinished} of them unfinished"


def _ahead(name: str, revision: str | None, head: str) -> str:
    return (
        f"{name} is at revision {revision}, newer than this program's {head}, which may go on "
        "with it: nothing to do"
    )


def _is_terminal() -> bool:
    return typer.get_text_stream("stdin").isatty()
