"""The audit: every check of every law, in their order."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.engine import Connection

from jobkit.store import manifest
from jobkit.verify import (
    chunks,
    deeds,
    definitions,
    endings,
    leases,
    processes,
    reasons,
    results,
    slots,
    starts,
)
from jobkit.verify.inspection import Finding, Inspection, Scope

CHECKS = (
    *slots.CHECKS,
    *leases.CHECKS,
    *results.CHECKS,
    *endings.CHECKS,
    *chunks.CHECKS,
    *starts.CHECKS,
    *processes.CHECKS,
    *definitions.CHECKS,
    *deeds.CHECKS,
    *reasons.CHECKS,
)


def narrowed(connection: Connection, scope: Scope) -> Scope:
    """Leave out what the archive has: slots that may be there, and runs on their way."""
    archived = manifest.last_end(connection)
    if archived is None:
        return scope
    since = archived if scope.slots_since is None else max(scope.slots_since, archived)
    return replace(scope, slots_since=since, leaving=tuple(manifest.leaving(connection)))


def audit(connection: Connection, scope: Scope) -> list[Finding]:
    """Check every law; returns one finding for each check, in the order of the laws."""
    findings = []
    for check in CHECKS:
        inspection = Inspection(connection, scope)
        check.look(inspection)
        findings.append(
            Finding(
                check.law,
                check.rule,
                inspection.checked,
                inspection.broken,
                tuple(inspection.breaches),
            )
        )
    return findings
