"""Texts of scripts and notebooks, and what differs between two of them. Pure."""

from __future__ import annotations

import json
from difflib import unified_diff


def diff(before: str, after: str, name: str) -> str:
    """Return a unified diff of two texts; of notebooks it is one of their cells' sources."""
    if name.endswith(".ipynb"):
        before, after = as_script(before), as_script(after)
    worked = f"{name}, when it worked"
    texts = before.splitlines(), after.splitlines()
    return "\n".join(unified_diff(*texts, worked, name, lineterm=""))


def summary(diff_: str) -> str:
    """Say how much a diff changes: `, 2 lines added, 1 removed`."""
    body = diff_.splitlines()[2:]
    added = sum(line.startswith("+") for line in body)
    removed = sum(line.startswith("-") for line in body)
    parts = [f"{added} line{_s(added)} added"] if added else []
    if removed:
        parts.append(f"{removed} removed" if added else f"{removed} line{_s(removed)} removed")
    return "".join(f", {part}" for part in parts)


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def as_script(notebook: str) -> str:
    """Write a notebook's cells one below the other, without outputs; other text stays as it is."""
    try:
        cells = json.loads(notebook)["cells"]
        return "\n".join(_cell(cell) for cell in cells)
    except (ValueError, KeyError, TypeError, AttributeError):
        return notebook


def _cell(cell: dict[str, object]) -> str:
    source = cell.get("source", "")
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    kind = "" if cell.get("cell_type") == "code" else f" [{cell.get('cell_type')}]"
    return f"# %%{kind}\n{text}"
