"""Options that several commands share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobkit import text
from jobkit.clock import nap
from jobkit.errors import BadInput, DatabaseUnavailable

if TYPE_CHECKING:
    from jobkit.kit import Kit

log = logging.getLogger("jobkit")

AWAY_SECONDS = 2.0


@dataclass
class Chosen:
    """What was given before the command."""

    url: str | None = None


chosen = Chosen()

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Name = Annotated[str, typer.Argument(help="The job's name.", show_default=False)]
RunId = Annotated[int, typer.Argument(metavar="RUN", help="The run's id.", show_default=False)]
Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="K=V", help="A parameter; JSON, or else text. Repeatable."),
]


def _option(flag: str, metavar: str, words: str, *more: str) -> Any:
    return Annotated[str | None, typer.Option(flag, *more, metavar=metavar, help=words)]


Cron = _option("--cron", "E", "A cron expression of five fields, or @daily and its like.")
Every = _option("--every", "D", "An interval, like 90s or 15m.")
Hourly = _option("--hourly", "MM", "A minute of each hour.")
Daily = _option("--daily", "HH:MM", "A time of day.")
Weekly = _option("--weekly", "'DAY HH:MM'", "A weekday and a time, like 'mon 09:00'.")
Monthly = _option("--monthly", "'DAY HH:MM'", "A day and a time, like '31 06:30'.")
At = _option("--at", "T", "One instant, ISO 8601.")
Zone = _option("--tz", "Z", "The schedule's time zone, like Europe/Paris.")
StartsAt = _option("--starts-at", "T", "No slot before this instant.")
EndsAt = _option("--ends-at", "T", "No slot after this instant.")
Queue = _option("--queue", "Q", "The queue that workers serve.")
Timeout = _option("--timeout", "D", "An attempt is ended after so long; auto: by what is usual.")
RetryDelay = _option("--retry-delay", "D", "The wait before the first retry; it doubles.")
Misfire = _option("--misfire", "P", "Slots that passed unseen: latest, all or skip.")
MisfireWindow = _option("--misfire-window", "D", "Slots that are older are MISSED.")
Overlap = _option("--overlap", "P", "skip, queue, queue_all, replace or allow.")
StartDeadline = _option("--start-deadline", "D", "Not started so long after its slot: MISSED.")
OnWorkerLost = _option("--on-worker-lost", "P", "retry or fail.")
Priority = Annotated[int | None, typer.Option("--priority", help="Higher goes first.")]
Retries = Annotated[
    int | None, typer.Option("--retries", metavar="N", help="Tries after the first.")
]

Kind = _option("--kind", "K", "python, shell, program, notebook, sql ...; else by the suffix.")
Python = _option("--python", "P", "An interpreter, or the folder of a virtual environment.")
Memory = _option("--memory", "SIZE", "An attempt that uses more is ended; like 512MB.")
WorkingDir = _option("--cwd", "DIR", "Where it runs, below a script root.")
Isolation = _option("--isolation", "I", "fresh: always a new interpreter; warm: where possible.")
KeepKernel = _option("--keep-kernel", "D", "A notebook's kernel waits so long after a failure.")
External = Annotated[
    bool,
    typer.Option("--external", help="It runs elsewhere and reports itself by jobkit ping."),
]
Nice = Annotated[
    int | None, typer.Option("--nice", metavar="N", help="How far it gives way to others, 0 to 19.")
]
Embed = Annotated[
    bool, typer.Option("--embed", help="Keep the script's text with the job: it then travels.")
]
EnvVars = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="K=V", help="A variable of its environment. Repeatable."),
]
CellTimeout = _option("--cell-timeout", "D", "A cell of a notebook is ended after so long.")
Keep = Annotated[
    int | None, typer.Option("--keep", metavar="N", help="Keep files of the last N runs only.")
]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", metavar="T", help="A word to find it by. Repeatable.")
]
Alerts = Annotated[
    list[str] | None,
    typer.Option(
        "--alert",
        metavar="A",
        help="Watch it: late=15m, done-by=07:30, running=auto, no-success=26h, failed, recovered, "
        "failures=3, short; none: not at all. Repeatable.",
    ),
]
Secrets = Annotated[
    list[str] | None,
    typer.Option(
        "--secret",
        metavar="NAME",
        help="A secret that the worker resolves; env:NAME to have it as a variable. Repeatable.",
    ),
]


@contextmanager
def open_kit(*, waits: bool = False, **overrides: Any) -> Iterator[Kit]:
    """Open the database that was chosen.

    `waits`: a program that stays outlives a restart of its database, also while it starts itself.
    """
    kit = _connect(waits, overrides)
    try:
        yield kit
    finally:
        kit.close()


def _connect(waits: bool, overrides: dict[str, Any]) -> Kit:
    from jobkit.kit import connect

    while True:
        try:
            return connect(chosen.url, source="command line", **overrides)
        except DatabaseUnavailable as error:
            if not waits:
                raise
            log.warning("%s Trying again in %g s.", error, AWAY_SECONDS)
            nap(AWAY_SECONDS)


def read_params(
    pairs: list[str] | None, signature: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Read `k=v` pairs by a job's signature; without one a value that is JSON is that, or text."""
    from jobkit import parameters

    return parameters.from_text(signature, text.parse_pairs("--param", pairs))


def read_source(target: str) -> str:
    """Read the script that a job is to carry; BadInput when it is no text or not there."""
    try:
        return Path(target).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{target} cannot be embedded: {error}.", "Name a text file.") from None
