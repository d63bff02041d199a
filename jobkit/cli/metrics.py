"""`jobkit metrics`: what Prometheus and Grafana are given."""

from __future__ import annotations

import typer

from jobkit import monitoring

app = typer.Typer(no_args_is_help=True, help="What Prometheus and Grafana are given.")


@app.command()
def rules() -> None:
    """Print rules for Prometheus: what is recorded, and when it alerts."""
    typer.echo(monitoring.text(monitoring.RULES), nl=False)


@app.command()
def dashboard() -> None:
    """Print a dashboard for Grafana, to be imported there."""
    typer.echo(monitoring.text(monitoring.DASHBOARD), nl=False)
