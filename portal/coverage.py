"""`/coverage`: every slot that should have been, and runs for the holes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from flask import Blueprint, current_app, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request
from markupsafe import Markup

import jobkit
from jobkit.text import iso, parse_instant
from portal.answers import Answers
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
    found, amiss, holes = _asked_for(window, job)
    names = _kit().board.names()
    return page(
        "coverage/show.html",
        poll=False,
        **_map(found, at, MOST_LISTED),
        at=at,
        step=MOST_LISTED,
        amiss=amiss[::-1][:MOST_LISTED],
        hidden=len(amiss[MOST_LISTED:]),
        holes=holes,
        windows=WINDOWS,
        chosen_window=window,
        chosen_job=job,
        names=set(names),
        offered=names[:MOST_NAMED],
    )


@blueprint.get("/coverage/worst")
def worst() -> str:
    """Show the jobs that are least covered, which the overview asks for once it is there."""
    found, _, _ = _asked_for(USUAL, None)
    names = set(_kit().board.names())
    return render_template("coverage/worst.html", **_map(found, 0, MOST_WORST), names=names)


def _map(found: Any, at: int, most: int) -> dict[str, Any]:
    """Return what `coverage/map.html` draws: so many jobs, the worst first."""
    figures = found.worst_first
    chart = found.strip(figures[at : at + most])
    return {
        "found": found,
        "rows": [
            (figure, Markup(chart.row_svg(row)))  # noqa: S704 - it escapes what people typed
            for figure, row in zip(figures[at:], chart.rows, strict=False)
        ],
        "total": len(figures),
        "bounds": {"from": iso(found.start), "to": iso(found.window.end)},
        "step_seconds": chart.step.total_seconds(),
    }


def _asked_for(window: str, job: str | None) -> tuple[Any, list[Any], int]:
    """Return what is known of a window, or ask."""
    kit = _kit()
    found: tuple[Any, list[Any], int] = _answers().get(
        ("coverage", window, job), lambda: kit.pulse.read(), lambda: _judged(kit, window, job)
    )
    return found


def _judged(kit: jobkit.Kit, window: str, job: str | None) -> tuple[Any, list[Any], int]:
    """Return a coverage, its slots that are amiss, and how many holes it has."""
    found = kit.log(window).coverage(job=job)
    return found, found.amiss, sum(map(len, found.holes().values()))


def _answers() -> Answers:
    answers: Answers = current_app.config["ANSWERS"]
    return answers


@blueprint.get("/coverage/fill")
def ask() -> str:
    """Say which runs filling would make."""
    start, end, job = _asked()
    would = _kit().log((start, end)).coverage(job=job).fill(dry_run=True)
    bounds = {"from": iso(start), "to": iso(end)}
    return page("coverage/fill.html", poll=False, would=would, bounds=bounds, chosen_job=job)


@blueprint.post("/coverage/fill")
def fill() -> ResponseReturnValue:
    """Make a run for each hole; a repeat makes none."""
    start, end, job = _asked()
    _kit().log((start, end)).coverage(job=job).fill()
    _answers().forget()
    return redirect(url_for("coverage.index", job=job), 303)


def _asked() -> tuple[datetime, datetime, str | None]:
    """Return the bounds and the job that the page before this one showed."""
    given = request.values
    start, end = parse_instant(given.get("from", "")), parse_instant(given.get("to", ""))
    return start, end, given.get("job") or None
