"""`/coverage`: every slot that should have been, and runs for the holes."""

from __future__ import annotations

from datetime import datetime

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request
from markupsafe import Markup

import jobkit
from jobkit.text import iso, parse_instant
from portal.pages import page

blueprint = Blueprint("coverage", __name__)

WINDOWS = {"1d": "a day", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
MOST_LISTED = 50


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/coverage")
def index() -> str:
    """Show a strip and a figure of each job, and the slots that are amiss."""
    window, job = request.args.get("window") or "7d", request.args.get("job") or None
    found = _kit().log(window).coverage(job=job)
    chart, amiss = found.chart, found.amiss
    return page(
        "coverage/show.html",
        poll=False,
        found=found,
        rows=[
            (figure, Markup(chart.row_svg(row)))  # noqa: S704 - it escapes what people typed
            for figure, row in zip(found.figures, chart.rows, strict=True)
        ],
        amiss=amiss[::-1][:MOST_LISTED],
        hidden=len(amiss[MOST_LISTED:]),
        holes=sum(map(len, found.holes().values())),
        bounds={"from": iso(found.start), "to": iso(found.window.end)},
        windows=WINDOWS,
        chosen_window=window,
        chosen_job=job,
        names=[job.name for job in _kit().jobs],
    )


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
    return redirect(url_for("coverage.index", job=job), 303)


def _asked() -> tuple[datetime, datetime, str | None]:
    """Return the bounds and the job that the page before this one showed."""
    given = request.values
    start, end = parse_instant(given.get("from", "")), parse_instant(given.get("to", ""))
    return start, end, given.get("job") or None
