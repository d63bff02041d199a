"""`job-admin`: the same commands under names that people know."""

from __future__ import annotations

import typer

from jobkit.cli import options as o
from jobkit.cli import runs

app = typer.Typer(no_args_is_help=True, help="Look after workers and runs.")
app.command("list-workers", help="List the workers.")(runs.workers)
app.command("view-queue", help="Show what runs and what waits.")(runs.queue)


@app.command("reset-job")
def reset_job(run_id: o.RunId, as_json: o.AsJson = False) -> None:
    """Run again what the run ID ran: a run that is stuck is cancelled first."""
    runs.reset(run_id, as_json)
