"""The database: whether it answers, is of this program's schema, and is in good shape."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from jobkit import migrations
from jobkit.clock import ahead_of, stopwatch
from jobkit.db import (
    copies,
    dead_rows,
    ids_left,
    is_pooled,
    log_bytes,
    oldest_transactions,
    refuse_shared_folder,
    server,
    stored_bytes,
)
from jobkit.db.database import parse_url
from jobkit.doctor.check import Check, Patient, check
from jobkit.doctor.finding import Finding
from jobkit.doctor.rights import is_open
from jobkit.errors import DatabaseRefused
from jobkit.text import duration, size
from jobkit.wakeups import probe

UPGRADE = "Run: jobkit db upgrade"
"""What nothing else can be looked at before."""
SLOW_SECONDS = 0.1
SKEW_SECONDS, WRONG_SECONDS = 1.0, 30.0
LARGE_LOG = 64 << 20
LONG, TOO_LONG = timedelta(minutes=10), timedelta(hours=1)
MANY_DEAD = 100_000
FEW_IDS = 0.25
LATE_WAKEUP = 0.5


@check("database file")
def file(this: Check, patient: Patient) -> Iterator[Finding]:
    path = copies.file_of(parse_url(patient.settings.db_url))
    if path is None:
        return
    try:
        refuse_shared_folder(path)
    except DatabaseRefused as error:
        yield this.problem(error.message, error.hint)
    if not path.parent.is_dir():
        yield this.problem(f"The folder {path.parent} does not exist.", "Create it.")
    elif not path.exists():
        yield this.warning(f"There is no {path} yet.", "jobkit up makes it, or jobkit db upgrade.")
    else:
        yield from _rights(this, path)


def _rights(this: Check, path: Path) -> Iterator[Finding]:
    """Tell what this user may not do with the file, and what others may."""
    locked = [each for each in (path, path.parent) if not os.access(each, os.R_OK | os.W_OK)]
    for each in locked:
        yield this.problem(
            f"{each} cannot be written by this user, and SQLite needs file and folder for its log.",
            "Run as its owner, or let this user write there.",
        )
    if is_open(path):
        yield this.warning(
            f"Anybody on this machine may read {path}: output, and hashes of passwords.",
            f"chmod o-rwx {path}",
        )
    elif not locked:
        yield this.ok(f"{path} is on a local disk and this user's to write.")


@check("database")
def answers(this: Check, patient: Patient) -> Iterator[Finding]:
    database = patient.opened
    seconds = []
    for _ in range(3):
        began = stopwatch()
        with database.read() as connection:
            name = server(connection)
        seconds.append(stopwatch() - began)
    quickest = min(seconds)
    words = f"{name} answers in {quickest * 1000:.1f} ms"
    if quickest > SLOW_SECONDS:
        yield this.warning(
            f"{words}: each claim and each result takes several such turns.",
            "Run schedulers and workers nearer to it.",
        )
    else:
        yield this.ok(f"{words}.")


@check("schema")
def schema(this: Check, patient: Patient) -> Iterator[Finding]:
    standing = migrations.standing(patient.opened)
    here = f"This program is of revision {standing.head}"
    if standing.is_current:
        yield this.ok(f"Revision {standing.head}, as this program.")
    elif standing.is_ahead:
        yield this.warning(
            f"{here}, the database of {standing.revision}, which lets it go on.",
            "Upgrade jobkit on this machine: pip install --upgrade jobkit",
        )
    elif standing.is_empty:
        yield this.warning("The database has no tables yet.", UPGRADE)
    else:
        found = standing.revision or "an older system"
        yield this.problem(f"{here}, the database of {found}.", UPGRADE)


@check("clock")
def clock(this: Check, patient: Patient) -> Iterator[Finding]:
    database = patient.opened
    if database.is_sqlite:
        yield this.ok("The database goes by the clock of this machine.")
        return
    ahead = ahead_of(database.server_now())
    words = f"This machine's clock is {_apart(ahead)} the database's"
    if abs(ahead) > SKEW_SECONDS:
        tell = this.problem if abs(ahead) > WRONG_SECONDS else this.warning
        yield tell(
            f"{words}. Slots and leases go by the database; scripts here read another date.",
            "Let both be set by NTP: timedatectl set-ntp true",
        )
    else:
        yield this.ok(f"{words}.")


def _apart(ahead: float) -> str:
    shown = f"{abs(ahead) * 1000:.0f} ms" if abs(ahead) < 1 else duration(abs(ahead))
    return f"{shown} {'ahead of' if ahead > 0 else 'behind'}"


@check("wake-ups")
def wakeups(this: Check, patient: Patient) -> Iterator[Finding]:
    poll = max(patient.settings.scheduler_poll_interval, patient.settings.worker_poll_interval)
    waits = f"a run waits up to {duration(poll)}"
    if not patient.settings.wakeups:
        yield this.warning(f"JOBKIT_WAKEUPS is off: {waits}.", "Unset it, unless that is meant.")
        return
    database = patient.opened
    if database.is_sqlite and copies.file_of(database.url) is None:
        return
    with database.read() as connection:
        pooled = is_pooled(connection)
    seconds = probe(database)
    if seconds is None:
        why = "a pooler in transaction mode drops them" if pooled else "no commit was heard"
        yield this.warning(f"There are none: {why}; {waits}.", _way_to_hear(pooled))
    elif seconds > LATE_WAKEUP:
        yield this.warning(
            f"One was heard only after {seconds:.2f} s.", "Look what keeps the machine busy."
        )
    else:
        yield this.ok(f"One was sent and heard after {seconds * 1000:.1f} ms.")


def _way_to_hear(pooled: bool) -> str:
    if pooled:
        return "Name the server itself in JOBKIT_DB_URL, or a pool in session mode."
    return "On Linux raise fs.inotify.max_user_watches and max_user_instances."


@check("pooler")
def pooler(this: Check, patient: Patient) -> Iterator[Finding]:
    if patient.opened.is_sqlite:
        return
    with patient.opened.read() as connection:
        pooled = is_pooled(connection)
    if pooled:
        yield this.warning(
            "A pooler, like PgBouncer, stands before the server: no plan is kept, so each claim "
            "costs the server several times as much.",
            "Connect jobkit to the server itself; it holds few connections.",
        )
    else:
        yield this.ok("Nothing stands between this machine and the server.")


@check("log")
def log(this: Check, patient: Patient) -> Iterator[Finding]:
    if not patient.opened.is_sqlite:
        return
    held = log_bytes(patient.opened.url) or 0
    if held > LARGE_LOG:
        yield this.warning(
            f"The log beside the database holds {size(held)}: a program has been reading for long, "
            "and it cannot shrink before that ends.",
            "End reports and notebooks that read; then it empties by itself.",
        )
    else:
        yield this.ok(f"The log holds {size(held)}.")


@check("old transactions")
def horizon(this: Check, patient: Patient) -> Iterator[Finding]:
    if patient.opened.is_sqlite:
        return
    with patient.opened.read() as connection:
        holders = oldest_transactions(connection)
    found = False
    for holder in holders:
        if holder.lasts is not None and holder.lasts < LONG:
            continue
        found = True
        since = f"for {duration(holder.lasts)}" if holder.lasts else "for an unknown time"
        tell = this.problem if (holder.lasts or TOO_LONG) >= TOO_LONG else this.warning
        yield tell(
            f"{holder.who} holds a transaction open {since} ({holder.state}): no row that was "
            "changed since can be removed, and claims get slower.",
            "End it: SELECT pg_terminate_backend(pid); a slot that nobody uses: drop it.",
        )
    if not found:
        yield this.ok(f"No transaction is open for {duration(LONG)}.")


@check("dead rows")
def bloat(this: Check, patient: Patient) -> Iterator[Finding]:
    if patient.opened.is_sqlite:
        return
    with patient.opened.read() as connection:
        tables, left = dead_rows(connection), ids_left(connection)
    bad = [row for row in tables if row[2] > max(MANY_DEAD, row[1])]
    for name, live, dead in bad:
        yield this.warning(
            f"{name} has {dead:,} dead rows beside {live:,} live ones.",
            f"Look whether autovacuum runs; once by hand: VACUUM {name}",
        )
    if left < FEW_IDS:
        yield this.problem(
            f"Only {left:.0%} of the transaction ids are left.", "VACUUM FREEZE the database."
        )
    if not bad and left >= FEW_IDS:
        yield this.ok("Dead rows are removed in time.")


@check("size")
def room(this: Check, patient: Patient) -> Iterator[Finding]:
    with patient.opened.read() as connection:
        yield this.ok(f"The database takes {size(stored_bytes(connection))}.")


BEFORE = (file,)
ANSWERS = (answers,)
SCHEMA = (schema,)
CHECKS = (clock, wakeups, pooler, log, horizon, bloat, room)
