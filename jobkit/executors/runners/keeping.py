"""A kernel that waits after a cell that failed: for a corrected cell, or for its end.

It is told by an event `kept`: `connection_file`, `folder`, `pid` of the kernel, and of the cell its
`source` and `error`. A file `go-on.json` in that folder lets it go on: `source`, and `attempt`, the
number by which the run goes on, with `edit`, what is to be said of the correction.
"""

from __future__ import annotations

import asyncio
import json
import queue
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobkit.executors.runners.cells import Narrator
from jobkit.executors.runners.document import correct

if TYPE_CHECKING:
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

KEEP = "JOBKIT_KEEP_KERNEL"
GO_ON = "go-on.json"
LOOK_SECONDS = 0.1
LONGEST_SOURCE = 16 << 10  # an event is one line, and lines have a longest length
LONGEST_ERROR = 500
MOST_NOTED = 1000


class Keeping:
    """Keeps a kernel in a folder that this user alone can enter."""

    def __init__(self, folder: Path, narrator: Narrator) -> None:
        self._folder = folder
        self._narrator = narrator

    async def wait(
        self,
        client: NotebookClient,
        manager: AsyncKernelManager,
        index: int,
        death: asyncio.Task[int],
    ) -> bool:
        """Wait after a cell that failed; True when it is corrected, False when the kernel died."""
        cell = client.nb["cells"][index]
        self._narrator.kept(
            connection_file=str(manager.connection_file),
            folder=str(self._folder),
            pid=getattr(manager.provisioner, "pid", None),
            source=cell["source"][:LONGEST_SOURCE],
            error=_error(cell)[:LONGEST_ERROR],
        )
        while not death.done():
            await self._listen(client)
            if (asked := self._asked()) is not None:
                _tell_attempt(client, asked["attempt"])
                correct(cell, asked["source"], asked["edit"])
                return True
        return False

    async def _listen(self, client: NotebookClient) -> None:
        """Take what others let the kernel say, and note in the notebook what they executed."""
        assert client.kc is not None
        try:
            message = await client.kc.get_iopub_msg(timeout=LOOK_SECONDS)  # type: ignore[attr-defined]
        except queue.Empty:
            return
        if message["msg_type"] == "execute_input":
            ours = client.nb["metadata"].setdefault("jobkit", {})
            at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            noted = ours.setdefault("attached", [])
            if len(noted) < MOST_NOTED:
                noted.append({"code": message["content"]["code"], "at": at})

    def _asked(self) -> dict[str, Any] | None:
        path = self._folder / GO_ON
        try:
            asked: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            return None
        path.unlink()
        return asked


def _error(cell: Any) -> str:
    for output in cell["outputs"]:
        if output["output_type"] == "error":
            return f"{output['ename']}: {output['evalue']}"
    return "it failed"


def _tell_attempt(client: NotebookClient, number: int) -> None:
    """Let the cells that follow see the attempt that they belong to."""
    spec = client.nb["metadata"].get("kernelspec", {})
    if spec.get("language", "python") != "python":
        return
    assert client.kc is not None
    code = f"import os as _o; _o.environ['JOBKIT_ATTEMPT'] = '{int(number)}'; del _o"
    client.kc.execute(code, silent=True, store_history=False)
