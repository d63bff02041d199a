"""`/`: what happens now, and what went wrong lately."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import Blueprint, current_app, render_template

import jobkit
from portal.pages import page
from portal.timeline import Timeline, draw

blueprint = Blueprint("overview", __name__)
TROUBLE = ["FAILED", "TIMEOUT", "MISSED"]
MOST_SHOWN = 8
MOST_SPANS = 2000
LATE = timedelta(minutes=1)
DAY = timedelta(days=1)
QUARTER_SECONDS = 900


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/")
def overview() -> str:
    """Show what runs, what went wrong today, what comes next, and the last day of all jobs."""
    kit, now = _kit(), _kit().clock.now()
    queue, upcoming = kit.queue(), kit.board.upcoming(MOST_SHOWN)
    first = upcoming[0].next_run if upcoming else None
    return page(
        "overview/show.html",
        day=current_app.config["ANSWERS"].get(
            "day", lambda: kit.pulse.read(), lambda: kit.board.counts(kit.clock.now() - DAY)
        ),
        workers=[worker for worker in kit.workers() if worker.status != "OFFLINE"],
        busy=_busy(queue),
        queue=queue[: 2 * MOST_SHOWN],
        hidden=len(queue[2 * MOST_SHOWN :]),
        trouble=kit.runs(status=TROUBLE, since="7d", limit=MOST_SHOWN),
        upcoming=upcoming,
        is_late=first is not None and now - first > LATE,
        timeline=_timeline(kit, now),
    )


def _timeline(kit: jobkit.Kit, now: datetime) -> Timeline:
    """Draw the last day, up to the next full quarter: the drawing stays the same until then."""
    end = datetime.fromtimestamp(
        -(-now.timestamp() // QUARTER_SECONDS) * QUARTER_SECONDS, now.tzinfo
    )
    start = end - DAY
    spans = kit.board.spans(start, MOST_SPANS)
    return draw(spans, start, end, now, is_cut=len(spans) == MOST_SPANS)


def _busy(queue: list[jobkit.Run]) -> dict[str, list[jobkit.Run]]:
    """Return which runs each worker executes."""
    busy: dict[str, list[jobkit.Run]] = {}
    for run in queue:
        if run.is_running and run.worker_id is not None:
            busy.setdefault(run.worker_id, []).append(run)
    return busy


@blueprint.get("/counts")
def counts() -> str:
    """Show the counts of the bar."""
    return render_template("counts.html")
