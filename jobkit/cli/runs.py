"""Commands on runs, workers and the queue."""

from __future__ import annotations

import json
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from jobkit import text
from jobkit.cli import options as o
from jobkit.cli.show import (
    artifacts_table,
    document,
    err,
    out,
    pairs,
    print_json,
    runs_table,
    status,
    table,
)
from jobkit.errors import JobFailed

if TYPE_CHECKING:
    from jobkit.analytics.comparison import Changes
    from jobkit.expectation import Expectation
    from jobkit.handles import Artifact, Attempt, Run
    from jobkit.kit import Kit

Follow = Annotated[bool, typer.Option("--follow", help="Show the output while it is written.")]
FOLLOW_SECONDS = 0.05
MOST_LINES = 60
"""Of a diff."""
FAILED = ("FAILURE", "ERROR", "TIMEOUT")
DIFF = {"+": "green", "-": "red"}
CHANGES: dict[bool | None, str] = {True: ", with changes", False: ", without changes"}


def run(
    name: o.Name,
    param: o.Params = None,
    wait: Annotated[bool, typer.Option("--wait", help="Exit 0 only when it COMPLETED.")] = False,
    follow: Follow = False,
    as_json: o.AsJson = False,
) -> None:
    """Run a job now; prints the run's id."""
    with o.open_kit() as kit:
        made = kit.submit(name, **o.read_params(param, kit.job(name).signature))
        if not as_json:
            print(made.id, flush=True)  # noqa: T201
        if follow:
            made = _follow(kit, made, to_stderr=as_json)
        ended = _wait(made) if wait else made
        if as_json:
            print_json(ended)
        if wait and ended.status != "COMPLETED":
            raise typer.Exit(1)


def _wait(made: Run) -> Run:
    try:
        with err.status(f"run {made.id} of {escape(made.job_name)}"):
            return made.wait()
    except JobFailed as error:
        err.print(escape(error.message))
        return made.refresh()


def _follow(kit: Kit, run: Run, *, to_stderr: bool = False) -> Run:
    """Print a run's output, attempt after attempt, until the run has ended."""
    from jobkit.wakeups import Watch

    stream = sys.stderr if to_stderr else sys.stdout
    attempt, after = max(run.attempt, 1), -1
    with closing(Watch(kit.database)) as watch:
        while True:
            run = run.refresh()
            piece = run.output(attempt, after)
            stream.write(piece.text)
            stream.flush()
            after = piece.last_seq
            if run.attempt > attempt:
                attempt, after = attempt + 1, -1
            elif run.is_final:
                return run
            else:
                watch.wait(threading.Event(), FOLLOW_SECONDS)


