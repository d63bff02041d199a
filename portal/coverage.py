"""`/coverage`: every slot that should have been, and runs for the holes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from flask import Blueprint, current_app, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request
from markupsafe import Markup

import jobkit
from jobkit.text import iso, parse_instant
from portal import history
from portal.pages import page

blueprint = Blueprint("coverage", __name__)

WINDOWS = {"1d": "a day", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
USUAL = "7d"
MOST_LISTED = 50
MOST_WORST = 8
MOST_NAMED = 300
"""How many jobs are offered by name while one is typed."""


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/coverage")
def index() -> str:
    """Show a strip and a figure of each job, the worst first, and the slots that are amiss."""
    window, job = request.args.get("window") or USUAL, request.args.get("job") or None
    at = max(request.args.get("at", 0, type=int), 0)
    names = _kit().board.names()
    return page(
        "coverage/show.html",
        poll=False,
        **_map(window, job, at, MOST_LISTED),
        at=at,
        step=MOST_LISTED,
        windows=WINDOWS,
        chosen_window=window,
        chosen_job=job,
        names=set(names),
        offered=names[:MOST_NAMED],
    )


@blueprint.get("/coverage/worst")
def worst() -> str:
    """Show the jobs that are least covered, which the overview asks for once it is there."""
    names = set(_kit().board.names())
    return render_template("coverage/worst.html", **_map(USUAL, None, 0, MOST_WORST), names=names)


def _map(window: str, job: str | None, at: int, most: int) -> dict[str, Any]:
    """Return what `coverage/map.html` draws: so many jobs, the worst first."""
    found = history.ask("coverage", window=window, job=job, at=at, most=most)
    moments = {name: parse_instant(found[name]) for name in ("start", "end", "as_of")}
    rows = [
        (name, words, Markup(strip))  # noqa: S704 - it escapes what people typed
        for name, words, strip in found["rows"]
    ]
    amiss = [slot | {"slot": parse_instant(slot["slot"])} for slot in found["amiss"]]
    return {
        "found": found | moments | {"rows": rows, "amiss": amiss},
        "bounds": {"from": found["start"], "to": found["end"]},
    }


@blueprint.get("/coverage/fill")
def ask() -> str:
    """Say which runs filling would make."""
    start, end, job = _asked()
    would = _kit().fill(_holes(start, end, job), dry_run=True)
    bounds = {"from": iso(start), "to": iso(end)}
    return page("coverage/fill.html", poll=False, would=would, bounds=bounds, chosen_job=job)


@blueprint.post("/coverage/fill")
def fill() -> ResponseReturnValue:
    """Make a run for each hole; a repeat makes none."""
    start, end, job = _asked()
    _kit().fill(_holes(start, end, job))
    history.forget()
    return redirect(url_for("coverage.index", job=job), 303)


def _holes(start: datetime, end: datetime, job: str | None) -> dict[int, list[datetime]]:
    found: Mapping[str, Any] = history.ask_anew("holes", start=iso(start), end=iso(end), job=job)
    return {int(job_id): list(map(parse_instant, slots)) for job_id, slots in found.items()}


def _asked() -> tuple[datetime, datetime, str | None]:
    """Return the bounds and the job that the page before this one showed."""
    given = request.values
    start, end = parse_instant(given.get("from", "")), parse_instant(given.get("to", ""))
    return start, end, given.get("job") or None
