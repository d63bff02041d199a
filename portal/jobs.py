"""`/jobs`: the jobs and what can be done with one."""

from __future__ import annotations

import shlex

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue

import jobkit
from portal.pages import page

blueprint = Blueprint("jobs", __name__)


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/jobs")
def index() -> str:
    """List the jobs."""
    return page("jobs/list.html", jobs=list(_kit().jobs), latest=_kit().latest_runs())


@blueprint.get("/jobs/<path:name>")
def show(name: str) -> str:
    """Show one job."""
    job = _kit().job(name)
    return page(
        "jobs/show.html",
        job=job,
        runs=job.runs(30),
        slots=job.next(5) if job.is_active else [],
        versions=job.versions(),
        usual=job.expectation(),
        run_command=shlex.join(["jobkit", "run", job.name]),
    )


@blueprint.post("/jobs/<path:name>/runs")
def start(name: str) -> ResponseReturnValue:
    """Run the job now."""
    return redirect(url_for("runs.show", run_id=_kit().submit(name).id), 303)


@blueprint.post("/jobs/<path:name>/pause")
def pause(name: str) -> ResponseReturnValue:
    """Stop the job's schedule."""
    _kit().pause(name)
    return redirect(url_for("jobs.show", name=name), 303)


@blueprint.post("/jobs/<path:name>/resume")
def resume(name: str) -> ResponseReturnValue:
    """Start the job's schedule again."""
    _kit().resume(name)
    return redirect(url_for("jobs.show", name=name), 303)
