"""`/analytics`: questions to the history, each with its chart, its numbers and how to ask again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, abort
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
NOTEBOOK = "application/x-ipynb+json"
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
    window = _window()
    report = _report(name, window)
    return page(
        "analytics/show.html",
        poll=False,
        name=name,
        title=QUESTIONS[name][0],
        report=report,
        chart=report["chart"] and _markup(report["chart"]),
        **_shown(window, report),
    )


@blueprint.get("/analytics/<name>/notebook")
def notebook(name: str) -> Response:
    """Give a notebook whose cell asks the same question again."""
    report = _report(name, _window())
    headers = {"Content-Disposition": f"attachment; filename={name}.ipynb"}
    document = _notebook(QUESTIONS[name][0], report["cell"])
    return Response(json.dumps(document, indent=1), mimetype=NOTEBOOK, headers=headers)


def _notebook(title: str, source: str) -> dict[str, Any]:
    """Return a notebook of one cell below a title (nbformat 4.5)."""
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}
        },
        "cells": [
            {"cell_type": "markdown", "id": "title", "metadata": {}, "source": f"# {title}"},
            {
                "cell_type": "code",
                "id": "question",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            },
        ],
    }


def _report(name: str, window: str) -> Mapping[str, Any]:
    """Return what is known of a question, or ask; aborts for one that is not there."""
    if name not in QUESTIONS:
        abort(404)
    found: Mapping[str, Any] = history.ask(
        "report", window=window, every=WINDOWS[window], name=name
    )
    return found


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
