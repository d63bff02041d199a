"""Operations on workers, and counts."""

from __future__ import annotations

from flask import g

import jobkit
from portal.api import shapes
from portal.api.operations import operation
from portal.api.shapes import WorkerName


@operation("GET", "/workers", needs="viewer")
def list_workers(kit: jobkit.Kit) -> shapes.Workers:
    """List the workers, those online first."""
    return shapes.Workers.model_validate({"items": kit.workers()})


@operation("POST", "/workers/{name}/drain", needs="operator")
def drain_worker(kit: jobkit.Kit, name: WorkerName) -> shapes.Drained:
    """Ask workers, by name or identity, to finish their runs and end."""
    return shapes.Drained(asked=kit.drain(name))


@operation("GET", "/stats", needs="viewer")
def show_stats(kit: jobkit.Kit, query: shapes.StatsAsked) -> shapes.Stats:
    """Count runs, attempts and workers since an instant or an age."""
    return shapes.Stats.model_validate(kit.stats(query.since))


@operation("GET", "/me", needs="viewer")
def show_me(kit: jobkit.Kit) -> shapes.Me:
    """Say who the token is, and what it may."""
    return shapes.Me(name=g.who.name, role=g.role)
