"""SQL files: by DuckDB in memory, or against the connection that their first line names."""

from __future__ import annotations

from dataclasses import dataclass

from jobkit.errors import CannotStart
from jobkit.executors.kinds.python import interpreter, warm_if_ours
from jobkit.executors.kinds.task import RUNNERS, Launch, Task

RUNNER = RUNNERS / "sql.py"


@dataclass(frozen=True)
class Sql:
    """Runs `.sql`; the last result is kept as Parquet and shown as a table."""

    name: str = "sql"
    suffixes: tuple[str, ...] = (".sql",)

    def launch(self, task: Task) -> Launch:
        """Return the interpreter and the runner; CannotStart for arguments: it takes parameters."""
        if task.arguments:
            raise CannotStart(
                f"{task.target.name} takes parameters, not arguments.",
                "Give --param name=value, and write $name in the SQL.",
            )
        python = interpreter(task.python)
        arguments = (str(task.target.path), task.target.name)
        # DuckDB is not imported before the fork: it may start threads, which no fork survives.
        return Launch(
            (str(python), str(RUNNER), *arguments), warm_if_ours(python, RUNNER, arguments)
        )
