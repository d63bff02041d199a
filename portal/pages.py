"""How pages are rendered: one template serves the page and its live part."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import datetime
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
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


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

    app.jinja_env.filters.update(
        ago=ago,
        instant=lambda value, zone="UTC": _time(value, text.instant(value, zone)),
        duration=text.duration,
        size=text.size,
        state=state,
        mark=mark,
        json=lambda value: json.dumps(value, ensure_ascii=False),
    )
    app.jinja_env.globals["bar"] = lambda: _bar(kit)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True


def state(word: str) -> Markup:
    """Show a status as an icon, a word and a colour."""
    said = WORDS.get(word, word.lower())
    return Markup('<span class="state {}"><span aria-hidden="true">{}</span> {}</span>').format(
        word.lower(), ICONS.get(word, ""), said
    )


def mark(run: jobkit.Run) -> Markup:
    """Show a run as one small mark of a strip, which leads to it."""
    said = f"run {run.id}: {WORDS.get(run.status, run.status.lower())}"
    return Markup('<a class="mark {}" href="/runs/{}" title="{}"><span>{}</span></a>').format(
        run.status.lower(), run.id, said, said
    )


def plain(output: str) -> str:
    """Take the colours and cursor movements of terminals out of output."""
    return _ANSI.sub("", output)


def _time(value: datetime | None, said: str) -> Markup:
    if value is None:
        return escape(said)
    exact = text.iso(value)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(exact, exact, said)


def _bar(kit: jobkit.Kit) -> dict[str, int]:
    running = Counter(run.status for run in kit.queue())
    online = sum(worker.status != "OFFLINE" for worker in kit.workers())
    return {"running": running["IN_PROGRESS"], "pending": running["PENDING"], "workers": online}
