"""The Flask application: one blueprint per noun, one way in, one place for errors."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask
from flask.typing import ResponseReturnValue
from htmx_flask import Htmx

import jobkit
from portal import (
    access,
    account,
    alerts,
    analytics,
    answers,
    artifacts,
    assets,
    audit,
    coverage,
    definitions,
    health,
    jobs,
    live,
    metrics,
    output,
    overview,
    packing,
    pages,
    permissions,
    provider,
    runs,
    sso,
    users,
    workers,
)
from portal.api import routes as api
from portal.api.problems import is_api, problem
from portal.pages import page
from portal.reports.questions import Desk, Reports
from portal.reports.reporter import ReportsUnavailable

WAYS_OUT = {
    400: ("Not like that", "The request is not as it should be.", "Go back, and try again."),
    404: ("Not here", "There is no such page.", "The bar above leads to all there are."),
    405: ("Not like that", "This page does not do that.", "Go back, and use the buttons."),
    413: ("Too much", "That is more than the portal takes at once.", "Send less."),
    415: ("Not like that", "That is no form.", "Use the buttons."),
    500: ("Something broke", "The portal's log says what.", "Go back and try again."),
}


NOUNS = (
    overview,
    definitions,
    jobs,
    runs,
    output,
    coverage,
    analytics,
    artifacts,
    workers,
    alerts,
    account,
    sso,
    users,
    audit,
    health,
    metrics,
    api,
)
MOST_BYTES = 4 << 20
"""Of a request: a script of 1 MB, as JSON has it."""


def create_app(
    kit: jobkit.Kit,
    *,
    token: str | None,
    host: str = "127.0.0.1",
    trusted_hosts: Sequence[str] = (),
    reports: Reports | None = None,
) -> Flask:
    """Make the portal of a kit; without a token or a session nothing works.

    `token` opens it as this machine's own; None: the kit's users sign in. `host` is the address it
    listens on, `trusted_hosts` are further names it answers to.
    `reports`: who reads the history for it, like a `Reporter`; None: it does that itself, which
    takes hundreds of megabytes.
    """
    app = Flask(__name__, static_folder=None)
    app.config.update(MAX_CONTENT_LENGTH=MOST_BYTES)
    Htmx(app)
    packing.install(app)
    assets.install(app)
    pages.install(app, kit)
    needed = permissions.NEEDED | api.NEEDED
    access.install(app, kit, token=token, host=host, trusted_hosts=trusted_hosts, needed=needed)
    live.install(app, kit)
    app.config["ANSWERS"] = answers.Answers()
    app.config["REPORTS"] = reports or Desk(lambda: kit)
    app.config["METER"] = kit.meter()
    app.config["PROVIDER"] = provider.Provider(kit.settings) if kit.settings.oidc_issuer else None
    for noun in NOUNS:
        app.register_blueprint(noun.blueprint)
    app.register_error_handler(jobkit.NotFound, lambda error: _sorry(404, "Not here", error))
    app.register_error_handler(jobkit.BadInput, lambda error: _sorry(400, "Not like that", error))
    app.register_error_handler(
        jobkit.DatabaseUnavailable, lambda error: _sorry(503, "The database is away", error)
    )
    app.register_error_handler(
        ReportsUnavailable, lambda error: _sorry(503, "The reports are away", error)
    )
    app.register_error_handler(
        jobkit.ArtifactsUnavailable, lambda error: _sorry(503, "The artifacts are away", error)
    )
    for code in WAYS_OUT:
        app.register_error_handler(code, lambda error: _lost(error.code))
    permissions.check(app, needed)
    return app


def _sorry(code: int, title: str, error: jobkit.JobkitError) -> ResponseReturnValue:
    if is_api():
        return problem(code, error.message, error.hint)
    return page("error.html", poll=False, title=title, message=error.message, hint=error.hint), code


def _lost(code: int) -> ResponseReturnValue:
    title, message, hint = WAYS_OUT[code]
    if is_api():
        return problem(code, message, "See /api/v1/openapi.json.")
    return page("error.html", poll=False, title=title, message=message, hint=hint), code
