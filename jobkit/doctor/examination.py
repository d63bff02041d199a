"""The examination: every check, in the order in which one needs the other."""

from __future__ import annotations

from jobkit.clock import SystemClock
from jobkit.db import Database, copies
from jobkit.db.database import parse_url
from jobkit.doctor import contradictions, database, jobs, machine, programs
from jobkit.doctor.check import LIMIT_SECONDS, Patient, run
from jobkit.doctor.finding import PROBLEM, Examination, Finding
from jobkit.errors import JobkitError
from jobkit.settings import Settings

HERE = (*contradictions.CHECKS, *machine.CHECKS, *jobs.HERE, *database.BEFORE)
"""What needs no database."""
INSIDE = (*database.CHECKS, *programs.CHECKS, *jobs.CHECKS)
"""What needs one that answers and is of this program's schema."""


def examine(
    settings: Settings, opened: Database | None = None, *, limit: float = LIMIT_SECONDS
) -> Examination:
    """Look at an installation as this machine sees it, and change nothing.

    1. Look at the machine and the settings.
    2. Ask the database for an answer and its schema.
    3. Only then look into it, and at the other programs.

    The checks of a step run side by side and have `limit` seconds. Without `opened` the database of
    the settings is opened, if it is there.
    """
    patient = Patient(settings, SystemClock().now())
    findings = run(HERE, patient, limit=limit)
    name = parse_url(settings.db_url).render_as_string(hide_password=True)
    file = copies.file_of(parse_url(settings.db_url))
    if opened is None and file is not None and not file.exists():
        return Examination.of(name, findings)
    try:
        database_ = opened or Database(settings.db_url)
    except JobkitError as error:
        refused = Finding("database", PROBLEM, error.message, error.hint)
        return Examination.of(name, [*findings, refused])
    try:
        findings += _inside(Patient(settings, patient.now, database_), limit)
    finally:
        if opened is None:
            database_.close()
    return Examination.of(name, findings)


def _inside(patient: Patient, limit: float) -> list[Finding]:
    """Look into a database, as far as one step lets the next."""
    findings: list[Finding] = []
    for step in (database.ANSWERS, database.SCHEMA):
        findings += run(step, patient, limit=limit)
        if any(item.grade == PROBLEM or item.advice == database.UPGRADE for item in findings):
            return findings
    return findings + run(INSIDE, patient, limit=limit)
