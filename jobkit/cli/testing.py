"""Commands for trials and benchmarks."""

from __future__ import annotations

from typing import Annotated

import typer

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import out, print_json

app = typer.Typer(no_args_is_help=True, help="Made-up data, for benchmarks and trials.")


@app.callback()
def root() -> None:
    """Keep `generate-history` a command of its own, although it is the only one."""


@app.command("generate-history")
def generate_history(
    attempts: Annotated[int, typer.Option("--attempts", metavar="N", help="How many.")],
    months: Annotated[float, typer.Option("--months", metavar="M", help="Over how long.")],
    seed: Annotated[int, typer.Option("--seed", help="Another one is another history.")] = 0,
    now: Annotated[
        str | None, typer.Option("--now", metavar="T", help="Where it ends, if not now.")
    ] = None,
    output_bytes: Annotated[
        int, typer.Option("--output-bytes", metavar="N", help="What an attempt prints, about.")
    ] = 300,
    as_json: o.AsJson = False,
) -> None:
    """Fill an empty database with a history that looks real and breaks no law."""
    from jobkit.testing.history import generate

    with o.open_kit() as kit:
        made = generate(
            kit.database,
            attempts=attempts,
            months=months,
            now=text.parse_instant(now) if now else kit.clock.now(),
            seed=seed,
            output_bytes=output_bytes,
        )
    if as_json:
        print_json(made)
        return
    span = f"{text.instant(made.start)} to {text.instant(made.end)}"
    out.print(f"made {made.attempts} attempts of {made.runs} runs of {made.jobs} jobs, {span}")
