"""Waiting: for a run, for several, line by line, with a card or without, in a loop or outside.

An interrupt ends the waiting, never a run. However many runs are waited for, one connection
listens and one statement asks which of them have ended.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from html import escape
from typing import TYPE_CHECKING, TypeVar

from jobkit import live as lively
from jobkit import portraits, text
from jobkit.cards import Card
from jobkit.errors import BadInput, JobFailed, NotFound
from jobkit.live import LiveCard
from jobkit.lookout import PAINT_SECONDS, POLL_SECONDS, Lookout
from jobkit.run import run_of
from jobkit.store import history

if TYPE_CHECKING:
    from jobkit.kit import Kit
    from jobkit.run import Run

INTERRUPT_SECONDS = 0.5
"""How soon an event loop notices that it was interrupted."""

Timeout = timedelta | float | str | None
AnyError = TypeVar("AnyError", bound=BaseException)


def wait(kit: Kit, run_id: int, timeout: Timeout = None, *, live: bool = True) -> Run:
    """Wait until a run has ended; JobFailed unless it COMPLETED, TimeoutError if it is late."""
    first = kit.run(run_id)
    if not first.is_final:
        what = f"run {run_id} of {first.job_name}"
        with _shown(lambda *notes: kit.runs.card(first, *notes), live) as card:
            with _stoppable(what, _end(run_id), card):
                first = next(ended(kit, [run_id], timeout, card))
            if card is not None:
                card.end()
                lively.note_shown(run_id)
    if first.status != "COMPLETED":
        raise kit.runs.failure(first)
    return first


def gather(
    runs: Iterable[Run], *, timeout: Timeout = None, return_exceptions: bool = False
) -> list[Run | JobFailed]:
    """Wait for all of these runs; returns them as they ended, in the order in which they came.

    When all have ended, the first of them that did not complete is raised as JobFailed; with
    `return_exceptions` what would be raised takes its place in the list instead. TimeoutError when
    `timeout` passes first: the runs go on.
    """
    asked = list(runs)
    if not asked:
        return []
    kit, known = _kit_of(asked), {run.id: run for run in asked}

    def card(*notes: str) -> Card:
        going = {run.id: run for run in known.values() if not run.is_final}
        known.update(_standing(kit, list(going)))
        return portraits.of_several(list(known.values()), kit.runs.glance().now, notes)

    with _shown(card, True) as shown:
        with _stoppable(f"{len(known)} runs", "They can be gathered again.", shown):
            for run in ended(kit, list(known), timeout, shown):
                known[run.id] = run
        if shown is not None:
            shown.end()
    failures = {
        run.id: kit.runs.failure(run) for run in known.values() if run.status != "COMPLETED"
    }
    if failures and not return_exceptions:
        raise _with_others(list(failures.values()))
    return [failures.get(run.id, known[run.id]) for run in asked]


def as_completed(runs: Iterable[Run], *, timeout: Timeout = None) -> Iterator[Run]:
    """Yield these runs as they end, whatever became of them: see `run.status`.

    TimeoutError when `timeout` passes before the last of them.
    """
    asked = list(runs)
    if asked:
        kit = _kit_of(asked)
        with _stoppable(f"{len(asked)} runs", "They can be waited for again.", None):
            yield from ended(kit, list({run.id: run for run in asked}), timeout)


def ended(
    kit: Kit, run_ids: Sequence[int], timeout: Timeout = None, card: LiveCard | None = None
) -> Iterator[Run]:
    """Yield runs as they end; NotFound at once where one is not there, TimeoutError at the last."""
    left = dict.fromkeys(run_ids)
    standing = _standing(kit, run_ids)
    for run_id in left:
        if run_id not in standing:
            raise NotFound(f"There is no run {run_id}.", "See the latest: kit.runs[:10]")
    seconds = _seconds(timeout)
    until = math.inf if seconds is None else kit.clock.elapsed() + seconds
    slice_seconds = POLL_SECONDS if card is None else PAINT_SECONDS
    with Lookout(kit.database) as lookout:
        while True:
            for row in lookout.ended(list(left)):
                del left[row.id]
                yield run_of(kit, row)
            if not left:
                return
            if card is not None:
                card.paint()
            rest = until - kit.clock.elapsed()
            if rest <= 0:
                raise _briefly(TimeoutError(_late(_standing(kit, list(left)), seconds or 0)))
            lookout.pause(threading.Event(), min(rest, slice_seconds))


def logs(kit: Kit, run_id: int, follow: bool = False) -> Iterator[str]:
    """Yield the lines that a run's last attempt printed, with `follow` until the run has ended."""
    run = kit.run(run_id)
    attempt, after, begun = run.attempt, -1, ""
    with Lookout(kit.database) as lookout:
        while True:
            run = kit.run(run_id)
            attempt = attempt or run.attempt
            part = kit.output(run_id, attempt, after)
            after = part.last_seq
            *lines, begun = (begun + part.text).split("\n")
            yield from lines
            is_last = run.is_final and attempt >= run.attempt
            if not follow or (is_last and part.is_complete):
                break
            if part.is_complete and attempt < run.attempt:
                attempt, after = attempt + 1, -1
                if begun:
                    yield begun
                begun = ""
            else:
                lookout.pause(threading.Event(), POLL_SECONDS)
    if begun:
        yield begun