def runs(
    job: Annotated[str | None, typer.Option("--job", help="Of this job.")] = None,
    status: Annotated[str | None, typer.Option("--status", help="In this status.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="D", help="Not older.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most.")] = 50,
    as_json: o.AsJson = False,
) -> None:
    """List runs, the newest first."""
    with o.open_kit() as kit:
        found = kit.runs(job, status.upper() if status else None, since, limit)
        if as_json:
            print_json(found)
        else:
            runs_table(found, kit.clock.now())


def show(run_id: o.RunId, as_json: o.AsJson = False) -> None:
    """Show a run and its attempts."""
    with o.open_kit() as kit:
        found = kit.run(run_id)
        attempts, left = found.attempts(), found.artifacts()
        changed = found.changes() if _has_failed(attempts) else None
        expectation = found.expectation()
        if as_json:
            print_json(
                document(found)
                | {
                    "attempts": document(attempts),
                    "artifacts": document(left),
                    "changes": document(changed),
                    "expectation": _figures(expectation),
                }
            )
            return
        pairs(
            (
                ("run", found.id),
                ("job", f"{escape(found.job_name)}, version {found.job_version}"),
                ("status", status(found.status)),
                ("why", escape(found.reason or found.error_message or "")),
                ("trigger", found.trigger),
                ("slot", text.instant(found.scheduled_for)),
                ("made", text.instant(found.created_at)),
                ("claimed", text.instant(found.claimed_at)),
                ("ended", text.instant(found.completed_at)),
                ("worker", found.worker_id),
                ("parameters", found.params),
                ("progress", escape(_progress(found))),
                ("expected end", expectation.end_words),
                ("takes", expectation.numbers),
                *(("", f"[yellow]{escape(said)}[/]") for said in expectation.marks),
            )
        )
        rows = [
            (
                item.attempt,
                status(item.status),
                text.duration(item.duration),
                item.exit_code,
                text.duration(item.cpu_seconds),
                text.size(item.max_rss_bytes),
                text.size(item.output_bytes),
                escape(item.error_message or ""),
            )
            for item in attempts
        ]
        columns = ("attempt", "status", "took", "exit", "cpu", "memory", "output", "why")
        table(columns, rows, "No attempt has ended yet.")
        if changed is not None:
            _show_changes(changed)
        _show_end(attempts[-1:], left)


def _has_failed(attempts: list[Attempt]) -> bool:
    return bool(attempts) and attempts[-1].status in FAILED


def _show_changes(changed: Changes) -> None:
    """Print what changed since the job last worked, and of its script how."""
    out.print()
    out.print(escape(repr(changed)))
    for change in changed:
        lines = change.diff.splitlines()
        for line in lines[:MOST_LINES]:
            out.print(f"  [{DIFF.get(line[:1], 'dim')}]{escape(line)}[/]")
        if len(lines) > MOST_LINES:
            out.print(f"  and {len(lines) - MOST_LINES} lines more")
    out.print()


def _figures(expectation: Expectation) -> dict[str, Any]:
    names = ("count", "source", "p50", "p95", "p99", "timeout", "ends_at", "marks")
    return {name: document(getattr(expectation, name)) for name in names}


def _progress(found: Run) -> str:
    if found.progress is None:
        return ""
    return f"{found.progress:.0%} {found.progress_text or ''}".strip()


def _show_end(last: list[Attempt], left: list[Artifact]) -> None:
    """Print what the last attempt told, what it ran on, and what all of them left."""
    for item in last:
        about = item.provenance or {}
        git, python = about.get("git") or {}, about.get("python") or {}
        changed = CHANGES.get(git.get("dirty"), "")
        pairs(
            (name, escape(str(value)))
            for name, value in (
                ("metrics", ", ".join(f"{k} {v}" for k, v in (item.metrics or {}).items())),
                ("result", "" if item.result is None else json.dumps(item.result)),
                ("script", about.get("script", "")),
                ("sha256", about.get("sha256") or ""),
                ("kind", " ".join(filter(None, (about.get("kind"), about.get("isolation"))))),
                ("commit", f"{git['commit']} on {git['branch']}{changed}" if git else ""),
                ("host", ", ".join(filter(None, (about.get("host"), about.get("platform"))))),
                ("python", " ".join(python.values())),
                ("packages", about.get("packages") or ""),
                ("variables", ", ".join(about.get("variables", ()))),
            )
        )
    if left:
        out.print()
        artifacts_table(left)


def logs(run_id: o.RunId, follow: Follow = False) -> None:
    """Print what a run's last attempt printed."""
    with o.open_kit() as kit:
        found = kit.run(run_id)
        if follow and not found.is_final:
            _follow(kit, found)
        else:
            sys.stdout.write(found.output().text)


def cancel(run_id: o.RunId, as_json: o.AsJson = False) -> None:
    """End a run, or ask its worker to."""
    with o.open_kit() as kit:
        _said(kit.cancel(run_id), as_json)


def retry(run_id: o.RunId, as_json: o.AsJson = False) -> None:
    """Run again what a finished run ran; prints the new run's id."""
    with o.open_kit() as kit:
        made = kit.retry(run_id)
        if as_json:
            print_json(made)
        else:
            print(made.id)  # noqa: T201


def reset(run_id: int, as_json: bool) -> None:
    """Run again what a run ran, finished or stuck."""
    with o.open_kit() as kit:
        _said(kit.reset(run_id), as_json)


def _said(found: Run, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    wish = ", asked to end" if found.wants_cancel else ""
    out.print(f"run {found.id} of {escape(found.job_name)}: {status(found.status)}{wish}")


def workers(as_json: o.AsJson = False) -> None:
    """List the workers."""
    with o.open_kit() as kit:
        found = kit.workers()
        if as_json:
            print_json(found)
            return
        now = kit.clock.now()
        rows = [
            (
                item.worker_id,
                status(item.status),
                text.age(item.last_heartbeat, now),
                ", ".join(item.queues),
                item.slots,
                item.jobs_processed,
                item.current_job_id,
                item.hostname,
            )
            for item in found
        ]
        columns = ("worker", "status", "heartbeat", "queues", "slots", "done", "run", "host")
        table(columns, rows, "No workers. Start one: jobkit worker")


def queue(as_json: o.AsJson = False) -> None:
    """Show what runs and what waits, in the order in which workers take it."""
    with o.open_kit() as kit:
        found = kit.queue()
        if as_json:
            print_json(found)
        else:
            runs_table(found, kit.clock.now())


def stats(
    since: Annotated[str, typer.Option("--since", metavar="D", help="How far back.")] = "1d",
    as_json: o.AsJson = False,
) -> None:
    """Count runs, attempts and workers."""
    with o.open_kit() as kit:
        found = kit.stats(since)
        if as_json:
            print_json(found)
            return
        counts = ((status(word), count) for word, count in found.runs_by_status.items())
        online = (f"{count} {word}" for word, count in found.workers_by_status.items())
        pairs(
            (
                ("jobs", f"{found.jobs}, {found.active_jobs} active"),
                ("workers", ", ".join(online) or "none"),
                *counts,
                ("attempts", found.attempts),
                ("mean", text.duration(found.mean_seconds)),
                ("p95", text.duration(found.p95_seconds)),
            )
        )
