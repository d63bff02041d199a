"""The views, version 1, that every report and every statement of a person reads.

A view is put together for one statement: names of jobs, and what an attempt takes from its run, are
joined only when the statement names them, which is most of the time of a count over millions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from jobkit.analytics.shelf import SKEW, Sources, Stream
from jobkit.analytics.snapshot import Snapshot
from jobkit.analytics.window import Window, literal

VERSION = 1

RUNS = {
    "run_id": ("r.id", "the run"),
    "job_id": ("r.job_id", "its job"),
    "job": ("j.name", "its job's name"),
    "status": ("r.status", "PENDING, IN_PROGRESS, or how it ended"),
    "trigger": ("r.trigger", "schedule, manual, backfill or retry"),
    "scheduled_for": ("r.scheduled_for", "its slot; NULL of one that was asked for"),
    "created_at": ("r.created_at", "when it was made"),
    "available_at": ("r.available_at", "from when on it may start, the next try of a retried one"),
    "claimed_at": ("r.claimed_at", "when its last attempt was claimed"),
    "completed_at": ("r.completed_at", "when it ended; NULL of one that is unfinished"),
    "worker": ("r.worker_id", "who has or had it last"),
    "attempts": ("r.attempt", "how often it was claimed"),
    "retries": ("r.retry_count", "tries that failed and were followed by another"),
    "lost": ("r.lost_count", "attempts whose worker died"),
    "reason": ("r.reason", "why it is there, or why it ended without an attempt"),
    "error": ("r.error_message", "what went wrong at last"),
    "params": ("r.params", "its parameters, as JSON"),
    "job_version": ("r.job_version", "the version of the job's definition"),
    "queue": ("r.queue", "its queue"),
    "priority": ("r.priority", "higher goes first"),
    "requested_by": ("r.requested_by", "who asked for it"),
    "backfill_id": ("r.backfill_id", "the backfill it belongs to"),
    "retry_of": ("r.retry_of", "the run that it runs again"),
}
_SECONDS = "(epoch_us({}) - epoch_us({})) / 1e6"
ATTEMPTS = {
    "attempt_id": ("a.id", "the attempt"),
    "run_id": ("a.dispatch_id", "its run; NULL of what an older system left"),
    "attempt": ("a.attempt", "its number, from 1"),
    "job_id": ("a.job_id", "its job"),
    "job": ("j.name", "its job's name"),
    "status": (
        "a.status",
        "SUCCESS, FAILURE, ERROR, TIMEOUT, CANCELLED, LOST or RELEASED",
    ),
    "worker": ("a.worker_id", "who executed it"),
    "scheduled_for": ("a.scheduled_for", "its run's slot"),
    "queued_at": ("a.queued_at", "from when on it could be claimed"),
    "claimed_at": ("a.claimed_at", "when a worker took it"),
    "started_at": ("a.started_at", "when its program started"),
    "finished_at": ("a.finished_at", "when it ended"),
    "wait_seconds": (_SECONDS.format("a.claimed_at", "a.queued_at"), "from queued to claimed"),
    "duration_seconds": (
        _SECONDS.format("a.finished_at", "a.started_at"),
        "from started to finished",
    ),
    "exit_code": ("a.exit_code", "of its program"),
    "signal": ("a.signal", "that ended its program"),
    "error": ("a.error_message", "what went wrong"),
    "cpu_seconds": ("a.cpu_seconds", "of all its processes"),
    "max_rss_bytes": ("a.max_rss_bytes", "the most memory it had"),
    "output_bytes": ("a.output_bytes", "what it printed"),
    "omitted_bytes": ("a.omitted_bytes", "of that, what was not kept"),
    "log_output": ("a.log_output", "the last 4 KiB it printed"),
    "metrics": ("a.metrics", "what it reported, as JSON"),
    "result": ("a.result", "its result, as JSON"),
    "provenance": ("a.provenance", "what it ran on, as JSON"),
    "queue": ("r.queue", "its run's queue"),
    "trigger": ("r.trigger", "why its run was made"),
}
JOBS = {
    "job_id": ("id", "the job"),
    "job": ("name", "its name"),
    "script_path": ("script_path", "what it runs"),
    "schedule_type": ("schedule_type", "interval, hourly, daily, weekly, monthly, cron ..."),
    "interval_seconds": ("interval_seconds", "of an interval"),
    "cron": ("cron", "of a cron schedule"),
    "timezone": ("timezone", "that its schedule is in"),
    "queue": ("queue", "of its runs"),
    "priority": ("priority", "of its runs"),
    "is_active": ("is_active", "whether its schedule is on"),
    "overlap_policy": ("overlap_policy", "what a slot does while an earlier run is unfinished"),
    "start_deadline_seconds": ("start_deadline_seconds", "not started so late: missed"),
    "job_version": ("version", "the version of its definition"),
    "created_at": ("created_at", "when it was added"),
    "deleted_at": ("deleted_at", "when it was deleted"),
    "tags": ("json_extract_string(tags, '$[*]')", "its tags, a list; NULL of one without"),
}
WORKERS = {
    "worker": ("worker_id", "the worker"),
    "hostname": ("hostname", "its machine"),
    "platform": ("platform", "its system"),
    "status": ("status", "IDLE, BUSY, DRAINING or OFFLINE"),
    "slots": ("slots", "runs that it executes side by side"),
    "queues": ("queues", "that it serves, the preferred first"),
    "started_at": ("started_at", "when it started"),
    "last_heartbeat": ("last_heartbeat", "when it was heard last"),
    "version": ("version", "of jobkit"),
}
VIEWS = {"runs": RUNS, "attempts": ATTEMPTS, "jobs": JOBS, "workers": WORKERS}
"""Name -> column -> (what it is made of, what it means)."""


JOINED = frozenset({"job", "queue", "trigger"})
"""Columns that `attempts` or `runs` take from elsewhere."""

_STAR = re.compile(r"(?:\bselect|\bdistinct|\ball|[,.(])\s*\*")


def words_in(sql: str) -> set[str]:
    """Return the words of a statement, in small letters."""
    return set(re.findall(r"[a-z_][a-z0-9_]*", sql.lower()))


def joins_in(sql: str) -> frozenset[str]:
    """Return which joined columns a statement may read: all of them where it may read every one."""
    text = re.sub(r"count\s*\(\s*\*\s*\)", "count()", sql.lower())
    words = words_in(text)
    # FROM without SELECT means all columns as well.
    bare = len(re.findall(r"\bfrom\b", text)) > len(re.findall(r"\bselect\b", text))
    if bare or "columns" in words or _STAR.search(text):
        return JOINED
    return JOINED & words


def tables_in(sql: str) -> set[str]:
    """Return what a statement of jobkit's own reads: what stands behind FROM and JOIN."""
    return set(re.findall(r"\b(?:from|join)\s+([a-z_]\w*)", sql.lower()))


