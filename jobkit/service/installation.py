"""The services of a plan on this machine: put in place, looked at, taken away."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from jobkit.errors import BadInput
from jobkit.service import launchd, systemd, windows
from jobkit.service.commands import Command
from jobkit.service.files import File
from jobkit.service.plan import MOST_WORKERS, Plan

_SYSTEMS: dict[str, ModuleType] = {"systemd": systemd, "launchd": launchd, "windows": windows}


@dataclass(frozen=True)
class Outcome:
    """What became of a file: `written`, `unchanged`, `kept`, `removed`; or how it stands."""

    path: Path
    did: str


class Installation:
    """The files of a plan, and the commands of the system that reads them."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._system = _SYSTEMS[plan.system]
        self.files: list[File] = self._system.files(plan)
        self._possible: list[File] = self._system.files(_widest(plan))

    @property
    def is_here(self) -> bool:
        """Whether the system that reads the files takes care of this machine."""
        return bool(self._system.is_here())

    @property
    def advice(self) -> str:
        """What a person should know who has just installed them."""
        return str(self._system.advice(self.plan))

    def check(self, *, force: bool = False) -> None:
        """Refuse by BadInput what must not be installed: over what somebody edited, or as root."""
        plan = self.plan
        if plan.is_of_machine and plan.user is None and plan.system != "windows":
            raise BadInput(
                "Services of the machine would run everybody's scripts as root.",
                "Say as whom they are to run: --run-as NAME",
            )
        for file in self.files:
            if file.is_settings or force:
                continue
            if (standing := file.standing()) in ("edited", "foreign"):
                by = "was edited" if standing == "edited" else "was not written by jobkit"
                raise BadInput(
                    f"{file.path} {by}; nothing was changed.",
                    "Keep edits beside it (systemctl edit NAME), or lose them: --force",
                )

    def install(self, *, force: bool = False) -> list[Outcome]:
        """Write the files, all or none, and remove those of workers that are one too many.

        A file of settings that is there is kept. BadInput as `check` has it.
        """
        self.check(force=force)
        done = [Outcome(file.path, _write(file)) for file in self.files]
        for file in self._surplus():
            file.remove()
            done.append(Outcome(file.path, "removed"))
        return done

    def start(self) -> list[Command]:
        """Return the commands that start the programs, now and from now on."""
        surplus: list[Command] = self._system.stop(self.plan, self._surplus())
        return [*surplus, *self._system.start(self.plan, self.files)]

    def status(self) -> list[Outcome]:
        """Say how each file stands that is there or should be."""
        planned = {file.path for file in self.files}
        found = [Outcome(file.path, file.standing()) for file in self._possible]
        return [it for it in found if it.path in planned or it.did != "missing"]

    def ask(self) -> dict[str, Command]:
        """Return the command that asks for each program whether it runs, by its name."""
        present = [file for file in self._possible if file.standing() != "missing"]
        asked: dict[str, Command] = self._system.ask(self.plan, present)
        return asked

    def stop(self, *, force: bool = False) -> list[Command]:
        """Return the commands that end the programs of the files that `uninstall` removes."""
        commands: list[Command] = self._system.stop(self.plan, self._own(force))
        return commands

    def uninstall(self, *, force: bool = False) -> list[Outcome]:
        """Remove the files that are as jobkit wrote them; with `force` also units that are not."""
        done = []
        for file in self._own(force):
            file.remove()
            done.append(Outcome(file.path, "removed"))
        left = [it for it in self._possible if it.standing() == "edited" or _is_foreign_unit(it)]
        return [*done, *(Outcome(file.path, "kept") for file in left)]

    def settle(self) -> list[Command]:
        """Return the commands for when the files are gone."""
        commands: list[Command] = self._system.settle(self.plan)
        return commands

    def _own(self, force: bool) -> list[File]:
        own = {"current", "outdated"}
        forced = own | {"edited", "foreign"} if force else own
        return [it for it in self._possible if it.standing() in (own if it.is_settings else forced)]

    def _surplus(self) -> list[File]:
        planned = {file.path for file in self.files}
        return [file for file in self._own(False) if file.path not in planned]


def _write(file: File) -> str:
    standing = file.standing()
    if file.is_settings and standing not in ("missing", "current"):
        is_open = os.name == "posix" and file.path.stat().st_mode & 0o077
        return "kept; others may read it: chmod 600" if is_open else "kept"
    if standing == "current":
        return "unchanged"
    file.write()
    return "written"


def _is_foreign_unit(file: File) -> bool:
    return not file.is_settings and file.standing() == "foreign"


def _widest(plan: Plan) -> Plan:
    """Return the plan with every worker that there could be."""
    programs = (replace(it, copies=MOST_WORKERS if it.runs_scripts else 1) for it in plan.programs)
    return replace(plan, programs=tuple(programs))
