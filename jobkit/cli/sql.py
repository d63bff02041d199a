"""The command that asks the history in SQL."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import err, print_json, table

SHOWN_ROWS = 1000


def sql(
    statement: Annotated[
        str, typer.Argument(help="A SELECT over runs, attempts, slots, jobs and workers.")
    ],
    since: Annotated[str, typer.Option("--since", metavar="D", help="How far back.")] = "30d",
    limit: Annotated[int, typer.Option("--limit", min=1, help="The most rows.")] = SHOWN_ROWS,
    as_json: o.AsJson = False,
) -> None:
    """Ask the history, hot and archived, in SQL; it can only be read."""
    with o.open_kit() as kit:
        report = kit.log(since).sql(statement, limit=limit)
    names, rows = report.df.columns, report.df.rows()
    if as_json:
        print_json([dict(zip(names, map(_plain, row), strict=True)) for row in rows])
    else:
        table(names, [tuple(escape(_said(value)) for value in row) for row in rows], "No rows.")
    if report.missing:
        err.print(f"[yellow]not read:[/] {escape(', '.join(report.missing))}")


def _plain(value: Any) -> Any:
    return text.iso(value) if isinstance(value, datetime) else value


def _said(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:%Y-%m-%d %H:%M:%S}" if isinstance(value, datetime) else str(value)
