"""The htmx that the build takes from django-htmx and puts beside this distribution."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

import jobkit

HTMX = "jobkit_vendor/htmx.min.js"


def htmx() -> Path:
    """Return where htmx lies; NotFound when this jobkit was not put here by a build."""
    path = Path(str(distribution("jobkit").locate_file(HTMX)))
    if not path.is_file():
        raise jobkit.NotFound(
            f"This installation of jobkit has no {HTMX}.",
            "Install it again: `uv sync --reinstall-package jobkit` or `pip install -e .`.",
        )
    return path
