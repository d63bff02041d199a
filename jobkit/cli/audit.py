"""`jobkit audit`: who did what, when and from where."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import err, out, print_json, table
from jobkit.errors import BadInput

app = typer.Typer(no_args_is_help=True, help="Who did what, when and from where.")

Some = Annotated[str | None, typer.Option(metavar="TEXT", help="Some of its text.")]
File = Annotated[
    Path | None, typer.Argument(metavar="FILE", help="What was exported.", show_default=False)
]


@app.command("list")
def list_deeds(
    who: Some = None,
    what: Some = None,
    about: Some = None,
    face: Annotated[
        str | None,
        typer.Option("--face", help="command line, python, notebook, portal or API."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="T|D", help="An instant, or an age like 7d.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", help="How many.")] = 50,
    as_json: o.AsJson = False,
) -> None:
    """List what was done, the newest first."""
    with o.open_kit() as kit:
        found = kit.audit(who, what=what, about=about, face=face, since=since, limit=limit)
        zone = kit.settings.timezone
    if as_json:
        print_json(found)
        return
    table(
        ("when", "who", "what", "about", "by", "from"),
        (
            (
                text.instant(deed.at, zone),
                escape(deed.who),
                escape(deed.what),
                escape(deed.about),
                deed.face,
                deed.address,
            )
            for deed in found
        ),
        "Nothing was done.",
    )


@app.command()
def export(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Not stdout.", show_default=False),
    ] = None,
    after: Annotated[
        int, typer.Option("--after", metavar="N", help="Only what follows row N.")
    ] = 0,
) -> None:
    """Write the audit with its hashes, a line of JSON for each row, so that others can check it."""
    count = 0
    with o.open_kit() as kit, _written(file) as lines:
        for line in kit.audit.export(after):
            lines.write(line + "\n")
            count += 1
    err.print(f"{count} rows")


@app.command()
def verify(file: File = None, as_json: o.AsJson = False) -> None:
    """Follow the chain of hashes, reading only; exit 1 and the first broken row when it breaks.

    With FILE the rows must also be those that were exported.
    """
    with o.open_kit() as kit:
        if file is None:
            found = kit.audit.verify()
        else:
            with _read(file) as lines:
                found = kit.audit.verify(lines)
    if as_json:
        print_json(found)
    elif found.fault:
        out.print(f"[bold red]{escape(found.fault)}[/]")
    else:
        out.print(f"{found.rows} rows are as they were written, {found.unsealed} not sealed yet")
        out.print(f"the last hash: {found.sha256}")
    if found.fault:
        raise typer.Exit(1)


@contextmanager
def _written(file: Path | None) -> Iterator[IO[str]]:
    if file is None:
        yield typer.get_text_stream("stdout", encoding="utf-8")
        return
    try:
        with file.open("w", encoding="utf-8") as lines:
            yield lines
    except OSError as error:
        raise BadInput(f"{file} cannot be written: {error}.", "Name another file.") from None


@contextmanager
def _read(file: Path) -> Iterator[IO[str]]:
    try:
        with file.open(encoding="utf-8") as lines:
            yield lines
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{file} cannot be read: {error}.", "Name what was exported.") from None
