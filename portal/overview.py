"""`/` and `/healthz`."""

from __future__ import annotations

from flask import Blueprint, current_app, jsonify
from flask.typing import ResponseReturnValue

import jobkit
from portal.pages import page

blueprint = Blueprint("overview", __name__)
TROUBLE = ["FAILED", "TIMEOUT", "MISSED"]


@blueprint.get("/")
def overview() -> str:
    """Show what happened in the last day, what runs, and what went wrong."""
    kit: jobkit.Kit = current_app.config["KIT"]
    return page(
        "overview/show.html",
        stats=kit.stats("1d"),
        queue=kit.queue(),
        trouble=kit.runs(status=TROUBLE, since="7d", limit=8),
        upcoming=sorted(
            (job for job in kit.jobs if job.next_run), key=lambda job: (job.next_run, job.name)
        )[:8],
    )


@blueprint.get("/healthz", endpoint="healthz")
def health() -> ResponseReturnValue:
    """Say whether the database answers."""
    kit: jobkit.Kit = current_app.config["KIT"]
    try:
        kit.check()
    except jobkit.JobkitError as error:
        return jsonify(status="unavailable", message=error.message), 503
    return jsonify(status="ok")
