"""The scheduler: any number at once, no leader. `tick` does the work, `Scheduler` is its loop."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from jobkit import artifacts, logs
from jobkit.archive.child import Child
from jobkit.clock import stopwatch
from jobkit.db import Database, ensure_partitions
from jobkit.errors import DatabaseUnavailable
from jobkit.evaluation import look_at_installation, look_at_jobs
from jobkit.notify import Pinger, Postman
from jobkit.settings import Settings
from jobkit.store import (
    agenda,
    alerts,
    audit,
    claims,
    dispatch,
    duties,
    history,
    notices,
    tallies,
    workers,
)
from jobkit.store.dispatch import Dispatched
from jobkit.wakeups import Alarm, Watch, notify

log = logging.getLogger("jobkit.scheduler")


@dataclass(frozen=True)
class Tick:
    """What one tick did, and when the next one is due: at once, or at an instant."""

    dispatched: tuple[int, ...] = ()
    rescued: int = 0
    expired: int = 0
    again: bool = False
    next_at: datetime | None = None


@dataclass(frozen=True)
class Duty:
    """A piece of housekeeping: how often, and the function that does some of it."""

    every: timedelta | None
    """None: at each look of a scheduler."""
    work: Callable[[Connection, datetime, Settings], Done]
    setting: str | None = None
    """The setting that says how often, where one does."""
    needs: str | None = None
    """The setting without which a scheduler leaves it to the others."""


@dataclass(frozen=True)
class Done:
    """What was done of a duty."""

    again: bool = False
    """Whether more of it is left."""
    cleaned: history.Cleaned = field(default_factory=history.Cleaned)
    """What is to be deleted outside of the database, once this is durable."""
    archives: bool = False
    """Whether a pass of the archiver is to begin."""
    pings: bool = False
    """Whether the outside is to hear that a scheduler is there."""


def _mark_offline(connection: Connection, now: datetime, settings: Settings) -> Done:
    workers.mark_offline(connection, now, threshold=settings.worker_offline_threshold)
    return Done()


def _clean_up(connection: Connection, now: datetime, settings: Settings) -> Done:
    days = settings.cleanup_retention_days
    if days == 0:
        return Done()
    keep = timedelta(days=days)
    alerts.forget(connection, now - keep)
    workers.forget(connection, now, keep=keep)
    notices.clean_up(connection, now, keep=keep)
    # Where runs are archived, the archiver takes them away; what they left outside goes here.
    clean = history.clean_up if settings.archive_url is None else history.clean_up_artifacts
    cleaned = clean(connection, now, keep=keep)
    is_full = max(len(cleaned.run_ids), len(cleaned.urls)) >= history.CLEANUP_BATCH
    return Done(is_full, cleaned)


def _keep_last(connection: Connection, now: datetime, settings: Settings) -> Done:
    cleaned = history.keep_last(connection)
    return Done(len(cleaned.urls) >= history.CLEANUP_BATCH, cleaned)


def _archive(connection: Connection, now: datetime, settings: Settings) -> Done:
    return Done(archives=settings.archive_url is not None)


def _make_partitions(connection: Connection, now: datetime, settings: Settings) -> Done:
    ensure_partitions(connection, now)
    return Done()


def _seal_audit(connection: Connection, now: datetime, settings: Settings) -> Done:
    return Done(audit.seal(connection) >= audit.SEALED_AT_ONCE)


def _beat(connection: Connection, now: datetime, settings: Settings) -> Done:
    return Done()  # that it was taken says that a scheduler is there


def _count(connection: Connection, now: datetime, settings: Settings) -> Done:
    return Done(tallies.count(connection, now))


def _ping(connection: Connection, now: datetime, settings: Settings) -> Done:
    return Done(pings=True)  # outside of this transaction


def _look_at_jobs(connection: Connection, now: datetime, settings: Settings) -> Done:
    return Done(again=_guarded(look_at_jobs, connection, now, settings))


def _look_at_installation(connection: Connection, now: datetime, settings: Settings) -> Done:
    _guarded(look_at_installation, connection, now, settings)
    return Done()


def _guarded(
    look: Callable[[Connection, datetime, Settings], bool | None],
    connection: Connection,
    now: datetime,
    settings: Settings,
) -> bool:
    """Look after alerts; what breaks there is undone and told, and stops no run from being made."""
    try:
        with connection.begin_nested():
            return bool(look(connection, now, settings))
    except (DatabaseUnavailable, DBAPIError):
        raise
    except Exception:
        log.exception("alerts are not looked after")
        return False


DUTIES = {
    duties.HEARTBEAT: Duty(None, _beat),
    "count runs for metrics": Duty(timedelta(seconds=5), _count),
    "mark workers offline": Duty(timedelta(seconds=30), _mark_offline),
    "seal the audit": Duty(timedelta(seconds=30), _seal_audit),
    "clean up": Duty(timedelta(hours=1), _clean_up),
    "keep the last files": Duty(timedelta(minutes=5), _keep_last),
    "make partitions": Duty(timedelta(hours=12), _make_partitions),
    "archive": Duty(timedelta(hours=6), _archive),
    "ping the outside": Duty(None, _ping, setting="ping_interval", needs="ping_url"),
    "look at jobs": Duty(timedelta(seconds=10), _look_at_jobs),
    "look at the installation": Duty(timedelta(seconds=30), _look_at_installation),
}


def tick(connection: Connection, now: datetime, settings: Settings) -> Tick:
    """Do all that is due now, in this one transaction.

    1. Ask in one statement whether anything is due.
    2. Turn due slots into runs, 200 jobs at most.
    3. Take back runs whose lease ran out.
    4. End runs that no worker started in time.
    5. Say when to come again: at once if a batch was full, else when the next job is due.
    """
    todo = agenda.look(connection, now, grace=settings.rescue_grace)
    dispatched, due = Dispatched(), todo.next_due
    if due is not None and due <= now:
        dispatched = dispatch.dispatch(connection, now, patience=settings.patience)
        due = dispatch.next_due(connection)
    rescued = expired = 0
    if todo.has_lapsed:
        rescued = claims.rescue(connection, now, grace=settings.rescue_grace)
    if todo.has_expired:
        expired = claims.expire(connection, now)
    again = dispatched.is_full or rescued >= claims.RESCUE_BATCH or (due is not None and due <= now)
    if dispatched.runs or rescued:
        notify(connection)
    return Tick(dispatched.runs, rescued, expired, again, due)


def housekeep(
    connection: Connection, now: datetime, settings: Settings, name: str, by: str
) -> Done:
    """Do one duty if it is due and nobody else has taken it; say what was done."""
    duty = DUTIES[name]
    if duty.needs is not None and getattr(settings, duty.needs) is None:
        return Done()
    every = duty.every or settings.scheduler_poll_interval / 2
    if duty.setting is not None:
        every = getattr(settings, duty.setting)
    if not duties.take(connection, name, now, every=every, by=by):
        return Done()
    done = duty.work(connection, now, settings)
    if done.again:
        duties.release(connection, name, now)
    return done


class Scheduler:
    """The loop: tick, then sleep until the next slot, a wake-up or the poll interval."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        told: Callable[[Tick | None, float], object] = lambda _tick, _seconds: None,
    ) -> None:
        """`told` hears of each tick, None where the database was away, and its seconds."""
        self.database = database
        self.settings = settings
        self._told = told
        self.name = f"scheduler-{uuid.uuid4().hex[:8]}"
        self.stop = Alarm()
        self._knows_duties = False
        self._archiver = Child(database.url.render_as_string(hide_password=False), settings)
        self._postman = Postman(database, settings)
        self._pinger = Pinger(settings.ping_url, self.name)

    def run(self) -> None:
        """Tick until `stop` is set; a database that is away is asked again."""
        watch = Watch(self.database)
        self._postman.start()
        self._pinger.ping("start")
        try:
            with logs.about(scheduler=self.name):
                while not self.stop.is_set():
                    self._sleep(watch, self.step())
        except Exception:
            self._pinger.ping("fail", wait=True)
            raise
        finally:
            self._postman.stop()
            self._archiver.stop()
            watch.close()
            self.stop.close()

    def step(self) -> float:
        """Do what is due; return the seconds until there may be more to do."""
        poll = self.settings.scheduler_poll_interval.total_seconds()
        began_at = stopwatch()
        try:
            done = self._tick()
            self._told(done, stopwatch() - began_at)
            unfinished = self._housekeep()
        except DatabaseUnavailable as error:
            self._told(None, stopwatch() - began_at)
            log.warning("%s Trying again in %g s.", error, poll)
            return poll
        if done.dispatched:
            log.debug("made %d runs", len(done.dispatched))
        if done.rescued:
            log.warning("took back %d runs whose lease ran out", done.rescued)
        if done.again or unfinished:
            return 0
        return self._until(done.next_at, poll)

    def _sleep(self, watch: Watch, seconds: float) -> None:
        """Sleep for so long, or until somebody's commit brings a slot forward."""
        clock = self.database.clock
        wake_at = clock.elapsed() + seconds
        while watch.wait(self.stop, wake_at - clock.elapsed()):
            with suppress(DatabaseUnavailable), self.database.read() as connection:
                sooner = self._until(dispatch.next_due(connection), seconds)
                wake_at = min(wake_at, clock.elapsed() + sooner)

    def _until(self, instant: datetime | None, poll: float) -> float:
        if instant is None:
            return poll
        return min(poll, max(0.0, (instant - self.database.clock.now()).total_seconds()))

    def _tick(self) -> Tick:
        now = self.database.clock.now()
        with self.database.write() as connection:
            return tick(connection, now, self.settings)

    def _housekeep(self) -> bool:
        now = self.database.clock.now()
        if not self._knows_duties:
            with self.database.write() as connection:
                duties.declare(connection, tuple(DUTIES), now)
            self._knows_duties = True
        with self.database.read() as connection:
            # A scheduler of a newer program may have declared more.
            due = [name for name in duties.due(connection, now) if name in DUTIES]
        self._archiver.look()
        unfinished = False
        for name in due:
            with self.database.write() as connection:
                done = housekeep(connection, now, self.settings, name, self.name)
            unfinished |= done.again
            if done.archives:
                self._archiver.start()
            if done.pings:
                self._pinger.ping()
            if done.cleaned.run_ids or done.cleaned.urls:
                artifacts.sweep(self._store(), done.cleaned.run_ids, done.cleaned.urls)
        return unfinished

    def _store(self) -> artifacts.Store:
        url = self.database.url.render_as_string(hide_password=False)
        return artifacts.store_for(url, self.settings.artifacts_url)


if __name__ == "__main__":
    from jobkit.cli import main

    main(["scheduler"])
