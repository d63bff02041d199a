"""Python cells by IPython's own shell in this process: no kernel to start and none to lose."""

from __future__ import annotations

import asyncio
import base64
import codecs
import io
import os
import subprocess
import sys
from contextlib import suppress
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from jobkit.executors.runners.cells import (
    KEPT_BYTES,
    CellTimedOut,
    Keeper,
    Narrator,
    cell_timeout,
    is_stop,
)
from jobkit.executors.runners.document import (
    Cell,
    Document,
    is_skipped,
    mark_failed,
    tags,
    to_execute,
)
from jobkit.executors.runners.limit import Limit

# What a kernel sets as well: nobody is there to turn a pager's pages, and logs keep colours.
ENVIRONMENT = {
    "TERM": "xterm-color",
    "CLICOLOR": "1",
    "FORCE_COLOR": "1",
    "CLICOLOR_FORCE": "1",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
}


class Ended(BaseException):
    """The process was asked to end."""


class Recorder:
    """Takes the outputs of the current cell as nbformat has them, and passes them on at once."""

    def __init__(self, narrator: Narrator) -> None:
        self._narrator = narrator
        self._outputs: list[dict[str, Any]] = []
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._clears_next = False
        self._kept = 0
        self._omitted = 0

    def begin(self, outputs: list[dict[str, Any]]) -> None:
        """Write to a new cell's list of outputs."""
        self._outputs = outputs
        self._clears_next = False
        self._kept = self._omitted = 0

    def finish(self) -> None:
        """Say in the cell how much of its output was left out of the notebook."""
        if self._omitted:
            text = f"\n… {self._omitted} characters left out …\n"
            self._outputs.append({"output_type": "stream", "name": "stdout", "text": text})

    def stream(self, name: str, text: str) -> None:
        """Take text of `stdout` or `stderr`; what follows on the same stream joins it."""
        self._narrator.stream(name, text)
        kept = text[: max(0, KEPT_BYTES - self._kept)]
        self._kept += len(kept)
        self._omitted += len(text) - len(kept)
        if not kept:
            return
        self._clear_if_asked()
        last = self._outputs[-1] if self._outputs else {}
        if last.get("output_type") == "stream" and last["name"] == name:
            last["text"] += kept
        else:
            self._outputs.append({"output_type": "stream", "name": name, "text": kept})

    def display(
        self, data: dict[str, Any], metadata: dict[str, Any], display_id: str | None
    ) -> None:
        """Take what `display(...)` shows."""
        self._add({"output_type": "display_data", **_bundle(data, metadata)}, display_id)
        self._narrator.output("display", str(data.get("text/plain", "")))

    def update(self, data: dict[str, Any], metadata: dict[str, Any], display_id: str) -> None:
        """Show something else where a display of this name was shown, in any cell."""
        for output in self._displays.get(display_id, ()):
            output.update(_bundle(data, metadata))
        self._narrator.output("display", str(data.get("text/plain", "")))

    def result(self, count: int, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Take the value of the cell's last expression."""
        output = {"output_type": "execute_result", "execution_count": count}
        self._add(output | _bundle(data, metadata))
        self._narrator.output("result", str(data.get("text/plain", "")))

    def error(self, name: str, value: str, traceback: list[str]) -> None:
        """Take an exception."""
        self._add({"output_type": "error", "ename": name, "evalue": value, "traceback": traceback})
        self._narrator.output("error", "\n".join(traceback))

    def clear(self, wait: bool) -> None:
        """Forget the cell's outputs, with `wait` when the next one comes."""
        self._clears_next = wait
        if not wait:
            self._outputs.clear()

    def _add(self, output: dict[str, Any], display_id: str | None = None) -> None:
        self._clear_if_asked()
        self._outputs.append(output)
        if display_id:
            self._displays.setdefault(display_id, []).append(output)

    def _clear_if_asked(self) -> None:
        if self._clears_next:
            self._outputs.clear()
            self._clears_next = False


def _bundle(data: dict[str, Any], metadata: dict[str, Any]) -> dict[str, Any]:
    return {"data": _clean(data), "metadata": _clean(metadata)}


def _clean(value: Any) -> Any:
    """Return what JSON holds: bytes as base64, as kernels send them."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii") + "\n"
    if isinstance(value, dict):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value if isinstance(value, str | int | float | None) else repr(value)


class Stream(io.TextIOBase):
    """`sys.stdout` or `sys.stderr` of the cells."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, name: str, descriptor: int, recorder: Recorder) -> None:
        self.name = f"<{name}>"
        self._stream = name
        self._descriptor = descriptor
        self._recorder = recorder

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._recorder.stream(self._stream, text)
        return len(text)

    def fileno(self) -> int:
        return self._descriptor

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False


class Publisher(DisplayPublisher):
    """Hands displays to the recorder."""

    shell: Any

    def publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any] | None = None,
        *_: Any,
        transient: dict[str, Any] | None = None,
        update: bool = False,
        **__: Any,
    ) -> None:
        display_id = (transient or {}).get("display_id")
        if update and display_id:
            self.shell.recorder.update(data, metadata or {}, display_id)
        else:
            self.shell.recorder.display(data, metadata or {}, display_id)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.recorder.clear(wait)


class Hook(DisplayHook):
    """Hands results to the recorder."""

    shell: Any

    def write_output_prompt(self) -> None:
        pass

    def write_format_data(
        self, format_dict: dict[str, Any], md_dict: dict[str, Any] | None = None
    ) -> None:
        self.shell.recorder.result(self.prompt_count, format_dict, md_dict or {})

    def finish_displayhook(self) -> None:
        self._is_active = False