async def awaited(kit: Kit, run: Run) -> Run:
    """Wait in the running event loop of asyncio, which goes on meanwhile."""
    import asyncio

    first = kit.run(run.id)
    if not first.is_final:
        waiter = kit.awaiting.add(first)
        future = asyncio.wrap_future(waiter.future)
        try:
            # An interrupt of a kernel cancels, and wakes no loop that waits for nothing else.
            while not future.done():
                await asyncio.wait([future], timeout=INTERRUPT_SECONDS)
        except asyncio.CancelledError as error:
            future.cancel()
            said = _stopped(f"run {run.id} of {run.job_name}", _end(run.id))
            waiter.end(said)
            error.args = (said,)
            raise _briefly(error) from None
        first = future.result()
        lively.note_shown(run.id)
    if first.status != "COMPLETED":
        raise kit.runs.failure(first)
    return first


def bundle(run: Run, read: Callable[[], Card]) -> dict[str, str]:
    """Return a run as IPython shows it: its card, or a line where the cell shows that already."""
    if run.is_final and lively.is_shown(run.id):
        return {"text/plain": repr(run), "text/html": f"<code>{escape(repr(run))}</code>"}
    return read().bundle


@contextmanager
def _shown(read: Callable[..., Card], live: bool) -> Iterator[LiveCard | None]:
    """Show a card while one waits; it says so when that ends by an error."""
    card = lively.begin(read) if live else None
    try:
        yield card
    except TimeoutError:
        if card is not None:
            card.end("Stopped waiting: the time is up. It goes on.")
        raise


@contextmanager
def _stoppable(what: str, way_out: str, card: LiveCard | None) -> Iterator[None]:
    """Say of an interrupt that it has stopped the waiting only."""
    try:
        yield
    except KeyboardInterrupt:
        said = _stopped(what, way_out)
        if card is not None:
            card.end(said)
        raise _briefly(KeyboardInterrupt(said)) from None


def _stopped(what: str, way_out: str) -> str:
    goes = "they go on" if what.endswith("runs") else "the run goes on"
    return f"Stopped waiting for {what}; {goes}. {way_out}"


def _end(run_id: int) -> str:
    return f"End it with kit.runs[{run_id}].cancel()."


def _briefly(error: AnyError) -> AnyError:
    """Let IPython show what an error says, and not the insides of the wait that it ended."""
    lines = [f"{type(error).__name__}: {error}"]
    error._render_traceback_ = partial(list, lines)  # type: ignore[attr-defined]
    return error


def _standing(kit: Kit, run_ids: Sequence[int]) -> dict[int, Run]:
    with kit.database.read() as connection:
        return {row.id: run_of(kit, row) for row in history.among(connection, run_ids)}


def _kit_of(runs: Sequence[Run]) -> Kit:
    kits = {run._kit.url: run._kit for run in runs}
    if len(kits) > 1:
        raise BadInput(
            f"These runs are of {len(kits)} databases: {', '.join(kits)}.",
            "Wait for those of each by themselves.",
        )
    return runs[0]._kit


def _seconds(timeout: Timeout) -> float | None:
    if isinstance(timeout, str):
        timeout = text.parse_duration(timeout)
    return timeout.total_seconds() if isinstance(timeout, timedelta) else timeout


def _late(left: dict[int, Run], seconds: float) -> str:
    if len(left) == 1:
        (run,) = left.values()
        why = run.why_waiting()
        return f"run {run.id} is still {run.status} after {seconds:g} s" + (
            f": {why}" if why else ""
        )
    named = ", ".join(map(str, list(left)[:5])) + (" ..." if len(left) > 5 else "")
    return f"{len(left)} runs are unfinished after {seconds:g} s: {named}"


def _with_others(failures: Sequence[JobFailed]) -> JobFailed:
    """Return the first failure, which names the others."""
    first, *others = failures
    if others:
        named = ", ".join(str(error.run_id) for error in others[:10])
        more = " ..." if len(others) > 10 else ""
        first.add_note(f"{len(others)} more did not complete: {named}{more}")
    return first
