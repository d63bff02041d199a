"""`/jobs`: the jobs and what can be done with one."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request
from markupsafe import Markup

import jobkit
from jobkit import alerting, parameters, text
from jobkit.handles import Backfill
from portal.pages import page

blueprint = Blueprint("jobs", __name__)

FILTERS = ("text", "tag", "queue", "state")
MOST_LISTED = 50
SLOTS = 10
MOST_VERSIONS = 10
MOST_SLOTS = 100
PREFIX = "param:"


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


def _page(name: str) -> str:
    job, kit = _kit().job(name), _kit()
    chart = kit.board.durations(job)
    return page(
        "jobs/show.html",
        job=job,
        shown=parameters.as_texts(job.signature, job.params),
        wrong={},
        runs=job.runs(30),
        slots=kit.jobs.slots(name, SLOTS) if job.is_active else [],
        chart=chart,
        drawn=Markup(chart.unstyled),  # noqa: S704 - it escapes what people typed
        versions=job.versions(),
        most_versions=MOST_VERSIONS,
        usual=job.expectation(),
        alerts=kit.alerts(job=name),
        watched=alerting.words(job.alerts),
        run_command=shlex.join(["jobkit", "run", job.name]),
        ping_command=shlex.join(["jobkit", "ping", job.name]),
    )


@blueprint.get("/jobs/<path:name>/start")
def form(name: str) -> str:
    """Show the form that starts a run; what the address gives stands in it: `?param:day=...`."""
    job, typed = _kit().job(name), _typed(request.args)
    known = parameters.from_text(job.signature, {key: text for key, text in typed.items() if text})
    wrong = parameters.problems(job.signature, known, is_whole=False) if job.signature else {}
    shown = parameters.as_texts(job.signature, job.params) | typed
    return _form(job, shown, wrong, request.args.get("params", ""))


def _typed(values: Mapping[str, str]) -> dict[str, str]:
    return {key.removeprefix(PREFIX): values[key] for key in values if key.startswith(PREFIX)}


def _form(job: jobkit.Job, shown: Mapping[str, str], wrong: Mapping[str, str], free: str) -> str:
    used = [(found, address_of(job, found.params)) for found in _kit().jobs.given(job.name)]
    return page(
        "jobs/run.html", poll=False, job=job, shown=shown, wrong=wrong, free=free, used=used
    )


def address_of(job: jobkit.Job, params: Mapping[str, Any]) -> str:
    """Return the address of the form with these parameters in it."""
    path = url_for("jobs.form", name=job.name)
    if not job.signature:
        return f"{path}?{urlencode({'params': json.dumps(params, ensure_ascii=False)})}"
    texts = dict.fromkeys(params, "") | parameters.as_texts(
        [{"name": name} for name in params], params
    )
    return f"{path}?{urlencode({PREFIX + name: text for name, text in texts.items()})}"


@blueprint.post("/jobs/<path:name>/runs")
def start(name: str) -> ResponseReturnValue:
    """Run the job now with what stands in the form, which comes back when that is wrong."""
    job, form = _kit().job(name), request.form
    typed, free = _typed(form), form.get("params", "").strip()
    given, wrong = _given(job, typed, free)
    if wrong:
        has_fields = "fields" in form
        shown = typed if has_fields else parameters.as_texts(job.signature, job.params)
        return _form(job, shown, wrong, free), 422
    return redirect(url_for("runs.show", run_id=_kit().jobs.submit(name, **given).id), 303)


def _given(
    job: jobkit.Job, typed: Mapping[str, str], free: str
) -> tuple[dict[str, Any], dict[str, str]]:
    """Read what stands in the form: the parameters, and what is wrong with them by their name."""
    if job.signature:
        # A button without fields, as in the list, says nothing of boxes that are not ticked.
        given = parameters.from_form(job.signature, typed) if "fields" in request.form else {}
        return given, parameters.problems(job.signature, given, job.params)
    try:
        given = json.loads(free or "{}")
    except ValueError as error:
        return {}, {"params": f"This is no JSON: {error}."}
    if not isinstance(given, dict):
        return {}, {"params": 'Write an object, like {"day": "2026-03-01"}.'}
    return given, {}


@blueprint.get("/jobs/<path:name>/backfill")
def ask_backfill(name: str) -> ResponseReturnValue:
    """Say which past slots a backfill would fill, before it is done."""
    job = _kit().job(name)
    if "from" not in request.args:
        return _backfill(job, _last_week(job), {}, None)
    asked = _asked_range(request.args)
    would, wrong = _filled(job, asked, dry_run=True)
    return _backfill(job, asked, wrong, would), 422 if wrong else 200


@blueprint.post("/jobs/<path:name>/backfill")
def backfill(name: str) -> ResponseReturnValue:
    """Make the runs of past slots, and lead to them."""
    job, asked = _kit().job(name), _asked_range(request.form)
    made, wrong = _filled(job, asked, dry_run=False)
    if made is None:
        return _backfill(job, asked, wrong, None), 422
    return redirect(url_for("runs.index", job=name, backfill=made.id), 303)


def _backfill(
    job: jobkit.Job, asked: Mapping[str, str], wrong: Mapping[str, str], would: Backfill | None
) -> str:
    lines = [] if would is None else [(slot, True) for slot in would.slots]
    lines += [] if would is None else [(slot, False) for slot in would.skipped]
    return page(
        "jobs/backfill.html",
        poll=False,
        job=job,
        asked=asked,
        wrong=wrong,
        would=would,
        lines=sorted(lines)[:MOST_SLOTS],
    )


def _asked_range(values: Mapping[str, str]) -> dict[str, str]:
    asked = {name: values.get(name, "").strip() for name in ("from", "to", "limit", "again")}
    return asked | {"limit": asked["limit"] or "1"}


def _last_week(job: jobkit.Job) -> dict[str, str]:
    now = _kit().clock.now().astimezone(ZoneInfo(job.timezone))
    start = (now - timedelta(days=7)).replace(hour=0, minute=0)
    return {"from": f"{start:%Y-%m-%dT%H:%M}", "to": f"{now:%Y-%m-%dT%H:%M}", "limit": "1"}


def _filled(
    job: jobkit.Job, asked: Mapping[str, str], *, dry_run: bool
) -> tuple[Backfill | None, dict[str, str]]:
    """Backfill what is asked for, or say what is wrong with it by the name of the field."""
    bounds, wrong = {}, {}
    for name in ("from", "to"):
        try:
            bounds[name] = text.parse_instant(asked[name], job.timezone)
        except jobkit.BadInput as error:
            wrong[name] = str(error)
    if not asked["limit"].isdigit():
        wrong["limit"] = f"{asked['limit']!r} is no number."
    if wrong:
        return None, wrong
    limit, again = int(asked["limit"]), bool(asked["again"])
    try:
        made = _kit().backfill(
            job.name, bounds["from"], bounds["to"], again=again, limit=limit, dry_run=dry_run
        )
    except jobkit.BadInput as error:
        return None, {"limit" if "limit=" in error.message else "from": str(error)}
    return made, {}


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
