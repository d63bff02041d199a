"""`/jobs`: the jobs and what can be done with one."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from urllib.parse import urlencode

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from jobkit import parameters
from portal.pages import page

blueprint = Blueprint("jobs", __name__)

FILTERS = ("text", "tag", "queue", "state")
MOST_LISTED = 50
SLOTS = 10
MOST_VERSIONS = 10


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/jobs")
def index() -> str:
    """List the jobs that match, a page of them."""
    wanted, sort = asked(), request.args.get("sort") or "name"
    at = max(request.args.get("at", 0, type=int), 0)
    return page(
        "jobs/list.html",
        found=_kit().board.jobs(**wanted, sort=sort, limit=MOST_LISTED, offset=at),
        wanted=wanted,
        filters=filters(),
        sort=sort,
        at=at,
        step=MOST_LISTED,
        tags=[] if request.htmx else _kit().board.tags(),
        done=request.args.get("done", None, type=int),
    )


def asked() -> dict[str, str | None]:
    """Return what the address searches for."""
    return {name: request.values.get(name, "").strip() or None for name in FILTERS}


def filters() -> dict[str, str]:
    """Return what the address searches for, as the parameters of another."""
    return {name: value for name, value in asked().items() if value is not None}


@blueprint.get("/bulk/jobs/<any(pause, resume, run):wish>")
def ask_many(wish: str) -> str:
    """Say how many jobs a wish is about, before it is done."""
    names = request.args.getlist("job") or _kit().board.names(**asked())
    return page(
        "jobs/many.html",
        poll=False,
        wish=wish,
        names=names,
        ticked=request.args.getlist("job"),
        filters=filters(),
    )


@blueprint.post("/bulk/jobs/<any(pause, resume, run):wish>")
def do_many(wish: str) -> ResponseReturnValue:
    """Pause, resume or run the ticked jobs, or all that match; those that are gone are left out."""
    kit, done = _kit(), 0
    acts: dict[str, Callable[[str], object]]
    acts = {"pause": kit.pause, "resume": kit.resume, "run": kit.submit}
    for name in request.form.getlist("job") or kit.board.names(**asked()):
        with suppress(jobkit.NotFound):
            acts[wish](name)
            done += 1
    return redirect(f"{url_for('jobs.index')}?{urlencode(filters() | {'done': str(done)})}", 303)


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
        poll=not wrong,
        job=job,
        shown=shown,
        wrong=wrong or {},
        runs=job.runs(30),
        slots=_kit().jobs.slots(name, SLOTS) if job.is_active else [],
        chart=_kit().board.durations(job),
        versions=job.versions(),
        most_versions=MOST_VERSIONS,
        usual=job.expectation(),
        run_command=shlex.join(["jobkit", "run", job.name]),
    )


@blueprint.post("/jobs/<path:name>/runs")
def start(name: str) -> ResponseReturnValue:
    """Run the job now with what stands in the form, which comes back when that is wrong."""
    job = _kit().job(name)
    prefix, form = "param:", request.form
    typed = {key.removeprefix(prefix): form[key] for key in form if key.startswith(prefix)}
    # A button without fields, as in the list, says nothing of boxes that are not ticked.
    given = parameters.from_form(job.signature, typed) if "fields" in form else {}
    if wrong := parameters.problems(job.signature, given, job.params):
        return _page(name, typed if "fields" in form else None, wrong), 422
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
