"""`/analytics`: questions to the history, each with its chart, its numbers and how to ask again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Blueprint, abort
from htmx_flask import request
from markupsafe import Markup

import jobkit
from jobkit.text import parse_instant
from portal import history
from portal.pages import page
from portal.reports.questions import QUESTIONS

blueprint = Blueprint("analytics", __name__)

WINDOWS = {"1d": "1h", "7d": "3h", "30d": "1d", "90d": "1d"}
"""How far back -> how long a bucket is."""
NAMES = {"1d": "a day", "7d": "7 days", "30d": "30 days", "90d": "90 days"}


@blueprint.get("/analytics")
def index() -> str:
    """Show the chart of each question."""
    window = _window()
    found = history.ask("charts", window=window, every=WINDOWS[window])
    charts = [(name, QUESTIONS[name][0], drawn) for name, drawn in found["charts"].items()]
    return page(
        "analytics/index.html",
        poll=False,
        found=[(name, title, _markup(drawn)) for name, title, drawn in charts if drawn],
        others=[(name, title) for name, title, drawn in charts if not drawn],
        **_shown(window, found),
    )


@blueprint.get("/analytics/<name>")
def show(name: str) -> str:
    """Show one answer: its chart, its numbers, its SQL and the cell that gives it again."""
    if name not in QUESTIONS:
        abort(404)
    window = _window()
    report = history.ask("report", window=window, every=WINDOWS[window], name=name)
    return page(
        "analytics/show.html",
        poll=False,
        name=name,
        title=QUESTIONS[name][0],
        report=report,
        chart=report["chart"] and _markup(report["chart"]),
        **_shown(window, report),
    )


def _window() -> str:
    window: str = request.args.get("window") or "7d"
    if window not in WINDOWS:
        raise jobkit.BadInput(
            f"{window!r} is no window of this page.", f"Use one of {', '.join(WINDOWS)}."
        )
    return window


def _shown(window: str, found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "windows": NAMES,
        "chosen_window": window,
        "as_of": parse_instant(found["as_of"]),
        "missing": found["missing"],
    }


def _markup(chart: str) -> Markup:
    """Show a chart, which escapes what people typed."""
    return Markup(chart)  # noqa: S704
