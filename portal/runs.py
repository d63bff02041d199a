"""`/runs`: the runs, what they printed, and what can be done with one."""

from __future__ import annotations

from flask import Blueprint, Response, current_app, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from portal.pages import page, plain

blueprint = Blueprint("runs", __name__)

MOST_LISTED = 100
MOST_SHOWN = 200_000
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


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/runs")
def index() -> str:
    """List the runs, of one job or in one status if asked."""
    job, status = request.args.get("job") or None, request.args.get("status") or None
    return page(
        "runs/list.html",
        runs=_kit().runs(job, status, limit=MOST_LISTED),
        jobs=list(_kit().jobs),
        chosen_job=job,
        chosen_status=status,
        statuses=STATUSES,
        limit=MOST_LISTED,
    )


@blueprint.get("/runs/<int:run_id>")
def show(run_id: int) -> str:
    """Show one run; its output follows while it is written."""
    run = _kit().run(run_id)
    output = run.output(_chosen_attempt())
    threshold = _kit().settings.job_timeout_threshold
    is_long = run.is_running and run.claimed_at and _kit().clock.now() - run.claimed_at > threshold
    return page(
        "runs/show.html",
        poll=not run.is_final,
        run=run,
        attempts=run.attempts(),
        output=output,
        text=plain(output.text)[-MOST_SHOWN:],
        is_cut=len(output.text) > MOST_SHOWN,
        is_long=is_long,
    )


@blueprint.get("/runs/<int:run_id>/output")
def more(run_id: int) -> str:
    """Show what an attempt printed after a numbered chunk, and where to ask for more."""
    after = request.args.get("after", -1, type=int)
    output = _kit().output(run_id, _chosen_attempt(), after)
    return render_template("runs/more.html", run_id=run_id, output=output, text=plain(output.text))


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


def _chosen_attempt() -> int | None:
    chosen: int | None = request.args.get("attempt", None, type=int)
    return chosen
