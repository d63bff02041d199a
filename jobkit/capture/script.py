"""The script that a captured function becomes: a block for uv, imports, pieces, the main part."""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

FLOOR = (3, 11)
# What only our own checks of types and style read in entry.py.
_FOR_OTHERS = {"dict[str, Any]": "dict", ": Any": "", " -> Any": "", "  # noqa: BLE001 -": "  #"}


@dataclass
class Piece:
    """One name of the script and the text that makes it."""

    name: str
    text: str
    early: tuple[str, ...] = ()
    """Names that must be there before this text is executed."""
    late: tuple[str, ...] = ()
    """Names that must be there before what it makes is called."""
    is_constant: bool = False
    members: dict[str, str] = field(default_factory=dict)
    """Of a module beside the notebook: what is read of it, by attribute, under which name."""


def write(
    name: str,
    pieces: Mapping[str, Piece],
    imports: Iterable[str],
    dependencies: Sequence[str],
    *,
    is_future: bool,
) -> str:
    """Return the text of the script whose main part calls the function of this name."""
    ordered = in_order(name, pieces)
    first = [piece.text for piece in ordered if piece.is_constant and not piece.early]
    rest = [piece for piece in ordered if not piece.is_constant or piece.early]
    lines = sorted(set(imports), key=lambda line: (not line.startswith("import"), line))
    parts = ["".join(f"{line}\n" for line in lines)] if lines else []
    if first:
        parts.append("".join(first))
    body = "\n".join(parts)
    for piece in rest:
        body += f"{chr(10) * 2 if body else ''}{piece.text}"
    body += f'\n\n{_entry()}\n\n\nif __name__ == "__main__":\n'
    body += f"    _jobkit_keep({name}(**_jobkit_params({name})))\n"
    head = "from __future__ import annotations\n\n" if is_future else ""
    return block(dependencies, floor(body)) + "\n" + head + body


def block(dependencies: Sequence[str], python: tuple[int, int]) -> str:
    """Return the `# /// script` block (PEP 723)."""
    lines = [f'# requires-python = ">={python[0]}.{python[1]}"\n']
    if dependencies:
        lines.append("# dependencies = [\n")
        lines += [f'#     "{item}",\n' for item in dependencies]
        lines.append("# ]\n")
    return "# /// script\n" + "".join(lines) + "# ///\n"


def floor(body: str) -> tuple[int, int]:
    """Return the oldest Python, of those that jobkit knows, whose grammar takes a text."""
    for minor in range(FLOOR[1], sys.version_info[1]):
        try:
            ast.parse(body, feature_version=(3, minor))
        except SyntaxError:
            continue
        return 3, minor
    return 3, sys.version_info[1]


def in_order(root: str, pieces: Mapping[str, Piece]) -> list[Piece]:
    """Return the pieces so that each comes after what it needs, the function last if it can.

    What a piece needs early must be there with all that it needs itself: a decorator is called.
    """
    wished: list[str] = []
    _deepest_first(root, pieces, set(), wished)
    placed: dict[str, Piece] = {}
    for name in wished:
        _place(name, pieces, placed, set())
    return list(placed.values())


def _deepest_first(name: str, pieces: Mapping[str, Piece], seen: set[str], out: list[str]) -> None:
    if name in seen or name not in pieces:
        return
    seen.add(name)
    for needed in (*pieces[name].early, *pieces[name].late):
        _deepest_first(needed, pieces, seen, out)
    out.append(name)


def _place(
    name: str, pieces: Mapping[str, Piece], placed: dict[str, Piece], begun: set[str]
) -> None:
    if name in begun or name in placed or name not in pieces:
        return
    begun.add(name)
    for needed in pieces[name].early:
        _ready(needed, pieces, placed, begun, set())
    placed.setdefault(name, pieces[name])


def _ready(
    name: str,
    pieces: Mapping[str, Piece],
    placed: dict[str, Piece],
    begun: set[str],
    seen: set[str],
) -> None:
    """Place a piece with all that it needs to be called."""
    if name in seen or name not in pieces:
        return
    seen.add(name)
    _place(name, pieces, placed, begun)
    for needed in (*pieces[name].early, *pieces[name].late):
        _ready(needed, pieces, placed, begun, seen)


@functools.cache
def _entry() -> str:
    """Return the functions of entry.py as text."""
    source = files("jobkit.capture").joinpath("entry.py").read_text("utf-8")
    tree = ast.parse(source)
    lines = source.splitlines()
    first = next(node.lineno for node in tree.body if isinstance(node, ast.FunctionDef))
    text = "\n".join(lines[first - 1 :]).rstrip()
    for ours, theirs in _FOR_OTHERS.items():
        text = text.replace(ours, theirs)
    return text
