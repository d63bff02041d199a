"""The memory of a run that failed: opens its kept kernel, shows what is in it, executes there.

Only the user that its worker runs as can do so, on the machine where it is: the kernel's sockets
are files in a folder of that user. From elsewhere a run can still be let go on (`run.go_on`).
"""

from __future__ import annotations

import ast
import json
import os
import queue
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from jobkit.errors import BadInput, JobkitError
from jobkit.text import instant

if TYPE_CHECKING:
    from jobkit.handles import Kept, Run

READY_SECONDS = 30.0
LOOK_SECONDS = 0.2
PLAIN = ("int", "float", "str", "bool", "NoneType", "list", "dict")
# A value comes as it is, or not at all: a tuple that became a list would be another one.
AS_JSON = (
    "(lambda v, j: (lambda s: s if j.loads(s) == v and repr(j.loads(s)) == repr(v) else '')"
    "(j.dumps(v)))({name}, __import__('json'))"
)
TYPE = "type({name}).__module__ + '.' + type({name}).__qualname__"
VARIABLES = (
    "__import__('json').dumps({n: type(v).__name__ for n, v in globals().items()"
    " if not n.startswith('_') and n not in ('In', 'Out', 'exit', 'quit', 'open', 'get_ipython')"
    " and type(v).__name__ != 'module'})"
)


class CellFailed(JobkitError):
    """What was executed in a kept kernel raised; its traceback was shown."""


def attach(run: Run) -> Kernel:
    """Open the kernel that is kept of a run.

    BadInput when none is kept, when it is on another machine, and when it is another user's.
    """
    kept = run.kept
    if kept is None:
        raise BadInput(
            f"No kernel is kept of run {run.id}: it is {run.refresh().status}.",
            "A notebook's kernel is kept after a failure with keep_kernel='15m' on its job.",
        )
    here = socket.gethostname()
    if kept.hostname != here:
        raise BadInput(
            f"The kernel of run {run.id} is on {kept.hostname}, and this is {here}.",
            f"Open a notebook on {kept.hostname}; `run.go_on(source)` works from anywhere.",
        )
    _check_ours(kept)
    return Kernel(run, kept)


def _check_ours(kept: Kept) -> None:
    try:
        Path(kept.connection_file).read_bytes()
    except FileNotFoundError:
        raise _gone(kept.run_id) from None
    except OSError as error:
        raise BadInput(
            f"The kernel of run {kept.run_id} cannot be opened: {error.strerror}.",
            f"Only the user of worker {kept.worker_id} may: open the notebook as that one.",
        ) from None


def _gone(run_id: int) -> BadInput:
    return BadInput(f"The kernel of run {run_id} is gone.", f"See why: jobkit show {run_id}")


