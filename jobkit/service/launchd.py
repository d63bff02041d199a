"""launchd of macOS: a property list for each program, and one for each worker."""

from __future__ import annotations

import os
import plistlib
from typing import Any

from jobkit.service.commands import Command
from jobkit.service.environment import file_of
from jobkit.service.files import File
from jobkit.service.plan import Plan, Program

LABEL = "jobkit"


def files(plan: Plan) -> list[File]:
    """Return the `.env` of the folder, as launchd has no file of settings, and the lists."""
    settings = file_of(plan.folder / ".env", plan.settings, owner=plan.user)
    return [settings, *(_list(plan, program, label) for label, program in _labels(plan).items())]


def start(plan: Plan, found: list[File]) -> list[Command]:
    """Return what starts the programs, now and from now on, by their new files."""
    steps = []
    for file in found:
        if file.path.suffix == ".plist":
            steps.append(_out(plan, file))
            steps.append(Command(("launchctl", "bootstrap", _domain(plan), str(file.path))))
    return steps


def stop(plan: Plan, found: list[File]) -> list[Command]:
    """Return what ends the programs of these files, for good."""
    return [_out(plan, file) for file in found if file.path.suffix == ".plist"]


def settle(plan: Plan) -> list[Command]:
    """Return what is to be done when the files are gone: nothing."""
    return []


def ask(plan: Plan, found: list[File]) -> dict[str, Command]:
    """Return what asks whether the system knows each program, by its label."""
    labels = [file.path.stem for file in found if file.path.suffix == ".plist"]
    return {label: Command(("launchctl", "print", f"{_domain(plan)}/{label}")) for label in labels}


def is_here() -> bool:
    """Whether this is macOS."""
    return os.uname().sysname == "Darwin" if hasattr(os, "uname") else False


def advice(plan: Plan) -> str:
    """Say what a person should know who has just installed them."""
    return f"Logs: {plan.folder}/{LABEL}.*.log"


def _labels(plan: Plan) -> dict[str, Program]:
    return {
        f"{LABEL}.{program.name}" + (f".{number + 1}" if program.runs_scripts else ""): program
        for program in plan.programs
        for number in range(program.copies)
    }


def _list(plan: Plan, program: Program, label: str) -> File:
    name = ["--name", label] if program.runs_scripts else []
    content: dict[str, Any] = {
        "Label": label,
        "ProgramArguments": [str(plan.python), "-m", "jobkit", *program.arguments, *name],
        "WorkingDirectory": str(plan.folder),
        "RunAtLoad": True,
        "KeepAlive": True,
        "ThrottleInterval": 10,
        # Between the request to end and the kill, as the worker needs it.
        "ExitTimeOut": program.stop_seconds,
        "StandardOutPath": str(plan.folder / f"{label}.log"),
        "StandardErrorPath": str(plan.folder / f"{label}.log"),
    }
    if plan.user is not None:
        content["UserName"] = plan.user
    if not program.runs_scripts:
        content["Umask"] = 0o077
    folder = "/Library/LaunchDaemons" if plan.is_of_machine else "Library/LaunchAgents"
    text = plistlib.dumps(content, sort_keys=False).decode()
    return File(plan.home / folder / f"{label}.plist", text, comment="<!-- {} -->")


def _domain(plan: Plan) -> str:
    return "system" if plan.is_of_machine else f"gui/{os.getuid()}"


def _out(plan: Plan, file: File) -> Command:
    return Command(("launchctl", "bootout", f"{_domain(plan)}/{file.path.stem}"), may_fail=True)
