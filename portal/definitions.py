"""`/new/job` and `/jobs/<name>/definition`: what a job is, written and seen before it is kept."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from flask import Blueprint, current_app, redirect, render_template, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from jobkit import alerting
from portal.pages import page

blueprint = Blueprint("definitions", __name__)

TIMINGS = {
    "manual": "on demand",
    "every": "every … (90s, 15m, 2h)",
    "hourly": "each hour at minute …",
    "daily": "each day at … (06:30)",
    "weekly": "each week on … (mon 06:30)",
    "monthly": "each month on … (31 06:30)",
    "cron": "by cron … (0 6 * * 1-5)",
    "at": "once, at … (2026-03-01T06:30)",
}
OVERLAPS = ("skip", "queue", "queue_all", "replace", "allow")
MISFIRES = ("latest", "all", "skip")
PREVIEWED = 10
FIELDS = (
    "name", "target", "args", "timing", "when", "tz", "params", "tags", "queue", "priority",
    "timeout", "retries", "retry_delay", "overlap", "misfire", "start_deadline", "alerts",
)  # fmt: skip
_TEXTS = ("queue", "timeout", "retry_delay", "overlap", "misfire", "start_deadline", "tz")


@dataclass(frozen=True)
class Preview:
    """What a schedule comes to, or what is wrong with it."""

    words: str = ""
    slots: list[datetime] = field(default_factory=list)
    zone: str = "UTC"
    error: str = ""


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/new/job")
def new() -> str:
    """Show an empty form; what the address holds stands in it."""
    typed = _blank() | {name: request.args[name] for name in FIELDS if name in request.args}
    return _form(typed, {}, None)


@blueprint.post("/jobs")
def create() -> ResponseReturnValue:
    """Add a job, or give the form back with what is wrong."""
    typed = _typed()
    given, wrong = read(typed)
    if not wrong:
        try:
            name, target, args = given.pop("name"), given.pop("target"), given.pop("args")
            job = _kit().add_job(name, target, *args, **given)
            return redirect(url_for("jobs.show", name=job.name), 303)
        except jobkit.BadInput as error:
            wrong = {_field_of(error, typed): str(error)}
    return _form(typed, wrong, None), 422


@blueprint.get("/jobs/<path:name>/definition")
def edit(name: str) -> str:
    """Show the form with what the job is."""
    job = _kit().job(name)
    return _form(as_typed(job), {}, job)


@blueprint.post("/jobs/<path:name>/definition")
def change(name: str) -> ResponseReturnValue:
    """Change what differs; 409 when somebody else changed the job meanwhile."""
    job, typed = _kit().job(name), _typed()
    if request.form.get("version", type=int) != job.version:
        said = f"{job.name} was changed meanwhile, to version {job.version}: see it, then save."
        return _form(typed, {"": said}, job), 409
    given, wrong = read(typed)
    if not wrong:
        before, _ = read(as_typed(job))
        changed = _changes(before, given)
        try:
            if changed:
                _kit().edit(name, **changed)
            return redirect(url_for("jobs.show", name=name), 303)
        except jobkit.BadInput as error:
            wrong = {_field_of(error, typed): str(error)}
    return _form(typed, wrong, job), 422


@blueprint.get("/preview")
def preview() -> str:
    """Show what a schedule comes to while it is typed."""
    return render_template("definitions/preview.html", preview=look(request.args))


def look(typed: Mapping[str, str]) -> Preview:
    """Return the next slots of what is typed, and the schedule in words."""
    zone = typed.get("tz") or _kit().settings.timezone
    try:
        timing = _timing(typed)
        if not any(timing.values()):
            return Preview("on demand", zone=zone)
        words = jobkit.describe(**timing, tz=zone)
        return Preview(words, jobkit.preview(**timing, tz=zone, count=PREVIEWED), zone)
    except jobkit.BadInput as error:
        return Preview(error=str(error), zone=zone)


def read(typed: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the keywords of `Kit.add_job` for what was typed, and what is wrong, by its field."""
    given: dict[str, Any] = {"name": typed["name"].strip(), "target": typed["target"].strip()}
    wrong = {name: "This is needed." for name in ("name", "target") if not given[name]}
    given |= {name: typed[name].strip() for name in _TEXTS if typed[name].strip()}
    given["tags"] = typed["tags"].replace(",", " ").split()
    given["alerts"], wrong["alerts"] = _alerts(typed["alerts"])
    if error := look(typed).error:
        wrong["when"] = error
    else:
        given |= {name: value for name, value in _timing(typed).items() if value}
    try:
        given["args"] = shlex.split(typed["args"])
    except ValueError as error:
        wrong["args"] = f"{error}."
    for name in ("priority", "retries"):
        if typed[name].strip():
            try:
                given[name] = int(typed[name])
            except ValueError:
                wrong[name] = f"{typed[name]!r} is no number."
    try:
        given["params"] = json.loads(typed["params"] or "{}")
        if not isinstance(given["params"], dict):
            raise ValueError("it is no object")
    except ValueError as error:
        wrong["params"] = f"This is no JSON object like {{}}: {error}."
    return given, {name: words for name, words in wrong.items() if words}


