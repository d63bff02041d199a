"""`/runs`: the runs, what they printed, and what can be done with one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import datetime
from urllib.parse import urlencode

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from jobkit.states import RUN_STATUSES, TRIGGERS
from jobkit.text import duration
from portal.output import chosen_attempt, read_tail
from portal.pages import page

blueprint = Blueprint("runs", __name__)

FILTERS = tuple(item.name for item in fields(jobkit.Search))
MOST_LISTED = 50
MOST_NAMED = 10
MOST_OFFERED = 300
"""How many jobs are offered by name while one is typed."""
FAILED = ("FAILURE", "ERROR", "TIMEOUT")


@dataclass(frozen=True)
class Step:
    """One point on a run's way."""

    name: str
    at: datetime | None
    note: str = ""


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
        jobs=[] if request.htmx else _kit().board.names()[:MOST_OFFERED],
        tags=[] if request.htmx else _kit().board.tags(),
        statuses=RUN_STATUSES,
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
    run, chosen = _kit().run(run_id), chosen_attempt()
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
        why=run.why_waiting() if run.status == "PENDING" else "",
        kept=run.kept,
        alerts=_kit().alerts.of_run(run),
        edits=run.edits if shown > 1 else [],
        tail=None if request.htmx else read_tail(run, shown, follows=chosen is None),
        chosen=chosen,
        shown=shown,
    )


@blueprint.post("/runs/<int:run_id>/cancel")
def cancel(run_id: int) -> ResponseReturnValue:
    """End the run, or ask its worker to."""
    _kit().cancel(run_id)
    return redirect(url_for("runs.show", run_id=run_id), 303)


@blueprint.post("/runs/<int:run_id>/retry")
def retry(run_id: int) -> ResponseReturnValue:
    """Make a new run of what this one ran."""
    return redirect(url_for("runs.show", run_id=_kit().retry(run_id).id), 303)


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
