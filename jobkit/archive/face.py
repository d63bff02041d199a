"""Archive: what a Kit offers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from jobkit import text
from jobkit.archive import checking, restoring
from jobkit.archive.archiver import Archiver, Note, Passed, nothing
from jobkit.archive.checking import Checked
from jobkit.archive.places import open_place
from jobkit.db import Database
from jobkit.errors import BadInput
from jobkit.settings import Settings
from jobkit.store import manifest


@dataclass(frozen=True)
class Month:
    """What the archive holds of a month."""

    month: str
    parts: int
    runs: int
    attempts: int
    bytes: int
    is_removed: bool
    """Whether all of it has left the tables."""


@dataclass(frozen=True)
class Restored:
    """What came back into the tables."""

    month: str
    parts: int
    runs: int


class Archive:
    """The archive of a database: months of final runs, with attempts and output, as Parquet."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        rollups: Mapping[str, str],
        note: Note,
    ) -> None:
        self._database = database
        self._settings = settings
        self._rollups = rollups
        self._note = note

    def run(
        self,
        before: datetime | timedelta | str | None = None,
        to: str | None = None,
        *,
        dry_run: bool = False,
        reached: Callable[[str], None] = nothing,
    ) -> Passed:
        """Archive runs that ended before an instant or an age; by default in months long over.

        The last JOBKIT_ARCHIVE_KEEP_RUNS runs of each job stay. `to`: a folder or
        `s3://bucket/prefix`, by default JOBKIT_ARCHIVE_URL. `dry_run`: only say what would leave.
        `reached` hears each step of the protocol. BadInput names what is wrong.
        """
        url = to or self._settings.archive_url
        if url is None:
            raise BadInput(
                "The archive has no place.", "Set JOBKIT_ARCHIVE_URL, or give one: --to FOLDER."
            )
        archiver = Archiver(
            self._database,
            open_place(url),
            self._settings.archive_keep_runs,
            self._rollups,
            self._note,
            reached,
        )
        until = self._before(before)
        return archiver.plan(until) if dry_run else archiver.run(until)

    def verify(self) -> Checked:
        """Read every archive file, recount it, and name what is missing, damaged or doubled."""
        return checking.check(self._database)

    def restore(self, month: str, *, reached: Callable[[str], None] = nothing) -> Restored:
        """Bring a month, `YYYY-MM`, back into the tables, ids and output included.

        Readers see each run once meanwhile. Its files stay where they are until a later pass
        sweeps them. BadInput when the archive does not have that month.
        """
        if not re.fullmatch(r"\d{4}-\d\d", month):
            raise BadInput(f"{month!r} is no month.", "Write it as YYYY-MM, like 2026-03.")
        with self._database.read() as connection:
            parts = sorted(manifest.parts(connection, month))
        if not parts:
            raise BadInput(
                f"The archive has nothing of {month}.",
                f"It has: {', '.join(item.month for item in self.months()) or 'nothing yet'}.",
            )
        count = sum(restoring.restore(self._database, part, self._note, reached) for part in parts)
        return Restored(month, len(parts), count)

    def months(self) -> list[Month]:
        """Return what the archive holds, month by month."""
        with self._database.read() as connection:
            listed = manifest.listed(connection)
        return [
            Month(
                month,
                len({row.part for row in rows}),
                sum(row.rows for row in rows if row.kind == "runs"),
                sum(row.rows for row in rows if row.kind == "attempts"),
                sum(row.bytes for row in rows),
                all(row.removed_at is not None for row in rows),
            )
            for month in sorted({row.month for row in listed})
            if (rows := [row for row in listed if row.month == month])
        ]

    def __repr__(self) -> str:
        months = self.months()
        runs = sum(month.runs for month in months)
        return f"<Archive of {runs} runs in {len(months)} months>"

    def _before(self, before: datetime | timedelta | str | None) -> datetime:
        now = self._database.clock.now()
        if before is None:
            day = now - timedelta(days=self._settings.archive_after_days)
            return day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        if isinstance(before, str):
            before = _read(before, self._settings.timezone)
        until = now - before if isinstance(before, timedelta) else before
        if until > now:
            raise BadInput(f"{text.iso(until)} is in the future.", "Give a past instant or an age.")
        return until


def _read(words: str, zone: str) -> datetime | timedelta:
    try:
        return text.parse_duration(words)
    except BadInput:
        return text.parse_instant(words, zone)
