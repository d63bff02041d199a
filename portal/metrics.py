"""`/metrics`: for Prometheus, which shows a token as scripts do."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

from jobkit.metrics import CONTENT_TYPE

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def show() -> Response:
    """Show how things stand, and what happened so far."""
    return Response(current_app.config["METER"].exposition(), content_type=CONTENT_TYPE)
