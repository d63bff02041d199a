"""Runs a failed run here, and stops where it stops."""

from __future__ import annotations

import linecache
import shutil
import sys
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobkit.debugging import rehearsal
from jobkit.debugging.debugged import Debugged, frames_of
from jobkit.debugging.fetched import Fetched, bring_artifacts, fetch
from jobkit.errors import BadInput
from jobkit.executors.provenance import HIDDEN

if TYPE_CHECKING:
    from jobkit.handles import Run


def debug(run: Run, *, interactive: bool | None = None) -> Debugged:
    """Run here what a run's last failed attempt ran, with its parameters and what it had left.

    1. Fetch its source: the job version's, the text that was kept of it, or the file if that is
       still the same.
    2. Put it into a temporary folder, beside what the attempt left, and secrets as `***`.
    3. Execute it in this interpreter, with the environment that the attempt had.
    4. Where it raises, open the debugger: `interactive`, by default where somebody can type.
    5. Put everything back, and return the exception, its frames and what was in them.

    Nothing of its history is changed. What it writes elsewhere, it writes again. BadInput when
    nothing failed, or when the source cannot be had.
    """
    fetched = fetch(run)
    folder = Path(tempfile.mkdtemp(prefix="jobkit-debug-")).resolve()
    try:
        found = _debugged(fetched, folder, interactive)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(found, shutil.rmtree, folder, ignore_errors=True)
    return found


def _debugged(fetched: Fetched, folder: Path, interactive: bool | None) -> Debugged:
    for place in ("artifacts", "secrets", "source"):
        (folder / place).mkdir()
    missing = bring_artifacts(fetched, folder / "artifacts")
    masked = _place_secrets(fetched, folder / "secrets")
    hidden = [f"its secrets are {HIDDEN} here: {', '.join(masked)}"] if masked else []
    environment = fetched.environment(folder) | {
        name.removeprefix("env:"): HIDDEN for name in fetched.secrets if name.startswith("env:")
    }
    copy = folder / "source" / fetched.name
    copy.write_text(fetched.text, "utf-8", errors="surrogatepass")
    file = fetched.file if fetched.file is not None and fetched.kind != "notebook" else copy
    path = [str(fetched.home)] if fetched.home is not None else []
    argv = [str(file), *fetched.arguments]
    with rehearsal.taken_on(environment, argv, path, fetched.working_dir or folder):
        names, raised, cell = _executed(fetched, file)
        linecache.checkcache()
        found = Debugged(
            run_id=fetched.run.id,
            attempt=fetched.attempt.attempt,
            job_name=fetched.run.job_name,
            name=fetched.name,
            exception=raised,
            frames=frames_of(raised, file.parent) if raised is not None else (),
            namespace=names,
            cell=cell,
            folder=folder,
            params=fetched.params,
            masked=masked,
            notes=(*fetched.notes, *missing, *hidden),
        )
        if raised is not None and (is_interactive() if interactive is None else interactive):
            found.post_mortem()
    return found


def _executed(
    fetched: Fetched, file: Path
) -> tuple[dict[str, Any], BaseException | None, int | None]:
    if fetched.kind == "notebook":
        from jobkit.executors.runners import document as documents

        try:
            document = documents.load(file)
            documents.inject(document, fetched.params)
        except documents.BadNotebook as error:
            raise BadInput(str(error), "Correct the notebook.") from None
        return rehearsal.run_cells(document, file.parent)
    if fetched.kind == "function":
        called = rehearsal.call_function(file, fetched.text, fetched.function or "", fetched.params)
        return (*called, None)
    return (*rehearsal.run_script(file, fetched.text), None)


def _place_secrets(fetched: Fetched, folder: Path) -> tuple[str, ...]:
    names = tuple(name.removeprefix("env:") for name in fetched.secrets)
    for name in names:
        (folder / name).write_text(HIDDEN, "utf-8")
    return names


def is_interactive() -> bool:
    """Say whether somebody can type here: a terminal, or a notebook that takes input."""
    if "IPython" in sys.modules:
        from IPython.core.getipython import get_ipython

        kernel = getattr(get_ipython(), "kernel", None)
        if kernel is not None:
            return bool(getattr(kernel, "_allow_stdin", False))
        if get_ipython() is None:
            return False
        return sys.stdin is not None and sys.stdin.isatty()
    return hasattr(sys, "ps1") and sys.stdin.isatty()
