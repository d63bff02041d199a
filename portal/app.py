"""The Flask application: one blueprint per noun, one way in, one place for errors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import distribution
from pathlib import Path

from flask import Flask, Response, send_file
from htmx_flask import Htmx

import jobkit
from portal import (
    access,
    analytics,
    artifacts,
    coverage,
    jobs,
    live,
    output,
    overview,
    pages,
    runs,
    workers,
)
from portal.pages import page

WAYS_OUT = {
    404: ("Not here", "There is no such page.", "The bar above leads to all there are."),
    405: ("Not like that", "This page does not do that.", "Go back, and use the buttons."),
    500: ("Something broke", "The portal's log says what.", "Go back and try again."),
}


def create_app(
    kit: jobkit.Kit, *, token: str, host: str = "127.0.0.1", trusted_hosts: Sequence[str] = ()
) -> Flask:
    """Make the portal of a kit; `token` opens it, and nothing works without it.

    `host` is the address it listens on, `trusted_hosts` are further names it answers to.
    """
    app = Flask(__name__)
    app.config.update(KIT=kit, MAX_CONTENT_LENGTH=1 << 20)
    Htmx(app)
    pages.install(app, kit)
    access.install(app, token=token, host=host, trusted_hosts=trusted_hosts)
    live.install(app, kit)
    for noun in (overview, jobs, runs, output, coverage, analytics, artifacts, workers):
        app.register_blueprint(noun.blueprint)
    app.add_url_rule("/static/htmx.min.js", "htmx", _htmx)
    app.register_error_handler(jobkit.NotFound, lambda error: _sorry(404, "Not here", error))
    app.register_error_handler(jobkit.BadInput, lambda error: _sorry(400, "Not like that", error))
    app.register_error_handler(
        jobkit.DatabaseUnavailable, lambda error: _sorry(503, "The database is away", error)
    )
    app.register_error_handler(
        jobkit.ArtifactsUnavailable, lambda error: _sorry(503, "The artifacts are away", error)
    )
    for code in WAYS_OUT:
        app.register_error_handler(code, lambda error: _lost(error.code))
    return app


def _sorry(code: int, title: str, error: jobkit.JobkitError) -> tuple[str, int]:
    return page("error.html", poll=False, title=title, message=error.message, hint=error.hint), code


def _lost(code: int) -> tuple[str, int]:
    title, message, hint = WAYS_OUT[code]
    return page("error.html", poll=False, title=title, message=message, hint=hint), code


def _htmx() -> Response:
    """Serve the htmx that the build put beside this distribution."""
    path = Path(str(distribution("jobkit").locate_file("jobkit_vendor/htmx.min.js")))
    return send_file(path, mimetype="text/javascript", max_age=86400)
