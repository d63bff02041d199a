"""The command on what runs left."""

from __future__ import annotations

import codecs
import shutil
import sys
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import artifacts_table, err, print_json
from jobkit.errors import BadInput

if TYPE_CHECKING:
    from jobkit.handles import Artifact

LOOKED_AT = 64 << 10


def artifacts(
    run_id: o.RunId,
    name: Annotated[str | None, typer.Argument(help="One of them.", show_default=False)] = None,
    attempt: Annotated[int | None, typer.Option("--attempt", help="Of this attempt.")] = None,
    to: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it here.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """List the files that a run left, or write one of them to stdout or to a file."""
    with o.open_kit() as kit:
        if name is not None:
            _write_artifact(kit.artifact(run_id, name, attempt), to)
            return
        if to is not None:
            raise BadInput("--out names no artifact to write.", "Give its name after the run.")
        found = kit.artifacts(run_id, attempt)
        if as_json:
            print_json(found)
        else:
            artifacts_table(found)


def _write_artifact(found: Artifact, to: Path | None) -> None:
    with found.open() as source:
        if to is None or str(to) == "-":
            _refuse_bytes(found)
            shutil.copyfileobj(source, sys.stdout.buffer)
            sys.stdout.flush()
            return
        try:
            with to.open("wb") as file:
                shutil.copyfileobj(source, file)
        except OSError as error:
            raise BadInput(f"{to} cannot be written: {error}.", "Name another file.") from None
    err.print(f"{text.size(found.size)} in {escape(str(to))}")


def _refuse_bytes(found: Artifact) -> None:
    """Refuse to write what is no text to a terminal."""
    if not is_terminal():
        return
    with found.open() as file:
        beginning = codecs.getincrementaldecoder("utf-8")("strict")
        try:
            is_text = "\x00" not in beginning.decode(file.read(LOOKED_AT))
        except UnicodeDecodeError:
            is_text = False
    if not is_text:
        raise BadInput(
            f"{found.name} is not text, and this is a terminal.",
            f"Write it to a file: --out {PurePosixPath(found.name).name}",
        )


def is_terminal() -> bool:
    """Whether a person reads what is written."""
    return sys.stdout.isatty()
