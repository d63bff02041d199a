"""`/runs`: the runs, what they printed, and what can be done with one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from urllib.parse import urlencode

from flask import Blueprint, Response, current_app, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from jobkit.text import duration
from portal.pages import page, plain

blueprint = Blueprint("runs", __name__)

FILTERS = tuple(item.name for item in fields(jobkit.Search))
TRIGGERS = ("schedule", "manual", "backfill", "retry")
MOST_LISTED = 50
MOST_NAMED = 10
MOST_SHOWN = 200_000
FAILED = ("FAILURE", "ERROR", "TIMEOUT")
STATUSES = (
    "PENDING",
    "IN_PROGRESS",
    "COMPLETED",
    "FAILED",
    "TIMEOUT",
    "CANCELLED",
    "SKIPPED",
    "MISSED",
)


@dataclass(frozen=True)
class Step:
    """One point on a run's way."""

    name: str
    at: datetime | None
    note: str = ""


@dataclass(frozen=True)
class Tail:
    """What came since the last look, and where to look next."""

    text: str
    attempt: int
    title: str
    """What to write above it; nothing when it goes on with what is there."""
    is_cut: bool
    omitted_bytes: int
    onward: str | None
    """The address of what comes next; None when nothing will."""


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/runs")
def index() -> str:
    """List the runs that match, page after page, the newest first."""
    wanted, before = asked(), request.args.get("before", None, type=int)
    return page(
        "runs/list.html",
        poll=before is None,
        found=_kit().search.page(wanted, before=before, limit=MOST_LISTED),
        wanted=wanted,
        filters=filters(wanted),
        before=before,
        jobs=[] if request.htmx else list(_kit().jobs),
        statuses=STATUSES,
        triggers=TRIGGERS,
        done=request.args.get("done", None, type=int),
        refused=request.args.get("refused", 0, type=int),
    )


def asked() -> jobkit.Search:
    """Return what the address searches for."""
    given = {name: request.values.get(name, "").strip() or None for name in FILTERS}
    return jobkit.Search(**given)


def filters(wanted: jobkit.Search) -> dict[str, str]:
    """Return a search as the parameters of an address."""
    return {name: value for name in FILTERS if (value := getattr(wanted, name)) is not None}


@blueprint.get("/runs/<any(cancel, retry):wish>")
def ask_many(wish: str) -> str:
    """Say how many runs a wish is about, before it is done."""
    wanted, ids = asked(), _ticked() or _all_that_match(wish)
    runs = [_kit().run(run_id) for run_id in ids[:MOST_NAMED]]
    return page(
        "runs/many.html",
        poll=False,
        wish=wish,
        count=len(ids),
        before=ids[0] + 1 if ids else None,
        runs=runs,
        ticked=_ticked(),
        filters=filters(wanted),
    )


@blueprint.post("/runs/<any(cancel, retry):wish>")
def do_many(wish: str) -> ResponseReturnValue:
    """Cancel, or run again, the ticked runs, or all that match."""
    ids = _ticked() or _all_that_match(wish)
    search = _kit().search
    done = search.cancel(ids) if wish == "cancel" else search.retry(ids)
    said = {"done": str(len(done.done)), "refused": str(len(done.refused))}
    return redirect(f"{url_for('runs.index')}?{urlencode(filters(asked()) | said)}", 303)


def _ticked() -> list[int]:
    ticked: list[int] = request.values.getlist("run", type=int)
    return ticked


def _all_that_match(wish: str) -> list[int]:
    """Return the ids of all that match; of those that were there when their number was said."""
    search, before = _kit().search, request.form.get("before", None, type=int)
    find = search.to_cancel if wish == "cancel" else search.to_retry
    return find(asked(), before=before)


