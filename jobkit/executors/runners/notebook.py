"""Runs a notebook: `python notebook.py FILE NAME [ARGUMENT...]`.

Parameters come from JOBKIT_PARAMS, the executed notebook goes to JOBKIT_ARTIFACTS under its name,
also when a cell fails, when the kernel dies and when the process is asked to end. The exit code is
1 after a cell that failed, 137 after a kernel that was killed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jobkit.executors.runners import document as documents
    from jobkit.executors.runners import inprocess, kernel

SAVING_SHARE = 0.05
SAVING_FREE_SECONDS = 0.05


class Keeper:
    """Writes the notebook after cells too, so that a process that is killed leaves it behind."""

    def __init__(self, path: Path | None, write: Callable[[Any, Path], None]) -> None:
        self._path = path
        self._write = write
        self._began_at = time.monotonic()
        self._spent = 0.0

    def between_cells(self, document: Any, *, at_once: bool = False) -> None:
        """Write it, unless writing took more than a twentieth of the time so far."""
        elapsed = time.monotonic() - self._began_at
        if at_once or self._spent <= SAVING_FREE_SECONDS + elapsed * SAVING_SHARE:
            self.at_end(document)

    def at_end(self, document: Any) -> None:
        """Write it."""
        started_at = time.monotonic()
        if self._path is not None:
            self._write(document, self._path)
        self._spent += time.monotonic() - started_at


def main(path: Path, name: str, arguments: list[str]) -> int:
    """Run it and return the exit code."""
    sys.path[0] = str(path.parent)
    sys.path.insert(1, "")
    with siblings():
        from jobkit.executors.runners import cells
        from jobkit.executors.runners import document as documents

        try:
            document = documents.load(path)
            documents.inject(document, json.loads(os.environ.get("JOBKIT_PARAMS") or "{}"))
            engine = choose(documents, document)
        except documents.BadNotebook as error:
            return fail(str(error))
    sys.argv = [str(path), *arguments]
    artifacts = os.environ.get("JOBKIT_ARTIFACTS")
    keeper = Keeper(
        Path(artifacts, Path(name).stem + ".ipynb") if artifacts else None, documents.save
    )
    session = engine.Session(cells.Narrator(), keeper)
    return run(session, document, keeper, documents)


@contextmanager
def siblings() -> Iterator[None]:
    """Let this folder's modules be imported under their names, and nothing else of jobkit.

    The interpreter may be one that has no jobkit, or another; the user's `import jobkit` finds it.
    """
    if __name__ != "__main__" or "jobkit.executors.runners" in sys.modules:
        yield  # imported before the fork
        return
    folder = Path(__file__).resolve().parent
    before = {name: sys.modules.pop(name) for name in list(sys.modules) if is_ours(name)}
    for name, place in (
        ("jobkit", folder.parents[1]),
        ("jobkit.executors", folder.parent),
        ("jobkit.executors.runners", folder),
    ):
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(place)]
    try:
        yield
    finally:
        for name in list(filter(is_ours, sys.modules)):
            del sys.modules[name]
        sys.modules.update(before)


def is_ours(name: str) -> bool:
    """Say whether a module is part of jobkit."""
    return name.partition(".")[0] == "jobkit"


def choose(documents: Any, document: documents.Document) -> Any:
    """Return what runs a notebook; BadNotebook when the libraries for it are missing."""
    has_ipython, has_nbclient = map(importlib.util.find_spec, ("IPython", "nbclient"))
    in_python = documents.language(document) == "python"
    wants_kernel = documents.wants_kernel(document) or bool(os.environ.get("JOBKIT_KEEP_KERNEL"))
    if in_python and has_ipython and not wants_kernel:
        from jobkit.executors.runners import inprocess

        return inprocess
    if has_nbclient:
        from jobkit.executors.runners import kernel

        return kernel
    raise documents.BadNotebook(
        f"Nothing here runs this notebook: {sys.executable} lacks "
        f"{'IPython' if in_python else 'nbclient'}. Run: pip install 'jobkit[notebook]'"
    )


def run(
    session: inprocess.Session | kernel.Session, document: Any, keeper: Keeper, documents: Any
) -> int:
    """Run all cells, keep the notebook whatever happens, and return the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: session.end())
    code = 0
    try:
        code = 0 if session.execute(document) else 1
    except documents.BadNotebook as error:
        code = fail(str(error))
    except Exception as error:  # noqa: BLE001 - whatever it is, the notebook is kept
        code = fail(str(error) or repr(error))
        code = getattr(error, "exit_code", code)
    except BaseException:
        if not session.is_ended:
            raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        keeper.at_end(document)
    if session.is_ended:
        end_by_signal()
    return code


def end_by_signal() -> None:
    """End as a process does that lets the signal end it."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def fail(message: str) -> int:
    """Say on stderr what is wrong."""
    print(message, file=sys.stderr, flush=True)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
