"""`/workers`: the workers, and the queues that they serve."""

from __future__ import annotations

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue

import jobkit
from portal.pages import page

blueprint = Blueprint("workers", __name__)

MOST_OFFLINE = 50


@blueprint.get("/workers")
def index() -> str:
    """List the workers with what they hold, and the queues with what waits in them."""
    kit: jobkit.Kit = current_app.config["KIT"]
    listed = kit.workers()
    return page(
        "workers/list.html",
        online=[worker for worker in listed if worker.status != "OFFLINE"],
        offline=[worker for worker in listed if worker.status == "OFFLINE"][:MOST_OFFLINE],
        held=kit.workers.held(),
        queues=kit.workers.queues(),
        silent_before=kit.clock.now() - kit.settings.worker_offline_threshold,
    )


@blueprint.post("/workers/<worker_id>/drain")
def drain(worker_id: str) -> ResponseReturnValue:
    """Ask a worker to finish its runs and end."""
    kit: jobkit.Kit = current_app.config["KIT"]
    kit.drain(worker_id)
    return redirect(url_for("workers.index"), 303)
