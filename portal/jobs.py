"""`/jobs`: the jobs and what can be done with one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from flask import Blueprint, current_app, redirect, request, url_for
from flask.typing import ResponseReturnValue

import jobkit
from jobkit import parameters
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
    return _page(name)


def _page(
    name: str, typed: Mapping[str, str] | None = None, wrong: Mapping[str, str] | None = None
) -> str:
    """Render one job; `typed`: what stood in its form, `wrong`: what is wrong with that."""
    job = _kit().job(name)
    shown = parameters.as_texts(job.signature, job.params) if typed is None else typed
    return page(
        "jobs/show.html",
        poll=typed is None,
        job=job,
        shown=shown,
        wrong=wrong or {},
        runs=job.runs(30),
        slots=job.next(5) if job.is_active else [],
        versions=job.versions(),
        usual=job.expectation(),
        run_command=shlex.join(["jobkit", "run", job.name]),
    )


@blueprint.post("/jobs/<path:name>/runs")
def start(name: str) -> ResponseReturnValue:
    """Run the job now with what stands in the form, which comes back when that is wrong."""
    job = _kit().job(name)
    typed = {key.removeprefix("param:"): text for key, text in request.form.items()}
    given = parameters.from_form(job.signature, typed)
    if wrong := parameters.problems(job.signature, given, job.params):
        return _page(name, typed, wrong), 422
    return redirect(url_for("runs.show", run_id=_kit().jobs.submit(name, **given).id), 303)


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
