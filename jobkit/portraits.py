"""Portraits: what a card shows of each thing that a Kit hands out. It reads nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobkit.cards import SHOWN_LINES, Card, Table, last_lines
from jobkit.text import duration, instant, size

if TYPE_CHECKING:
    from jobkit.expectation import Expectation
    from jobkit.handles import (
        Artifact,
        Attempt,
        Backfill,
        Job,
        Output,
        Run,
        Stats,
        Version,
        Worker,
    )

SHOWN_RUNS = 20
_DOTS = {"COMPLETED": "●", "FAILED": "✕", "TIMEOUT": "✕", "IN_PROGRESS": "◐", "PENDING": "○"}


@dataclass(frozen=True)
class Numbers:
    """What is seen of a database at the first glance."""

    jobs: int
    paused: int
    waiting: int
    """Runs that are due and not taken."""
    running: int
    late: int
    """Of those that wait, the ones that have done so for more than a minute."""
    workers: int
    slots: int
    failed: Run | None
    """The last run that failed or timed out."""
    as_of: datetime


def of_kit(url: str, seen: Numbers | None, zone: str) -> Card:
    """Show a Kit; without numbers, that the database does not answer."""
    if seen is None:
        return Card(f"Kit on {url}", notes=["The database cannot be asked now."])
    paused = f", {seen.paused} paused" if seen.paused else ""
    failed = "none"
    if seen.failed is not None:
        run = seen.failed
        why = run.error_message or run.reason or run.status
        failed = f"run {run.id} of {run.job_name}, {instant(run.completed_at, zone)}: {why}"
    late = f"{seen.late:,} (due for more than a minute)" if seen.late else "0"
    return Card(
        f"Kit on {url}",
        facts=[
            ("jobs", f"{seen.jobs:,}{paused}"),
            ("queue", f"{seen.waiting:,} waiting, {seen.running:,} running"),
            ("workers", f"{seen.workers} alive, {_count(seen.slots, 'slot')}"),
            ("late runs", late),
            ("last failure", failed),
        ],
        notes=[f"As of {instant(seen.as_of, zone)}."],
    )


@dataclass(frozen=True)
class Sight:
    """What is known of a run beside its row."""

    now: datetime
    zone: str = "UTC"
    expectation: Expectation | None = None
    why: str = ""
    """Why it waits."""
    lines: Sequence[str] = ()
    notes: Sequence[str] = ()


def of_run(run: Run, seen: Sight) -> Card:
    """Show a run: its state, what is usual, and the last lines that it printed."""
    facts: list[tuple[str, object]] = [
        ("slot", instant(run.scheduled_for, seen.zone)),
        ("parameters", _json(run.params)),
    ]
    if run.status == "PENDING":
        facts.append(("waits", seen.why or f"in queue {run.queue}"))
    elif run.status == "IN_PROGRESS":
        facts += _going(run, seen)
    else:
        facts += _gone(run, seen)
    marks = seen.expectation.marks if seen.expectation is not None else ()
    return Card(
        f"Run {run.id} of {run.job_name}",
        run.status,
        facts,
        bar=_progress(run, seen),
        lines=seen.lines,
        notes=[*marks, *seen.notes],
    )


def _going(run: Run, seen: Sight) -> list[tuple[str, object]]:
    elapsed = "" if run.claimed_at is None else _elapsed(seen.now - run.claimed_at)
    usual, end = "", ""
    if seen.expectation is not None and seen.expectation.p50 is not None:
        usual = f", usually {duration(seen.expectation.p50)} (p50)"
        end = seen.expectation.end_words
    said = f"{run.progress:.0%} {run.progress_text or ''}" if run.progress is not None else ""
    return [
        ("worker", run.worker_id),
        ("elapsed", f"{elapsed}{usual}"),
        ("expected end", end),
        ("progress", said),
        ("attempt", run.attempt if run.attempt > 1 else None),
        ("asked to end", instant(run.cancel_requested_at, seen.zone)),
    ]


def _gone(run: Run, seen: Sight) -> list[tuple[str, object]]:
    usual = ""
    if seen.expectation is not None and seen.expectation.p50 is not None and run.duration:
        usual = f", usually {duration(seen.expectation.p50)} (p50)"
    return [
        ("why", run.error_message or run.reason if run.status != "COMPLETED" else None),
        ("took", f"{duration(run.duration)}{usual}"),
        ("ended", instant(run.completed_at, seen.zone)),
        ("worker", run.worker_id),
        ("attempt", run.attempt if run.attempt > 1 else None),
    ]


def _progress(run: Run, seen: Sight) -> float | None:
    """Return how far a run is as it says itself, else by what is usual, and never quite done."""
    if run.status != "IN_PROGRESS":
        return None
    if run.progress is not None:
        return run.progress
    usual = seen.expectation.p50 if seen.expectation is not None else None
    if usual is None or run.claimed_at is None or not seen.expectation.is_known:  # type: ignore[union-attr]
        return None
    return min((seen.now - run.claimed_at) / max(usual, timedelta(microseconds=1)), 0.99)


def of_several(runs: Sequence[Run], now: datetime, notes: Sequence[str] = ()) -> Card:
    """Show runs that are waited for together: how many have ended, and those that have not."""
    ended = [run for run in runs if run.is_final]
    failed = [run for run in ended if run.status != "COMPLETED"]
    order = sorted(runs, key=lambda run: (run not in failed, run.is_final, not run.is_running))
    said = f", {len(failed)} of them not well" if failed else ""
    return Card(
        f"{len(ended)} of {_count(len(runs), 'run')} ended{said}",
        bar=len(ended) / len(runs) if runs and len(ended) < len(runs) else None,
        table=Table(RUN_COLUMNS, [run_row(run, now) for run in order[:SHOWN_RUNS]], len(runs)),
        notes=notes,
    )


RUN_COLUMNS = ("run", "job", "status", "slot", "made", "took", "why")


def run_row(run: Run, now: datetime, zone: str = "UTC") -> tuple[object, ...]:
    """Return the cells of a run in a table of runs."""
    took = run.duration
    if run.is_running and run.claimed_at is not None:
        took = now - run.claimed_at
    why = run.reason or run.error_message or ""
    made = instant(run.created_at, zone)
    slot = instant(run.scheduled_for, zone) or run.trigger
    return run.id, run.job_name, run.status, slot, made, _elapsed(took), why


def of_runs(runs: Sequence[Run], asked: str, seen: Sight) -> Card:
    """Show a list of runs, how many in which status first."""
    rows = [run_row(run, seen.now, seen.zone) for run in runs[:SHOWN_RUNS]]
    table = Table(RUN_COLUMNS, rows, len(runs))
    return Card(f"{_statuses(runs)}{asked}", table=table, notes=seen.notes)


def _statuses(runs: Sequence[Run]) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    said = ", ".join(f"{count:,} {word}" for word, count in counts.items())
    return f"{_count(len(runs), 'run')}{f': {said}' if said else ''}"


def of_job(
    job: Job,
    upcoming: Sequence[datetime],
    last: Sequence[Run],
    usual: Expectation | None,
    version: Version | None,
    notes: Sequence[str] = (),
) -> Card:
    """Show a job: its schedule in words, its next slots, its last runs, and what is usual."""
    made = ""
    if version is not None:
        made = f", {version.change} {instant(version.changed_at, job.timezone)}"
        made += f" by {version.changed_by}"
    dots = "".join(_DOTS.get(run.status, "·") for run in reversed(last))
    newest = f"  the last: run {last[0].id}, {last[0].status}" if last else ""
    return Card(
        f"Job {job.name}",
        facts=[
            ("schedule", f"{job.schedule} ({job.timezone})"),
            ("state", "" if job.is_active else "paused"),
            ("next", ", ".join(instant(slot, job.timezone) for slot in upcoming)),
            ("now", _now(last)),
            ("last runs", f"{dots}{newest}" if last else "none yet"),
            ("takes", usual.numbers if usual is not None and usual.count else ""),
            ("runs", job.script_path + "".join(f" {word}" for word in job.args)),
            ("parameters", _json(job.params)),
            ("queue", "" if job.queue == "default" else job.queue),
            ("tags", ", ".join(job.tags)),
            ("defined in", job.defined_in),
            ("version", f"{job.version}{made}"),
        ],
        notes=notes,
    )


def _now(last: Sequence[Run]) -> str:
    """Say what of a job runs and waits."""
    running = [f"run {run.id} on {run.worker_id}" for run in last if run.is_running]
    waiting = sum(run.status == "PENDING" for run in last)
    return ", ".join([*running, *([f"{waiting} waiting"] if waiting else [])])


JOB_COLUMNS = ("job", "schedule", "zone", "next", "queue", "runs")


def of_jobs(jobs: Sequence[Job]) -> Card:
    """Show a list of jobs."""
    paused = sum(not job.is_active for job in jobs)
    rows = [
        (
            job.name,
            job.schedule,
            job.timezone,
            instant(job.next_run, job.timezone) if job.is_active else "paused",
            job.queue,
            job.script_path,
        )
        for job in jobs
    ]
    title = _count(len(jobs), "job") + (f", {paused} paused" if paused else "")
    return Card(title, table=Table(JOB_COLUMNS, rows))


WORKER_COLUMNS = ("worker", "status", "queues", "slots", "runs done", "last seen", "version")


def of_workers(workers: Sequence[Worker]) -> Card:
    """Show a list of workers."""
    online = [worker for worker in workers if worker.status != "OFFLINE"]
    rows = [
        (
            worker.worker_id,
            worker.status,
            ", ".join(worker.queues),
            worker.slots,
            worker.jobs_processed,
            instant(worker.last_heartbeat),
            worker.version,
        )
        for worker in workers
    ]
    title = f"{_count(len(online), 'worker')} online, {len(workers) - len(online)} offline"
    return Card(title, table=Table(WORKER_COLUMNS, rows))


def of_worker(worker: Worker) -> Card:
    """Show a worker."""
    return Card(
        f"Worker {worker.worker_id}",
        worker.status,
        facts=[
            ("queues", ", ".join(worker.queues)),
            ("slots", worker.slots),
            ("runs done", worker.jobs_processed),
            ("runs now", worker.current_job_id),
            ("host", f"{worker.hostname}, {worker.platform}, process {worker.process_id}"),
            ("since", instant(worker.started_at)),
            ("last seen", instant(worker.last_heartbeat)),
            ("version", worker.version),
        ],
    )


def of_attempt(attempt: Attempt) -> Card:
    """Show an attempt: how it ended, what it used, and the end of what it printed."""
    ended_by = f"signal {attempt.signal}" if attempt.signal else attempt.exit_code
    return Card(
        f"Attempt {attempt.attempt} of run {attempt.dispatch_id}",
        attempt.status,
        facts=[
            ("why", attempt.error_message),
            ("took", duration(attempt.duration)),
            ("ended", instant(attempt.finished_at)),
            ("worker", attempt.worker_id),
            ("exit", ended_by),
            ("cpu", duration(attempt.cpu_seconds)),
            ("memory", size(attempt.max_rss_bytes)),
            ("output", size(attempt.output_bytes)),
            ("metrics", _json(attempt.metrics)),
            ("result", _json(attempt.result)),
        ],
        lines=last_lines(attempt.log_output or ""),
    )


def of_artifact(artifact: Artifact) -> Card:
    """Show an artifact, without its contents."""
    return Card(
        f"Artifact {artifact.name}",
        facts=[
            ("run", f"{artifact.run_id}, attempt {artifact.attempt}"),
            ("size", size(artifact.size)),
            ("type", artifact.media_type),
            ("sha256", artifact.sha256),
            ("kept", instant(artifact.created_at)),
        ],
        notes=[".df(), .text(), .json(), .read() and .open() give what it holds."],
    )


def of_version(version: Version) -> Card:
    """Show a version: who made it, and what it changed."""
    rows = [(name, _json(old), _json(new)) for name, (old, new) in version.changes.items()]
    return Card(
        f"Version {version.version}: {version.change}",
        facts=[
            ("when", instant(version.changed_at)),
            ("who", version.changed_by),
            ("from", version.changed_from),
        ],
        table=Table(("what", "before", "after"), rows) if rows else None,
    )


def of_backfill(backfill: Backfill) -> Card:
    """Show what a backfill made, or would make."""
    made = f"{len(backfill.runs):,} made" if backfill.runs else "none made"
    slots = backfill.slots
    span = f"{instant(slots[0])} to {instant(slots[-1])}" if slots else ""
    return Card(
        f"Backfill of {_count(len(slots), 'slot')}: {made}, {len(backfill.skipped):,} skipped",
        facts=[("slots", span), ("runs", _span(backfill.runs))],
    )


def of_stats(stats: Stats) -> Card:
    """Show counts since an instant."""
    return Card(
        f"{sum(stats.runs_by_status.values()):,} runs since {instant(stats.since)}",
        facts=[
            ("runs", _words(stats.runs_by_status)),
            ("attempts", f"{stats.attempts:,}"),
            ("mean", duration(stats.mean_seconds)),
            ("p95", duration(stats.p95_seconds)),
            ("jobs", f"{stats.jobs:,}, {stats.active_jobs:,} active"),
            ("workers", _words(stats.workers_by_status)),
        ],
    )


def of_output(output: Output) -> Card:
    """Show the end of an output."""
    lines = last_lines(output.text, 2 * SHOWN_LINES)
    notes = [] if output.is_complete else ["More may come."]
    if output.omitted_bytes:
        notes.append(f"{size(output.omitted_bytes)} in the middle were left out.")
    printed = size(len(output.text.encode("utf-8", "replace")))
    return Card(f"Output of attempt {output.attempt}: {printed}", lines=lines, notes=notes)


def _words(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {word}" for word, count in sorted(counts.items()))


def _json(value: Any) -> str:
    if value in (None, {}, []):
        return ""
    return json.dumps(value, ensure_ascii=False, default=str)


def _span(ids: Sequence[int]) -> str:
    return "" if not ids else str(ids[0]) if len(ids) == 1 else f"{ids[0]} to {ids[-1]}"


def _elapsed(took: timedelta | None) -> str:
    if took is None:
        return ""
    seconds = max(took.total_seconds(), 0.0)
    return duration(seconds if seconds < 10 else float(int(seconds)))


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
