"""Operations on jobs."""

from __future__ import annotations

from flask import g

import jobkit
from jobkit.roles import allows
from portal.api import shapes
from portal.api.operations import operation
from portal.api.shapes import JobName


def _shape(job: jobkit.Job) -> shapes.Job:
    shown = shapes.Job.model_validate(job)
    if not allows(g.role, "editor"):
        shown.variables = None  # people put what is secret into the environment
    return shown


@operation("GET", "/jobs", needs="viewer")
def list_jobs(kit: jobkit.Kit, query: shapes.JobsAsked) -> shapes.Jobs:
    """List the jobs by name, a page at a time."""
    found, more = kit.jobs.page(query.words, query.active, after=query.after, limit=query.limit)
    return shapes.Jobs(items=[_shape(job) for job in found], next=more)


@operation("POST", "/jobs", needs="editor", status=201)
def create_job(kit: jobkit.Kit, body: shapes.NewJob) -> shapes.Job:
    """Add a job whose schedule starts now; none of the schedule words: it runs on demand."""
    given = body.told()
    name, target, args = given.pop("name"), given.pop("target"), given.pop("args", ())
    return _shape(kit.add_job(name, target, *args, **given))


@operation("GET", "/jobs/{name}", needs="viewer")
def show_job(kit: jobkit.Kit, name: JobName) -> shapes.Job:
    """Show one job."""
    return _shape(kit.job(name))


@operation("PATCH", "/jobs/{name}", needs="editor")
def edit_job(kit: jobkit.Kit, name: JobName, body: shapes.EditedJob) -> shapes.Job:
    """Change a job; what is not given stays. A changed schedule starts from now."""
    return _shape(kit.edit(name, **body.told()))


@operation("DELETE", "/jobs/{name}", needs="editor", status=204)
def delete_job(kit: jobkit.Kit, name: JobName) -> None:
    """Delete a job and end its unfinished runs; its history stays."""
    kit.delete(name)


@operation("POST", "/jobs/{name}/pause", needs="operator")
def pause_job(kit: jobkit.Kit, name: JobName) -> shapes.Job:
    """Stop a schedule: its slots pass without a run."""
    return _shape(kit.pause(name))


@operation("POST", "/jobs/{name}/resume", needs="operator")
def resume_job(kit: jobkit.Kit, name: JobName, body: shapes.Resumed) -> shapes.Job:
    """Start a schedule again from now."""
    return _shape(kit.resume(name, catch_up=body.catch_up))


@operation("GET", "/jobs/{name}/next", needs="viewer")
def next_slots(kit: jobkit.Kit, name: JobName, query: shapes.SlotsAsked) -> shapes.Slots:
    """Return the next slots of a job, whether it is paused or not."""
    return shapes.Slots(items=kit.next_slots(name, query.count))


@operation("POST", "/jobs/{name}/pings", needs="operator", status=201)
def ping_job(kit: jobkit.Kit, name: JobName, body: shapes.Ping) -> shapes.Run:
    """Report how a job of the kind `external` goes, which runs elsewhere; returns its run."""
    moved = kit.ping(
        name, body.signal, exit_code=body.exit_code, message=body.message, run_id=body.run
    )
    return shapes.Run.model_validate(moved)


@operation("POST", "/jobs/{name}/runs", needs="operator", status=201)
def submit_run(kit: jobkit.Kit, name: JobName, body: shapes.Submitted) -> shapes.Run:
    """Run a job now, with these parameters over its own."""
    (made,) = kit.submit_many(name, [body.params])
    return shapes.Run.model_validate(kit.run(made))