def _alerts(typed: str) -> tuple[list[str], str]:
    given = typed.replace(",", " ").split()
    try:
        alerting.rules_column(given)
    except jobkit.BadInput as error:
        return given, str(error)
    return given, ""


def as_typed(job: jobkit.Job) -> dict[str, str]:
    """Return what stands in the form of a job."""
    timing, when = job.timing
    return {
        "name": job.name,
        "target": job.script_path,
        "args": shlex.join(job.args),
        "timing": timing,
        "when": when,
        "tz": job.timezone,
        "params": json.dumps(job.params, ensure_ascii=False) if job.params else "",
        "tags": " ".join(job.tags),
        "queue": job.queue,
        "priority": str(job.priority),
        "timeout": job.timeout_policy or _seconds(job.timeout),
        "retries": str(job.max_retries),
        "retry_delay": _seconds(job.retry_delay),
        "overlap": job.overlap_policy,
        "misfire": job.misfire_policy,
        "start_deadline": _seconds(job.start_deadline),
        "alerts": " ".join(alerting.words(job.alerts)),
    }


def _changes(before: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was changed in the form: all of a schedule, or none of it."""
    changed = {name: value for name, value in given.items() if before.get(name) != value}
    changed.pop("name", None)
    timing = {name: given.get(name) for name in (*TIMINGS, "tz") if name in given}
    if any(before.get(name) != given.get(name) for name in (*TIMINGS, "tz")):
        changed |= timing
    return changed


def _timing(typed: Mapping[str, str]) -> dict[str, Any]:
    word, value = typed.get("timing", "manual"), typed.get("when", "").strip()
    if word == "manual":
        return {}
    if word not in TIMINGS:
        raise jobkit.BadInput(f"{word!r} is no schedule.", f"Use: {', '.join(TIMINGS)}.")
    if not value:
        raise jobkit.BadInput(f"When is missing: {TIMINGS[word]}.", "")
    return {word: value}


def _seconds(value: Any) -> str:
    return "" if value is None else f"{value.total_seconds():g}s"


def _typed() -> dict[str, str]:
    return {name: request.form.get(name, "") for name in FIELDS}


def _blank() -> dict[str, str]:
    chosen = {"timing": "manual", "overlap": "skip", "misfire": "latest", "queue": "default"}
    return dict.fromkeys(FIELDS, "") | chosen | {"tz": _kit().settings.timezone}


def _field_of(error: jobkit.BadInput, typed: Mapping[str, str]) -> str:
    """Return the field whose text an error names; none when it may be any."""
    for name in ("target", "name", "queue", "tags", "timeout", "retry_delay", "start_deadline"):
        if typed[name] and typed[name].strip() in error.message:
            return name
    return ""


def _form(typed: Mapping[str, str], wrong: Mapping[str, str], job: jobkit.Job | None) -> str:
    return page(
        "definitions/form.html",
        poll=False,
        typed=typed,
        wrong=wrong,
        job=job,
        preview=look(typed),
        timings=TIMINGS,
        pairs=lambda words: [(word, word.replace("_", " ")) for word in words],
        overlaps=OVERLAPS,
        misfires=MISFIRES,
        zones=sorted({other.timezone for other in _kit().jobs} | {_kit().settings.timezone}),
    )
