"""`jobkit ping`: a job that runs elsewhere reports itself."""

from __future__ import annotations

from typing import Annotated

import typer

from jobkit.cli import options as o
from jobkit.cli.show import out, print_json
from jobkit.errors import BadInput


def ping(
    name: o.Name,
    start: Annotated[bool, typer.Option("--start", help="It starts.")] = False,
    fail: Annotated[bool, typer.Option("--fail", help="It failed.")] = False,
    exit_code: Annotated[
        int | None, typer.Option("--exit-code", metavar="N", help="It ended: 0 is a success.")
    ] = None,
    message: Annotated[
        str, typer.Option("--message", metavar="T", help="What it said; kept as its output.")
    ] = "",
    run: Annotated[
        int | None,
        typer.Option("--run", metavar="RUN", help="Which run it is, as --start printed."),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Report a job that runs elsewhere: that it ended well, or how else; prints the run's id."""
    if start + fail + (exit_code is not None) > 1:
        raise BadInput("A ping says one thing.", "Give one of --start, --fail and --exit-code.")
    signal = "start" if start else "fail" if fail or exit_code else "success"
    with o.open_kit() as kit:
        made = kit.ping(name, signal, exit_code=exit_code, message=message, run_id=run)
    if as_json:
        print_json(made)
    else:
        out.print(made.id)