class Shell(InteractiveShell):
    """IPython's shell, whose every output goes to a recorder."""

    recorder = AnyTrait()
    display_pub_class = Type(Publisher)
    displayhook_class = Type(Hook)

    def init_hooks(self) -> None:
        super().init_hooks()  # type: ignore[no-untyped-call]
        self.set_hook(
            "show_in_pager", lambda *_, **__: None, 99
        )  # as with a kernel: pages are no output

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        if is_stop(etype.__name__):
            return
        if issubclass(etype, Ended):
            stb = [str(evalue)]
        self.recorder.error(str(etype.__name__), str(evalue), stb)

    def ask_exit(self) -> None:
        raise SystemExit

    def system_piped(self, cmd: str) -> None:
        shell = ["sh", "-c"] if os.name == "posix" else [os.environ.get("COMSPEC", "cmd"), "/c"]
        child = subprocess.Popen(
            [*shell, self.var_expand(cmd, depth=1)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        with child:
            while child.stdout and (data := child.stdout.read(65536)):
                self.recorder.stream("stdout", decoder.decode(data))
        self.recorder.stream("stdout", decoder.decode(b"", final=True))
        self.user_ns["_exit_code"] = child.returncode

    system = system_piped


class Session:
    """Runs the cells of a notebook one after the other."""

    def __init__(self, narrator: Narrator, keeper: Keeper) -> None:
        self._narrator = narrator
        self._keeper = keeper
        self.is_ended = False
        """Whether it was asked to end."""
        self._recorder = Recorder(narrator)
        self._running: Cell | None = None
        self._is_stopped = False

    def end(self) -> None:
        """Interrupt the running cell; called by the handler of a signal."""
        self.is_ended = True
        if self._running is not None:
            raise Ended("The run was asked to end.")

    def execute(self, document: Document) -> bool:
        """Run all cells up to the first that fails, or ends the run; say whether none failed.

        CellTimedOut when one took too long.
        """
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        streams = sys.stdout, sys.stderr
        sys.stdout = Stream("stdout", 1, self._recorder)
        sys.stderr = Stream("stderr", 2, self._recorder)
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            shell = self._shell()
            return self._execute_all(document, shell, loop)
        finally:
            sys.stdout, sys.stderr = streams

    def _shell(self) -> Shell:
        config = Config()
        config.HistoryManager.enabled = False  # it would start a thread and write into the home
        shell: Shell = Shell.instance(config=config, recorder=self._recorder)
        return shell

    def _execute_all(
        self, document: Document, shell: Shell, loop: asyncio.AbstractEventLoop
    ) -> bool:
        cells = document["cells"]
        for index, cell in enumerate(cells):
            if self.is_ended:
                return False
            if is_skipped(cell):
                self._narrator.skip(cell, index, len(cells))
            if not to_execute(cell):
                continue
            self._narrator.start(cell, index, len(cells))
            if (seconds := cell_timeout()) is None:
                ok = self._execute_one(cell, shell, loop)
            else:
                late = CellTimedOut(index, seconds)
                ok = self._execute_limited(document, cell, late, shell, loop)
            if not ok:
                mark_failed(cell)
            self._narrator.end(ok)
            if not ok:
                return False
            self._keeper.between_cells(document)
            if self._is_stopped:
                return True
        return not self.is_ended

    def _execute_one(self, cell: Cell, shell: Shell, loop: asyncio.AbstractEventLoop) -> bool:
        self._recorder.begin(cell["outputs"])
        cell["execution_count"] = shell.execution_count
        try:
            self._running = cell
            ok = self._judge(loop.run_until_complete(_run(shell, cell)))
        except KeyboardInterrupt:  # it came while the cell waited for something
            ok = False
        except Ended as ended:  # it came while the cell waited for something
            ok = False
            self._recorder.error("Ended", str(ended), [str(ended)])
        finally:
            self._running = None
            self._recorder.finish()
        if self.is_ended:
            return False
        return ok or "raises-exception" in tags(cell)

    def _judge(self, result: Any) -> bool:
        self._is_stopped = is_stop(type(result.error_in_exec).__name__)
        return self._is_stopped or bool(result.success)

    def _execute_limited(
        self,
        document: Document,
        cell: Cell,
        late: CellTimedOut,
        shell: Shell,
        loop: asyncio.AbstractEventLoop,
    ) -> bool:
        """Run one cell; CellTimedOut when it is interrupted for its time, whatever it made of that.

        One that goes on all the same ends the process, with what there is of the notebook kept.
        """

        def fail() -> None:
            self._recorder.error("CellTimedOut", str(late), [str(late)])
            mark_failed(cell)
            self._narrator.end(False)

        def give_up() -> None:
            try:
                fail()
                self._keeper.at_end(document)
                print(late, file=sys.__stderr__, flush=True)
            finally:
                os._exit(late.exit_code)

        limit = Limit(late.seconds, give_up)
        ok = False
        try:
            limit.begin()
            try:
                ok = self._execute_one(cell, shell, loop)
            finally:
                limit.end()
        except KeyboardInterrupt:  # it came just when the cell had ended
            limit.end()
        if limit.is_late:
            fail()
            raise late
        return ok


async def _run(shell: Shell, cell: Cell) -> Any:
    """Run one cell in the loop, as a kernel does, so that it may await and start tasks."""
    source, failure = cell["source"], None
    transformed = source
    try:
        transformed = shell.transform_cell(source)
    except Exception:  # noqa: BLE001 - shown as the error of the cell
        failure = sys.exc_info()
    result = None
    try:
        result = await shell.run_cell_async(
            source,
            store_history=True,
            transformed_cell=transformed,
            preprocessing_exc_tuple=failure,
            cell_id=cell["id"],
        )
    finally:
        shell.events.trigger("post_execute")
        shell.events.trigger("post_run_cell", result)
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(0)  # tasks that the cell started get a turn
    return result