@dataclass(frozen=True)
class There:
    """A value in a kept kernel, seen from here: it shows itself as it would there."""

    name: str
    data: Mapping[str, Any]
    """What it shows, by MIME type."""
    metadata: Mapping[str, Any]

    def __repr__(self) -> str:
        return str(self.data.get("text/plain", ""))

    def _repr_mimebundle_(self, **_: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return self.data, self.metadata


class Kernel:
    """A kept kernel: `kernel["df"]`, `kernel.run("code")`, `kernel.go_on("the corrected cell")`."""

    def __init__(self, run: Run, kept: Kept) -> None:
        from jupyter_client.blocking.client import BlockingKernelClient

        self.kept = kept
        self._run = run
        self._client = BlockingKernelClient(connection_file=kept.connection_file)
        self._client.load_connection_file()
        self._client.start_channels(stdin=False, hb=False, control=False)
        try:
            self._client.wait_for_ready(timeout=READY_SECONDS)
        except RuntimeError:
            self.close()
            raise BadInput(
                f"The kernel of run {run.id} does not answer: it may be busy.",
                "Try again, or let it go: run.let_go()",
            ) from None

    def run(self, code: str) -> None:
        """Execute code there and show here what it shows; CellFailed when it raises.

        Interrupting this interrupts it there.
        """
        asked = self._client.execute(code, allow_stdin=False)
        failed = ""
        try:
            for kind, content in self._published(asked):
                if kind == "error":
                    failed = f"{content['ename']}: {content['evalue']}"
                _show(kind, content)
        except KeyboardInterrupt:
            if self.kept.process_id is not None:
                os.kill(self.kept.process_id, signal.SIGINT)
            raise
        if failed:
            raise CellFailed(failed)

    def __getitem__(self, name: str) -> Any:
        """Return a variable, or any expression: what is plain or a polars DataFrame as a copy.

        Anything else as something that shows itself as it does there. KeyError for what raises.
        """
        type_ = self._text(TYPE.format(name=f"({name})"), name)
        if type_.removeprefix("builtins.") in PLAIN:
            try:
                found = self._text(AS_JSON.format(name=f"({name})"), name)
            except KeyError:
                found = ""
            if found:
                return json.loads(found)
        if type_ == "polars.dataframe.frame.DataFrame":
            return self._frame(name)
        answer = self._evaluate(name, name)
        return There(name, answer["data"], answer["metadata"])

    @property
    def variables(self) -> dict[str, str]:
        """The names of its variables, and of what type each is."""
        found: dict[str, str] = json.loads(self._text(VARIABLES, "its variables"))
        return dict(sorted(found.items()))

    def go_on(self, source: str) -> Run:
        """Let the run go on with the corrected cell, and the rest, as its next attempt."""
        self.close()
        return self._run.go_on(source)

    def let_go(self) -> Run:
        """End the kernel: the run is FAILED then."""
        self.close()
        return self._run.let_go()

    def close(self) -> None:
        """Let go of the connection; the kernel stays."""
        self._client.stop_channels()

    def _frame(self, name: str) -> Any:
        import polars

        with tempfile.TemporaryDirectory(prefix="jobkit-") as folder:
            file = Path(folder, "frame.arrow")
            self._evaluate(f"({name}).write_ipc({str(file)!r})", name)
            return polars.read_ipc(file.read_bytes())

    def _text(self, expression: str, name: str) -> str:
        return str(ast.literal_eval(self._evaluate(expression, name)["data"]["text/plain"]))

    def _evaluate(self, expression: str, name: str) -> dict[str, Any]:
        """Evaluate an expression without a trace in the kernel's history."""
        asked = self._client.execute(
            "", silent=True, store_history=False, user_expressions={"it": expression}
        )
        answer: dict[str, Any] = self._reply(asked)["user_expressions"]["it"]
        if answer["status"] != "ok":
            raise KeyError(f"{name}: {answer['ename']}: {answer['evalue']}")
        return answer

    def _reply(self, asked: str) -> dict[str, Any]:
        while True:
            message = self._next(self._client.get_shell_msg)
            if message is not None and message["parent_header"].get("msg_id") == asked:
                content: dict[str, Any] = message["content"]
                return content

    def _published(self, asked: str) -> Iterator[tuple[str, dict[str, Any]]]:
        while True:
            message = self._next(self._client.get_iopub_msg)
            if message is None or message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return
            yield kind, content

    def _next(self, receive: Callable[..., dict[str, Any]]) -> dict[str, Any] | None:
        """Wait a while for a message; BadInput when the kernel is gone."""
        try:
            return receive(timeout=LOOK_SECONDS)
        except queue.Empty:
            if not self._lives():
                raise _gone(self.kept.run_id) from None
            return None

    def _lives(self) -> bool:
        pid = self.kept.process_id
        try:
            return pid is None or psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    def __repr__(self) -> str:
        kept = self.kept
        listed = [f"  {name}: {type_}" for name, type_ in self.variables.items()]
        return "\n".join(
            [
                f"Kernel of run {kept.run_id}, kept until {instant(kept.kept_until)}",
                f"cell {kept.cell} of {kept.cells} failed: {kept.error}",
                *listed,
            ]
        )


def settled(run: Run) -> Run:
    """Wait until a run that was asked to go on has ended, or its kernel is kept again."""
    asked_at = run.attempt
    while not (run := run.refresh()).is_final:
        kept = run.kept
        if kept is not None and (kept.attempt > asked_at or kept.wish is None):
            return run
        time.sleep(LOOK_SECONDS)
    return run


def _show(kind: str, content: Mapping[str, Any]) -> None:
    if kind == "stream":
        stream = sys.stderr if content["name"] == "stderr" else sys.stdout
        stream.write(content["text"])
        stream.flush()
    elif kind == "error":
        print("\n".join(content["traceback"]), file=sys.stderr)  # noqa: T201 - as a notebook shows it
    elif kind in ("display_data", "execute_result", "update_display_data"):
        _display(content["data"], content["metadata"])
    elif kind == "clear_output":
        from IPython.display import clear_output

        clear_output(wait=content.get("wait", False))


def _display(data: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    from IPython.core.getipython import get_ipython
    from IPython.display import publish_display_data

    if get_ipython() is None:
        print(data.get("text/plain", ""))  # noqa: T201 - no notebook is there to show more
    else:
        publish_display_data(dict(data), dict(metadata))
