"""Runs by what is known of them: filters, pages, and acting on all that match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobkit import parameters, text
from jobkit.clock import stopwatch
from jobkit.errors import BadInput, JobkitError
from jobkit.handles import Run, run_of
from jobkit.listings import author
from jobkit.states import RUN_STATUSES, TRIGGERS
from jobkit.store import definitions, requests, search
from jobkit.store.search import Sieve
from jobkit.wakeups import notify

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from jobkit.kit import Kit

PAGE_SECONDS = 0.06
MOST_AT_ONCE = 10_000
TOGETHER = 100
"""How many runs one transaction changes: others take their turn between two."""


@dataclass(frozen=True)
class Search:
    """Which runs are wanted, as people write it; what is None matters not."""

    job: str | None = None
    status: str | None = None
    """One status, or several with commas between them."""
    tag: str | None = None
    worker: str | None = None
    trigger: str | None = None
    since: str | None = None
    """An age like `7d`, or an instant; runs made since then."""
    until: str | None = None
    """The same; runs made before it."""
    param: str | None = None
    """`name=value`, the value as JSON or else text."""
    text: str | None = None
    """In the reason or the error."""
    backfill: str | None = None
    """What the runs of one backfill have in common."""


@dataclass(frozen=True)
class Page:
    """Some of the runs that match, the newest first."""

    runs: list[Run]
    onward: int | None
    """What to give as `before` for the next page; None when this is the last one."""
    is_full: bool
    """Whether it ended because it is full; else the time for it was up, or nothing is left."""


@dataclass(frozen=True)
class Done:
    """What became of a wish for many runs."""

    done: list[int]
    refused: dict[int, str]
    """Why not, by the id of the run."""


class Searching:
    """Finds runs, and acts on all that match."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def page(self, wanted: Search, *, before: int | None = None, limit: int = 50) -> Page:
        """Return a page of runs; NotFound and BadInput name what is wrong with the search.

        It takes some 60 ms at most: a page may hold fewer than `limit` and still lead onward.
        """
        until = stopwatch() + PAGE_SECONDS
        with self._kit.database.read() as connection:
            found = search.page(
                connection,
                self._sieve(connection, wanted),
                limit=limit,
                before=before,
                is_time_up=lambda: stopwatch() > until,
            )
        runs = [run_of(self._kit, row) for row in found.rows]
        return Page(runs, found.onward, found.is_full)

    def to_cancel(self, wanted: Search, *, before: int | None = None) -> list[int]:
        """Return the ids of all unfinished runs that match, the newest first.

        `before`: of those with smaller ids. BadInput for more than 10,000.
        """
        return self._ids(wanted, search.without_ended, before)

    def to_retry(self, wanted: Search, *, before: int | None = None) -> list[int]:
        """Return the ids of all finished runs that match, as `to_cancel` does."""
        return self._ids(wanted, search.only_ended, before)

    def _ids(
        self, wanted: Search, narrowed: Callable[[Sieve], Sieve], before: int | None
    ) -> list[int]:
        with self._kit.database.read(takes_long=True) as connection:
            sieve = narrowed(self._sieve(connection, wanted))
            found = search.ids(connection, sieve, most=MOST_AT_ONCE + 1, before=before)
        if len(found) > MOST_AT_ONCE:
            raise BadInput(
                f"More than {MOST_AT_ONCE:,} runs match.",
                "Narrow the search, by dates for instance.",
            )
        return found

    def cancel(self, ids: Sequence[int]) -> Done:
        """End these runs, or ask their workers to; what cannot be is told, the others are."""
        by = self._kit.user

        def cancel(link: Connection, run: int, now: datetime) -> str:
            return f"run {run}" if requests.cancel(link, run, by, now) else ""

        return self._each(ids, "cancelled a run", cancel)

    def retry(self, ids: Sequence[int]) -> Done:
        """Make a new run of what each of these finished runs ran."""
        by = self._kit.user

        def retry(link: Connection, run: int, now: datetime) -> str:
            return f"run {run} as run {requests.retry(link, run, by, now)}"

        return self._each(ids, "ran a run again", retry)

    def _each(
        self, ids: Sequence[int], what: str, act: Callable[[Connection, int, datetime], str]
    ) -> Done:
        """Act on each; `act` says about what it did, or nothing when there was nothing to do."""
        done, refused = [], {}
        for start in range(0, len(ids), TOGETHER):
            with self._kit.database.write() as connection:
                now = self._kit.clock.now()
                for run_id in ids[start : start + TOGETHER]:
                    try:
                        about = act(connection, run_id, now)
                    except JobkitError as error:
                        refused[run_id] = error.message
                    else:
                        done.append(run_id)
                        if about:
                            author.note(self._kit, connection, what, about)
                notify(connection)
        return Done(done, refused)

    def _sieve(self, connection: Any, wanted: Search) -> Sieve:
        ids: set[int] | None = None
        if wanted.job is not None:
            ids = {definitions.by_name(connection, wanted.job).id}
        if wanted.tag is not None:
            tagged = set(definitions.tagged(connection, wanted.tag))
            ids = tagged if ids is None else ids & tagged
        now = self._kit.clock.now()
        return Sieve(
            job_ids=None if ids is None else tuple(sorted(ids)),
            statuses=_words("status", wanted.status, RUN_STATUSES),
            worker=wanted.worker,
            trigger=next(iter(_words("trigger", wanted.trigger, TRIGGERS)), None),
            since=None if wanted.since is None else _instant(wanted.since, now),
            until=None if wanted.until is None else _instant(wanted.until, now),
            params=_params(wanted.param),
            text=wanted.text,
            backfill=wanted.backfill,
        )


def _instant(given: str, now: datetime) -> datetime:
    try:
        return now - text.parse_duration(given)
    except BadInput:
        return text.parse_instant(given)


def _words(what: str, given: str | None, allowed: Sequence[str]) -> tuple[str, ...]:
    words = tuple(word for word in (given or "").split(",") if word)
    for word in words:
        if word not in allowed:
            raise BadInput(f"{word!r} is no {what}.", f"Use: {', '.join(allowed)}.")
    return words


def _params(given: str | None) -> tuple[tuple[str, Any], ...]:
    pairs = text.parse_pairs("The parameter", None if given is None else [given])
    return tuple(parameters.from_text((), pairs).items())
