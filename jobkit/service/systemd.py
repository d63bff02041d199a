"""systemd: a unit for each program, a template for the workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from jobkit.service.commands import Command
from jobkit.service.environment import file_of
from jobkit.service.files import File
from jobkit.service.plan import Plan, Program

RESTART_SECONDS = 5
RUNS = Path("/run/systemd/system")
WORKER = "job-worker@"

# What holds for all: also a script gains no rights by running a program that has them.
_ALL = ("NoNewPrivileges=yes", "LockPersonality=yes", "RestrictRealtime=yes")
# Scheduler and portal run no scripts, and so need little of a system.
_NARROW = (
    "RestrictSUIDSGID=yes",
    "RestrictNamespaces=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "SystemCallArchitectures=native",
    "UMask=0077",
)
# A worker's scripts are people's own: they may have the home folders, /tmp and the devices. When
# the kernel ends one for its memory, the worker is there to say so.
_WORKER = ("OOMPolicy=continue", "TasksMax=4096")
# Only the manager of the machine can give these.
_MACHINE = (
    "ProtectSystem=full",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
)
_MACHINE_NARROW = (
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectProc=invisible",
    "CapabilityBoundingSet=",
)


def files(plan: Plan) -> list[File]:
    """Return the file of settings, and the units."""
    settings = file_of(_configuration(plan) / "service.env", plan.settings)
    folder = _units(plan)
    units = [
        File(folder / _name(program, ""), "\n".join(_unit(plan, program, settings.path)) + "\n")
        for program in plan.programs
        if program.copies
    ]
    return [settings, *units]


def start(plan: Plan, found: list[File]) -> list[Command]:
    """Return what starts the programs, now and from now on, by their new files."""
    call = _call(plan)
    wanted = _wanted(plan, found)
    surplus = sorted(_enabled(plan) - set(wanted))
    return [
        Command((*call, "daemon-reload")),
        *([Command((*call, "disable", "--now", *surplus))] if surplus else []),
        Command((*call, "enable", *wanted)),
        Command((*call, "restart", *wanted)),
    ]


def stop(plan: Plan, found: list[File]) -> list[Command]:
    """Return what ends the programs of these files, for good."""
    names = _programs(plan, found)
    return [Command((*_call(plan), "disable", "--now", *names))] if names else []


def settle(plan: Plan) -> list[Command]:
    """Return what is to be done when the files are gone."""
    return [Command((*_call(plan), "daemon-reload"))]


def ask(plan: Plan, found: list[File]) -> dict[str, Command]:
    """Return what asks whether each program of these files runs, by its name."""
    return {
        it: Command((*_call(plan), "is-active", "--quiet", it)) for it in _programs(plan, found)
    }


def is_here() -> bool:
    """Whether systemd takes care of this machine, which in a container it seldom does."""
    return RUNS.is_dir()


def advice(plan: Plan) -> str:
    """Say what a person should know who has just installed them."""
    if plan.is_of_machine:
        return f"Logs: journalctl -u 'jobkit-*' -u '{WORKER}*'"
    return (
        f"Logs: journalctl --user -u 'jobkit-*' -u '{WORKER}*'. They end when you sign out, "
        "unless you say once: loginctl enable-linger"
    )


def _unit(plan: Plan, program: Program, settings: Path) -> Iterator[str]:
    yield from ("[Unit]", f"Description=jobkit: {program.name} that {program.about}")
    if plan.is_of_machine:
        yield from ("Wants=network-online.target", "After=network-online.target postgresql.service")
    # A database that is away for an hour is no reason to give up.
    yield from ("StartLimitIntervalSec=0", "", "[Service]", "Type=exec")
    words = [str(plan.python), "-m", "jobkit", *program.arguments]
    line = " ".join(map(_word, words)) + (" --name %H-%i" if program.runs_scripts else "")
    yield from (f"ExecStart={line}", f"WorkingDirectory={_path(plan.folder)}")
    # Without a dash: what lacks its settings must not start on an empty database of its own.
    yield f"EnvironmentFile={_path(settings)}"
    if plan.user is not None:
        yield f"User={plan.user}"
    yield from ("Restart=always", f"RestartSec={RESTART_SECONDS}")
    # The worker ends its scripts itself, and says what became of them; who is left is killed.
    yield from ("KillMode=mixed", f"TimeoutStopSec={program.stop_seconds}")
    yield from _ALL
    yield from _WORKER if program.runs_scripts else _NARROW
    if plan.is_of_machine:
        yield from _MACHINE
        yield from () if program.runs_scripts else _MACHINE_NARROW
    yield from ("", "[Install]")
    yield f"WantedBy={'multi-user.target' if plan.is_of_machine else 'default.target'}"


def _name(program: Program, instance: str | int) -> str:
    if program.runs_scripts:
        return f"{WORKER}{instance}.service"
    return f"jobkit-{program.name}.service"


def _wanted(plan: Plan, found: list[File]) -> list[str]:
    names = {file.path.name for file in found}
    return [
        _name(program, number + 1)
        for program in plan.programs
        for number in range(program.copies)
        if _name(program, "") in names
    ]


def _programs(plan: Plan, found: list[File]) -> list[str]:
    """Return the units of these files; of the template those workers that start by themselves."""
    names = {file.path.name for file in found if not file.is_settings}
    workers = _enabled(plan) if f"{WORKER}.service" in names else set()
    return sorted(names - {f"{WORKER}.service"} | workers)


def _enabled(plan: Plan) -> set[str]:
    """Return the workers that start by themselves."""
    return {path.name for path in _units(plan).glob(f"*.wants/{WORKER}?*.service")}


def _call(plan: Plan) -> tuple[str, ...]:
    return ("systemctl",) if plan.is_of_machine else ("systemctl", "--user")


def _configuration(plan: Plan) -> Path:
    return Path("/etc/jobkit") if plan.is_of_machine else _home(plan) / "jobkit"


def _units(plan: Plan) -> Path:
    return Path("/etc/systemd/system") if plan.is_of_machine else _home(plan) / "systemd" / "user"


def _home(plan: Plan) -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or plan.home / ".config")


def _word(text: str) -> str:
    """Quote a word of a command line as systemd reads it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if escaped != text or " " in text else text


def _path(path: Path) -> str:
    """Write a path that is the rest of its line: it takes no quotes."""
    return str(path).replace("%", "%%")
