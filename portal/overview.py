"""`/`: what happens now, and what went wrong lately."""

from __future__ import annotations

from datetime import datetime, timedelta

from flask import Blueprint, current_app, render_template

import jobkit
from portal.pages import page

blueprint = Blueprint("overview", __name__)
TROUBLE = ["FAILED", "TIMEOUT", "MISSED"]
MOST_SHOWN = 8
LATE = timedelta(minutes=1)


@blueprint.get("/")
def overview() -> str:
    """Show what happened in the last day, what runs, and what went wrong."""
    kit: jobkit.Kit = current_app.config["KIT"]
    queue, upcoming = kit.queue(), _upcoming(kit)
    stats = kit.stats("1d")
    return page(
        "overview/show.html",
        stats=stats,
        online=sum(n for word, n in stats.workers_by_status.items() if word != "OFFLINE"),
        queue=queue[: 2 * MOST_SHOWN],
        hidden=len(queue[2 * MOST_SHOWN :]),
        trouble=kit.runs(status=TROUBLE, since="7d", limit=MOST_SHOWN),
        upcoming=[job for _, job in upcoming[:MOST_SHOWN]],
        is_late=bool(upcoming) and kit.clock.now() - upcoming[0][0] > LATE,
    )


@blueprint.get("/counts")
def counts() -> str:
    """Show the counts of the bar."""
    return render_template("counts.html")


def _upcoming(kit: jobkit.Kit) -> list[tuple[datetime, jobkit.Job]]:
    due = [(job.next_run, job) for job in kit.jobs if job.next_run is not None]
    return sorted(due, key=lambda pair: (pair[0], pair[1].name))
