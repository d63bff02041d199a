"""`/analytics`: questions to the history, each with its chart, its numbers and how to ask again."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, abort, current_app
from htmx_flask import request
from markupsafe import Markup

import jobkit
from portal.pages import page

blueprint = Blueprint("analytics", __name__)

WINDOWS = {"1d": "1h", "7d": "3h", "30d": "1d", "90d": "1d"}
"""How far back -> how long a bucket is."""
NAMES = {"1d": "a day", "7d": "7 days", "30d": "30 days", "90d": "90 days"}
QUESTIONS: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "throughput": ("Runs that ended", lambda log, every: log.throughput(every)),
    "failures": ("Failures", lambda log, every: log.failures()),
    "durations": ("How long attempts take", lambda log, every: log.durations()),
    "queue-wait": ("How long runs wait", lambda log, every: log.queue_wait(every=every)),
    "utilisation": ("How busy workers are", lambda log, every: log.utilisation(every)),
    "concurrency": ("Attempts at once", lambda log, every: log.concurrency(every)),
    "late": ("Late and missed slots", lambda log, every: log.late()),
    "retries": ("Retries", lambda log, every: log.retries()),
    "slowest": ("Slowest attempts", lambda log, every: log.slowest()),
    "flakiest": ("Flakiest jobs", lambda log, every: log.flakiest()),
}
MOST_ROWS = 100
NOTEBOOK = "application/x-ipynb+json"


@blueprint.get("/analytics")
def index() -> str:
    """Show the chart of each question."""
    kit, window = _kit(), _window()
    log, found = current_app.config["ANSWERS"].get(
        ("analytics", window), lambda: kit.pulse.read(), lambda: _answered(kit, window)
    )
    return page(
        "analytics/index.html",
        poll=False,
        found=[item for item in found if item[2]],
        others=[(name, title) for name, title, chart in found if not chart],
        **_shown(window, log),
    )


@blueprint.get("/analytics/<name>")
def show(name: str) -> str:
    """Show one answer: its chart, its numbers, its SQL and the cell that gives it again."""
    window = _window()
    log, report = _answer(name, window)
    return page(
        "analytics/show.html",
        poll=False,
        name=name,
        title=QUESTIONS[name][0],
        report=report,
        chart=_drawn(report),
        rows=report.df.head(MOST_ROWS).rows(),
        hidden=max(0, report.df.height - MOST_ROWS),
        **_shown(window, log),
    )


@blueprint.get("/analytics/<name>/notebook")
def notebook(name: str) -> Response:
    """Give a notebook whose cell asks the same question again."""
    _, report = _answer(name, _window())
    headers = {"Content-Disposition": f"attachment; filename={name}.ipynb"}
    document = _notebook(QUESTIONS[name][0], report.cell)
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


def _answer(name: str, window: str) -> tuple[Any, Any]:
    """Return what is known of a question, or ask; aborts for one that is not there."""
    if name not in QUESTIONS:
        abort(404)
    kit, ask = _kit(), QUESTIONS[name][1]

    def answer() -> tuple[Any, Any]:
        log = kit.log(window)
        return log, ask(log, WINDOWS[window])

    found: tuple[Any, Any] = current_app.config["ANSWERS"].get(
        ("analytics", window, name), lambda: kit.pulse.read(), answer
    )
    return found


def _answered(kit: jobkit.Kit, window: str) -> tuple[Any, list[tuple[str, str, Markup | None]]]:
    """Ask every question of one look at the history."""
    log = kit.log(window)
    return log, [
        (name, title, _drawn(ask(log, WINDOWS[window]))) for name, (title, ask) in QUESTIONS.items()
    ]


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


def _window() -> str:
    window: str = request.args.get("window") or "7d"
    if window not in WINDOWS:
        raise jobkit.BadInput(
            f"{window!r} is no window of this page.", f"Use one of {', '.join(WINDOWS)}."
        )
    return window


def _shown(window: str, log: Any) -> dict[str, Any]:
    return {
        "windows": NAMES,
        "chosen_window": window,
        "as_of": log.as_of,
        "missing": log.missing,
    }


def _drawn(report: Any) -> Markup | None:
    """Return a report's chart, which escapes what people typed; None where all is nought."""
    chart = report.chart if report.draw is not None and report.df.height else None
    if chart is None or not any(value for row in chart.rows for value in row[1:]):
        return None
    return Markup(chart.unstyled)  # noqa: S704
