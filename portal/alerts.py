"""`/alerts`: what fires, who looks after it, and what is muted."""

from __future__ import annotations

from contextlib import suppress

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from portal.pages import page

blueprint = Blueprint("alerts", __name__)

MOST_FIRING = 200
MOST_OVER = 50
MOST_TOLD = 30
MUTES = {"1h": "an hour", "4h": "4 hours", "12h": "12 hours", "1d": "a day", "7d": "a week"}


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/alerts")
def index() -> str:
    """List what fires, what is muted, and what was over lately."""
    alerts = _kit().alerts
    return page(
        "alerts/list.html",
        firing=alerts(limit=MOST_FIRING),
        over=alerts(is_open=False, limit=MOST_OVER),
        count=len(alerts),
        mutes=alerts.mutes(),
        lengths=MUTES,
        has_scheduler=alerts.has_scheduler(),
        notices=_kit().notices(limit=MOST_TOLD),
        channels=_kit().notices.channels(),
    )


@blueprint.post("/alerts/<int:alert_id>/ack")
def ack(alert_id: int) -> ResponseReturnValue:
    """Say that somebody looks after an alert."""
    with suppress(jobkit.Conflict):  # it was over meanwhile: the list says so
        _kit().alerts.ack(alert_id)
    return redirect(url_for("alerts.index"), 303)


@blueprint.post("/alerts/mutes")
def mute() -> ResponseReturnValue:
    """Tell nothing of a job, or of anything, for so long."""
    _kit().alerts.mute(request.form.get("until", "").strip(), job=_job())
    return redirect(url_for("alerts.index"), 303)


@blueprint.post("/alerts/mutes/end")
def unmute() -> ResponseReturnValue:
    """Tell again."""
    with suppress(jobkit.NotFound):  # its time was over meanwhile
        _kit().alerts.unmute(job=_job())
    return redirect(url_for("alerts.index"), 303)


def _job() -> str | None:
    return request.form.get("job", "").strip() or None
