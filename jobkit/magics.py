"""Magics: `%load_ext jobkit` gives `%%job`, `%jobs`, `%runs`, `%logs` and `%%runs`."""

from __future__ import annotations

import argparse
import shlex
from typing import Any, NoReturn

from IPython.core.magic import (
    Magics,
    cell_magic,
    line_cell_magic,
    line_magic,
    magics_class,
    no_var_expand,
)

from jobkit import definition, parameters, text
from jobkit.capture import capture
from jobkit.capture.cell import as_function
from jobkit.errors import BadInput, JobkitError, NotFound
from jobkit.handles import Job, Run
from jobkit.kit import Kit, connect
from jobkit.listings.deployment import Deployment
from jobkit.whereabouts import defined_in

MOST_SHOWN = 20
WINDOW = "30d"
# Of what `%%job` takes: the flag, and how it is read. All else is text for `Kit.add_job`.
_WORDS = (
    "cron", "every", "hourly", "daily", "weekly", "monthly", "at", "tz", "starts_at", "ends_at",
    "queue", "timeout", "retry_delay", "misfire", "misfire_window", "overlap", "start_deadline",
    "on_worker_lost", "memory", "cwd", "isolation", "python", "cell_timeout",
)  # fmt: skip
_NUMBERS = ("priority", "retries", "nice", "keep")
_MANY = {"tag": "tags", "alert": "alerts", "secret": "secrets", "with": "dependencies"}


class _Parser(argparse.ArgumentParser):
    """Says what is wrong as jobkit does, and ends nothing."""

    def error(self, message: str) -> NoReturn:
        raise BadInput(f"{self.prog}: {message}.", self.format_usage().strip())


def _parser(name: str) -> _Parser:
    parser = _Parser(prog=name, add_help=False, allow_abbrev=False)
    parser.add_argument("--url", metavar="URL", help="another database")
    return parser


def _job_parser() -> _Parser:
    parser = _parser("%%job")
    parser.add_argument("name")
    for word in _WORDS:
        parser.add_argument(f"--{word.replace('_', '-')}", dest=word)
    for word in _NUMBERS:
        parser.add_argument(f"--{word}", type=int)
    for flag, word in _MANY.items():
        parser.add_argument(f"--{flag}", dest=word, action="append")
    parser.add_argument("--param", action="append", default=[], metavar="K=V")
    parser.add_argument("--env", action="append", default=[], metavar="K=V")
    parser.add_argument("--dry-run", action="store_true")
    return parser


def _read(parser: _Parser, line: str) -> argparse.Namespace:
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        raise BadInput(f"{parser.prog}: {error}.", "Close the quotes.") from None
    return parser.parse_args(words)


