"""Windows' Task Scheduler: a task for each program, and one for each worker, as XML."""

from __future__ import annotations

import subprocess
import sys
from xml.sax.saxutils import escape

from jobkit.service.commands import Command
from jobkit.service.environment import file_of
from jobkit.service.files import File
from jobkit.service.plan import Plan, Program

FOLDER = "jobkit"
# The scheme wants the elements in this order.
TASK = """\
<?xml version="1.0" encoding="UTF-16"?>
<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">
  <RegistrationInfo>
    <Description>{about}</Description>
  </RegistrationInfo>
  <Triggers>
    <{trigger}>
      <Enabled>true</Enabled>
    </{trigger}>
  </Triggers>
  <Principals>
    <Principal id="Author">
{principal}
      <RunLevel>LeastPrivilege</RunLevel>
    </Principal>
  </Principals>
  <Settings>
    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>
    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>
    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>
    <StartWhenAvailable>true</StartWhenAvailable>
    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>
    <RestartOnFailure>
      <Interval>PT1M</Interval>
      <Count>999</Count>
    </RestartOnFailure>
  </Settings>
  <Actions Context="Author">
    <Exec>
      <Command>{python}</Command>
      <Arguments>{arguments}</Arguments>
      <WorkingDirectory>{folder}</WorkingDirectory>
    </Exec>
  </Actions>
</Task>
"""


def files(plan: Plan) -> list[File]:
    """Return the `.env` of the folder, as tasks have no file of settings, and the tasks."""
    settings = file_of(plan.folder / ".env", plan.settings)
    return [settings, *(_task(plan, program, name) for name, program in _names(plan).items())]


def start(plan: Plan, found: list[File]) -> list[Command]:
    """Return what starts the programs, now and from now on, by their new files."""
    steps = []
    for file in found:
        if file.path.suffix == ".xml":
            name = f"{FOLDER}\\{file.path.stem}"
            steps.append(Command(("schtasks", "/End", "/TN", name), may_fail=True))
            create = ("schtasks", "/Create", "/TN", name, "/XML", str(file.path), "/F")
            steps.append(Command(create))
            steps.append(Command(("schtasks", "/Run", "/TN", name)))
    return steps


def stop(plan: Plan, found: list[File]) -> list[Command]:
    """Return what ends the programs of these files, for good."""
    names = [f"{FOLDER}\\{file.path.stem}" for file in found if file.path.suffix == ".xml"]
    return [
        Command(("schtasks", *words), may_fail=True)
        for name in names
        for words in (("/End", "/TN", name), ("/Delete", "/TN", name, "/F"))
    ]


def settle(plan: Plan) -> list[Command]:
    """Return what is to be done when the files are gone: nothing."""
    return []


def ask(plan: Plan, found: list[File]) -> dict[str, Command]:
    """Return what asks whether the system knows each program, by the name of its task."""
    names = [f"{FOLDER}\\{file.path.stem}" for file in found if file.path.suffix == ".xml"]
    return {name: Command(("schtasks", "/Query", "/TN", name)) for name in names}


def is_here() -> bool:
    """Whether this is Windows."""
    return sys.platform == "win32"


def advice(plan: Plan) -> str:
    """Say what a person should know who has just installed them."""
    return "Task Scheduler shows them under jobkit. It ends programs at once: runs are rescued."


def _names(plan: Plan) -> dict[str, Program]:
    return {
        program.name + (f"-{number + 1}" if program.runs_scripts else ""): program
        for program in plan.programs
        for number in range(program.copies)
    }


def _task(plan: Plan, program: Program, name: str) -> File:
    words = ["-m", "jobkit", *program.arguments]
    words += ["--name", f"{FOLDER}-{name}"] if program.runs_scripts else []
    text = TASK.format(
        about=escape(f"jobkit: {program.name} that {program.about}"),
        trigger="BootTrigger" if plan.is_of_machine else "LogonTrigger",
        principal=_principal(plan),
        python=escape(str(plan.python)),
        arguments=escape(subprocess.list2cmdline(words)),
        folder=escape(str(plan.folder)),
    )
    path = plan.home / "AppData" / "Local" / "jobkit" / "tasks" / f"{name}.xml"
    return File(path, text, comment="<!-- {} -->", encoding="utf-16")


def _principal(plan: Plan) -> str:
    if not plan.is_of_machine:
        return "      <LogonType>InteractiveToken</LogonType>"
    # LOCAL SERVICE, who may little, unless somebody is named; S4U keeps no password.
    if plan.user is None:
        return "      <UserId>S-1-5-19</UserId>"
    return f"      <UserId>{escape(plan.user)}</UserId>\n      <LogonType>S4U</LogonType>"
