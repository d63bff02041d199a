"""The ledger: what is open, and what becomes of a finding: opened, seen again, told, over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.engine import Connection

from jobkit import alerting
from jobkit.alerting import OVER, Finding
from jobkit.settings import Settings
from jobkit.store import alerts, notices
from jobkit.text import duration, instant

SEEN_EVERY = timedelta(minutes=1)
"""How often it is noted that an alert of which nothing else changed is still so."""


@dataclass(frozen=True)
class Subject:
    """Whom an alert is about: a job, or the installation."""

    job_id: int | None = None
    name: str = ""
    tells: bool = True
    """Whether people are told when it fires."""
    tells_end: bool = False
    """Whether they are told that it is over, also where they were not told of it."""


INSTALLATION = Subject()


class Ledger:
    """The alerts of a database in the transaction of one look."""

    def __init__(self, connection: Connection, now: datetime, settings: Settings) -> None:
        self.connection = connection
        self.now = now
        self.begun = 0
        self.opened = {row.key: row for row in alerts.opened(connection)}
        self._mutes = alerts.mutes(connection, now)
        self._quiet = settings.quiet_hours
        self._remind = settings.alert_remind

    def settle(self, key: str, finding: Finding | None, subject: Subject) -> None:
        """Bring the alert of a key to what was found, and post what people are to know."""
        row = self.opened.get(key)
        if finding is None:
            if row is not None:
                self.end(row, subject, OVER[row.kind])
        elif row is None:
            self._begin(key, finding, subject)
        elif finding.is_over:
            self.end(row, subject, finding.text)
        else:
            self._go_on(row, finding, subject)

    def end(self, row: Any, subject: Subject, words: str, *, quietly: bool = False) -> None:
        """End an alert; `quietly`: nobody is told, as nobody watches any more."""
        if not alerts.resolve(self.connection, self.now, row.id, words) or quietly:
            return
        if (row.told_at is not None or subject.tells_end) and not self._is_muted(subject):
            after = f"{words}, after {duration(self.now - row.opened_at)}"
            lines = [f"It was: {row.text}", f"Since {instant(row.opened_at)}."]
            self._post(
                row, subject, "resolved", "info", f"resolved: {_about(subject, after)}", lines
            )

    def _begin(self, key: str, finding: Finding, subject: Subject) -> None:
        tells = subject.tells and not self._is_muted(subject)
        row = alerts.open_(self.connection, self.now, key, finding, subject.job_id, is_told=tells)
        if row is None:
            return
        self.begun += 1
        if tells:
            self._post_firing(row, finding, subject)
        if finding.is_over:
            alerts.resolve(self.connection, self.now, row.id, "it was over when it was seen")

    def _go_on(self, row: Any, finding: Finding, subject: Subject) -> None:
        before = row.run_id, row.about_at
        is_news = before != (finding.run_id, finding.about_at)
        if is_news or self.now - row.seen_at >= SEEN_EVERY:
            alerts.see(self.connection, self.now, row.id, finding)
        if row.told_at is None:
            self._tell(row, finding, subject)
        elif self._remind is not None and row.acknowledged_at is None:
            self._tell_again(row, finding, subject, self._remind)

    def _tell(self, row: Any, finding: Finding, subject: Subject) -> None:
        if not subject.tells or self._is_muted(subject):
            return
        if alerts.tell(self.connection, self.now, row.id):
            self._post_firing(row, finding, subject)

    def _post_firing(self, row: Any, finding: Finding, subject: Subject) -> None:
        words = _about(subject, finding.text)
        self._post(row, subject, "firing", finding.severity, words, [], finding.run_id)

    def _tell_again(self, row: Any, finding: Finding, subject: Subject, every: timedelta) -> None:
        if self._is_muted(subject) or not alerts.remind(self.connection, self.now, row.id, every):
            return
        what = f"reminder:{self.now:%Y%m%dT%H%M%S}"
        words = f"still: {_about(subject, finding.text)}"
        lines = [f"Since {instant(row.opened_at)}.", f"It ends with: jobkit alert ack {row.id}"]
        self._post(row, subject, what, finding.severity, words, lines, finding.run_id)

    def _post(
        self,
        row: Any,
        subject: Subject,
        what: str,
        severity: str,
        words: str,
        lines: list[str],
        run_id: int | None = None,
    ) -> None:
        look = [f"Look: jobkit alert show {row.id}"]
        look += [f"The run: jobkit show {run_id}"] if run_id is not None else []
        available_at = None
        if self._quiet is not None and not alerting.is_urgent(
            row.kind, of_job=subject.job_id is not None
        ):
            available_at = self._quiet.end_after(self.now)
        notices.post(
            self.connection,
            self.now,
            key=f"alert:{row.id}:{what}",
            subject=words,
            text="\n".join([f"{words}.", *lines, *look]),
            severity=severity,
            job=subject.name or None,
            run_id=run_id if run_id is not None else row.run_id,
            available_at=available_at,
        )

    def _is_muted(self, subject: Subject) -> bool:
        scopes = {alerts.ALL, alerts.scope_of(subject.job_id)}
        return not scopes.isdisjoint(self._mutes)


def _about(subject: Subject, words: str) -> str:
    return f"{subject.name} {words}" if subject.name else words
