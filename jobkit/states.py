"""States of runs and attempts, and every ending: pure functions that return all that is written.

An ending takes the run as it stands in the database and what happened; it returns the values of
the run's row and of the attempt's row. `store` applies it by one guarded statement.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

RUN_STATUSES = (
    "PENDING",
    "IN_PROGRESS",
    "COMPLETED",
    "FAILED",
    "TIMEOUT",
    "CANCELLED",
    "SKIPPED",
    "MISSED",
)
UNFINISHED = ("PENDING", "IN_PROGRESS")
FINAL = RUN_STATUSES[2:]
ATTEMPT_STATUSES = ("SUCCESS", "FAILURE", "ERROR", "TIMEOUT", "CANCELLED", "LOST", "RELEASED")
WORKER_STATUSES = ("IDLE", "BUSY", "DRAINING", "OFFLINE")
TRIGGERS = ("schedule", "manual", "backfill", "retry")
OVERLAP_POLICIES = ("skip", "queue", "queue_all", "replace", "allow")
LOST_POLICIES = ("retry", "fail")
ISOLATIONS = ("warm", "fresh")
TIMEOUT_POLICIES = ("auto",)
KERNEL_WISHES = ("go on", "let go")
SEVERITIES = ("info", "warning", "critical")

LONGEST_DELAY = timedelta(hours=1)
MOST_LOST = 3
CAUGHT_UP = "caught up"

EXTERNAL = "external"
"""The kind of a job that runs elsewhere and reports itself; the worker of its attempts."""
EXTERNAL_QUEUE = "@external"
"""Where its runs wait for their ping. No worker can serve it: no queue may be called so."""
EXTERNAL_TIMEOUT = 86_400.0
"""Seconds after its start in which it must report its end, where the job names none."""
EXTERNAL_DEADLINE = 3_600.0
"""Seconds after its slot in which it must report itself, where the job names none."""


class Tried(Protocol):
    """What an ending reads of a run that is in progress."""

    @property
    def attempt(self) -> int: ...
    @property
    def retry_count(self) -> int: ...
    @property
    def lost_count(self) -> int: ...
    @property
    def max_retries(self) -> int: ...
    @property
    def retry_delay_seconds(self) -> float: ...
    @property
    def on_worker_lost(self) -> str: ...
    @property
    def cancel_requested_at(self) -> datetime | None: ...


@dataclass(frozen=True)
class Ending:
    """What an ending writes: values of the run's row, and of the attempt's row if one ended."""

    run: dict[str, Any]
    attempt: dict[str, Any] = field(default_factory=dict)

    @property
    def is_final(self) -> bool:
        return self.run["status"] in FINAL


def worker_name(worker_id: str) -> str:
    """Return a worker's name: its identity without what makes that its own."""
    return worker_id.rpartition("-")[0] or worker_id


def retry_delay(base: timedelta, failures: int, rng: random.Random) -> timedelta:
    """Return the wait before the next try after the n-th failure: doubled each time, never less.

    min(base x 2^(n-1), 1 h) plus 0 to 10 %, so that jobs that failed together return apart.
    """
    doublings = min(failures - 1, 40)  # far beyond the hour from a nanosecond on
    seconds = min(base.total_seconds() * 2.0**doublings, LONGEST_DELAY.total_seconds())
    return timedelta(seconds=seconds * (1 + rng.random() / 10))


def succeed(now: datetime, reason: str = "") -> Ending:
    """The script ended with exit code 0, whatever was wished meanwhile; for a reason if early."""
    said = {"reason": reason} if reason else {}
    return Ending(_final("COMPLETED", now) | said, _attempt("SUCCESS"))


def fail(run: Tried, now: datetime, rng: random.Random, *, error: str) -> Ending:
    """The script ended with another exit code or a signal."""
    return _try_again(run, now, rng, attempt="FAILURE", last="FAILED", error=error)


def error(run: Tried, now: datetime, rng: random.Random, *, error: str) -> Ending:
    """The script could not be started."""
    return _try_again(run, now, rng, attempt="ERROR", last="FAILED", error=error)


def time_out(run: Tried, now: datetime, rng: random.Random, *, error: str) -> Ending:
    """The attempt was ended at its timeout."""
    return _try_again(run, now, rng, attempt="TIMEOUT", last="TIMEOUT", error=error)


def cancel(run: Tried, now: datetime) -> Ending:
    """The attempt was ended because somebody wished so."""
    return Ending(_final("CANCELLED", now, "cancelled"), _attempt("CANCELLED", "cancelled"))


def release(run: Tried, now: datetime) -> Ending:
    """The worker shut down and gave the run back; this counts as no try."""
    said = "given back by a worker that shut down"
    if run.cancel_requested_at is not None:
        return Ending(_final("CANCELLED", now, "cancelled"), _attempt("RELEASED", said))
    return Ending(_pending(now, said), _attempt("RELEASED", said))


