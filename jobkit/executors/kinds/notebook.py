"""Notebooks: in a process with IPython, or by a kernel; the runner sees which."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from jobkit.errors import CannotStart
from jobkit.executors.kinds.python import interpreter, is_ours, warm_if_ours
from jobkit.executors.kinds.task import RUNNERS, Launch, Task

RUNNER = RUNNERS / "notebook.py"
# All that a Python notebook needs before its first cell; none of them starts a thread. With them a
# forked notebook costs 27 ms of CPU, without the completer and its like 77 ms.
PRELOAD = (
    "IPython.core.application",
    "IPython.core.completer",
    "IPython.core.completerlib",
    "IPython.core.logger",
    "IPython.core.magics",
    "IPython.core.oinspect",
    "asyncio",
    "jobkit.executors.runners.cells",
    "jobkit.executors.runners.document",
    "jobkit.executors.runners.inprocess",
)


@dataclass(frozen=True)
class Notebook:
    """Runs `.ipynb`; the executed notebook is kept with the run."""

    name: str = "notebook"
    suffixes: tuple[str, ...] = (".ipynb",)

    def launch(self, task: Task) -> Launch:
        """Return the interpreter and the runner; CannotStart when this worker's has no Jupyter."""
        python = interpreter(task.python)
        arguments = (str(task.target.path), task.target.name, *task.arguments)
        has_ipython = importlib.util.find_spec("IPython") is not None
        if is_ours(python) and not has_ipython and importlib.util.find_spec("nbclient") is None:
            raise CannotStart(
                f"Nothing here runs the notebook {task.target.name}.",
                "Run: pip install 'jobkit[notebook]'",
            )
        warm = warm_if_ours(python, RUNNER, arguments, PRELOAD) if has_ipython else None
        return Launch((str(python), str(RUNNER), *arguments), warm)