def create(
    cursor: Any,
    names: set[str],
    joins: frozenset[str],
    snapshot: Snapshot,
    sources: Sources,
    window: Window,
) -> None:
    """Give a connection views, over what a window holds; other names are left out."""
    for name, question in _questions(cursor, names, joins, snapshot, sources, window).items():
        cursor.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS {question}")


def within(
    cursor: Any,
    sql: str,
    joins: frozenset[str],
    snapshot: Snapshot,
    sources: Sources,
    window: Window,
    moment: str | None = None,
) -> str:
    """Return a statement of jobkit's own with its views in it, so that they are bound once.

    `moment`: an instant that lies in the window in all rows that the statement takes: then views
    need not look at others, which is half of the time of a count.
    """
    questions = _questions(cursor, tables_in(sql), joins, snapshot, sources, window, moment)
    made = ", ".join(f"{name} AS NOT MATERIALIZED ({q})" for name, q in questions.items())
    if not made:
        return sql
    return f"WITH {made}, {sql[5:]}" if sql.startswith("WITH ") else f"WITH {made} {sql}"


def _questions(
    cursor: Any,
    names: set[str],
    joins: frozenset[str],
    snapshot: Snapshot,
    sources: Sources,
    window: Window,
    moment: str | None = None,
) -> dict[str, str]:
    """Return the SELECT of each view, and register the frames that they read."""
    found, frames = {}, {}
    if "jobs" in names:
        found["jobs"] = f"SELECT {_plain(JOBS)} FROM job_rows"  # noqa: S608
    if "workers" in names:
        found["workers"] = f"SELECT {_plain(WORKERS)} FROM worker_rows"  # noqa: S608
        frames["worker_rows"] = snapshot.workers
    if "runs" in names:
        found["runs"] = _runs(sources, window, joins, moment)
    if "attempts" in names:
        found["attempts"] = _attempts(sources, window, joins, moment)
        frames["fresh_attempts"] = sources.fresh_attempts
    if "runs" in names or ("attempts" in names and {"queue", "trigger"} & joins):
        frames["fresh_runs"] = sources.fresh_runs
    if "jobs" in names or ("job" in joins and found):
        frames["job_rows"] = snapshot.jobs
    for name, frame in frames.items():
        cursor.register(name, Stream(frame))
    return found