def lose(run: Tried, now: datetime) -> Ending:
    """The lease ran out: the worker died or was cut off. Counted apart from failures.

    The third loss ends the run: a job that kills its worker must not kill them all.
    """
    lost = run.lost_count + 1
    said = "its worker was lost: the lease ran out"
    attempt = _attempt("LOST", said)
    if run.cancel_requested_at is not None:
        return Ending(_final("CANCELLED", now, "cancelled") | {"lost_count": lost}, attempt)
    if run.on_worker_lost == "fail":
        return Ending(_final("FAILED", now, said) | {"lost_count": lost}, attempt)
    if lost >= MOST_LOST:
        said = f"its worker was lost {lost} times"
        return Ending(_final("FAILED", now, said) | {"lost_count": lost}, attempt)
    return Ending(_pending(now, said) | {"lost_count": lost}, attempt)


def go_on(run: Tried, now: datetime, lease: timedelta, *, error: str) -> Ending:
    """A failed attempt whose kernel was kept goes on as the next one, with a corrected cell.

    The next attempt begins as this one ends. Whoever corrected the cell granted one more try.
    """
    failures = run.retry_count + 1
    return Ending(
        {
            "attempt": run.attempt + 1,
            "retry_count": failures,
            "max_retries": max(run.max_retries, failures),
            "claimed_at": now,
            "available_at": now,
            "lease_until": now + lease,
            "error_message": None,
            "progress": None,
            "progress_text": None,
        },
        _attempt("FAILURE", error),
    )


def lose_kept(run: Tried, now: datetime, *, error: str) -> Ending:
    """The worker died while it kept the kernel of an attempt that had failed: it stays a failure.

    A kernel is kept when the tries are used up.
    """
    status = "FAILED" if run.cancel_requested_at is None else "CANCELLED"
    said = f"{error}; the worker was lost that kept its kernel"
    ended = _final(status, now, said) | {"progress_text": None}
    return Ending(ended, _attempt("FAILURE", said))


def cancel_pending(now: datetime, reason: str = "cancelled before it started") -> Ending:
    """A run that waits is cancelled; no attempt ends."""
    return Ending(_final("CANCELLED", now) | {"reason": reason, "cancel_requested_at": now})


def fall_silent(run: Tried, now: datetime) -> Ending:
    """A run elsewhere said that it started, and not in time how it ended. It is not run again."""
    said = "it reported its start, and no end in time"
    status = "TIMEOUT" if run.cancel_requested_at is None else "CANCELLED"
    return Ending(_final(status, now, said), _attempt("TIMEOUT", said))


def expire(now: datetime, reason: str = "no worker in time") -> Ending:
    """A run waited past its start deadline."""
    return Ending(_final("MISSED", now) | {"reason": reason})


def _try_again(
    run: Tried, now: datetime, rng: random.Random, *, attempt: str, last: str, error: str
) -> Ending:
    tried = _attempt(attempt, error)
    if run.cancel_requested_at is not None:
        return Ending(_final("CANCELLED", now, error), tried)
    if run.retry_count >= run.max_retries:
        return Ending(_final(last, now, error), tried)
    failures = run.retry_count + 1
    wait = retry_delay(timedelta(seconds=run.retry_delay_seconds), failures, rng)
    return Ending(_pending(now + wait, error) | {"retry_count": failures}, tried)


def _final(status: str, now: datetime, error: str | None = None) -> dict[str, Any]:
    return {
        "status": status,
        "completed_at": now,
        "lease_until": None,
        "error_message": error,
    }


def _pending(available_at: datetime, error: str) -> dict[str, Any]:
    return {
        "status": "PENDING",
        "available_at": available_at,
        "worker_id": None,
        "claimed_at": None,
        "lease_until": None,
        "error_message": error,
    }


def _attempt(status: str, error: str | None = None) -> dict[str, Any]:
    return {"status": status, "error_message": error}


# Overlap: what becomes of a slot that comes while earlier runs of its job are unfinished.


@dataclass(frozen=True)
class Earlier:
    """An unfinished run of the same job."""

    id: int
    status: str
    trigger: str
    reason: str | None = None

    @property
    def counts(self) -> bool:
        """Whether a new slot must mind it: pending backfills and catch-ups give way to it."""
        gives_way = self.trigger == "backfill" or self.reason == CAUGHT_UP
        return not (gives_way and self.status == "PENDING")


@dataclass(frozen=True)
class Overlap:
    """What happens to a new slot: skipped with a reason, or made; and which runs it replaces."""

    skip_reason: str | None = None
    replaces: tuple[int, ...] = ()


def overlap(policy: str, unfinished: list[Earlier]) -> Overlap:
    """Decide by the job's overlap policy what becomes of a new slot."""
    minded = [run for run in unfinished if run.counts]
    if not minded or policy in ("allow", "queue_all"):
        return Overlap()
    if policy == "replace":
        return Overlap(replaces=tuple(run.id for run in minded))
    if policy == "queue":
        waiting = [run.id for run in minded if run.status == "PENDING"]
        return Overlap(f"run {waiting[0]} already waits") if waiting else Overlap()
    return Overlap(f"run {minded[0].id} is unfinished")
