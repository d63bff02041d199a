"""What a token that is for some jobs only may touch: their addresses, and those of their runs."""

from __future__ import annotations

from contextlib import suppress

from flask import request

import jobkit
from portal.api.operations import BASE

FOR_ALL = ("api.show_me", "api.describe")
"""They name no job, and tell a token about itself and the API."""


def covers(kit: jobkit.Kit, who: jobkit.Principal) -> bool:
    """Whether what is asked for is of a job that somebody may touch; lists are of all jobs."""
    if who.jobs is None or request.endpoint in FOR_ALL:
        return True
    job = _job(kit)
    return job is not None and who.covers(job)


def _job(kit: jobkit.Kit) -> str | None:
    """Return which job the request is about, if about one that is there."""
    places = request.view_args or {}
    if "run_id" in places:
        with suppress(jobkit.NotFound, ValueError):
            return kit.run(int(places["run_id"])).job_name
        return None
    is_of_job = request.path.startswith(f"{BASE}/jobs/")
    return places.get("name") if is_of_job else None
