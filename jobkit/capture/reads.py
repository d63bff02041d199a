"""What the text of a definition reads: names, attributes of modules, imports of its own."""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator
from dataclasses import dataclass

_COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr", "lambda")


@dataclass(frozen=True)
class Reads:
    """What a definition reads of the names around it, each in the order in which it appears."""

    early: tuple[str, ...]
    """Names that are needed when the definition is executed: decorators, defaults, bases."""
    late: tuple[str, ...]
    """Names that are needed when it is called."""
    soft: tuple[str, ...]
    """Names in annotations that are texts: nothing needs them unless somebody asks."""
    written: frozenset[str]
    """Names that it makes itself, with `global`."""
    chains: frozenset[tuple[str, ...]]
    """Dotted names, `("os", "path", "join")`; a name by itself is a chain of one."""
    imports: tuple[tuple[str, bool], ...]
    """Modules that it imports, and whether within a `try`."""


def of(source: str, is_future: bool = False) -> Reads:
    """Read the text of one definition or expression.

    `is_future`: it stood under `from __future__ import annotations`.
    """
    tree = ast.parse(source)
    head = "from __future__ import annotations\n" if is_future else ""
    table = symtable.symtable(head + source, "<captured>", "exec")
    early, late, written = set[str](), set[str](), set[str]()
    for symbol in table.get_symbols():
        if symbol.is_referenced():
            early.add(symbol.get_name())
    for child in table.get_children():
        _visit(child, True, early, late, written)
    early.discard("annotations" if is_future else "")
    soft = set(_soft(tree, is_future)) - early - late
    order = _order(tree)
    own = {node.name for node in tree.body if hasattr(node, "name")}
    return Reads(
        tuple(sorted(early - own, key=lambda name: (order.get(name, (0, 0)), name))),
        tuple(sorted(late - early, key=lambda name: (order.get(name, (0, 0)), name))),
        tuple(sorted(soft)),
        frozenset(written),
        frozenset(_chains(tree)),
        tuple(dict.fromkeys(_imports(tree, False))),
    )


def _visit(
    table: symtable.SymbolTable, is_early: bool, early: set[str], late: set[str], written: set[str]
) -> None:
    """Collect the globals that a scope reads; a class's body runs when the class is made."""
    if table.get_type() == "function" and table.get_name() not in _COMPREHENSIONS:
        is_early = False
    for symbol in table.get_symbols():
        if symbol.is_global() and symbol.is_assigned():
            written.add(symbol.get_name())
        if symbol.is_global() and symbol.is_referenced():
            (early if is_early else late).add(symbol.get_name())
    for child in table.get_children():
        _visit(child, is_early, early, late, written)


def _order(tree: ast.Module) -> dict[str, tuple[int, int]]:
    places: dict[str, tuple[int, int]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            place = (node.lineno, node.col_offset)
            places[node.id] = min(place, places.get(node.id, place))
    return places


def _chains(tree: ast.Module) -> Iterator[tuple[str, ...]]:
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and id(node) not in inner:
            parts, part = [], node
            while isinstance(part, ast.Attribute):
                parts.append(part.attr)
                part = part.value  # type: ignore[assignment]
            if isinstance(part, ast.Name):
                yield (part.id, *reversed(parts))


def _imports(node: ast.AST, is_tried: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, is_tried
    elif isinstance(node, ast.ImportFrom):
        yield "." * node.level + (node.module or ""), is_tried
    for child in ast.iter_child_nodes(node):
        yield from _imports(child, is_tried or isinstance(node, ast.Try))


def _soft(tree: ast.Module, is_future: bool) -> Iterator[str]:
    """Yield the names in annotations that are, or become, texts."""
    for node in ast.walk(tree):
        annotation = getattr(node, "annotation", None) or getattr(node, "returns", None)
        if annotation is None:
            continue
        for part in ast.walk(annotation):
            if is_future and isinstance(part, ast.Name):
                yield part.id
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield from _names_in(part.value)


def _names_in(text: str) -> Iterator[str]:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
