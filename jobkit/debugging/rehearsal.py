"""Executes a script, a function or the cells of a notebook in this interpreter, in a fresh module.

The environment, the arguments, the folder and `__main__` are those of the attempt meanwhile.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from jobkit.executors.runners.document import Document, to_execute


@contextmanager
def taken_on(
    environment: Mapping[str, str], argv: Sequence[str], path: Sequence[str], cwd: Path | None
) -> Iterator[None]:
    """Be like the attempt's process; all of it is put back, whatever happens."""
    before = dict(os.environ), sys.argv[:], sys.path[:], sys.modules.get("__main__"), Path.cwd()
    known = set(sys.modules)
    try:
        os.environ.update(environment)
        sys.argv[:], sys.path[:0] = list(argv), list(path)
        if cwd is not None:
            os.chdir(cwd)
        yield
    finally:
        for name in set(os.environ) - set(before[0]):
            del os.environ[name]
        os.environ.update(before[0])
        sys.argv[:], sys.path[:] = before[1], before[2]
        if before[3] is not None:
            sys.modules["__main__"] = before[3]
        os.chdir(before[4])
        _forget_siblings(known, path)


def _forget_siblings(known: set[str], path: Sequence[str]) -> None:
    """Let modules beside the script be imported anew by the next rehearsal, edited or not."""
    folders = [Path(folder).resolve() for folder in path if folder]
    for name in set(sys.modules) - known:
        file = getattr(sys.modules[name], "__file__", None)
        if file and any(Path(file).resolve().parent == folder for folder in folders):
            del sys.modules[name]


def run_script(file: Path, text: str) -> tuple[dict[str, Any], BaseException | None]:
    """Execute a script as `__main__`; return its names, and what it raised."""
    module = _module("__main__", file)
    return vars(module), _raised(lambda: _execute(_compiled(text, file), vars(module)))


def call_function(
    file: Path, text: str, name: str, params: Mapping[str, Any]
) -> tuple[dict[str, Any], BaseException | None]:
    """Execute a file as a module, and call a function of it; return its names, and what it raised.

    A function that a coroutine comes of is awaited.
    """
    from jobkit.executors.runners.function import check, find

    module = _module(file.stem if file.stem not in sys.modules else f"_{file.stem}", file)

    def call() -> None:
        _execute(_compiled(text, file), vars(module))
        function = find(module, name, file)
        check(function, name, params)
        value = function(**params)
        if inspect.iscoroutine(value):
            _await(value)

    raised = _raised(call)
    sys.modules.pop(module.__name__, None)
    return vars(module), raised


def run_cells(
    document: Document, folder: Path
) -> tuple[dict[str, Any], BaseException | None, int | None]:
    """Execute a notebook's cells in their order; return names, what a cell raised, and its number.

    Magics are this shell's, where there is one.
    """
    module = _module("__main__", folder / "notebook")
    names = vars(module)
    names.update(_shell_names())
    for index, cell in enumerate(document["cells"]):
        if not to_execute(cell):
            continue
        file = folder / f"cell-{index + 1}.py"
        raised = _raised(lambda cell=cell, file=file: _execute_cell(cell["source"], file, names))  # type: ignore[misc]
        if raised is not None and "raises-exception" not in cell["metadata"].get("tags", []):
            return names, raised, index + 1
    return names, None, None


def _execute_cell(source: str, file: Path, names: dict[str, Any]) -> None:
    text = _transformed(source)
    file.write_text(text, "utf-8", errors="surrogatepass")
    tree = compile(text, str(file), "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    last = tree.body[-1] if tree.body else None
    shown = isinstance(last, ast.Expr) and not source.rstrip().endswith(";")
    body = tree.body[:-1] if shown else tree.body
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    _execute(compile(ast.Module(body, []), str(file), "exec", flags), names)
    if shown and isinstance(last, ast.Expr):
        value = _execute(compile(ast.Expression(last.value), str(file), "eval", flags), names)
        if value is not None:
            _display(value)


def _execute(code: CodeType, names: dict[str, Any]) -> Any:
    value = eval(code, names)  # noqa: S307 - it is the code of the run
    return _await(value) if code.co_flags & inspect.CO_COROUTINE else value


def _await(coroutine: Any) -> Any:
    """Run a coroutine to its end in a thread of its own: a loop may run here already."""
    ended: list[Any] = []

    def run() -> None:
        try:
            ended.append((asyncio.run(coroutine), None))
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            ended.append((None, error))

    thread = threading.Thread(target=run, name="jobkit-debug")
    thread.start()
    thread.join()
    value, error = ended[0]
    if error is not None:
        raise error
    return value


def _transformed(source: str) -> str:
    """Let magics be calls, as a notebook's shell does."""
    try:
        from IPython.core.inputtransformer2 import TransformerManager
    except ImportError:
        return source
    return TransformerManager().transform_cell(source)


def _shell_names() -> dict[str, Any]:
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        return {}
    return {"get_ipython": get_ipython, "display": display}


def _display(value: Any) -> None:
    names = _shell_names()
    if names and names["get_ipython"]() is not None:
        names["display"](value)
    else:
        print(repr(value))  # noqa: T201 - as a notebook shows it


def _module(name: str, file: Path) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(__file__=str(file), __builtins__=builtins)
    sys.modules[name] = module
    return module


def _compiled(text: str, file: Path) -> CodeType:
    return compile(text, str(file), "exec", dont_inherit=True)


def _raised(act: Callable[[], object]) -> BaseException | None:
    """Return what an act raises; an end with the exit code 0 is none."""
    try:
        act()
    except SystemExit as wanted:
        return None if wanted.code in (None, 0) else wanted
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        return error
    return None
