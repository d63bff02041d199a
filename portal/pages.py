"""How pages are rendered: one template serves the page and its live part."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from flask import Flask, render_template
from htmx_flask import request
from markupsafe import Markup, escape

import jobkit
from jobkit import text

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
}
WORDS = {"IN_PROGRESS": "running"}
LATE = timedelta(seconds=30)
MOST_LINES = 4
LONGEST_LINE = 200
MOST_COUNTED = 200
"""How many rows `Kit.queue` gives at most."""

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_]|\[?[0-?]*$)"
)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def layout() -> str:
    """Return the template to extend: the whole page, or only its live part for htmx."""
    return "live.html" if request.htmx else "base.html"


def page(template: str, *, poll: bool = True, **values: Any) -> str:
    """Render a page, or its live part when htmx asks; with `poll` it asks every 2 s."""
    return render_template(template, layout=layout(), poll=poll, **values)


def install(app: Flask, kit: jobkit.Kit) -> None:
    """Give the templates what they say things with."""

    def ago(value: datetime | None) -> Markup:
        return _time(value, text.age(value, kit.clock.now()))

    def due(value: datetime) -> Markup:
        behind = kit.clock.now() - value
        if behind < timedelta(0):
            return ago(value)
        said = "due now" if behind < LATE else f"late by {text.duration(behind)}"
        return _time(value, said)

    def elapsed(run: jobkit.Run) -> timedelta | None:
        if run.is_running and run.claimed_at is not None:
            return max(kit.clock.now() - run.claimed_at, timedelta(0))
        return run.duration

    def is_long(run: jobkit.Run) -> bool:
        return run.is_running and (elapsed(run) or LATE) > kit.settings.job_timeout_threshold

    app.jinja_env.filters.update(
        ago=ago,
        due=due,
        elapsed=elapsed,
        instant=lambda value, zone="UTC": _time(value, text.instant(value, zone)),
        duration=text.duration,
        size=text.size,
        figure=figure,
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
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def word(status: str) -> str:
    """Say a status."""
    return WORDS.get(status, status.lower())


def state(status: str) -> Markup:
    """Show a status as an icon, a word and a colour."""
    return Markup('<span class="state {}"><span aria-hidden="true">{}</span> {}</span>').format(
        status.lower(), ICONS.get(status, ""), word(status)
    )


def mark(run: jobkit.Run) -> Markup:
    """Show a run as one small mark of a strip, which leads to it."""
    said = f"run {run.id}: {word(run.status)}"
    return Markup('<a class="mark {}" href="/runs/{}" title="{}"><span>{}</span></a>').format(
        run.status.lower(), run.id, said, said
    )


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


def plain(output: str) -> str:
    """Take out of output what only a terminal understands: colours, cursor movements, bells."""
    return _CONTROLS.sub("", _ANSI.sub("", output))


def figure(value: object) -> str:
    """Write a value of a report: instants to the minute, numbers as people read them."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return text.clean(str(value))[:LONGEST_LINE]


def _time(value: datetime | None, said: str) -> Markup:
    if value is None:
        return escape(said)
    exact = text.iso(value)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, said)


def _counts(kit: jobkit.Kit) -> dict[str, str] | None:
    """Count for the bar, which the page of a database that is away has too."""
    try:
        queue, workers = kit.queue(), kit.workers()
    except jobkit.DatabaseUnavailable:
        return None
    statuses = Counter(run.status for run in queue)
    more = "+" if len(queue) >= MOST_COUNTED else ""
    online = sum(worker.status != "OFFLINE" for worker in workers)
    return {
        "running": str(statuses["IN_PROGRESS"]),
        "waiting": f"{statuses['PENDING']}{more}",
        "workers": f"{online} worker{'' if online == 1 else 's'}",
    }
