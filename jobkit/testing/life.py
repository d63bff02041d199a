"""What becomes of one job's runs in a made-up history: waits, tries, endings, as rows.

Instants are microseconds since 1970, which cost a tenth of datetimes to reckon with and to write.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache, lru_cache
from typing import Any

from jobkit.schedule.calendar import stamp
from jobkit.states import LONGEST_DELAY, MOST_LOST
from jobkit.testing.fleet import Planned
from jobkit.testing.words import FAILURES, Voice

RUN_COLUMNS = (
    "id", "job_id", "status", "created_at", "claimed_at", "completed_at", "worker_id",
    "retry_count", "error_message", "scheduled_for", "trigger", "available_at", "attempt",
    "lease_until", "start_until", "params", "job_version", "queue", "lane", "max_retries",
    "retry_delay_seconds", "lost_count", "cancel_requested_at", "reason", "requested_by",
)  # fmt: skip
ATTEMPT_COLUMNS = (
    "job_id", "run_time", "status", "log_output", "dispatch_id", "attempt", "worker_id",
    "scheduled_for", "queued_at", "claimed_at", "started_at", "finished_at", "exit_code",
    "error_message", "cpu_seconds", "max_rss_bytes", "output_bytes", "omitted_bytes", "signal",
    "metrics", "result", "provenance",
)  # fmt: skip
OUTPUT_COLUMNS = ("dispatch_id", "attempt", "seq", "claimed_at", "at", "stream", "text")

FAILS, FAILS_AGAIN = 0.0375, 0.27
"""How often a first try fails, and one after a failure."""
SECOND = 1_000_000
DAY = 86_400 * SECOND
WEEK = 7 * DAY
LEASE = DAY
"""Of runs that are open at the end: long enough to be looked at."""
_START = 4000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
_LOST_AFTER = 65.0
_ODD = ("CANCELLED", "RELEASED", "LOST", "ERROR")
Rows = list[tuple[Any, ...]]


@dataclass
class Written:
    """Rows that wait to be written."""

    runs: Rows = field(default_factory=list)
    attempts: Rows = field(default_factory=list)
    output: Rows = field(default_factory=list)


@dataclass(frozen=True)
class World:
    """What all jobs share: the end of the history, the dice, the workers and their clothes."""

    now: int
    rng: random.Random
    factors: Sequence[float]
    workers: Sequence[tuple[str, str]]
    """Identities and hosts."""
    upgraded_at: int
    """When the packages of the workers became newer ones."""
    written: Written


@cache
def _clock() -> tuple[list[str], list[str]]:
    """Return the text of each second of a day, and of each thousand."""
    seconds = [f"{s // 3600:02d}:{s // 60 % 60:02d}:{s % 60:02d}" for s in range(86_400)]
    return seconds, [f"{part:03d}" for part in range(1000)]


@lru_cache(maxsize=4)
def _day(number: int) -> str:
    return date.fromordinal(_EPOCH_DAY + number).isoformat()


@lru_cache(maxsize=32)
def _written(instant: int) -> str:
    number, rest = divmod(instant, DAY)
    second, rest = divmod(rest, SECOND)
    seconds, thousands = _clock()
    return f"{_day(number)} {seconds[second]}.{thousands[rest // 1000]}{thousands[rest % 1000]}"


def iso(instant: int | None) -> str | None:
    """Write an instant as the databases keep it."""
    return None if instant is None else _written(instant)


def _seconds(count: float) -> int:
    return int(count * 1e6)


@dataclass(slots=True)
class _Run:
    """A run on its way: what its row says at the end."""

    id: int
    created_at: int
    slot: int | None
    trigger: str
    reason: str | None
    available_at: int
    start_until: int | None
    status: str = "PENDING"
    claimed_at: int | None = None
    completed_at: int | None = None
    worker: str | None = None
    retries: int = 0
    lost: int = 0
    attempt: int = 0
    error: str | None = None
    cancelled_at: int | None = None


class Life:
    """One job: its runs one after the other, unless it lets them run side by side."""

    def __init__(self, world: World, job_id: int, planned: Planned, voice: Voice) -> None:
        columns = planned.columns
        self._world, self._voice, self._planned = world, voice, planned
        self.job_id = job_id
        self.policy: str = columns["overlap_policy"]
        self._lane = None if self.policy == "allow" else 0
        self._queue: str = columns["queue"]
        self._params: str | None = '{"region": "eu"}' if columns["params"] else None
        self._max_retries: int = columns["max_retries"]
        self._delay: float = columns["retry_delay_seconds"]
        self._timeout: float = columns["timeout_seconds"]
        self._deadline = columns["start_deadline_seconds"]
        self._edited_at = stamp(planned.edited_at) if planned.edited_at else None
        self._rows = int(1000 * (1 + job_id % 17) * planned.median_seconds)
        self._last: tuple[int, int, int] | None = None
        """The last run: its id, its first claim and its end."""

    def skip_reason(self, at: int) -> str | None:
        """Say why a slot that comes now is not run; None when it is."""
        if self._last is None or self.policy in ("allow", "queue_all"):
            return None
        run_id, claimed_at, ended_at = self._last
        if at >= ended_at:
            return None
        if self.policy == "queue":
            return f"run {run_id} already waits" if at < claimed_at else None
        return f"run {run_id} is unfinished"

    def close(self, run_id: int, at: int, slot: int, status: str, reason: str) -> None:
        """Write the row of a slot that is not run."""
        run = _Run(run_id, at, slot, "schedule", reason, at, self._start_until(slot), status)
        run.completed_at = at
        self._write(run)

    def live(
        self, run_id: int, at: int, slot: int | None, trigger: str, reason: str | None
    ) -> None:
        """Write a run that was made at an instant, with all that became of it until now."""
        run = _Run(run_id, at, slot, trigger, reason, at, self._start_until(slot))
        free_at = self._last[2] if self._lane is not None and self._last is not None else at
        claim_at = max(at, free_at) + self._wait()
        first_claim = claim_at
        if run.start_until is not None and claim_at > run.start_until:
            ended_at = run.start_until + _seconds(self._world.rng.random() * 3)
            if ended_at <= self._world.now:
                run.status, run.completed_at, run.reason = "MISSED", ended_at, "no worker in time"
            claim_at = ended_at
        while run.status == "PENDING" and claim_at <= self._world.now:
            claim_at = self._try(run, claim_at)
        self._write(run)
        ended_at = run.completed_at or self._world.now + LEASE
        if run.status != "MISSED":
            self._last = (run_id, first_claim, ended_at)

    def _start_until(self, slot: int | None) -> int | None:
        return None if self._deadline is None or slot is None else slot + _seconds(self._deadline)

    def _wait(self) -> int:
        dice = self._world.rng.random()
        if dice < 0.95:
            return int(3000 + dice * 400_000)
        if dice < 0.99:
            return _seconds(5 + (dice - 0.95) * 1300)
        return _seconds(60 + (dice - 0.99) * 84_000)

    def _try(self, run: _Run, claimed_at: int) -> int:
        """Live one attempt; returns when the run is claimed again if it waits then."""
        world = self._world
        rng, factors = world.rng, world.factors
        dice = rng.random()
        worker, host = world.workers[int(rng.random() * len(world.workers))]
        seconds = self._planned.median_seconds * factors[int(rng.random() * len(factors))]
        status = self._outcome(dice, run)
        if status == "LOST":
            seconds = _LOST_AFTER + 10 * rng.random()
        elif status == "ERROR":
            seconds = 0.05
        elif seconds > self._timeout and status != "CANCELLED":
            status, seconds = "TIMEOUT", self._timeout + 0.3
        run.attempt += 1
        run.claimed_at, run.worker, run.error = claimed_at, worker, None
        finished_at = claimed_at + _START + _seconds(seconds)
        if finished_at > world.now:
            run.status = "IN_PROGRESS"
            return finished_at
        return _ENDINGS[status](self, run, status, seconds, finished_at, host)

    def _outcome(self, dice: float, run: _Run) -> str:
        chance = FAILS_AGAIN if run.retries else FAILS * self._planned.flakiness
        if dice >= chance:
            return "SUCCESS" if dice < 0.9985 else _ODD[int((dice - 0.9985) / 0.0015 * 4)]
        return "FAILURE"

    def _succeed(self, run: _Run, status: str, seconds: float, at: int, host: str) -> int:
        rows = int(self._rows * (0.9 + 0.2 * (seconds % 1)))
        said = self._voice.success(_written(at), rows)
        result = f'{{"rows": {rows}}}' if self.job_id % 3 == 0 else None
        self._record(run, status, seconds, at, host, said, 0, None, rows=rows, result=result)
        run.status, run.completed_at = "COMPLETED", at
        return at

    def _fail(self, run: _Run, status: str, seconds: float, at: int, host: str) -> int:
        code: int | None = None
        if status == "FAILURE":
            kind = FAILURES[int(len(FAILURES) * self._world.rng.random() ** 2 + self.job_id) % 7]
            said, code = self._voice.failure(kind, _written(at), self._rows), 1
            error = "exit code 1"
        elif status == "TIMEOUT":
            said, error = self._voice.start(_written(at), self._rows), ""
            error = f"ended at its timeout of {self._timeout:g} s"
        else:
            said, error = "", "the interpreter /srv/venv/bin/python is not there"
        self._record(run, status, seconds, at, host, said, code, error)
        run.error = error
        if run.retries >= self._max_retries:
            run.status = "TIMEOUT" if status == "TIMEOUT" else "FAILED"
            run.completed_at = at
            return at
        run.retries += 1
        longest = LONGEST_DELAY.total_seconds()
        wait = min(self._delay * 2.0 ** (run.retries - 1), longest)
        return self._again(run, at + _seconds(wait * (1 + self._world.rng.random() / 10)))

    def _lose(self, run: _Run, status: str, seconds: float, at: int, host: str) -> int:
        error = "its worker was lost: the lease ran out"
        run.lost += 1
        if run.lost >= MOST_LOST:
            error = f"its worker was lost {run.lost} times"
        self._record(run, status, seconds, at, host, "", None, error)
        run.error = error
        if run.lost >= MOST_LOST:
            run.status, run.completed_at = "FAILED", at
            return at
        return self._again(run, at)

    def _release(self, run: _Run, status: str, seconds: float, at: int, host: str) -> int:
        error = "given back by a worker that shut down"
        self._record(run, status, seconds, at, host, "", None, error)
        run.error = error
        return self._again(run, at)

    def _cancel(self, run: _Run, status: str, seconds: float, at: int, host: str) -> int:
        said = self._voice.start(_written(at), self._rows)
        self._record(run, status, seconds, at, host, said, None, "cancelled")
        run.status, run.completed_at, run.error = "CANCELLED", at, "cancelled"
        run.reason, run.cancelled_at = "cancelled by ada", at - _seconds(min(1.0, seconds / 2))
        return at

    def _again(self, run: _Run, available_at: int) -> int:
        run.available_at, run.claimed_at, run.worker = available_at, None, None
        return available_at + self._wait()

    def _record(
        self,
        run: _Run,
        status: str,
        seconds: float,
        finished_at: int,
        host: str,
        said: str,
        exit_code: int | None,
        error: str | None,
        *,
        rows: int | None = None,
        result: str | None = None,
    ) -> None:
        claimed_at = run.claimed_at
        assert claimed_at is not None
        began = _written(claimed_at + _START)
        claimed, ended = _written(claimed_at), _written(finished_at)
        measured = status not in ("LOST", "ERROR", "RELEASED")
        written = self._world.written
        provenance = None
        if measured:
            packages = int(claimed_at >= self._world.upgraded_at)
            version, week = self._version(run), claimed_at // WEEK
            provenance = self._voice.provenance(version, host, week, packages)
        written.attempts.append((
            self.job_id, began, status, said if measured else None, run.id, run.attempt,
            run.worker, iso(run.slot), _written(run.available_at), claimed,
            began if measured else None, ended, exit_code, error,
            round(seconds * 0.6, 3) if measured else None,
            40_000_000 + int(seconds * 1e6) if measured else None,
            len(said) if measured else None, 0 if measured else None,
            15 if status in ("TIMEOUT", "CANCELLED") else None,
            f'{{"rows": {rows}}}' if rows is not None else None, result, provenance,
        ))  # fmt: skip
        if said:
            written.output.append((run.id, run.attempt, 0, claimed, ended, "output", said))

    def _version(self, run: _Run) -> int:
        return 2 if self._edited_at is not None and run.created_at > self._edited_at else 1

    def _write(self, run: _Run) -> None:
        lease = self._world.now + LEASE if run.status == "IN_PROGRESS" else None
        self._world.written.runs.append((
            run.id, self.job_id, run.status, _written(run.created_at), iso(run.claimed_at),
            iso(run.completed_at), run.worker, run.retries, run.error, iso(run.slot), run.trigger,
            _written(run.available_at), run.attempt, iso(lease), iso(run.start_until), self._params,
            self._version(run), self._queue, self._lane, self._max_retries, self._delay, run.lost,
            iso(run.cancelled_at), run.reason, "ada" if run.trigger == "manual" else None,
        ))  # fmt: skip


_ENDINGS: dict[str, Callable[[Life, _Run, str, float, int, str], int]] = {
    "SUCCESS": Life._succeed,
    "FAILURE": Life._fail,
    "TIMEOUT": Life._fail,
    "ERROR": Life._fail,
    "LOST": Life._lose,
    "RELEASED": Life._release,
    "CANCELLED": Life._cancel,
}
