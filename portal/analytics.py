"""`/analytics`: questions to the history, each with its chart, its numbers and how to ask again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Blueprint, abort, current_app
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
    if name not in QUESTIONS:
        abort(404)
    title, ask = QUESTIONS[name]
    kit, window = _kit(), _window()

    def answer() -> tuple[Any, Any]:
        log = kit.log(window)
        return log, ask(log, WINDOWS[window])

    log, report = current_app.config["ANSWERS"].get(
        ("analytics", window, name), lambda: kit.pulse.read(), answer
    )
    return page(
        "analytics/show.html",
        poll=False,
        name=name,
        title=title,
        report=report,
        chart=_drawn(report),
        rows=report.df.head(MOST_ROWS).rows(),
        hidden=max(0, report.df.height - MOST_ROWS),
        **_shown(window, log),
    )


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
