"""What changed since a job last worked: reads a failed attempt and the last success before it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from html import escape
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import Connection

from jobkit.analytics.changes import Change, Ran, corrections, differences
from jobkit.analytics.window import literal
from jobkit.cards import LONGEST_LINE, MOST_BYTES, plain
from jobkit.errors import BadInput, NotFound
from jobkit.store import definitions, history, keepsakes
from jobkit.text import duration

if TYPE_CHECKING:
    from jobkit.analytics.log import Log


MOST = 30
"""So many differences are shown in a notebook."""
SHOWN_LINES = (100, 30, 10, 0)
"""How many lines of a script's difference: fewer where they are long."""


@dataclass(frozen=True)
class Changes:
    """The differences between an attempt and the last one that worked, most telling first."""

    run_id: int
    job_id: int
    attempt: int
    began_at: datetime
    worked_run_id: int | None
    """The run whose attempt worked; None when none did before."""
    worked_attempt: int | None
    worked_at: datetime | None
    """When that attempt began."""
    found: tuple[Change, ...]

    def __iter__(self) -> Iterator[Change]:
        return iter(self.found)

    def __len__(self) -> int:
        return len(self.found)

    def __getitem__(self, index: int) -> Change:
        return self.found[index]

    @property
    def since(self) -> str:
        """Say what it is compared with."""
        if self.worked_at is None:
            return "it has not worked before"
        ago = duration(self.began_at - self.worked_at)
        return f"since run {self.worked_run_id}, which worked {ago} before"

    @property
    def lines(self) -> list[str]:
        """Say the differences, one a line."""
        return [change.words for change in self.found]

    def __repr__(self) -> str:
        if self.worked_at is None:
            return "\n".join([f"Run {self.run_id}: {self.since}", *self.lines])
        listed = self.lines or ["nothing that was recorded"]
        return "\n".join([f"Changed {self.since}:", *(f"  {line}" for line in listed)])

    def _repr_html_(self) -> str:
        for lines in SHOWN_LINES:
            items = "".join(f"<li>{_item(change, lines)}</li>" for change in self.found[:MOST])
            listed = f"<ul>{items}</ul>" if items else ""
            if self.worked_at is None:
                made = f"<p>Run {self.run_id}: {escape(self.since)}</p>{listed}"
            else:
                body = listed or "<p>Nothing that was recorded.</p>"
                made = f"<p>Changed {escape(self.since)}:</p>{body}"
            if len(made.encode("utf-8", "replace")) < MOST_BYTES:
                break
        return made


def _item(change: Change, lines: int) -> str:
    words = escape(plain(change.words))
    diff = change.diff.splitlines()
    if not diff or not lines:
        return words
    left = len(diff) - lines
    shown = [plain(line, LONGEST_LINE) for line in diff[:lines]]
    shown += [f"and {left} lines more"] if left > 0 else []
    joined = escape("\n".join(shown))
    return f"<details><summary>{words}</summary><pre>{joined}</pre></details>"


def compare(
    connection: Connection, run_id: int, attempt: int | None = None, archived: Any = None
) -> Changes:
    """Compare an attempt, by default the run's last, with the job's last success before it.

    `archived`: a success that is not in the tables, for when there is none in them. NotFound for no
    such run; BadInput when no attempt of it has ended.
    """
    run = history.run(connection, run_id)
    ended = {row.attempt: row for row in history.attempts_of(connection, run)}
    number = max(ended, default=0) if attempt is None else attempt
    if number not in ended:
        which = "No attempt" if attempt is None else f"Attempt {attempt}"
        raise BadInput(
            f"{which} of run {run_id} has ended.", f"See how it stands: jobkit show {run_id}"
        )
    later = ended[number]
    worked = history.last_success(connection, run.job_id, later.claimed_at) or archived
    if worked is None:
        edited = tuple(corrections(_provenance(later)))
        return Changes(run_id, run.job_id, number, later.claimed_at, None, None, None, edited)
    hashes = [_provenance(row).get("sha256") or "" for row in (worked, later)]
    texts = keepsakes.scripts(connection, hashes)
    before = _ran(connection, worked, worked.job_version, texts)
    after = _ran(connection, later, run.job_version, texts)
    return Changes(
        run_id,
        run.job_id,
        number,
        later.claimed_at,
        worked.dispatch_id,
        worked.attempt,
        worked.claimed_at,
        tuple(differences(before, after)),
    )


def archived_success(log: Log, job_id: int) -> Any:
    """Return a job's last success in a log's window as `history.last_success` would; else None."""
    statement = ARCHIVED.format(job_id=int(job_id), end=literal(log.window.end))
    for row in log.frame(statement).iter_rows(named=True):
        documents = {name: json.loads(row[name] or "null") for name in ("provenance", "metrics")}
        return SimpleNamespace(**row | documents)
    return None


ARCHIVED = """
SELECT a.run_id AS dispatch_id, a.job_id, a.attempt, a.claimed_at, a.provenance, a.metrics,
       a.log_output, a.error AS error_message, r.job_version
FROM attempts a JOIN runs r ON r.run_id = a.run_id
WHERE a.job_id = {job_id} AND a.status = 'SUCCESS' AND a.claimed_at < {end}
ORDER BY a.claimed_at DESC LIMIT 1
""".strip()


def _provenance(row: Any) -> Mapping[str, Any]:
    return row.provenance or {}


def _ran(connection: Connection, row: Any, version: int | None, texts: Mapping[str, str]) -> Ran:
    """Put together what is known of an attempt; what an older system left knows little."""
    provenance = _provenance(row)
    definition: Mapping[str, Any] = {}
    packages = None
    with suppress(NotFound):
        if version is not None:
            definition = definitions.executed(connection, row.job_id, version)
    with suppress(NotFound):
        if provenance.get("packages"):
            packages = keepsakes.packages(connection, provenance["packages"])
    return Ran(
        provenance=provenance,
        definition=definition,
        packages=packages,
        metrics=row.metrics or {},
        text=texts.get(provenance.get("sha256") or ""),
        said=f"{row.log_output or ''}\n{row.error_message or ''}",
    )
