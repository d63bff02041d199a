"""`/workers`: the workers."""

from __future__ import annotations

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue

import jobkit
from portal.pages import page

blueprint = Blueprint("workers", __name__)


@blueprint.get("/workers")
def index() -> str:
    """List the workers."""
    kit: jobkit.Kit = current_app.config["KIT"]
    return page("workers/list.html", workers=kit.workers())


@blueprint.post("/workers/<worker_id>/drain")
def drain(worker_id: str) -> ResponseReturnValue:
    """Ask a worker to finish its runs and end."""
    kit: jobkit.Kit = current_app.config["KIT"]
    kit.drain(worker_id)
    return redirect(url_for("workers.index"), 303)
