"""Jobs that are watched: what is read of each, and what its rules find."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from jobkit import alerting
from jobkit.alerting import Finding, Run
from jobkit.errors import JobkitError
from jobkit.evaluation.ledger import Ledger, Subject
from jobkit.expectation import Expectation
from jobkit.settings import Settings
from jobkit.store import alerts, clocks, successes
from jobkit.store.definitions import schedule_of

log = logging.getLogger("jobkit.alerts")

OVERLAP = timedelta(seconds=40)
"""How far back runs that ended are looked at once more: a commit may become visible later than one
of a later instant, by as much as a transaction may take."""
STALE = timedelta(minutes=5)
"""An open alert of which nothing was heard for so long is looked at all the same."""
MOST_BEGUN = 200
"""Alerts that one look opens: a database is not held up where thousands of jobs stand still."""
UNWATCHED = "it is not watched any more"


def look_at_jobs(connection: Connection, now: datetime, settings: Settings) -> bool:
    """Bring the alerts of all jobs up to date, and post what people are to know.

    Returns whether more is to be done at once: a transaction opens only so many alerts.

    1. Take the mark: one looks at a time.
    2. Read what runs and waits, what ended since, whose clock is due, what is open.
    3. Ask the rules of each job that any of this is about.
    4. End what nobody watches any more.
    """
    since = alerts.take_mark(connection, now)
    ledger = Ledger(connection, now, settings)
    for case in _cases(ledger, since):
        if ledger.begun >= MOST_BEGUN:
            alerts.set_mark(connection, since)
            return True
        try:
            case.judge()
        except JobkitError as error:  # a row of an older system: the other jobs are well
            log.warning("the alerts of %s cannot be judged: %s", case.job.name, error)
    return False


@dataclass
class Case:
    """A job, and what is known of it in this look."""

    ledger: Ledger
    job: Any
    waiting: list[Run] = field(default_factory=list)
    """What is unfinished, where its rules ask for that."""
    ended: list[Run] = field(default_factory=list)
    """What ended lately, the oldest first."""
    opened: dict[str, Any] = field(default_factory=dict)
    due: set[str] = field(default_factory=set)
    clocks: dict[str, Any] = field(default_factory=dict)
    params: dict[int, Any] = field(default_factory=dict)
    wound: list[dict[str, Any]] = field(default_factory=list)

    @property
    def connection(self) -> Connection:
        return self.ledger.connection

    @property
    def now(self) -> datetime:
        return self.ledger.now

    @property
    def rules(self) -> dict[str, Any]:
        return self.job.alerts or {}

    @property
    def is_watched(self) -> bool:
        return bool(self.job.is_active and self.job.deleted_at is None and self.job.alerts)

    def judge(self) -> None:
        """Ask all rules, and say when the clocks are due next."""
        if not self.is_watched:
            self.close()
            return
        for kind, judge in _JUDGES.items():
            self.settle(kind, judge)
        clocks.set_clocks(self.connection, self.wound)

    def settle(self, kind: str, judge: Any) -> None:
        """Ask one rule, where the job has it and anything is new, and settle what it finds."""
        rules, names = self.rules, _NAMES.get(kind, (kind,))
        row = self.opened.get(kind)
        if not any(name in rules for name in names):
            if row is not None:
                self.ledger.end(
                    row, self._subject(kind), "it is not watched any more", quietly=True
                )
        elif kind in _ALWAYS or self._is_news(kind):
            self.ledger.settle(self.key(kind), judge(self), self._subject(kind))

    def close(self) -> None:
        """End what is open of a job that is paused or deleted: it is not to run now."""
        words = "it was deleted" if self.job.deleted_at is not None else "it is paused"
        words = words if self.job.alerts else UNWATCHED
        for kind, row in self.opened.items():
            self.ledger.end(row, self._subject(kind), words, quietly=True)

    def _is_news(self, kind: str) -> bool:
        if kind in alerting.CLOCKS and kind not in self.opened:
            return kind in self.due
        return bool(self.ended) or kind in self.due or self.is_stale(kind)

    def is_stale(self, kind: str) -> bool:
        """Whether an alert is open and was not looked at for long."""
        row = self.opened.get(kind)
        return row is not None and self.now - row.seen_at >= STALE

    def key(self, kind: str) -> str:
        return f"job:{self.job.id}:{kind}"

    def told_until(self, kind: str) -> datetime | None:
        """Return up to which slot, or end of a run, people know."""
        key = self.key(kind)
        return alerts.told_until(self.connection, [key]).get(key)

    def wind(self, kind: str, since: datetime, due_at: datetime | None) -> None:
        """Have a clock looked at next at an instant."""
        clock = {"of": self.job.id, "named": kind, "since_at": since, "due_at": due_at}
        self.wound.append(clock)

    def usual(self, run: Run) -> Expectation:
        """Return what was usual when a run began."""
        return successes.usual(
            self.connection,
            self.job.id,
            params=self.params.get(run.id) or {},
            before=run.claimed_at,
        )

    def _subject(self, kind: str) -> Subject:
        is_failed = kind == "failed"
        return Subject(
            self.job.id,
            self.job.name,
            tells=not is_failed or "failed" in self.rules,
            tells_end=is_failed and "recovered" in self.rules,
        )


# The rules


def _late(case: Case) -> Finding | None:
    after, zone = timedelta(seconds=case.rules["late"]), case.job.timezone
    runs = [*case.waiting, *case.ended]
    found = alerting.late(case.now, after, runs, zone=zone)
    if found is not None and (found.is_over or found.value is None):
        told = case.told_until("late")
        found = alerting.late(case.now, after, runs, zone=zone, told_until=told)
    row = case.opened.get("late")
    if found is not None or row is None:
        return found
    if not (case.waiting or case.ended or case.is_stale("late")):
        return _same(row)
    run = _one(case, row.run_id)
    is_moved = run is not None and run.status == "MISSED" and _has_started_since(case, run)
    return _same(row) if alerting.is_still_late(run, has_started_since=is_moved) else None


def _has_started_since(case: Case, run: Run) -> bool:
    rows = _read(case, alerts.newest(case.connection, case.job.id))
    return any(it.id > run.id and it.trigger == "schedule" and it.attempt > 0 for it in rows)


def _running(case: Case) -> Finding | None:
    rule = case.rules["running"]
    is_usual = rule == "auto"

    def bound(run: Run) -> timedelta | None:
        return case.usual(run).long_after if is_usual else timedelta(seconds=rule)

    return alerting.running(case.now, case.waiting, bound, is_usual=is_usual)


def _failed(case: Case) -> Finding | None:
    return alerting.failed(
        _decided(case), case.ended, case.told_until("failed"), is_open="failed" in case.opened
    )


def _failures(case: Case) -> Finding | None:
    least = case.rules["failures"]
    is_open = "failures" in case.opened
    return alerting.failures(_decided(case), least, case.told_until("failures"), is_open=is_open)


def _decided(case: Case) -> list[Run]:
    rows = alerts.decided(case.connection, case.job.id, alerting.MOST_FAILURES)
    return _read(case, rows)


def _short(case: Case) -> Finding | None:
    def bound(run: Run) -> timedelta | None:
        return case.usual(run).short_before

    found = alerting.short(case.ended, bound, case.told_until("short"))
    row = case.opened.get("short")
    if found is not None or row is None:
        return found
    later = [run for run in _decided(case) if run.status == "COMPLETED" and run.id > row.run_id]
    is_usual_again = bool(later) and not alerting.is_short(later[0], bound)
    return None if is_usual_again else _same(row)


def _no_success(case: Case) -> Finding | None:
    clock = case.clocks.get("no-success")
    if clock is None:
        return None
    after = timedelta(seconds=case.rules["no-success"])
    last = alerts.last_success(case.connection, case.job.id)
    has_succeeded = last is not None and last >= clock.since_at
    since = last if last is not None and has_succeeded else clock.since_at
    found = alerting.no_success(case.now, after, since, has_succeeded=has_succeeded)
    case.wind("no-success", since, None if found else since + after)
    return found


def _done_by(case: Case) -> Finding | None:
    clock, row = case.clocks.get("done-by"), case.opened.get("done-by")
    if clock is None:
        return None
    wall, zone = case.rules["done-by"], case.job.timezone
    runs = _read(case, alerts.newest(case.connection, case.job.id))
    slot = None if row is None else row.about_at
    if "done-by" in case.due:
        before, last, upcoming = alerting.deadlines(wall, zone, case.now)
        schedule = schedule_of(case.job)
        slot = alerting.slot_before(schedule, clock.since_at, before, last) or slot
        case.wind("done-by", clock.since_at, upcoming)
    return None if slot is None else alerting.done_by(slot, wall, zone, runs)


_JUDGES = {
    "late": _late,
    "running": _running,
    "failed": _failed,
    "failures": _failures,
    "short": _short,
    "no-success": _no_success,
    "done-by": _done_by,
}
_NAMES = {"failed": ("failed", "recovered")}
_ALWAYS = ("late", "running")
"""What is asked at each look: all that is unfinished is read at once."""


# Reading


def _cases(ledger: Ledger, since: datetime) -> Iterable[Case]:
    connection, now = ledger.connection, ledger.now
    waiting = _by_job(row for row in alerts.unfinished(connection) if _may_tell(row, now))
    ended = _by_job(alerts.ended(connection, since - OVERLAP))
    due: dict[int, set[str]] = defaultdict(set)
    for clock in clocks.due(connection, now):
        due[clock.job_id].add(clock.kind)
    opened: dict[int, dict[str, Any]] = defaultdict(dict)
    for row in ledger.opened.values():
        if row.job_id is not None:
            opened[row.job_id][row.kind] = row
    ids = {*waiting, *ended, *due, *opened}
    if not ids:
        return
    jobs = alerts.watched(connection, ids)
    wound = clocks.of_jobs(connection, {*due, *opened})
    for job_id in sorted(ids & jobs.keys()):
        rows = waiting.get(job_id, []), ended.get(job_id, [])
        case = Case(ledger, jobs[job_id], opened=opened[job_id], due=due[job_id])
        case.waiting, case.ended = (_read(case, some) for some in rows)
        case.clocks = wound.get(job_id, {})
        yield case


def _may_tell(row: Any, now: datetime) -> bool:
    """Whether an unfinished run can be late or run too long: nearly all are well, and are left."""
    late, longest = row.alerts.get("late"), row.alerts.get("running")
    if row.status == "PENDING":
        slot = row.scheduled_for
        return late is not None and slot is not None and (now - slot).total_seconds() >= late
    delay = run_of(row).delay
    if late is not None and delay is not None and delay.total_seconds() >= late:
        return True
    took = 0.0 if row.claimed_at is None else (now - row.claimed_at).total_seconds()
    return longest is not None and (longest == "auto" or took >= longest)


def _by_job(rows: Iterable[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = defaultdict(list)
    for row in rows:
        found[row.job_id].append(row)
    return found


def _read(case: Case, rows: Iterable[Any]) -> list[Run]:
    read = []
    for row in rows:
        case.params[row.id] = row.params
        read.append(run_of(row))
    return read


def _one(case: Case, run_id: int | None) -> Run | None:
    known = next((run for run in case.waiting if run.id == run_id), None)
    if known is not None or run_id is None:
        return known
    return next(iter(_read(case, alerts.runs_of(case.connection, [run_id]).values())), None)


def run_of(row: Any) -> Run:
    """Read what a rule reads of a run."""
    return Run(
        row.id,
        row.status,
        row.trigger,
        row.attempt,
        row.scheduled_for,
        row.created_at,
        row.claimed_at,
        row.completed_at,
        row.reason or row.error_message or "",
    )


def _same(row: Any) -> Finding:
    return Finding(row.kind, row.text, row.value, row.run_id, row.about_at)
