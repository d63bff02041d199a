"""Operations on runs, and on what they printed and left."""

from __future__ import annotations

from flask import Response

import jobkit
from portal.api import shapes
from portal.api.operations import operation
from portal.api.shapes import AttemptNumber, FileName, RunId
from portal.artifacts import as_file


def _shape(run: jobkit.Run) -> shapes.Run:
    return shapes.Run.model_validate(run)


@operation("GET", "/runs", needs="viewer")
def list_runs(kit: jobkit.Kit, query: shapes.RunsAsked) -> shapes.Runs:
    """List runs, the newest first, a page at a time."""
    found, more = kit.runs.page(
        query.job, query.status, query.since, after=query.after, limit=query.limit
    )
    return shapes.Runs(items=[_shape(run) for run in found], next=more)


@operation("GET", "/runs/{run_id}", needs="viewer")
def show_run(kit: jobkit.Kit, run_id: RunId) -> shapes.Run:
    """Show one run."""
    return _shape(kit.run(run_id))


@operation("POST", "/runs/{run_id}/cancel", needs="operator")
def cancel_run(kit: jobkit.Kit, run_id: RunId) -> shapes.Run:
    """End a run that waits, or ask its worker to end it; 409 for one that has ended."""
    return _shape(kit.cancel(run_id))


@operation("POST", "/runs/{run_id}/retry", needs="operator", status=201)
def retry_run(kit: jobkit.Kit, run_id: RunId) -> shapes.Run:
    """Make a new run of what a finished run ran; 409 for one that has not ended."""
    return _shape(kit.retry(run_id))


@operation("GET", "/runs/{run_id}/attempts", needs="viewer")
def list_attempts(kit: jobkit.Kit, run_id: RunId) -> shapes.Attempts:
    """List the attempts of a run that have ended."""
    return shapes.Attempts.model_validate({"items": kit.attempts(run_id)})


@operation("GET", "/runs/{run_id}/output", needs="viewer")
def show_output(kit: jobkit.Kit, run_id: RunId, query: shapes.OutputAsked) -> shapes.Output:
    """Return what an attempt printed after a numbered chunk, so that it can be followed."""
    return shapes.Output.model_validate(kit.output(run_id, query.attempt, query.after))


@operation("GET", "/runs/{run_id}/artifacts", needs="viewer")
def list_artifacts(kit: jobkit.Kit, run_id: RunId) -> shapes.Artifacts:
    """List the files that a run's attempts left."""
    return shapes.Artifacts.model_validate({"items": kit.artifacts(run_id)})


@operation("GET", "/runs/{run_id}/artifacts/{attempt}/{name:path}", needs="viewer")
def download_artifact(
    kit: jobkit.Kit, run_id: RunId, attempt: AttemptNumber, name: FileName
) -> bytes:
    """Download a file that an attempt left."""
    answer: Response = as_file(kit.artifact(run_id, name, attempt))
    return answer  # type: ignore[return-value]
