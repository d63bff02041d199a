"""The routes of the API, and what happens to errors in them."""

from __future__ import annotations

import json

from flask import Blueprint, Response, request

import jobkit
from portal.api import jobs, runs, workers
from portal.api.document import document
from portal.api.operations import BASE, OPERATIONS
from portal.api.problems import problem

MODULES = (jobs, runs, workers)
"""Whose operations are declared by being imported."""

blueprint = Blueprint("api", __name__)

NEEDED = {f"api.{item.name}": item.needs for item in OPERATIONS.values()} | {
    "api.describe": "viewer"
}
"""Which role each endpoint needs."""


@blueprint.get(f"{BASE}/openapi.json")
def describe() -> Response:
    """Give the OpenAPI document."""
    return Response(json.dumps(document(OPERATIONS.values())), mimetype="application/json")


for _item in OPERATIONS.values():
    blueprint.add_url_rule(_item.rule, _item.name, _item, methods=[_item.method])


@blueprint.errorhandler(jobkit.JobkitError)
def explain(error: jobkit.JobkitError) -> Response:
    """Say what is wrong, and the next step."""
    code = 503
    if isinstance(error, jobkit.NotFound):
        code = 404
    elif isinstance(error, jobkit.Conflict):
        code = 409
    elif isinstance(error, jobkit.BadInput):
        code = 400 if request.method == "GET" else 422
    return problem(code, error.message, error.hint)
