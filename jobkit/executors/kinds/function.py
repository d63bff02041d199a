"""Functions: `file.py:function`, called with the run's parameters."""

from __future__ import annotations

from dataclasses import dataclass

from jobkit.errors import CannotStart
from jobkit.executors.kinds.python import QUIET_UV, interpreter, read_needs, uv_run, warm_if_ours
from jobkit.executors.kinds.task import RUNNERS, Launch, Task

RUNNER = RUNNERS / "function.py"


@dataclass(frozen=True)
class Function:
    """Runs a function of a Python file; what it returns is the run's result."""

    name: str = "function"
    suffixes: tuple[str, ...] = ()

    def launch(self, task: Task) -> Launch:
        """Return the interpreter, or uv with the packages that the file names, and the runner."""
        if task.function is None:
            raise CannotStart(
                f"The job does not say which function of {task.target.name} to call.",
                f"Name it: {task.target.name}:FUNCTION",
            )
        python = interpreter(task.python)
        arguments = (str(task.target.path), task.function, *task.arguments)
        needs = read_needs(task.target.path)
        if needs.dependencies or not needs.accepts(python):
            uv = uv_run(needs, python)
            for dependency in needs.dependencies:
                uv += ["--with", dependency]
            if not needs.accepts(python):
                uv += ["--python", needs.requires_python]
            return Launch((*uv, "--", "python", str(RUNNER), *arguments), env=QUIET_UV)
        # No modules of its own: it is forked from where scripts are, with what these preload.
        return Launch(
            (str(python), str(RUNNER), *arguments), warm_if_ours(python, RUNNER, arguments)
        )
