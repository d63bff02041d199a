"""What is to run as a service on this machine: which programs, as whom, where, by what."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from jobkit.errors import BadInput
from jobkit.settings import Settings

SYSTEMS = {"linux": "systemd", "darwin": "launchd", "win32": "windows"}
"""What takes care of services, by the name of the platform."""
MOST_WORKERS = 100
STOP_MARGIN = timedelta(seconds=30)
"""What comes after the grace: the last results and the farewell, for as long as a database that
does not answer is waited for."""


@dataclass(frozen=True)
class Program:
    """One of jobkit's programs that stay."""

    name: str
    arguments: tuple[str, ...]
    about: str
    stops_within: timedelta
    """How long after it is asked to end it has ended; what is left may then be killed."""
    copies: int = 1
    runs_scripts: bool = False

    @property
    def stop_seconds(self) -> int:
        return -int(-self.stops_within.total_seconds() // 1)


@dataclass(frozen=True)
class Plan:
    """Which programs are to run, and how."""

    system: str
    """One of the values of `SYSTEMS`."""
    programs: tuple[Program, ...]
    is_of_machine: bool
    """Whether they start with the machine, not when a person signs in."""
    user: str | None
    """Who they run as; only where they start with the machine."""
    folder: Path
    """The folder that they run in, with the scripts and perhaps a `.env` or `jobkit.toml`."""
    python: Path
    home: Path
    settings: dict[str, str]
    """Settings that they are given, by their names in the environment."""


def make_plan(
    chosen: Settings,
    *,
    system: str | None = None,
    workers: int = 1,
    is_of_machine: bool = False,
    user: str | None = None,
    folder: Path | None = None,
    settings: dict[str, str] | None = None,
) -> Plan:
    """Plan scheduler, portal and `workers` workers; BadInput names what cannot be.

    `system`: by default what this machine has. `settings`: what the programs get besides what they
    find in `folder`.
    """
    system = system or SYSTEMS.get(sys.platform, sys.platform)
    if system not in SYSTEMS.values():
        raise BadInput(
            f"There are no services for {system}.",
            f"Choose one of {', '.join(SYSTEMS.values())}, or start the programs by hand.",
        )
    if not 0 <= workers <= MOST_WORKERS:
        raise BadInput(
            f"{workers} workers are not possible.", f"Give a number from 0 to {MOST_WORKERS}."
        )
    if user is not None and not is_of_machine:
        raise BadInput(f"Your own services cannot run as {user}.", "Give --system as well.")
    place = (folder or Path.cwd()).absolute()
    if not place.is_dir():
        raise BadInput(f"The folder {place} does not exist.", "Make it, or name another: --folder")
    return Plan(
        system,
        _programs(chosen, workers),
        is_of_machine,
        user,
        place,
        Path(sys.executable),
        Path.home(),
        dict(settings or {}),
    )


def _programs(chosen: Settings, workers: int) -> tuple[Program, ...]:
    patience = chosen.shutdown_grace + chosen.kill_grace + STOP_MARGIN
    worker = Program(
        "worker", ("worker",), "executes runs", patience, copies=workers, runs_scripts=True
    )
    return (
        Program("scheduler", ("scheduler",), "makes runs of due slots", STOP_MARGIN),
        Program("portal", ("portal",), "shows them in a browser", STOP_MARGIN),
        worker,
    )
