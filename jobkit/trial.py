"""A job's script run here, once, as a worker would run it; nothing is written anywhere."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jobkit import frames
from jobkit.errors import CannotStart, JobFailed
from jobkit.executors.facts import Fact
from jobkit.executors.process import Child, Outcome
from jobkit.settings import Settings
from jobkit.store.claims import Claim
from jobkit.worker.workshop import Prepared, Workshop

WORKER = "trial"
LAST_CHARACTERS = 4096


def run(
    name: str, columns: Mapping[str, Any], params: Mapping[str, Any], settings: Settings
) -> Any:
    """Run what a definition's columns say with a worker's own checks; return its result.

    What it prints goes to stdout. JobFailed says how it ended otherwise, with what it printed;
    CannotStart what a worker with these settings would refuse.
    """
    now = datetime.now(UTC)
    claim = Claim(0, 0, 1, WORKER, now, None, now, None, dict(params))
    workshop = Workshop(settings, settings.db_url)
    try:
        with workshop.prepared(claim, {**columns, "isolation": "fresh"}) as prepared:
            told: list[Any] = []
            outcome, output = _execute(prepared, _timeout(columns, settings), settings, told)
            _check(name, outcome, output)
            return _result(prepared.artifacts, told)
    except CannotStart as error:
        raise JobFailed(
            f"The test of {name} could not start: {error}", run_id=0, status="ERROR"
        ) from None
    finally:
        workshop.close()


def _timeout(columns: Mapping[str, Any], settings: Settings) -> timedelta:
    seconds = columns.get("timeout_seconds")
    return settings.worker_job_timeout if seconds is None else timedelta(seconds=seconds)


def _execute(
    prepared: Prepared, timeout: timedelta, settings: Settings, told: list[Any]
) -> tuple[Outcome, str]:
    shown: list[str] = []

    def show(output: str, _stream: str) -> None:
        shown.append(output)
        sys.stdout.write(output)
        sys.stdout.flush()

    def learn(fact: Fact) -> None:
        if fact.kind == "result":
            told.append(fact.value)

    child = Child(
        prepared.command,
        timeout=timeout,
        grace=settings.kill_grace,
        lease_for=None,
        on_output=show,
        on_fact=learn,
        secrets=prepared.secrets,
    )
    try:
        outcome = child.wait()
    except KeyboardInterrupt:
        child.kill("cancel")
        child.wait()
        raise
    for chunk in outcome.rest:
        show(*chunk)
    return outcome, "".join(shown)


def _check(name: str, outcome: Outcome, output: str) -> None:
    if outcome.ended_by == "exit" and outcome.exit_code == 0:
        return
    how = {
        "timeout": "took longer than its timeout",
        "memory": "used more memory than it may",
        "error": f"could not start: {outcome.error}",
    }.get(outcome.ended_by, f"ended with exit code {outcome.exit_code}")
    if outcome.signal and outcome.ended_by == "exit":
        how = f"was killed by signal {outcome.signal}"
    status = "TIMEOUT" if outcome.ended_by == "timeout" else "FAILED"
    last = output[-LAST_CHARACTERS:]
    raise JobFailed(f"The test of {name} {how}.", run_id=0, status=status, output=last)


def _result(folder: Path, told: list[Any]) -> Any:
    """Return what the script told, or left: a DataFrame, or JSON too long for a line."""
    table, document = folder / "result.parquet", folder / "result.json"
    if table.is_file():
        return frames.read(table.name, lambda: table.open("rb"))
    if not told and document.is_file():
        return json.loads(document.read_text("utf-8", "surrogatepass"))
    return told[-1] if told else None