@magics_class
class JobkitMagics(Magics):
    """The magics of jobkit, over one database: that of the settings, or of `--url`."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._shell = shell
        self._kits: dict[str | None, Kit] = {}

    def kit(self, url: str | None = None) -> Kit:
        """Return the kit of a database, opened once."""
        if url not in self._kits:
            self._kits[url] = connect(url, source="notebook")
        return self._kits[url]

    @no_var_expand  # {{ scheduled_for }} of a parameter is for the worker
    @cell_magic
    def job(self, line: str, cell: str) -> Job | None:
        """Make this cell a job: `%%job nightly --cron "0 2 * * *" --tz UTC --param region=eu`.

        The cell's text, with what it reads of other cells, becomes a script; what cannot go with
        it is refused by name. The same cell again changes nothing. `--dry-run` shows the script.
        """
        wish = _read(_job_parser(), line)
        given = {key: value for key, value in vars(wish).items() if value is not None}
        for key in ("name", "url", "dry_run", "param", "env", "dependencies"):
            given.pop(key, None)
        params = parameters.from_text((), text.parse_pairs("--param", wish.param))
        if wish.env:
            given["env_vars"] = text.parse_pairs("--env", wish.env)
        function = as_function(cell, self._shell.user_ns, wish.name, params)
        captured = capture(function, dependencies=wish.dependencies)
        captured.check()
        if wish.dry_run:
            definition.check_keywords(given)
            print(captured.text)  # noqa: T201 - what --dry-run is for
            return None
        done = self.kit(wish.url).jobs.deploy(
            wish.name,
            f"{function.__name__}.py",
            **given,
            kind="python",
            source=captured.text,
            params=params or None,
            signature=parameters.read(function)[0],
            defined_in=defined_in(function, f"%%job {line}"),
        )
        _say(done)
        return done.job

    @line_magic
    def jobs(self, line: str) -> Any:
        """Show the jobs; `%jobs --failed 24h`: those whose runs failed since then."""
        parser = _parser("%jobs")
        parser.add_argument("--failed", metavar="SINCE")
        wish = _read(parser, line)
        kit = self.kit(wish.url)
        if wish.failed is None:
            return kit.jobs
        failed = kit.runs(status=["FAILED", "TIMEOUT"], since=wish.failed, limit=1000)
        names = list(dict.fromkeys(run.job_name for run in failed))
        return [kit.job(name) for name in names if name in kit.jobs]

    @line_cell_magic
    def runs(self, line: str, cell: str | None = None) -> Any:
        """Show runs, `%runs [JOB] [--status S] [--since D]`; as `%%runs [WINDOW]` ask SQL of them.

        `%%runs 7d` over a cell of SQL answers it from the views `runs`, `attempts`, `jobs`,
        `workers` and `slots`, as `kit.log("7d").sql(...)` does: a DataFrame.
        """
        parser = _parser("%runs" if cell is None else "%%runs")
        if cell is not None:
            parser.add_argument("window", nargs="?", default=WINDOW)
            wish = _read(parser, line)
            return self.kit(wish.url).log(wish.window).sql(cell).df
        parser.add_argument("job", nargs="?")
        parser.add_argument("--status")
        parser.add_argument("--since")
        parser.add_argument("--limit", type=int, default=MOST_SHOWN)
        wish = _read(parser, line)
        status = wish.status.upper().split(",") if wish.status else None
        return self.kit(wish.url).runs(wish.job, status, wish.since, wish.limit)

    @line_magic
    def logs(self, line: str) -> None:
        """Print what a run, or the newest run of a job, printed: `%logs [-f] JOB|RUN`."""
        parser = _parser("%logs")
        parser.add_argument("-f", "--follow", action="store_true")
        parser.add_argument("of")
        wish = _read(parser, line)
        run = self._run(self.kit(wish.url), wish.of)
        if wish.follow:
            for printed in run.logs(follow=True):
                print(printed, flush=True)  # noqa: T201 - what it is for
            return
        print(run.output().text, end="")  # noqa: T201

    def _run(self, kit: Kit, of: str) -> Run:
        if of.isdecimal() and of not in kit.jobs:
            return kit.run(int(of))
        newest = kit.runs(of, limit=1)
        if not newest:
            raise NotFound(f"{of} has no run yet.", f"Start one: kit.submit({of!r})")
        return newest[0]


def _say(done: Deployment) -> None:
    """Say in one line what became of it, and show what is different."""
    if done.what == "changed" and done.diff:
        print(done)  # noqa: T201 - the cell's own output
    else:
        job = done.job
        upcoming = f"; next {text.instant(job.next_run, job.timezone)}" if job.next_run else ""
        print(f"{job.name}: {done.what}, {job.schedule}{upcoming}")  # noqa: T201


def load(shell: Any) -> None:
    """Give a shell the magics; errors of jobkit are then shown as their message."""
    shell.register_magics(JobkitMagics)
    shell.set_custom_exc((JobkitError,), _show)


def _show(shell: Any, kind: type, error: JobkitError, traceback: Any, **_: Any) -> None:
    own = getattr(error, "_render_traceback_", None)
    lines = own() if own is not None else [f"{kind.__name__}: {error}"]
    shell._showtraceback(kind, error, lines)
