"""The other programs: whether a scheduler and workers are there, and suit each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

from sqlalchemy.engine import Row

from jobkit.doctor.check import Check, Patient, check
from jobkit.doctor.finding import Finding
from jobkit.health import Health
from jobkit.states import worker_name
from jobkit.store import definitions, duties, queues, workers
from jobkit.text import age, duration

SKEW_SECONDS, WRONG_SECONDS = 1.0, 30.0
NAMED = 5


@check("scheduler")
def scheduler(this: Check, patient: Patient) -> Iterator[Finding]:
    chosen, now = patient.settings, patient.opened.clock.now()
    with patient.opened.read() as connection:
        seen_at = duties.last_taken(connection, duties.HEARTBEAT)
        active = sum(job.is_active for job in definitions.listed(connection))
    health = Health.judge(
        now,
        scheduler_seen_at=seen_at,
        poll=chosen.scheduler_poll_interval,
        heartbeats=(),
        threshold=chosen.worker_offline_threshold,
    )
    if health.has_scheduler:
        yield this.ok(f"One was seen {age(seen_at, now)}.")
        return
    since = f"since {age(seen_at, now)}" if seen_at else "yet"
    if active:
        yield this.problem(
            f"None was seen {since}: no slot of {active} active jobs is run.",
            "Start one: jobkit scheduler",
        )
    else:
        yield this.warning(f"None was seen {since}.", "Start one: jobkit scheduler")


@check("workers")
def online(this: Check, patient: Patient) -> Iterator[Finding]:
    alive, silent = _alive(patient)
    threshold = duration(patient.settings.worker_offline_threshold)
    if silent:
        yield this.warning(
            f"{_names(silent)} gave no heartbeat for {threshold}: killed, or cut off.",
            "A scheduler marks them OFFLINE; look at their machines.",
        )
    if alive:
        slots = sum(row.slots for row in alive)
        yield this.ok(f"{len(alive)} online with {slots} slots.")
        return
    with patient.opened.read() as connection:
        unserved = any(job.is_active for job in definitions.listed(connection))
        unserved |= any(
            row.waiting for row in queues.depths(connection, patient.opened.clock.now())
        )
    tell = this.problem if unserved else this.warning
    yield tell("None is online: nothing is executed.", "Start one: jobkit worker")


@check("versions")
def versions(this: Check, patient: Patient) -> Iterator[Finding]:
    alive, _ = _alive(patient)
    ours = version("jobkit")
    others = [row for row in alive if row.version != ours]
    if others:
        theirs = ", ".join(sorted({row.version or "unknown" for row in others}))
        yield this.warning(
            f"This program is of version {ours}, and {_names(others)} of {theirs}.",
            "Upgrade them one after the other; each ends its runs first (jobkit worker, Ctrl-C).",
        )
    else:
        yield this.ok(f"All workers online are of version {ours}.")


@check("queues")
def unserved(this: Check, patient: Patient) -> Iterator[Finding]:
    alive, _ = _alive(patient)
    with patient.opened.read() as connection:
        now = patient.opened.clock.now()
        waiting = {row.queue: row.waiting for row in queues.depths(connection, now)}
        jobs = definitions.listed(connection)
    served = {
        queue for row in alive if row.drain_requested_at is None for queue in row.queues.split(",")
    }
    wanted = {job.queue for job in jobs if job.is_active} | set(waiting)
    for queue in sorted(wanted - served):
        named = sum(job.is_active and job.queue == queue for job in jobs)
        yield this.problem(
            f"No worker serves the queue {queue}: {named} active jobs use it, "
            f"{waiting.get(queue, 0)} runs wait.",
            f"Start one: jobkit worker --queues {queue}",
        )
    if wanted <= served:
        yield this.ok("Each queue that is used has a worker.")


@check("clocks of workers")
def clocks(this: Check, patient: Patient) -> Iterator[Finding]:
    alive, _ = _alive(patient)
    now = patient.opened.clock.now()
    wrong = False
    for row in alive:
        ahead = row.clock_ahead_seconds or 0.0
        if (early := (row.last_heartbeat - now).total_seconds()) > SKEW_SECONDS:
            ahead = early  # its heartbeat is of the future: a clock was set back since
        if abs(ahead) <= SKEW_SECONDS:
            continue
        wrong = True
        tell = this.problem if abs(ahead) > WRONG_SECONDS else this.warning
        side = "ahead" if ahead > 0 else "behind"
        yield tell(
            f"The clock of {row.hostname} ({worker_name(row.worker_id)}) is "
            f"{duration(abs(ahead))} {side}: scripts there read another date than the scheduler.",
            "Let it be set by NTP: timedatectl set-ntp true",
        )
    if alive and not wrong:
        yield this.ok("Those of all workers online agree with the database's.")


def _alive(patient: Patient) -> tuple[list[Row[Any]], list[Row[Any]]]:
    """Return the workers that beat, and those that are called online and do not."""
    with patient.opened.read() as connection:
        listed = [row for row in workers.listed(connection) if row.status in workers.ONLINE]
    oldest = patient.opened.clock.now() - patient.settings.worker_offline_threshold
    alive = [row for row in listed if row.last_heartbeat >= oldest]
    return alive, [row for row in listed if row.last_heartbeat < oldest]


def _names(rows: Sequence[Row[Any]]) -> str:
    names = [worker_name(row.worker_id) for row in rows[:NAMED]]
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return f"{', '.join(names)}{more}"


CHECKS = (scheduler, online, versions, unserved, clocks)