def _plain(columns: dict[str, tuple[str, str]]) -> str:
    return ", ".join(f"{made} AS {name}" for name, (made, _) in columns.items())


def _chosen(columns: dict[str, tuple[str, str]], joins: frozenset[str], own: str) -> str:
    """Return the columns, without those of joins that are not wanted."""
    kept = {name: made for name, made in columns.items() if f"{own}." in made[0] or name in joins}
    return _plain(kept)


def _runs(sources: Sources, window: Window, joins: frozenset[str], moment: str | None) -> str:
    source = f"({_run_rows(sources, window, moment)}) r"
    if "job" in joins:
        source += " LEFT JOIN job_rows j ON j.id = r.job_id"
    return f"SELECT {_chosen(RUNS, joins, 'r')} FROM {source}"  # noqa: S608


def _run_rows(sources: Sources, window: Window, moment: str | None) -> str:
    """Return SQL for the runs of a window: from slot or making to end they touch it."""
    if moment is not None:
        held = window.holds(moment)
        return f"{_rows('runs', sources, _run_columns(), held)} WHERE {held}"
    made = ended = "TRUE"  # of the whole history all, whatever a clock says that is ahead
    if window.start is not None:
        # A clock that goes behind ends a run before its slot.
        made = f"least(created_at, scheduled_for, completed_at) < {literal(window.end)}"
        ended = f"completed_at >= {literal(window.start - SKEW)}"
        ended += f" AND greatest(completed_at, scheduled_for) >= {literal(window.start)}"
    return _rows("runs", sources, _run_columns(), f"{ended} AND {made}") + (
        f" WHERE (completed_at IS NULL OR ({ended})) AND {made}"
    )


def _run_columns() -> str:
    return ", ".join(made.removeprefix("r.") for made, _ in RUNS.values() if made.startswith("r."))


def _attempts(sources: Sources, window: Window, joins: frozenset[str], moment: str | None) -> str:
    source = f"({_attempt_rows(sources, window, moment)}) a"
    if "job" in joins:
        source += " LEFT JOIN job_rows j ON j.id = a.job_id"
    if {"queue", "trigger"} & joins:
        everything = _rows("runs", sources, "id, queue, trigger", "TRUE")
        source += f" LEFT JOIN ({everything}) r ON r.id = a.dispatch_id"
    return f"SELECT {_chosen(ATTEMPTS, joins, 'a')} FROM {source}"  # noqa: S608


def _attempt_rows(sources: Sources, window: Window, moment: str | None) -> str:
    """Return SQL for the attempts of a window: from claim to end they touch it."""
    touches = "TRUE"
    if window.start is not None:
        start = literal(window.start)
        earliest = literal(window.start - sources.longest)
        # A clock that goes behind ends an attempt before its claim.
        touches = f"claimed_at < {literal(window.end + SKEW)}"
        touches += f" AND claimed_at >= {earliest} AND "
        touches += (
            window.holds(moment)
            if moment
            else (
                f"least(claimed_at, finished_at) < {literal(window.end)}"
                f" AND greatest(claimed_at, finished_at) >= {start}"
            )
        )
    names = [made.removeprefix("a.") for made, _ in ATTEMPTS.values() if made.startswith("a.")]
    return _rows("attempts", sources, ", ".join(names), touches) + (f" WHERE {touches}")


def _rows(kind: str, sources: Sources, columns: str, where: str) -> str:
    files = sources.runs if kind == "runs" else sources.attempts
    union = "" if sources.is_uniform else ", union_by_name = true"
    return (
        f"SELECT {columns} FROM read_parquet({listed(files)}{union}) "  # noqa: S608
        f"WHERE {where} UNION ALL SELECT {columns} FROM fresh_{kind}"
    )


def listed(files: Iterable[str]) -> str:
    """Write paths as a list of SQL."""
    return "[" + ", ".join("'" + file.replace("'", "''") + "'" for file in files) + "]"
