"""Cells by a kernel: other languages, and notebooks that ask for one."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
from jupyter_client.kernelspec import NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from traitlets import Any as AnyTrait

from jobkit.executors.runners.cells import (
    KEPT_BYTES,
    CellTimedOut,
    Keeper,
    Narrator,
    cell_timeout,
    is_stop,
)
from jobkit.executors.runners.document import (
    BadNotebook,
    Document,
    is_skipped,
    language,
    mark_failed,
    to_execute,
)
from jobkit.executors.runners.keeping import KEEP, Keeping

LOOK_SECONDS = 0.1
START_SECONDS = 60
PRIVATE_KERNEL = Path(__file__).with_name("private_kernel.py")
INTERRUPT_SECONDS = 5
"""How long a cell that was interrupted may take to end."""


class KernelDied(Exception):
    """The kernel is gone; `exit_code` is what this process shall end with."""

    def __init__(self, code: int) -> None:
        if code == -signal.SIGKILL:
            reason = "the kernel was killed, probably out of memory"
        elif code < 0:
            reason = f"the kernel was killed by signal {-code}"
        else:
            reason = f"the kernel ended by itself with exit code {code}"
        super().__init__(reason)
        self.exit_code = 128 - code if code < 0 else 1


class Client(NotebookClient):
    """Passes a kernel's messages on as they come; keeps long output out of the notebook."""

    narrator = AnyTrait()
    kept = 0
    is_stopped = False
    """Whether the current cell ended the run early and well."""

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        content, kind = msg["content"], msg["msg_type"]
        if kind == "stream":
            self.narrator.stream(content["name"], content["text"])
            content["text"] = content["text"][: max(0, KEPT_BYTES - self.kept)]
            self.kept += len(content["text"])
            if not content["text"]:
                return None
        elif kind in ("display_data", "update_display_data", "execute_result"):
            what = "result" if kind == "execute_result" else "display"
            self.narrator.output(what, str(content["data"].get("text/plain", "")))
        elif kind == "error" and is_stop(content["ename"]):
            # Of a cell that may raise, nothing else tells it.
            self.is_stopped = True
            return None
        elif kind == "error":
            self.narrator.output("error", "\n".join(content["traceback"]))
        return super().process_message(msg, cell, cell_index)


class Session:
    """Runs the cells of a notebook by its kernel."""

    def __init__(self, narrator: Narrator, keeper: Keeper) -> None:
        self._narrator = narrator
        self._keeper = keeper
        self.is_ended = False
        """Whether it was asked to end."""
        self._task: asyncio.Task[bool] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def end(self) -> None:
        """Stop waiting for the running cell; called by the handler of a signal."""
        self.is_ended = True
        if self._task is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._task.cancel)

    def execute(self, document: Document) -> bool:
        """Run all cells up to the first that fails, or ends the run; say whether none failed.

        CellTimedOut when one took too long; KernelDied as soon as the kernel is gone; BadNotebook
        when there is no such kernel.
        """
        notebook = nbformat.from_dict(document)
        try:
            return asyncio.run(self._execute(notebook))
        finally:
            document.clear()
            document.update(notebook)

    async def _execute(self, notebook: Any) -> bool:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        # The name of a folder that a killed process left says whose it was.
        prefix = f"jobkit-{os.environ.get('JOBKIT_WORKER_PID', '')}-"
        with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as folder:
            keeping = None
            if os.environ.pop(KEEP, None) and sys.platform != "win32":
                keeping = Keeping(Path(folder), self._narrator)
            manager = _manager(notebook, Path(folder))
            client = Client(notebook, km=manager, timeout=None, narrator=self._narrator)
            client.startup_timeout = START_SECONDS
            try:
                if keeping is not None:
                    _listen_to_files_only(manager)
                async with client.async_setup_kernel():
                    _keep_our_handlers(self._loop, self.end)
                    return await self._execute_all(client, manager, keeping)
            except NoSuchKernel as error:
                raise BadNotebook(
                    f"There is no kernel {error.name!r} here. Install it, or run the notebook "
                    "on a worker that has it."
                ) from None
            finally:
                await _shut_down(client, manager)

    async def _execute_all(
        self, client: Client, manager: AsyncKernelManager, keeping: Keeping | None
    ) -> bool:
        cells = client.nb["cells"]
        death = asyncio.create_task(_death(manager))
        try:
            for index, cell in enumerate(cells):
                if is_skipped(cell):
                    self._narrator.skip(cell, index, len(cells))
                if not to_execute(cell):
                    continue
                while not await self._execute_cell(client, manager, index, death):
                    self._keeper.between_cells(client.nb, at_once=True)
                    if keeping is None or not await keeping.wait(client, manager, index, death):
                        return False
                self._keeper.between_cells(client.nb)
                if client.is_stopped:
                    return True
            return True
        finally:
            death.cancel()

    async def _execute_cell(
        self, client: Client, manager: AsyncKernelManager, index: int, death: asyncio.Task[int]
    ) -> bool:
        """Run one cell; say whether it ended well."""
        cell, ok = client.nb["cells"][index], False
        self._narrator.start(cell, index, len(client.nb["cells"]))
        client.kept, client.is_stopped = 0, False
        try:
            await _execute_one(client, manager, cell, index, death)
            ok = True
        except CellExecutionError:
            return False
        finally:
            if not ok:
                mark_failed(cell)
            self._narrator.end(ok)
        return ok


