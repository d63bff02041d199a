"""The installation: workers, schedulers, what waits, what fails, and the room that is left."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy.engine import Connection

from jobkit import alerting
from jobkit.alerting import Finding
from jobkit.db import stored_bytes
from jobkit.evaluation.jobs import run_of
from jobkit.evaluation.ledger import INSTALLATION, Ledger
from jobkit.settings import Settings
from jobkit.store import alerts, duties

HOUR = timedelta(hours=1)
FULL = 0.9
"""Of the size that a database may have, so much is near it."""
INSTALLATION_MARK = "installation"


def look_at_installation(connection: Connection, now: datetime, settings: Settings) -> None:
    """Bring the alerts of the installation up to date; that this is asked says a scheduler is."""
    alerts.take_mark(connection, now, INSTALLATION_MARK)
    alerts.forget_mutes(connection, now)
    ledger = Ledger(connection, now, settings)
    ledger.settle("no-scheduler", None, INSTALLATION)
    ledger.settle("no-worker", _no_worker(ledger, settings), INSTALLATION)
    ledger.settle("pending", _pending(ledger, settings), INSTALLATION)
    ledger.settle("failed-rate", _failed_rate(ledger, settings), INSTALLATION)
    ledger.settle("database", _database(ledger, settings), INSTALLATION)
    _look_at_disks(ledger, settings)


def is_scheduler_away(connection: Connection, now: datetime, settings: Settings) -> bool:
    """Whether no scheduler was seen for so long that an alert is to fire."""
    return _no_scheduler(connection, now, settings) is not None


def look_for_scheduler(connection: Connection, now: datetime, settings: Settings) -> bool:
    """Find, for a worker, that no scheduler is there any more; returns whether that is so."""
    found = _no_scheduler(connection, now, settings)
    if found is not None:
        Ledger(connection, now, settings).settle("no-scheduler", found, INSTALLATION)
    return found is not None


def _no_scheduler(connection: Connection, now: datetime, settings: Settings) -> Finding | None:
    seen_at = duties.last_taken(connection, duties.HEARTBEAT)
    return alerting.no_scheduler(now, settings.alert_no_scheduler, seen_at)


def _no_worker(ledger: Ledger, settings: Settings) -> Finding | None:
    seen_at = alerts.last_heartbeat(ledger.connection)
    since = None if seen_at is not None else alerts.jobs_since(ledger.connection)
    return alerting.no_worker(ledger.now, settings.alert_no_worker, seen_at, since)


def _pending(ledger: Ledger, settings: Settings) -> Finding | None:
    after = settings.alert_pending
    if not after:
        return None
    count, oldest = alerts.overdue(ledger.connection, ledger.now - after)
    if oldest is None:
        return None
    return alerting.pending(ledger.now, after, count, run_of(oldest), oldest.available_at)


def _failed_rate(ledger: Ledger, settings: Settings) -> Finding | None:
    most, least = settings.alert_failed_rate, settings.alert_failed_least
    if most >= 1:
        return None
    ended, failed = alerts.outcomes(ledger.connection, ledger.now - HOUR)
    is_open = "failed-rate" in ledger.opened
    return alerting.failed_rate(ended, failed, most, least, is_open=is_open)


def _database(ledger: Ledger, settings: Settings) -> Finding | None:
    full = settings.alert_database_size
    if full is None:
        return None
    stored, is_open = stored_bytes(ledger.connection), "database" in ledger.opened
    return alerting.database(stored, full, FULL, is_open=is_open)


def _look_at_disks(ledger: Ledger, settings: Settings) -> None:
    """Look at the disks of this machine; what another one found last for an hour without it."""
    host, most = socket.gethostname(), settings.alert_disk_used
    looked_at = set()
    for path in _folders(ledger.connection, settings):
        key = f"disk:{host}:{path}"
        looked_at.add(key)
        found = None
        with suppress(OSError):
            usage = shutil.disk_usage(path)
            found = alerting.disk(
                str(path), host, usage.used, usage.used + usage.free, most,
                is_open=key in ledger.opened,
            )  # fmt: skip
        ledger.settle(key, found if most < 1 else None, INSTALLATION)
    for key, row in list(ledger.opened.items()):
        is_gone = key.startswith(f"disk:{host}:") or ledger.now - row.seen_at >= HOUR
        if row.kind == "disk" and key not in looked_at and is_gone:
            ledger.end(row, INSTALLATION, "nobody looks at this disk any more", quietly=True)


def _folders(connection: Connection, settings: Settings) -> Iterator[Path]:
    """Yield the folders of this machine that fill up: of a SQLite database, and of artifacts."""
    url = connection.engine.url
    if url.get_backend_name() == "sqlite" and url.database:
        yield Path(url.database).absolute().parent
    kept = settings.artifacts_url
    if kept is not None and "://" not in kept:
        yield Path(kept).expanduser().absolute()
