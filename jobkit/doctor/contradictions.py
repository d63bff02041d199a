"""Settings that contradict each other, have no effect, or are probably misspelt."""

from __future__ import annotations

import difflib
import importlib.util
import ipaddress
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from jobkit.doctor.check import Check, Patient, check
from jobkit.doctor.finding import Finding
from jobkit.executors import kinds
from jobkit.settings import Settings, setting_names
from jobkit.text import duration

GIVEN = ("RUN_ID", "ATTEMPT", "SCHEDULED_FOR", "PARAMS", "WORKER_ID", "WORKER_PID", "ARTIFACTS")
"""What scripts are given under `JOBKIT_…`."""
OURS = tuple(f"JOBKIT_{name}" for name in (*GIVEN, "SECRETS", "KEEP_KERNEL", "CELL_TIMEOUT"))
LIKENESS = 0.8


@check("settings")
def settings(this: Check, patient: Patient) -> Iterator[Finding]:
    found = [*times(this, patient.settings), *places(this, patient.settings)]
    found += [*modules(this, patient.settings), *environment(this, patient.settings, os.environ)]
    yield from found
    if not found:
        yield this.ok("None contradicts another.")


def times(this: Check, chosen: Settings) -> Iterator[Finding]:
    """Tell durations that do not go together."""
    beat, offline = chosen.worker_heartbeat_interval, chosen.worker_offline_threshold
    if offline < 2 * beat:
        yield this.problem(
            f"WORKER_OFFLINE_THRESHOLD ({duration(offline)}) is less than two heartbeats "
            f"({duration(beat)} each): workers that live are shown as OFFLINE.",
            "Raise it to three heartbeats or more.",
        )
    if chosen.kill_grace >= chosen.lease / 4:
        yield this.problem(
            f"JOBKIT_KILL_GRACE_SECONDS ({duration(chosen.kill_grace)}) is not less than a quarter "
            f"of the lease ({duration(chosen.lease)}): a script that ignores TERM may still run "
            "when another worker starts it.",
            "Lower it, or raise JOBKIT_LEASE_SECONDS.",
        )
    if chosen.worker_poll_interval > chosen.worker_max_poll_interval:
        yield this.warning(
            f"WORKER_POLL_INTERVAL ({duration(chosen.worker_poll_interval)}) is longer than "
            f"WORKER_MAX_POLL_INTERVAL ({duration(chosen.worker_max_poll_interval)}).",
            "Lower the first or raise the second.",
        )
    if chosen.job_timeout_threshold > chosen.worker_job_timeout:
        yield this.warning(
            f"JOB_TIMEOUT_THRESHOLD ({duration(chosen.job_timeout_threshold)}) is longer than "
            f"WORKER_JOB_TIMEOUT ({duration(chosen.worker_job_timeout)}): no run of a job without "
            "a timeout of its own is ever shown as running long.",
            "Lower the first.",
        )


def places(this: Check, chosen: Settings) -> Iterator[Finding]:
    """Tell folders that must not be one, and an address that is open to all."""
    cache, spool = (_real(path) for path in (chosen.cache_dir, chosen.spool_dir))
    if spool == cache or spool.is_relative_to(cache):
        yield this.problem(
            f"JOBKIT_SPOOL_DIR ({spool}) lies in JOBKIT_CACHE_DIR, which anybody may delete at any "
            "time: results would be lost.",
            "Name a folder of its own.",
        )
    if not _is_loopback(chosen.host) and chosen.trusted_proxy is None:
        yield this.warning(
            f"The portal listens on {chosen.host} without a TLS proxy: passwords travel in the "
            "clear.",
            "Put a proxy before it and name it in JOBKIT_TRUSTED_PROXY.",
        )


def modules(this: Check, chosen: Settings) -> Iterator[Finding]:
    """Tell modules and kinds that are not there."""
    for name in chosen.preload:
        if importlib.util.find_spec(name.partition(".")[0]) is None:
            yield this.warning(
                f"JOBKIT_PRELOAD names {name}, which is not installed here.", f"pip install {name}"
            )
    for name in chosen.kinds:
        kinds.kind_of("", name, None)  # an unknown one raises, and says which there are


def environment(this: Check, chosen: Settings, variables: Mapping[str, str]) -> Iterator[Finding]:
    """Tell variables that set nothing: misspelt, of before, or hidden by another."""
    known = {*setting_names().values(), *OURS}
    for name in sorted(variables):
        if name in known or not name.startswith("JOBKIT_") or name.startswith("JOBKIT_SECRET_"):
            continue
        if near := difflib.get_close_matches(name, known, 1, LIKENESS):
            yield this.warning(f"{name} is no setting.", f"Did you mean {near[0]}?")
    both = [variables.get(name) for name in ("JOBKIT_DB_URL", "REFLEX_DB_URL")]
    if all(both) and both[0] != both[1]:
        yield this.warning(
            "JOBKIT_DB_URL and REFLEX_DB_URL name two databases; the first counts.",
            "Unset REFLEX_DB_URL, unless another program needs it.",
        )
    if chosen.dispatch_lock_duration is not None:
        yield this.warning(
            "DISPATCH_LOCK_DURATION does nothing: slots are unique in the database.", "Unset it."
        )


def _real(path: os.PathLike[str]) -> Path:
    return Path(path).expanduser().resolve()


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


CHECKS = (settings,)