async def _execute_one(
    client: Client, manager: AsyncKernelManager, cell: Any, index: int, death: asyncio.Task[int]
) -> None:
    """Run one cell; `client.is_stopped` says whether it ends the run early and well."""
    running, limit = asyncio.create_task(client.async_execute_cell(cell, index)), cell_timeout()
    try:
        await _first({running, death}, limit)
        if limit is not None and not (running.done() or death.done()):
            await manager.interrupt_kernel()
            await _first({running, death}, INTERRUPT_SECONDS)
            raise CellTimedOut(index, limit)
        if not running.done():
            raise KernelDied(death.result())
        await running
    except CellExecutionError:
        if not client.is_stopped:
            raise
    except DeadKernelError:
        raise KernelDied(await death) from None
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await running


async def _first(tasks: set[asyncio.Task[Any]], seconds: float | None) -> None:
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


async def _death(manager: AsyncKernelManager) -> int:
    """Wait for the kernel's end and return how it ended, as `Popen.returncode` says it."""
    while True:
        provisioner = manager.provisioner
        code = 0 if provisioner is None else await provisioner.poll()
        if code is not None:
            return int(code)
        await asyncio.sleep(LOOK_SECONDS)


def _manager(notebook: Any, folder: Path) -> AsyncKernelManager:
    """Return a kernel's manager; its sockets are files of a private folder where that works."""
    spec = notebook["metadata"].get("kernelspec", {})
    name = spec.get("name") or ("python3" if language(notebook) == "python" else language(notebook))
    manager = AsyncKernelManager(kernel_name=name)
    manager.connection_file = str(folder / "kernel.json")
    if sys.platform != "win32":
        manager.transport = "ipc"
        manager.ip = str(folder / "kernel")
    return manager


def _listen_to_files_only(manager: AsyncKernelManager) -> None:
    """Let a Python kernel have no TCP port at all."""
    spec = manager.kernel_spec
    if spec is not None and spec.argv[1:3] == ["-m", "ipykernel_launcher"]:
        spec.argv = [spec.argv[0], str(PRIVATE_KERNEL), *spec.argv[3:]]


def _keep_our_handlers(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    with suppress(NotImplementedError, RuntimeError):
        loop.add_signal_handler(signal.SIGTERM, end)


async def _shut_down(client: Client, manager: AsyncKernelManager) -> None:
    with suppress(Exception):
        if client.kc is not None:
            client.kc.stop_channels()
        if manager.has_kernel:
            await manager.shutdown_kernel(now=True)