@blueprint.get("/runs/<int:run_id>")
def show(run_id: int) -> str:
    """Show one run; its output follows while it is written."""
    run, chosen = _kit().run(run_id), _chosen_attempt()
    shown, ended = chosen or max(run.attempt, 1), run.attempts()
    attempt = next((item for item in ended if item.attempt == shown), None)
    has_failed = attempt is not None and attempt.status in FAILED
    return page(
        "runs/show.html",
        poll=not run.is_final,
        run=run,
        attempts=ended,
        attempt=attempt,
        changes=run.changes(shown) if has_failed else None,
        cells=run.cells(shown),
        artifacts=run.artifacts(chosen),
        steps=list(steps(run)),
        expectation=run.expectation() if run.claimed_at else None,
        tail=None if request.htmx else read_tail(run, shown, follows=chosen is None),
        chosen=chosen,
        shown=shown,
    )


@blueprint.get("/runs/<int:run_id>/output")
def more(run_id: int) -> ResponseReturnValue:
    """Show what an attempt printed after a numbered chunk; 204 while there is nothing new."""
    attempt, after = _chosen_attempt() or 1, request.args.get("after", -1, type=int)
    follows = "follow" in request.args
    tail = read_tail(_kit().run(run_id), attempt, after=after, follows=follows)
    if not tail.text and tail.onward == _address(run_id, attempt, after, follows=follows):
        return "", 204
    return render_template("runs/more.html", tail=tail)


@blueprint.get("/runs/<int:run_id>/output.txt")
def download(run_id: int) -> ResponseReturnValue:
    """Give the whole of what is kept of an attempt's output."""
    output = _kit().output(run_id, _chosen_attempt())
    name = f"run-{run_id}-attempt-{output.attempt}.txt"
    headers = {"Content-Disposition": f"attachment; filename={name}"}
    return Response(output.text, mimetype="text/plain", headers=headers)


@blueprint.post("/runs/<int:run_id>/cancel")
def cancel(run_id: int) -> ResponseReturnValue:
    """End the run, or ask its worker to."""
    _kit().cancel(run_id)
    return redirect(url_for("runs.show", run_id=run_id), 303)


@blueprint.post("/runs/<int:run_id>/retry")
def retry(run_id: int) -> ResponseReturnValue:
    """Make a new run of what this one ran."""
    return redirect(url_for("runs.show", run_id=_kit().retry(run_id).id), 303)


def read_tail(run: jobkit.Run, attempt: int, *, after: int = -1, follows: bool = False) -> Tail:
    """Read an attempt's output after a chunk; with `follows` the next attempt's comes after it."""
    output = run.output(attempt, after)
    printed, last = output.text, output.last_seq
    onward = None
    if not output.is_complete:
        onward = _address(run.id, attempt, last, follows=follows)
    else:
        # It may have ended between the two questions, what it printed and whether it has ended.
        rest = run.output(attempt, last)
        printed, last = printed + rest.text, rest.last_seq
        if follows and not run.is_final:
            onward = _address(run.id, attempt + 1, -1, follows=True)
    starts = follows and after < 0 and attempt > 1 and printed
    shown = plain(printed)
    return Tail(
        text=shown[-MOST_SHOWN:],
        attempt=attempt,
        title=f"attempt {attempt}" if starts else "",
        is_cut=len(shown) > MOST_SHOWN,
        omitted_bytes=output.omitted_bytes,
        onward=onward,
    )


def steps(run: jobkit.Run) -> Iterator[Step]:
    """Return the points that a run has passed, and the one it waits for."""
    if run.scheduled_for is not None:
        yield Step("slot", run.scheduled_for)
    yield Step("queued", run.created_at, run.trigger)
    if run.status == "PENDING":
        yield Step("next try" if run.attempt else "can start", run.available_at)
    if run.claimed_at is not None:
        wait = max(run.claimed_at, run.available_at) - run.available_at
        yield Step("claimed", run.claimed_at, f"after {duration(wait)}")
    if run.is_final:
        took = f"after {duration(run.duration)}" if run.duration is not None else ""
        yield Step("ended", run.completed_at, took)
    elif run.is_running:
        yield Step("ends", None)


def _address(run_id: int, attempt: int, after: int, *, follows: bool) -> str:
    wish = 1 if follows else None
    return url_for("runs.more", run_id=run_id, attempt=attempt, after=after, follow=wish)


def _chosen_attempt() -> int | None:
    chosen: int | None = request.args.get("attempt", None, type=int)
    return chosen
