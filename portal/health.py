"""`/healthz`: for load balancers and monitors, without a name or a number of anybody's."""

from __future__ import annotations

from flask import Blueprint, current_app, jsonify
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> ResponseReturnValue:
    """Say whether a run that is due now would be made and executed; `?live`: only that we live."""
    if "live" in request.args:
        return jsonify(status="live")
    kit: jobkit.Kit = current_app.config["KIT"]
    try:
        health = kit.health()
    except jobkit.DatabaseUnavailable:
        return jsonify(status="unavailable", database="away"), 503
    parts = {
        "database": "ok",
        "scheduler": "ok" if health.has_scheduler else "away",
        "workers": "ok" if health.workers_online else "away",
    }
    if health.is_ready:
        return jsonify(status="ready", **parts)
    return jsonify(status="unavailable", **parts), 503
