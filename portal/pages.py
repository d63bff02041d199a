"""How pages are rendered: one template serves the page and its live part."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from flask import Flask, make_response, redirect, render_template
from flask.typing import ResponseReturnValue
from htmx_flask import request
from markupsafe import Markup, escape

import jobkit
from jobkit import text
from jobkit.terminal import plain
from portal import live
from portal.origin import local

ICONS = {
    "PENDING": "○",
    "IN_PROGRESS": "▶",
    "COMPLETED": "✓",
    "FAILED": "✕",
    "TIMEOUT": "◷",
    "CANCELLED": "⊘",
    "SKIPPED": "↷",
    "MISSED": "∅",
    "SUCCESS": "✓",
    "FAILURE": "✕",
    "ERROR": "!",
    "LOST": "?",
    "RELEASED": "↩",
    "IDLE": "○",
    "BUSY": "▶",
    "DRAINING": "◔",
    "OFFLINE": "×",
    "FIRING": "!",
    "RESOLVED": "✓",
}
WORDS = {"IN_PROGRESS": "running"}
LATE = timedelta(seconds=30)
THEMES = ("light", "dark")
MOST_LINES = 4
LONGEST_LINE = 200
MOST_COUNTED = 200
"""How many rows `Kit.queue` gives at most."""


def layout() -> str:
    """Return the template to extend: the whole page, or only its live part for htmx."""
    return "live.html" if request.htmx else "base.html"


def page(template: str, *, poll: bool = True, **values: Any) -> str:
    """Render a page, or its live part when htmx asks; with `poll` it asks every 2 s."""
    return render_template(template, layout=layout(), poll=poll, **values)


def install(app: Flask, kit: jobkit.Kit) -> None:
    """Give the templates what they say things with."""

    def due(value: datetime) -> Markup:
        behind = kit.clock.now() - value
        return _time(value, "due", is_late=behind > LATE)

    def took(run: jobkit.Run) -> Markup:
        if run.is_running and run.claimed_at is not None:
            return _time(run.claimed_at, "since")
        return escape(text.duration(run.duration))

    def is_long(run: jobkit.Run | jobkit.Span) -> bool:
        began = run.claimed_at if isinstance(run, jobkit.Run) else run.start
        if run.status != "IN_PROGRESS" or began is None:
            return False
        return kit.clock.now() - began > kit.settings.job_timeout_threshold

    app.jinja_env.filters.update(
        ago=lambda value: _time(value, "ago"),
        due=due,
        took=took,
        instant=lambda value: _time(value, "at"),
        in_zone=_in_zone,
        hour=lambda value: _time(value, "hour"),
        duration=text.duration,
        size=text.size,
        state=state,
        word=word,
        mark=mark,
        json=lambda value: json.dumps(value, ensure_ascii=False),
        share=lambda value: f"{value:.0%}",
        number=number,
        plain=plain,
        first_line=lambda value: plain(value).strip().partition("\n")[0][:LONGEST_LINE],
        first_lines=first_lines,
        last_lines=last_lines,
    )
    app.jinja_env.tests["long"] = is_long
    app.jinja_env.globals["counts"] = lambda: _counts(kit)
    app.jinja_env.globals["have"] = live.have
    app.context_processor(lambda: {"theme": theme()})
    app.add_url_rule("/theme", "theme", _choose_theme, methods=["POST"])
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def theme() -> str:
    """Return the colours that this browser chose: light, dark, or nothing."""
    chosen: str = request.cookies.get("theme", "")
    return chosen if chosen in THEMES else ""


def _choose_theme() -> ResponseReturnValue:
    answer = make_response(redirect(local(request.form.get("next", "/")), 303))
    chosen = request.form.get("theme", "")
    if chosen in THEMES:
        answer.set_cookie("theme", chosen, samesite="Lax", max_age=365 * 86400)
    else:
        answer.delete_cookie("theme")
    return answer


def word(status: str) -> str:
    """Say a status."""
    return WORDS.get(status, status.lower())


def state(status: str) -> Markup:
    """Show a status as an icon, a word and a colour."""
    return Markup('<span class="state {}"><span aria-hidden="true">{}</span> {}</span>').format(
        status.lower(), ICONS.get(status, ""), word(status)
    )


def mark(run: jobkit.Run | jobkit.Span) -> Markup:
    """Show a run as one small mark of a strip, which leads to it."""
    run_id = run.id if isinstance(run, jobkit.Run) else run.run_id
    kind, words = _mark(run.status)
    said = f"run {run_id:d}: {words}"
    # A list of jobs has a thousand: no escaping of each. The parts are escaped, the rest is digits.
    return Markup(  # noqa: S704
        f'<a class="mark {kind}" href="/runs/{run_id}" title="{said}"><span>{said}</span></a>'
    )


@cache
def _mark(status: str) -> tuple[Markup, Markup]:
    """Return the class and the word of a status, escaped."""
    return escape(status.lower()), escape(word(status))


def number(value: float) -> str:
    """Say a number: `1,200,000`, `0.173`."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"


def first_lines(said: str) -> str:
    """Return the first lines of a longer text."""
    lines = _lines(said)
    more = "\n…" if len(lines) > MOST_LINES else ""
    return "\n".join(lines[:MOST_LINES]) + more


def last_lines(said: str) -> str:
    """Return the last lines of a longer text, where a traceback says what is wrong."""
    lines = _lines(said)
    more = "…\n" if len(lines) > MOST_LINES else ""
    return more + "\n".join(lines[-MOST_LINES:])


def _lines(said: str) -> list[str]:
    return [line[:LONGEST_LINE] for line in plain(said).strip("\n").splitlines()]


def _time(value: datetime | None, say: str, *, is_late: bool = False) -> Markup:
    """Write an instant as UTC; portal.js says it as `say` has it, in the viewer's zone."""
    if value is None:
        return escape("never" if say == "ago" else "")
    late = Markup(' class="late"') if is_late else ""
    utc = text.instant(value)
    return Markup('<time datetime="{}" title="{}" data-say="{}"{}>{}</time>').format(
        text.iso(value), utc, say, late, f"late: {utc}" if is_late else utc
    )


def _in_zone(value: datetime, zone: str) -> Markup:
    """Write an instant of a schedule, which is in its job's zone whoever looks."""
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        text.iso(value), text.instant(value), text.instant(value, zone)
    )


def _counts(kit: jobkit.Kit) -> dict[str, str] | None:
    """Count for the bar, which the page of a database that is away has too."""
    try:
        queue, workers, firing = kit.queue(), kit.workers(), kit.alerts.firing()
    except jobkit.DatabaseUnavailable:
        return None
    statuses = Counter(run.status for run in queue)
    more = "+" if len(queue) >= MOST_COUNTED else ""
    online = sum(worker.status != "OFFLINE" for worker in workers)
    return {
        "running": str(statuses["IN_PROGRESS"]),
        "waiting": f"{statuses['PENDING']}{more}",
        "workers": f"{online} worker{'' if online == 1 else 's'}",
        "alerts": f"{firing} alert{'' if firing == 1 else 's'}" if firing else "",
    }
