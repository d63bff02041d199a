"""Alerts: what fires, who looks after it, and what is muted."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobkit import text
from jobkit.errors import BadInput, Conflict, NotFound
from jobkit.listings import author
from jobkit.run import own_fields
from jobkit.store import alerts, definitions, duties, notices

if TYPE_CHECKING:
    from jobkit.handles import Run
    from jobkit.kit import Kit

MOST = 1000


@dataclass(frozen=True)
class Alert:
    """An outage of a job or of the installation, as it was when it was read."""

    id: int
    key: str
    """One of them is open at most: `job:7:late`, `no-worker`."""
    kind: str
    severity: str
    """warning or critical."""
    job_id: int | None
    job_name: str | None
    run_id: int | None
    text: str
    value: float | None
    """The number that was compared: seconds, a share, a count."""
    about_at: datetime | None
    """The slot, or the end of a run, that it is about."""
    opened_at: datetime
    seen_at: datetime
    """When it was so last."""
    told_at: datetime | None
    """When people were told; None of one that is muted."""
    resolved_at: datetime | None
    resolution: str | None
    acknowledged_at: datetime | None
    acknowledged_by: str | None

    @property
    def is_open(self) -> bool:
        """Whether it fires still."""
        return self.resolved_at is None

    @property
    def about(self) -> str:
        """Say what it is about and what is wrong."""
        return f"{self.job_name} {self.text}" if self.job_name else self.text

    def __repr__(self) -> str:
        state = "firing" if self.is_open else "resolved"
        return f"<Alert {self.id}: {state} since {text.instant(self.opened_at)}, {self.about}>"


@dataclass(frozen=True)
class Mute:
    """Until when people are told nothing: of a job, or of anything."""

    job_name: str | None
    until: datetime
    muted_at: datetime
    muted_by: str

    def __repr__(self) -> str:
        return f"<Mute of {self.job_name or 'everything'} until {text.instant(self.until)}>"


class Alerts:
    """The alerts: iterate over those that fire, acknowledge one, mute a job or everything."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __call__(
        self, *, job: str | None = None, is_open: bool | None = True, limit: int = 100
    ) -> list[Alert]:
        """Return alerts, the newest first; `is_open=None`: also those that are over."""
        if not 1 <= limit <= MOST:
            raise BadInput(f"limit={limit} is out of bounds.", f"Use 1 to {MOST}.")
        with self._kit.database.read() as connection:
            job_id = None if job is None else definitions.by_name(connection, job).id
            rows = alerts.listed(connection, job_id=job_id, is_open=is_open, limit=limit)
        return [_alert(row) for row in rows]

    def __iter__(self) -> Iterator[Alert]:
        return iter(self())

    def __len__(self) -> int:
        with self._kit.database.read() as connection:
            return alerts.count_open(connection)

    def __bool__(self) -> bool:
        return True

    def __getitem__(self, alert_id: int) -> Alert:
        with self._kit.database.read() as connection:
            return _alert(alerts.by_id(connection, alert_id))

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "<Alerts: nothing fires>"

    def of_run(self, run: Run) -> list[Alert]:
        """Return the alerts that fire about a run; a job that was deleted has none."""
        with self._kit.database.read() as connection:
            rows = alerts.listed(connection, job_id=run.job_id, is_open=True, limit=MOST)
        return [_alert(row) for row in rows if row.run_id == run.id]

    def firing(self) -> int:
        """Return how many fire; that no scheduler is there is one, seen by a worker or not."""
        with self._kit.database.read() as connection:
            count, known = alerts.count_open(connection), alerts.is_open(connection, "no-scheduler")
        return count + int(not known and not self.has_scheduler())

    def has_scheduler(self) -> bool:
        """Whether a scheduler looks after them; False some minutes after the last one was seen."""
        limit = self._kit.settings.alert_no_scheduler
        with self._kit.database.read() as connection:
            seen_at = duties.last_taken(connection, duties.HEARTBEAT)
        return not limit or seen_at is None or self._kit.clock.now() - seen_at < limit

    def ack(self, alert_id: int) -> Alert:
        """Say that somebody looks after an alert: no reminders; it stays open until it is over.

        NotFound without such an alert; Conflict when it is over.
        """
        with self._kit.database.write() as connection:
            row = alerts.by_id(connection, alert_id)
            if row.resolved_at is not None:
                raise Conflict(f"Alert {alert_id} is over: {row.resolution}.", "Nothing is to do.")
            now, user = self._kit.clock.now(), self._kit.user
            if alerts.acknowledge(connection, now, alert_id, user):
                author.note(self._kit, connection, "acknowledged an alert", _about(row))
            return _alert(alerts.by_id(connection, alert_id))

    def mute(self, until: datetime | timedelta | str, *, job: str | None = None) -> Mute:
        """Tell nothing of a job, or of anything, until an instant or for so long.

        What still fires then is told then; what is over by then is not told at all. BadInput for
        an instant that has passed; NotFound without such a job.
        """
        now = self._kit.clock.now()
        end = _instant(until, now, self._kit.settings.timezone)
        with self._kit.database.write() as connection:
            scope = self._scope(connection, job)
            alerts.mute(connection, now, scope, end, self._kit.user)
            said = f"{job or 'everything'} until {text.instant(end)}"
            author.note(self._kit, connection, "muted alerts", said)
        return Mute(job, end, now, self._kit.user)

    def unmute(self, *, job: str | None = None) -> None:
        """Tell again of a job, or of everything that is not muted itself; NotFound if it was not.

        A job that is muted stays so when everything is told again.
        """
        with self._kit.database.write() as connection:
            if not alerts.unmute(connection, self._scope(connection, job)):
                raise NotFound(f"{job or 'Everything'} is not muted.", "See: jobkit alert list")
            author.note(self._kit, connection, "unmuted alerts", job or "everything")

    def mutes(self) -> list[Mute]:
        """Return what is muted now, what ends first first."""
        with self._kit.database.read() as connection:
            rows = alerts.named_mutes(connection, self._kit.clock.now())
        return [Mute(row.job_name, row.until_at, row.muted_at, row.muted_by) for row in rows]

    def test(self) -> list[str]:
        """Post a message that says that messages arrive; returns the channels it goes to.

        None, while no scheduler serves a channel.
        """
        now = self._kit.clock.now()
        with self._kit.database.write() as connection:
            channels = notices.served(connection, now)
            notices.post(
                connection,
                now,
                key=f"alert:test:{uuid.uuid4().hex}",
                subject="jobkit: a test",
                text=f"{self._kit.user} asked for this message. Alerts of {self._kit.url} arrive.",
                severity="info",
            )
        return channels

    def _scope(self, connection: Any, job: str | None) -> str:
        job_id = None if job is None else definitions.by_name(connection, job).id
        return alerts.scope_of(job_id)


def _alert(row: Any) -> Alert:
    return Alert(**own_fields(Alert, row))


def _about(row: Any) -> str:
    return f"{row.id}, {row.job_name or 'installation'}: {row.kind}"


def _instant(value: datetime | timedelta | str, now: datetime, zone: str) -> datetime:
    end = _read(value, now, zone)
    if end <= now:
        raise BadInput(f"{text.instant(end)} has passed.", "Give an instant to come, or 2h.")
    return end


def _read(value: datetime | timedelta | str, now: datetime, zone: str) -> datetime:
    if isinstance(value, str):
        try:
            value = text.parse_duration(value)
        except BadInput:
            return text.parse_instant(str(value), zone)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BadInput(f"{value!r} names no time zone.", "Give an aware datetime.")
        return value
    try:
        return now + value
    except OverflowError:
        raise BadInput(f"{value} is too long.", "Mute for ten years at most.") from None
