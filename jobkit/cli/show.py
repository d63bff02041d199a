"""How the command line shows things: Rich tables for people, one JSON document for programs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from jobkit import text

if TYPE_CHECKING:
    from jobkit.doctor import Examination
    from jobkit.handles import Artifact, Job, Run
    from jobkit.verify import Finding

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

STYLES = {
    "PENDING": "yellow",
    "IN_PROGRESS": "cyan",
    "COMPLETED": "green",
    "FAILED": "bold red",
    "TIMEOUT": "bold red",
    "CANCELLED": "magenta",
    "SKIPPED": "dim",
    "MISSED": "yellow",
    "SUCCESS": "green",
    "FAILURE": "bold red",
    "ERROR": "bold red",
    "LOST": "bold red",
    "RELEASED": "dim",
    "IDLE": "green",
    "BUSY": "cyan",
    "DRAINING": "yellow",
    "OFFLINE": "dim",
}


def document(value: Any) -> Any:
    """Turn what a Kit hands out into what JSON can hold: instants in ISO 8601, durations in s."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [item.name for item in dataclasses.fields(value) if item.name != "_kit"]
        return {name: document(getattr(value, name)) for name in names}
    if isinstance(value, datetime):
        return text.iso(value)
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, dict):
        return {key: document(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [document(item) for item in value]
    return value


def print_json(value: Any) -> None:
    """Write one JSON document to stdout."""
    print(json.dumps(document(value), ensure_ascii=False, indent=2))  # noqa: T201


def status(word: str) -> str:
    """Colour a status word."""
    return f"[{STYLES.get(word, 'default')}]{word}[/]"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], empty: str) -> None:
    """Print rows under headers, or what to do when there are none."""
    listed = list(rows)
    if not listed:
        err.print(empty)
        return
    grid = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in listed:
        grid.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(grid)


def pairs(values: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line, without those that have no value."""
    grid = Table(box=None, show_header=False, pad_edge=False)
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, value in values:
        if value not in (None, "", [], {}):
            grid.add_row(name, str(value))
    out.print(grid)


def jobs_table(jobs: Iterable[Job], now: datetime) -> None:
    """Print jobs."""
    table(
        ("job", "schedule", "zone", "next", "queue", "script"),
        (
            (
                escape(job.name),
                escape(job.schedule),
                job.timezone,
                text.age(job.next_run, now) if job.next_run else "" if job.is_active else "paused",
                job.queue,
                escape(job.script_path),
            )
            for job in jobs
        ),
        "No jobs yet. Add one: jobkit job add hello sample_scripts/hello.py --every 15m",
    )


def findings_table(findings: Iterable[Finding]) -> None:
    """Print what an audit checked, and below it what breaks a law."""
    listed = list(findings)
    table(
        ("law", "what must hold", "checked", "broken"),
        (
            (
                item.law,
                item.rule,
                item.checked,
                f"[bold red]{item.broken}[/]" if item.broken else "[green]0[/]",
            )
            for item in listed
        ),
        "Nothing was checked.",
    )
    for item in listed:
        for breach in item.breaches:
            out.print(f"[bold red]law {item.law}[/]: {escape(breach)}")
        if item.broken > len(item.breaches):
            out.print(f"law {item.law}: and {item.broken - len(item.breaches)} more")


def examination_table(examination: Examination) -> None:
    """Print what a doctor found, and below each thing that is wrong what to do."""
    styles = {"problem": "bold red", "warning": "yellow", "ok": "green"}
    grid = Table(box=None, show_header=False, pad_edge=False)
    for item in examination:
        words = escape(item.words) + (f"\n[dim]→ {escape(item.advice)}[/]" if item.advice else "")
        grid.add_row(f"[{styles[item.grade]}]{item.grade}[/]", item.check, words)
    out.print(grid)
    out.print(f"{escape(examination.name)}: {examination.summary}")


def runs_table(runs: Iterable[Run], now: datetime) -> None:
    """Print runs."""
    table(
        ("run", "job", "status", "slot", "made", "took", "try", "why"),
        (
            (
                run.id,
                escape(run.job_name),
                status(run.status),
                text.instant(run.scheduled_for) or run.trigger,
                text.age(run.created_at, now),
                text.duration(run.duration),
                run.attempt or "",
                escape(_short(run.reason or run.error_message or "")),
            )
            for run in runs
        ),
        "No runs. Start one: jobkit run NAME",
    )


def artifacts_table(found: list[Artifact]) -> None:
    """Print artifacts."""
    rows = [
        (item.attempt, escape(item.name), text.size(item.size), item.media_type, item.sha256[:12])
        for item in found
    ]
    table(("attempt", "artifact", "size", "type", "sha256"), rows, "It left no artifacts.")


def _short(words: str) -> str:
    line = words.splitlines()[0] if words else ""
    return line if len(line) <= 60 else line[:59] + "…"
