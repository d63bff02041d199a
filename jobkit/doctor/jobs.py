"""The jobs, as a worker of this machine would run them: their scripts, kinds and zones."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import socket
import zoneinfo
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy.engine import Row

from jobkit.doctor.check import Check, Patient, check
from jobkit.doctor.finding import Finding
from jobkit.errors import CannotStart
from jobkit.executors import kinds
from jobkit.executors.target import resolve, split_function
from jobkit.store import definitions, workers

TOLD = 20


@check("script roots")
def roots(this: Check, patient: Patient) -> Iterator[Finding]:
    wrong = False
    for root in patient.settings.script_roots:
        folder = root.expanduser().absolute()
        if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
            continue
        wrong = True
        what = "cannot be read by this user" if folder.is_dir() else "is no folder"
        yield this.problem(
            f"JOBKIT_SCRIPT_ROOTS names {folder}, which {what}.", "Correct it, or make the folder."
        )
    if not wrong:
        shown = ", ".join(str(root.absolute()) for root in patient.settings.script_roots)
        yield this.ok(f"{shown}.")


@check("scripts")
def scripts(this: Check, patient: Patient) -> Iterator[Finding]:
    listed, works_here = _active(patient)
    allowed = patient.settings.kinds or None
    folders = [root.expanduser().absolute() for root in patient.settings.script_roots]
    tell = this.problem if works_here else this.warning
    found = []
    for job in listed:
        try:
            kinds.kind_of(job.script_path, job.kind, allowed)
            if job.source is None:
                resolve(split_function(job.script_path)[0], folders)
        except CannotStart as error:
            found.append(tell(f"{job.name}: {error.message}", error.hint))
    yield from found[:TOLD]
    if len(found) > TOLD:
        yield tell(f"And so it is with {len(found) - TOLD} more jobs.", "See them: jobkit job list")
    if not found:
        yield this.ok(f"Those of all {len(listed)} active jobs are here.")


@check("notebooks")
def kernel(this: Check, patient: Patient) -> Iterator[Finding]:
    listed, works_here = _active(patient)
    missing = [name for name in ("ipykernel", "nbclient") if not importlib.util.find_spec(name)]
    named = [job for job in listed if _is_notebook(job)]
    if missing and named:
        tell = this.problem if works_here else this.warning
        yield tell(
            f"{' and '.join(missing)} not installed here, and {len(named)} jobs are notebooks.",
            "Run: pip install 'jobkit[notebook]'",
        )
    elif missing:
        yield this.ok("No job needs a kernel.")
    else:
        yield this.ok(f"ipykernel {importlib.metadata.version('ipykernel')} runs their cells.")


@check("zones of jobs")
def zones(this: Check, patient: Patient) -> Iterator[Finding]:
    listed, _ = _active(patient)
    wrong = False
    for name in sorted({job.timezone for job in listed}):
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            wrong = True
            used = ", ".join(job.name for job in listed if job.timezone == name)
            yield this.problem(
                f"This machine does not know the zone {name} ({used}): a scheduler here cannot "
                "compute their slots.",
                "Run: pip install --upgrade tzdata",
            )
    if not wrong:
        yield this.ok("This machine knows them all.")


def _active(patient: Patient) -> tuple[Sequence[Row[Any]], bool]:
    """Return the active jobs, and whether a worker of this machine is online."""
    with patient.opened.read() as connection:
        listed = [job for job in definitions.listed(connection) if job.is_active]
        online = [row for row in workers.listed(connection) if row.status in workers.ONLINE]
    return listed, any(row.hostname == socket.gethostname() for row in online)


def _is_notebook(job: Row[Any]) -> bool:
    if job.kind is not None:
        return bool(job.kind == "notebook")
    return str(job.script_path).lower().endswith(".ipynb")


CHECKS = (scripts, kernel, zones)
HERE = (roots,)
