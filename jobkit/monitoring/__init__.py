"""What ships for Prometheus and Grafana: rules and a dashboard over the metrics."""

from __future__ import annotations

from importlib.resources import files

RULES = "rules.yml"
DASHBOARD = "dashboard.json"


def text(name: str) -> str:
    """Return the text of `RULES` (for Prometheus) or of `DASHBOARD` (for Grafana)."""
    return files(__name__).joinpath(name).read_text("utf-8")
