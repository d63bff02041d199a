"""`jobkit verify`: audits the laws on any jobkit database, reading only.

Each check states what must hold and returns what it looked at and what breaks it. Runs that an
older system left name no version; what their history would need was never recorded, so checks of
attempts leave them out.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from jobkit.executors.sweep import carriers
from jobkit.models import attempts, jobs, output, runs, versions, workers
from jobkit.schedule import Schedule
from jobkit.states import FINAL, MOST_LOST
from jobkit.store.definitions import DEFINITION, SCHEDULE, definition, schedule_of

LISTED = 20
# Instants come from clocks that agree within the time an answer of the database takes.
TOLERANCE = timedelta(seconds=1)
SETTLED = timedelta(minutes=1)
_REST = re.compile(r"^(\d+) slots from (\S+) to (\S+) passed")


@dataclass(frozen=True)
class Scope:
    """What is audited: the instant of the audit, and how far back slots have their rows."""

    now: datetime
    since: datetime | None
    """Runs that were made before are left out."""
    slots_since: datetime | None
    """Slots before this one may have been cleaned up."""
    late: timedelta
    """How long after its lease or deadline a run may wait for a scheduler."""


@dataclass(frozen=True)
class Finding:
    """What one check looked at, and what breaks it."""

    law: int
    rule: str
    checked: int
    broken: int
    breaches: tuple[str, ...]
    """The first 20, each naming a row."""


Checked = tuple[int, Sequence[str]]
Check = Callable[[Connection, Scope], Checked]
_CHECKS: list[tuple[int, str, Check]] = []


def audit(connection: Connection, scope: Scope) -> list[Finding]:
    """Check every law; returns one finding for each check, in the order of the laws."""
    findings = []
    for law, rule, check in _CHECKS:
        checked, broken = check(connection, scope)
        findings.append(Finding(law, rule, checked, len(broken), tuple(broken[:LISTED])))
    return findings


def _law(number: int, rule: str) -> Callable[[Check], Check]:
    def add(check: Check) -> Check:
        _CHECKS.append((number, rule, check))
        return check

    return add


def _made(scope: Scope) -> sa.ColumnElement[bool]:
    return sa.true() if scope.since is None else runs.c.created_at >= scope.since


def _count(connection: Connection, scope: Scope, *which: Any) -> int:
    statement = sa.select(sa.func.count()).select_from(runs).where(_made(scope), *which)
    return connection.scalar(statement) or 0


def _broken_runs(
    connection: Connection, scope: Scope, words: str, which: sa.ColumnElement[bool]
) -> list[str]:
    statement = sa.select(runs.c.id, runs.c.status).where(_made(scope), which).order_by(runs.c.id)
    return [f"run {id_} ({status}) {words}" for id_, status in connection.execute(statement)]


_tried = attempts.join(runs, runs.c.id == attempts.c.dispatch_id)
_ours = runs.c.job_version.is_not(None)


def _broken_attempts(
    connection: Connection, scope: Scope, words: str, which: sa.ColumnElement[bool]
) -> list[str]:
    columns = (attempts.c.dispatch_id, attempts.c.attempt, attempts.c.status)
    statement = sa.select(*columns).select_from(_tried).where(_made(scope), _ours, which)
    found = connection.execute(statement.order_by(*columns[:2]))
    return [f"attempt {number} of run {run} ({status}) {words}" for run, number, status in found]


def _attempt_count(connection: Connection, scope: Scope) -> int:
    statement = sa.select(sa.func.count()).select_from(_tried).where(_made(scope), _ours)
    return connection.scalar(statement) or 0


# Law 1


@_law(1, "a slot has one run")
def _one_run_per_slot(connection: Connection, scope: Scope) -> Checked:
    slots = (runs.c.job_id, runs.c.scheduled_for)
    scheduled = runs.c.trigger == "schedule"
    statement = sa.select(*slots, sa.func.count()).where(_made(scope), scheduled)
    doubled = connection.execute(statement.group_by(*slots).having(sa.func.count() > 1)).all()
    return _count(connection, scope, scheduled), [
        f"job {job} has {count} runs for its slot {slot}" for job, slot, count in doubled
    ]


@_law(1, "a run's slot is one of its schedule")
def _on_the_grid(connection: Connection, scope: Scope) -> Checked:
    schedules = _schedules(connection)
    statement = sa.select(runs.c.id, runs.c.job_id, runs.c.job_version, runs.c.scheduled_for)
    statement = statement.where(_made(scope), runs.c.trigger == "schedule", _ours)
    checked, broken = 0, []
    for id_, job_id, version, slot in connection.execute(statement):
        if slot is None:
            broken.append(f"run {id_} is of a schedule and has no slot")
            continue
        schedule = schedules.get((job_id, version))
        if schedule is None:
            continue  # told by law 8
        checked += 1
        if schedule.next_after(slot - timedelta(microseconds=1)) != slot:
            broken.append(f"run {id_} has the slot {slot}, which its schedule does not have")
    return checked, broken


@_law(1, "no slot was left out between two that were looked at")
def _no_slot_left_out(connection: Connection, scope: Scope) -> Checked:
    recorded = _recorded_slots(connection)
    checked, broken = 0, []
    for job_id, schedule, began, ended in _periods(connection):
        since = max(began, scope.slots_since or began, scope.since or began)
        slots, gaps = recorded[job_id]
        reached = [slot for slot in slots if since < slot <= ended]
        if not reached:
            continue
        # Slots after the last recorded one may not have been looked at when the schedule changed.
        for slot in schedule.slots(since, reached[-1]):
            checked += 1
            if not _holds(reached, slot) and not any(a <= slot <= b for a, b in gaps):
                broken.append(f"job {job_id} has no row for its slot {slot}")
    return checked, broken


@_law(1, "every slot before a job's next one was looked at")
def _cursor_has_its_slot(connection: Connection, scope: Scope) -> Checked:
    live = sa.select(jobs).where(jobs.c.is_active, jobs.c.deleted_at.is_(None))
    checked, broken = 0, []
    for job in connection.execute(live):
        checked += 1
        upcoming = schedule_of(job).next_after(job.slots_until)
        if upcoming != job.next_run:
            broken.append(f"job {job.id} comes next at {job.next_run}, its schedule at {upcoming}")
    return checked, broken


def _schedules(connection: Connection) -> dict[tuple[int, int], Schedule]:
    columns = (versions.c.job_id, versions.c.version, versions.c.definition)
    return {
        (job_id, number): _schedule(document)
        for job_id, number, document in connection.execute(sa.select(*columns))
    }


def _schedule(document: dict[str, Any]) -> Schedule:
    values = {name: document.get(name) for name in SCHEDULE}
    for name in ("anchor_at", "starts_at", "ends_at"):
        values[name] = _utc(values[name])
    return schedule_of(SimpleNamespace(**values))


def _periods(connection: Connection) -> Iterator[tuple[int, Schedule, datetime, datetime]]:
    """Yield (job, schedule, from, to) for each stretch in which a job had one active schedule."""
    cursors = connection.execute(sa.select(jobs.c.id, jobs.c.slots_until))
    until: dict[int, datetime] = {job_id: cursor for job_id, cursor in cursors}
    order = (versions.c.job_id, versions.c.version)
    columns = (versions.c.job_id, versions.c.changed_at, versions.c.definition)
    current: tuple[int, dict[str, Any], datetime] | None = None
    for job_id, at, document in connection.execute(sa.select(*columns).order_by(*order)):
        timing = {name: document.get(name) for name in (*SCHEDULE, "is_active")}
        if current is not None and current[:2] == (job_id, timing):
            continue
        if current is not None:
            yield from _period(*current, at if current[0] == job_id else until[current[0]])
        current = (job_id, timing, at)
    if current is not None:
        yield from _period(*current, until[current[0]])


def _period(
    job_id: int, timing: dict[str, Any], began: datetime, ended: datetime
) -> Iterator[tuple[int, Schedule, datetime, datetime]]:
    if timing["is_active"] and timing["schedule_type"] != "manual":
        yield job_id, _schedule(timing), began, ended


def _recorded_slots(
    connection: Connection,
) -> defaultdict[int, tuple[list[datetime], list[tuple[datetime, datetime]]]]:
    found: defaultdict[int, tuple[list[datetime], list[tuple[datetime, datetime]]]]
    found = defaultdict(lambda: ([], []))
    columns = (runs.c.job_id, runs.c.scheduled_for, runs.c.reason)
    of_slots = (runs.c.trigger == "schedule", runs.c.scheduled_for.is_not(None))
    statement = sa.select(*columns).where(*of_slots, _ours)
    for job_id, slot, reason in connection.execute(statement.order_by(*columns[:2])):
        slots, gaps = found[job_id]
        slots.append(slot)
        if reason and (rest := _REST.match(reason)):
            gaps.append((datetime.fromisoformat(rest[2]), datetime.fromisoformat(rest[3])))
    return found


def _holds(sorted_slots: Sequence[datetime], slot: datetime) -> bool:
    index = bisect_left(sorted_slots, slot)
    return index < len(sorted_slots) and sorted_slots[index] == slot


# Law 2


@_law(2, "a run in progress has a worker, a claim and a lease")
def _held_by_somebody(connection: Connection, scope: Scope) -> Checked:
    held = runs.c.status == "IN_PROGRESS"
    lacks = sa.or_(runs.c.worker_id.is_(None), runs.c.claimed_at.is_(None))
    lacks = sa.or_(lacks, runs.c.lease_until.is_(None))
    words = "is held by nobody"
    broken = _broken_runs(connection, scope, words, sa.and_(held, lacks, _ours))
    return _count(connection, scope, held), broken


@_law(2, "one run of a lane is in progress")
def _one_live_run_per_lane(connection: Connection, scope: Scope) -> Checked:
    lane = (runs.c.job_id, runs.c.lane)
    held = (runs.c.status == "IN_PROGRESS", runs.c.lane.is_not(None), _made(scope))
    statement = sa.select(*lane, sa.func.count()).where(*held).group_by(*lane)
    doubled = connection.execute(statement.having(sa.func.count() > 1)).all()
    return _count(connection, scope, *held[:2]), [
        f"job {job} has {count} runs in progress in lane {number}" for job, number, count in doubled
    ]


@_law(2, "attempts of one run follow each other")
def _attempts_follow(connection: Connection, scope: Scope) -> Checked:
    within = {"partition_by": attempts.c.dispatch_id}
    return _overlapping(connection, scope, within, (attempts.c.attempt,), _ours)


@_law(2, "runs of one lane follow each other")
def _lanes_follow(connection: Connection, scope: Scope) -> Checked:
    within = {"partition_by": (runs.c.job_id, runs.c.lane)}
    order = (attempts.c.claimed_at, attempts.c.finished_at)
    return _overlapping(connection, scope, within, order, sa.and_(_ours, runs.c.lane.is_not(None)))


def _overlapping(
    connection: Connection,
    scope: Scope,
    within: dict[str, Any],
    order: tuple[Any, ...],
    which: sa.ColumnElement[bool],
) -> Checked:
    def before(column: Any) -> Any:
        return sa.func.lag(column, type_=column.type).over(**within, order_by=order)

    spans = (
        sa.select(
            attempts.c.dispatch_id.label("run"),
            attempts.c.attempt,
            attempts.c.claimed_at,
            before(attempts.c.finished_at).label("ended"),
            before(attempts.c.dispatch_id).label("other"),
            before(attempts.c.attempt).label("other_attempt"),
        )
        .select_from(_tried)
        .where(_made(scope), which)
        .subquery()
    )
    statement = sa.select(spans).where(spans.c.claimed_at < spans.c.ended)
    broken = [
        f"attempt {row.attempt} of run {row.run} began at {row.claimed_at}, before attempt "
        f"{row.other_attempt} of run {row.other} ended at {row.ended}"
        for row in connection.execute(statement)
        if row.claimed_at < row.ended - TOLERANCE
    ]
    return _attempt_count(connection, scope), broken


# Law 3


@_law(3, "an attempt has one result")
def _one_result(connection: Connection, scope: Scope) -> Checked:
    key = (attempts.c.dispatch_id, attempts.c.attempt)
    statement = sa.select(*key, sa.func.count()).select_from(_tried).where(_made(scope), _ours)
    doubled = connection.execute(statement.group_by(*key).having(sa.func.count() > 1)).all()
    return _attempt_count(connection, scope), [
        f"attempt {number} of run {run} has {count} results" for run, number, count in doubled
    ]


@_law(3, "every attempt that ended has a result, and no other")
def _all_results(connection: Connection, scope: Scope) -> Checked:
    ended = runs.c.attempt - sa.case((runs.c.status == "IN_PROGRESS", 1), else_=0)
    recorded = sa.func.count(sa.distinct(attempts.c.attempt))
    highest = sa.func.coalesce(sa.func.max(attempts.c.attempt), 0)
    statement = (
        sa.select(runs.c.id, ended, recorded, highest)
        .select_from(runs.outerjoin(attempts, attempts.c.dispatch_id == runs.c.id))
        .where(_made(scope), _ours)
        .group_by(runs.c.id, runs.c.attempt, runs.c.status)
        .having(sa.or_(recorded != ended, highest != ended))
    )
    return _count(connection, scope, _ours), [
        f"run {run} ended {wanted} attempts and has {found} results, the last of attempt {last}"
        for run, wanted, found, last in connection.execute(statement)
    ]


@_law(3, "a run is COMPLETED by one SUCCESS, and by nothing else")
def _success_is_completed(connection: Connection, scope: Scope) -> Checked:
    won = sa.func.count(sa.case((attempts.c.status == "SUCCESS", 1)))
    wanted = sa.case((runs.c.status == "COMPLETED", 1), else_=0)
    statement = (
        sa.select(runs.c.id, runs.c.status, won)
        .select_from(runs.outerjoin(attempts, attempts.c.dispatch_id == runs.c.id))
        .where(_made(scope), _ours)
        .group_by(runs.c.id, runs.c.status)
        .having(won != wanted)
    )
    return _count(connection, scope, _ours), [
        f"run {run} is {status} with {count} successful attempts"
        for run, status, count in connection.execute(statement)
    ]


@_law(3, "a result was written by the worker that had claimed the attempt")
def _no_stale_worker(connection: Connection, scope: Scope) -> Checked:
    later = attempts.alias("later")
    spoke = sa.exists().where(
        later.c.dispatch_id == attempts.c.dispatch_id,
        later.c.attempt > attempts.c.attempt,
        later.c.claimed_at <= attempts.c.claimed_at,
    )
    words = "was claimed after the next one"
    broken = _broken_attempts(connection, scope, words, spoke)
    foreign = sa.and_(
        attempts.c.attempt == runs.c.attempt,
        runs.c.status.in_(FINAL),
        attempts.c.worker_id != runs.c.worker_id,
    )
    broken += _broken_attempts(connection, scope, "is of another worker than its run", foreign)
    return _attempt_count(connection, scope), broken


# Law 4


@_law(4, "a lapsed lease is taken back")
def _nothing_hangs(connection: Connection, scope: Scope) -> Checked:
    held = runs.c.status == "IN_PROGRESS"
    lapsed = sa.and_(held, runs.c.lease_until < scope.now - scope.late)
    words = "lost its worker, and no scheduler took it back"
    return _count(connection, scope, held), _broken_runs(connection, scope, words, lapsed)


@_law(4, "a run that waits can start")
def _nothing_waits_for_ever(connection: Connection, scope: Scope) -> Checked:
    waits = runs.c.status == "PENDING"
    expired = sa.and_(runs.c.attempt == 0, runs.c.start_until < scope.now - scope.late)
    words = "is past its start deadline, and no scheduler ended it"
    broken = _broken_runs(connection, scope, words, sa.and_(waits, expired))
    longest = scope.now + timedelta(hours=1, minutes=6) + TOLERANCE
    distant = sa.and_(waits, runs.c.attempt > 0, runs.c.available_at > longest)
    broken += _broken_runs(connection, scope, "waits longer than any retry may", distant)
    return _count(connection, scope, waits), broken


@_law(4, "tries are bounded")
def _tries_are_bounded(connection: Connection, scope: Scope) -> Checked:
    too_many = sa.or_(runs.c.retry_count > runs.c.max_retries, runs.c.lost_count > MOST_LOST)
    broken = _broken_runs(connection, scope, "was tried too often", sa.and_(_ours, too_many))
    return _count(connection, scope, _ours), broken


@_law(4, "a run that has ended says when")
def _ends_are_dated(connection: Connection, scope: Scope) -> Checked:
    final = runs.c.status.in_(FINAL)
    undated = sa.and_(final, _ours, runs.c.completed_at.is_(None))
    dated = sa.and_(~final, runs.c.completed_at.is_not(None))
    broken = _broken_runs(connection, scope, "has no end", undated)
    broken += _broken_runs(connection, scope, "has an end although it goes on", dated)
    return _count(connection, scope), broken


# Law 5


@_law(5, "output is whole: chunks are numbered without a gap")
def _output_is_whole(connection: Connection, scope: Scope) -> Checked:
    key = (output.c.dispatch_id, output.c.attempt)
    chunks, last = sa.func.count(), sa.func.max(output.c.seq)
    joined = output.join(runs, runs.c.id == output.c.dispatch_id)
    statement = sa.select(*key, chunks, last).select_from(joined).where(_made(scope))
    statement = statement.group_by(*key).having(chunks != last + 1)
    return _attempt_count(connection, scope), [
        f"attempt {number} of run {run} has {count} chunks, the last with number {seq}"
        for run, number, count, seq in connection.execute(statement)
    ]


@_law(5, "what was printed is there")
def _output_is_there(connection: Connection, scope: Scope) -> Checked:
    chunk = sa.exists().where(
        output.c.dispatch_id == attempts.c.dispatch_id, output.c.attempt == attempts.c.attempt
    )
    lost = sa.and_(attempts.c.output_bytes > 0, ~chunk)
    words = "printed something that is not there"
    broken = _broken_attempts(connection, scope, words, lost)
    unknown = sa.select(output.c.dispatch_id, output.c.attempt).distinct()
    unknown = unknown.join(runs, runs.c.id == output.c.dispatch_id)
    unknown = unknown.where(_made(scope), output.c.attempt > runs.c.attempt)
    broken += [
        f"run {run} has output of attempt {number}, which was never claimed"
        for run, number in connection.execute(unknown)
    ]
    return _attempt_count(connection, scope), broken


# Law 6


@_law(6, "nothing started early")
def _never_early(connection: Connection, scope: Scope) -> Checked:
    columns = (attempts.c.dispatch_id, attempts.c.attempt, attempts.c.claimed_at)
    due = (runs.c.scheduled_for, attempts.c.queued_at)
    statement = sa.select(*columns, *due).select_from(_tried).where(_made(scope), _ours)
    early = sa.or_(attempts.c.claimed_at < due[0], attempts.c.claimed_at < due[1])
    return _attempt_count(connection, scope), [
        f"attempt {number} of run {run} was claimed at {claimed_at}, before it was due"
        for run, number, claimed_at, *_ in connection.execute(statement.where(early))
    ]


# Law 7


@_law(7, "no process of an attempt that has ended is left on this machine")
def _nothing_is_left(connection: Connection, scope: Scope) -> Checked:
    ours = set(connection.scalars(sa.select(workers.c.worker_id)))
    found = [(pid, it) for pid, it in carriers() if it.get("JOBKIT_WORKER_ID") in ours]
    broken = []
    for pid, cookies in found:
        run, attempt = int(cookies["JOBKIT_RUN_ID"]), int(cookies["JOBKIT_ATTEMPT"])
        lives = sa.select(runs.c.id).where(
            runs.c.id == run,
            sa.or_(
                sa.and_(runs.c.attempt == attempt, runs.c.status == "IN_PROGRESS"),
                runs.c.completed_at > scope.now - TOLERANCE,
            ),
        )
        if connection.scalar(lives) is None:
            broken.append(f"process {pid} belongs to attempt {attempt} of run {run}, which ended")
    return len(found), broken


# Law 8


@_law(8, "versions of a job are numbered without a gap, and the last one is the job")
def _versions_are_whole(connection: Connection, scope: Scope) -> Checked:
    known: defaultdict[int, dict[int, Row[Any]]] = defaultdict(dict)
    for version in connection.execute(sa.select(versions)):
        known[version.job_id][version.version] = version
    broken = []
    for job in connection.execute(sa.select(jobs)):
        kept = known[job.id]
        if sorted(kept) != list(range(1, job.version + 1)):
            broken.append(f"job {job.id} is at version {job.version} and keeps {sorted(kept)}")
        elif not _same(kept[job.version].definition, definition(job)):
            broken.append(f"job {job.id} was changed without a version")
        broken += [
            f"version {number} of job {job.id} does not follow from version {number - 1}"
            for number in sorted(kept)
            if number - 1 in kept and not _same(kept[number].before, kept[number - 1].definition)
        ]
    return sum(map(len, known.values())), broken


def _same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    def plain(document: dict[str, Any] | None) -> dict[str, Any]:
        values = {name: (document or {}).get(name) for name in DEFINITION}
        return {
            name: _utc(value) if name.endswith("_at") else value for name, value in values.items()
        }

    return plain(one) == plain(other)


def _utc(value: str | None) -> datetime | None:
    if value is None:
        return None
    instant = datetime.fromisoformat(value)
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


@_law(8, "a run names a version that there is")
def _runs_name_versions(connection: Connection, scope: Scope) -> Checked:
    known = sa.exists().where(
        versions.c.job_id == runs.c.job_id, versions.c.version == runs.c.job_version
    )
    words = "names a version that is not there"
    return _count(connection, scope, _ours), _broken_runs(
        connection, scope, words, sa.and_(_ours, ~known)
    )


@_law(8, "nothing was recorded after the end")
def _ends_are_final(connection: Connection, scope: Scope) -> Checked:
    columns = (attempts.c.dispatch_id, attempts.c.attempt, attempts.c.claimed_at)
    statement = sa.select(*columns, runs.c.completed_at).select_from(_tried)
    later = sa.and_(runs.c.status.in_(FINAL), attempts.c.claimed_at > runs.c.completed_at)
    found = connection.execute(statement.where(_made(scope), _ours, later)).all()
    return _attempt_count(connection, scope), [
        f"attempt {number} of run {run} began at {claimed_at}, after the run had ended"
        for run, number, claimed_at, completed_at in found
        if claimed_at > completed_at + TOLERANCE
    ]


# Law 9


@_law(9, "what did not complete says why")
def _faults_are_told(connection: Connection, scope: Scope) -> Checked:
    silent = sa.and_(runs.c.reason.is_(None), runs.c.error_message.is_(None))
    faults = runs.c.status.in_([status for status in FINAL if status != "COMPLETED"])
    words = "does not say why"
    broken = _broken_runs(connection, scope, words, sa.and_(faults, silent, _ours))
    mute = sa.and_(attempts.c.status != "SUCCESS", attempts.c.error_message.is_(None))
    broken += _broken_attempts(connection, scope, words, mute)
    return _count(connection, scope, faults), broken
