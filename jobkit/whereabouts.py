"""Where a function was defined: the notebook and the cell, else the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jobkit.ipython import shell


def defined_in(function: Callable[..., Any], opening: str | None = None) -> str | None:
    """Say where people find a function: `report.ipynb, cell 4`, `jobs.py`; None when unknown.

    The cell is counted in the saved notebook, so that running it again says the same. `opening` is
    the first line of its cell, where that is a magic and the cell does not write the function.
    """
    running = shell()
    code = getattr(function, "__code__", None)
    if running is None or function.__module__ != "__main__":
        return Path(code.co_filename).name if code is not None else None
    given = running.user_ns.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    if not given:
        return "a notebook"
    cell = _cell(Path(str(given)), function.__name__, opening)
    return f"{Path(str(given)).name}, cell {cell}" if cell else Path(str(given)).name


def _cell(notebook: Path, name: str, opening: str | None) -> int | None:
    """Return the number, from 1, of the last cell that defines a name, or opens with a line."""
    try:
        document = json.loads(notebook.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    number = None
    for count, cell in enumerate(document.get("cells", ()), 1):
        text = "".join(cell.get("source", ()))
        if opening is None:
            is_it = f"def {name}(" in text
        else:
            is_it = text.lstrip().partition("\n")[0].split() == opening.split()
        number = count if is_it else number
    return number
