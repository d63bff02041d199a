"""A forked interpreter becomes the one that runs a script, as if it had just been started.

Used in the forks of a zygote; imports the standard library only, and little of it.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found] # without the words that `signal` makes of it
import atexit
import ctypes
import gc
import os
import sys
import threading
import time
import types
import weakref
from importlib.machinery import SourceFileLoader

TYPE_CHECKING = False  # typing is slow to import
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

OURS = ("_jobkit_host", "_jobkit_interpreter")
"""The modules of jobkit's own that a zygote has imported."""
UNFLUSHED = 120
"""The exit code of an interpreter that could not flush its output."""
# What an interpreter reads when it starts, or its libraries when they are imported.
AT_START = ("PYTHON", "LD_", "LC_", "LANG", "MALLOC_", "GLIBC_")


class Room:
    """The memory in which /proc/PID/environ finds the variables this program was started with.

    What a program sets later is not seen there. Once no variable lies in it any more, it shows
    what is written to it, in this process and in its forks.
    """

    def __init__(self) -> None:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        self.start, end = int(fields[47]), int(fields[48])
        self.size = end - self.start

    def free(self) -> None:
        """Move every variable elsewhere."""
        variables = dict(os.environ)
        os.environ.clear()
        os.environ.update(variables)
        self.show({})

    def show(self, variables: dict[str, str]) -> None:
        """Let these be seen, as far as they fit."""
        shown = b"".join(f"{name}={value}".encode() + b"\0" for name, value in variables.items())
        if len(shown) < self.size:
            ctypes.memmove(self.start, shown.ljust(self.size, b"\0"), self.size)


def variables_at_start() -> dict[str, str]:
    """Return the variables that this program was started with, whatever it set since (Linux)."""
    with open("/proc/self/environ", "rb") as file:
        pairs = [os.fsdecode(pair).partition("=") for pair in file.read().split(b"\0") if pair]
    return {name: value for name, _, value in pairs}


def at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which an interpreter that starts with them would be another one."""
    return {name: value for name, value in environment.items() if name.startswith(AT_START)}


def changes(environment: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that differ from this program's own; None: is to be removed."""
    changed: dict[str, str | None] = {
        name: value for name, value in environment.items() if os.environ.get(name) != value
    }
    return changed | {name: None for name in os.environ if name not in environment}


def become(order: dict[str, Any], preloaded: frozenset[str]) -> NoReturn:
    """Run a Python file as `__main__`, and end this process as an interpreter ends.

    A fork copies each page of memory that it touches, and this costs more than what it does there:
    so it touches little, and what can be prepared before the fork is (`order["changes"]`).

    1. Take on its environment, and forget what only the zygote had.
    2. Handle signals as an interpreter does that was just started.
    3. Make `__main__`, the arguments and the path.
    4. Execute; what is raised is told by the script's own frames.
    5. Wait for threads, call what is to be called at exit, let go of its objects, flush.
    """
    script, arguments = order["warm"]["script"], order["warm"]["arguments"]
    _take_on(order["changes"])
    _forget(preloaded)
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_IGN)
    _signal.signal(_signal.SIGINT, _signal.default_int_handler)
    known = frozenset(sys.modules)
    gc.freeze()  # a collection has only the script's own objects to look at
    sys.argv = [script, *arguments]
    sys.orig_argv = [sys.executable, *sys.argv]
    sys.path.insert(0, os.path.dirname(script))
    ended_by = _execute(script, _new_main(script).__dict__)
    code, is_interrupted = _exit_code(ended_by), isinstance(ended_by, KeyboardInterrupt)
    del ended_by  # its frames hold the script's objects
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    _let_go(known)
    if not _flush():
        code = code or UNFLUSHED
    if is_interrupted:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
        os.kill(os.getpid(), _signal.SIGINT)
    os._exit(code)


def _take_on(changed: dict[str, str | None]) -> None:
    for name, value in changed.items():
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value
    if "TZ" in changed:
        time.tzset()


def _forget(preloaded: frozenset[str]) -> None:
    for name in OURS:
        sys.modules.pop(name, None)
    # Seeded when it was imported, all forks would draw the same numbers.
    if "numpy.random" in preloaded:
        sys.modules["numpy.random"].seed()


def _new_main(script: str) -> types.ModuleType:
    main = types.ModuleType("__main__")
    main.__dict__.update(
        __file__=script,
        __loader__=SourceFileLoader("__main__", script),
        __builtins__=sys.modules["builtins"],
        __cached__=None,
        __annotations__={},
    )
    sys.modules["__main__"] = main
    return main


def _execute(script: str, namespace: dict[str, Any]) -> BaseException | None:
    """Execute a file; return what it raised, told already unless it is SystemExit."""
    try:
        with open(script, "rb") as file:
            code = compile(file.read(), script, "exec", dont_inherit=True)
        exec(code, namespace)
    except SystemExit as wanted:
        return wanted
    except BaseException as error:  # noqa: BLE001 - told as an interpreter tells it
        _tell(error)
        return error
    return None


def _tell(error: BaseException) -> None:
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    error.__traceback__ = traceback
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, traceback
    sys.excepthook(type(error), error, traceback)


def _exit_code(ended_by: BaseException | None) -> int:
    if ended_by is None:
        return 0
    if not isinstance(ended_by, SystemExit):
        return 1
    if ended_by.code is None or isinstance(ended_by.code, int):
        return (ended_by.code or 0) & 0xFF
    print(ended_by.code, file=sys.stderr)  # noqa: T201 - as an interpreter does
    return 1


def _let_go(known: frozenset[str]) -> None:
    """Drop what the script's modules hold: files are closed, and finalizers called.

    An interpreter that ends takes all modules down, which costs ten times as much as a fork.
    """
    names = [name for name in sys.modules if name not in known or name == "__main__"]
    sys.last_type = sys.last_value = sys.last_traceback = None
    held = [weakref.ref(sys.modules.pop(name)) for name in names if sys.modules[name] is not None]
    gc.collect()  # finalizers of what is only held by itself still find their module's names
    for module in held:
        namespace = vars(module()) if module() is not None else {}
        for is_private in (True, False):
            for name in list(namespace):
                if name != "__builtins__" and is_private == (name[0] == "_" and name[1:2] != "_"):
                    namespace[name] = None
    gc.collect()


def _flush() -> bool:
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except (OSError, ValueError):
        return False
    return True
