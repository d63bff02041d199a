"""A notebook as its JSON: read, given parameters, marked and written; knows no Jupyter library."""

from __future__ import annotations

import json
import keyword
import os
import re
import tempfile
from collections.abc import Mapping
from difflib import unified_diff
from pathlib import Path
from typing import Any

PARAMETERS = "parameters"
INJECTED = "injected-parameters"
SKIP = "skip"
FAILED = "jobkit.failed"

Cell = dict[str, Any]
Document = dict[str, Any]


class BadNotebook(Exception):
    """The notebook, or what was asked of it, is wrong; the text is for its author."""


def load(path: Path) -> Document:
    """Read a notebook as version 4.5, without outputs or marks of an earlier execution.

    BadNotebook for what is no notebook, and for an old one where nbformat is missing.
    """
    try:
        document: Document = json.loads(path.read_bytes())
        version = document["nbformat"] if isinstance(document, dict) else None
    except (ValueError, KeyError):
        version = None
    if not isinstance(version, int):
        raise BadNotebook(f"{path.name} is not a notebook: it must be JSON with `nbformat`.")
    if version < 4:
        document = _converted(path)
    document.setdefault("metadata", {})
    document["nbformat_minor"] = max(5, document.get("nbformat_minor", 0))
    for index, cell in enumerate(document.get("cells", ())):
        _reset(cell, index)
    return document


def _converted(path: Path) -> Document:
    try:
        import nbformat
    except ImportError:
        raise BadNotebook(
            f"{path.name} is of an old format. Run: pip install 'jobkit[notebook]'"
        ) from None
    document: Document = json.loads(nbformat.writes(nbformat.read(path, as_version=4)))
    return document


def _reset(cell: Cell, index: int) -> None:
    cell.setdefault("metadata", {})
    cell.setdefault("id", f"cell-{index}")
    cell["source"] = _joined(cell.get("source", ""))
    if tags(cell) and FAILED in tags(cell):
        cell["metadata"]["tags"] = [tag for tag in tags(cell) if tag != FAILED]
    if cell.get("cell_type") == "code":
        cell["outputs"], cell["execution_count"] = [], None


def tags(cell: Cell) -> list[str]:
    """Return the tags of a cell."""
    found = cell["metadata"].get("tags", [])
    return found if isinstance(found, list) else []


def to_execute(cell: Cell) -> bool:
    """Say whether it is code that is neither empty nor tagged `skip`."""
    return (
        cell.get("cell_type") == "code" and SKIP not in tags(cell) and bool(cell["source"].strip())
    )


def is_skipped(cell: Cell) -> bool:
    """Say whether it is code that only its tag `skip` keeps from running."""
    return cell.get("cell_type") == "code" and SKIP in tags(cell) and bool(cell["source"].strip())


def language(document: Document) -> str:
    """Return the language of a notebook in lower case; `python` where it says nothing."""
    metadata = document["metadata"]
    spec = metadata.get("kernelspec", {})
    named = spec.get("language") or metadata.get("language_info", {}).get("name")
    if not named:
        kernel = str(spec.get("name", ""))
        named = "python" if not kernel or kernel.startswith("python") else kernel
    return str(named).lower()


def wants_kernel(document: Document) -> bool:
    """Say whether its metadata asks for a kernel of its own: `"jobkit": {"kernel": true}`."""
    metadata = document["metadata"]
    ours = metadata.get("jobkit")
    return bool(metadata.get("jobkit.kernel") or (isinstance(ours, dict) and ours.get("kernel")))


def inject(document: Document, params: Mapping[str, Any]) -> None:
    """Put parameters into a cell after the one tagged `parameters`, else before all others.

    BadNotebook for a name that Python does not take, and for a notebook of another language.
    """
    cells = document["cells"]
    cells[:] = [cell for cell in cells if INJECTED not in tags(cell)]
    if not params:
        return
    if language(document) != "python":
        raise BadNotebook(
            f"This notebook is written in {language(document)}, and parameters can be put into "
            "Python ones only. Read the environment variable JOBKIT_PARAMS (JSON) in it."
        )
    tagged = [index for index, cell in enumerate(cells) if PARAMETERS in tags(cell)]
    cells.insert(
        tagged[0] + 1 if tagged else 0,
        {
            "cell_type": "code",
            "id": INJECTED,
            "metadata": {"tags": [INJECTED]},
            "source": "# Parameters\n" + "\n".join(_assigned(*item) for item in params.items()),
            "outputs": [],
            "execution_count": None,
        },
    )


def _assigned(name: str, value: Any) -> str:
    if not name.isidentifier() or keyword.iskeyword(name):
        raise BadNotebook(f"The parameter {name!r} is no name that Python takes.")
    return f"{name} = {literal(value)}"


def literal(value: Any) -> str:
    """Write a JSON value as Python that evaluates to it and to nothing else."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {literal(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(literal, value)) + "]"
    if isinstance(value, float) and (value != value or value in (float("inf"), -float("inf"))):
        return f"float({str(value)!r})"
    return repr(value)


def mark_failed(cell: Cell) -> None:
    """Tag the cell that failed."""
    if FAILED not in tags(cell):
        cell["metadata"]["tags"] = [*tags(cell), FAILED]


def correct(cell: Cell, source: str, edit: dict[str, Any]) -> None:
    """Put another source into a cell that failed; its metadata tell what was there before."""
    ours = cell["metadata"].setdefault("jobkit", {})
    diff = unified_diff(
        cell["source"].splitlines(), source.splitlines(), "before", "after", lineterm=""
    )
    ours.setdefault("edits", []).append({**edit, "before": cell["source"], "diff": "\n".join(diff)})
    cell["metadata"]["tags"] = [tag for tag in tags(cell) if tag != FAILED]
    cell["source"], cell["outputs"], cell["execution_count"] = source, [], None


def save(document: Document, path: Path) -> None:
    """Write a notebook in the way of Jupyter, at once: whoever opens the file finds all of it."""
    text = json.dumps(_for_disk(document), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".notebook-")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogatepass") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _for_disk(document: Document) -> Document:
    cells = []
    for cell in document["cells"]:
        written = dict(cell, source=cell["source"].splitlines(keepends=True))
        if "outputs" in cell:
            written["outputs"] = [_output_for_disk(output) for output in cell["outputs"]]
        cells.append(written)
    return dict(document, cells=cells)


def _output_for_disk(output: dict[str, Any]) -> dict[str, Any]:
    written = dict(output)
    if isinstance(written.get("text"), str):
        written["text"] = written["text"].splitlines(keepends=True)
    if isinstance(written.get("data"), dict):
        written["data"] = {
            mime: value.splitlines(keepends=True)
            if isinstance(value, str) and re.match(r"text/|image/svg", mime)
            else value
            for mime, value in written["data"].items()
        }
    return written


def _joined(source: Any) -> str:
    return "".join(source) if isinstance(source, list) else str(source)
