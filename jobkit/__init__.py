"""jobkit: a notebook-friendly job scheduler for data teams."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobkit.accounts import Principal
    from jobkit.capture import CannotTravel
    from jobkit.decorated import Definition, job
    from jobkit.errors import (
        ArtifactsUnavailable,
        BadInput,
        Conflict,
        DatabaseUnavailable,
        JobFailed,
        JobkitError,
        NotFound,
        Refused,
    )
    from jobkit.handles import Artifact, Attempt, Job, Run, Worker
    from jobkit.kit import Kit, connect, describe, preview
    from jobkit.listings import Search, Span
    from jobkit.stopping import StopRun, stop
    from jobkit.waiting import as_completed, gather

    __version__: str

# Loaded where they are first used: `import jobkit` costs next to nothing.
_HOMES = {
    "job": "decorated",
    "Definition": "decorated",
    "CannotTravel": "capture",
    "connect": "kit",
    "preview": "kit",
    "describe": "kit",
    "Kit": "kit",
    "Job": "handles",
    "StopRun": "stopping",
    "stop": "stopping",
    "Run": "handles",
    "Search": "listings",
    "Span": "listings",
    "Artifact": "handles",
    "Attempt": "handles",
    "Worker": "handles",
    "gather": "waiting",
    "as_completed": "waiting",
    "ArtifactsUnavailable": "errors",
    "Principal": "accounts",
    "Conflict": "errors",
    "Refused": "errors",
    "JobkitError": "errors",
    "JobFailed": "errors",
    "BadInput": "errors",
    "NotFound": "errors",
    "DatabaseUnavailable": "errors",
}
__all__ = [
    "Artifact",
    "ArtifactsUnavailable",
    "Attempt",
    "BadInput",
    "CannotTravel",
    "Conflict",
    "DatabaseUnavailable",
    "Definition",
    "Job",
    "JobFailed",
    "JobkitError",
    "Kit",
    "NotFound",
    "Principal",
    "Refused",
    "Run",
    "Search",
    "Span",
    "StopRun",
    "Worker",
    "as_completed",
    "connect",
    "describe",
    "gather",
    "job",
    "preview",
    "stop",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("jobkit")
    if name not in _HOMES:
        raise AttributeError(f"module 'jobkit' has no attribute {name!r}")
    return getattr(import_module(f"jobkit.{_HOMES[name]}"), name)


def load_ipython_extension(shell: Any) -> None:
    """Give a notebook the magics: `%load_ext jobkit`."""
    for name in ("magics", "attach_magics"):
        import_module(f"jobkit.{name}").load(shell)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
