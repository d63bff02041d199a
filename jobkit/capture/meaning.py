"""What names mean while a function is captured: behind decorators, closures and imports."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import sys
import types
from collections.abc import Mapping
from typing import Any

from jobkit.capture import origins, texts

MISSING = object()


def underlying(value: Any) -> Any:
    """Return the function of what `@jobkit.job` made, any other value as it is."""
    return value.function if hasattr(type(value), "__jobkit_definition__") else value


def is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    plain = (str, int, float, bool, bytes, list, tuple, dict, set, frozenset, type(None))
    return type(one) is type(other) and isinstance(one, plain) and bool(one == other)


def is_of_ipython(value: Any) -> bool:
    module = getattr(value, "__module__", None) or type(value).__module__
    return str(module).partition(".")[0] in ("IPython", "ipykernel") and not isinstance(value, type)


def names_around(function: types.FunctionType) -> dict[str, Any]:
    """Return what the names of a function mean: builtins, its module, what it closes over."""
    around = {**vars(builtins), **function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            around[name] = cell.cell_contents
        except ValueError:  # not bound yet
            around.pop(name, None)
    return around


def undecorated(name: str, value: Any) -> types.FunctionType | None:
    """Return the function whose `def` made a value, also where decorators hide it."""
    inner = inspect.unwrap(value) if callable(value) and hasattr(value, "__wrapped__") else value
    if not isinstance(inner, types.FunctionType):
        return None
    if inner.__name__ != name and "<locals>" in inner.__qualname__:
        for cell in inner.__closure__ or ():
            content = _content(cell)
            if isinstance(content, types.FunctionType) and content.__name__ == name:
                return undecorated(name, content)
    return inner


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return None


def older_base(node: ast.ClassDef, value: type, around: Mapping[str, Any]) -> str | None:
    """Return the name of a base class that was defined anew since this class was made."""
    for base in node.bases:
        now = around.get(base.id) if isinstance(base, ast.Name) else None
        known = {item.__name__ for item in value.__mro__}
        if isinstance(now, type) and now not in value.__mro__ and now.__name__ in known:
            return now.__name__
    return None


def a_method(value: type) -> types.FunctionType | None:
    for member in vars(value).values():
        if isinstance(member, types.FunctionType) and member.__module__ == value.__module__:
            return member
    return None


def own_decorators(node: texts.Definition, around: Mapping[str, Any]) -> list[ast.expr]:
    """Return the decorators of a definition that are jobkit's own."""
    found = []
    for decorator in node.decorator_list:
        part: ast.expr = decorator.func if isinstance(decorator, ast.Call) else decorator
        path: list[str] = []
        while isinstance(part, ast.Attribute):
            path.insert(0, part.attr)
            part = part.value
        value = around.get(part.id) if isinstance(part, ast.Name) else None
        value = functools.reduce(lambda value, name: getattr(value, name, None), path, value)
        if getattr(value, "__jobkit_decorator__", False):
            found.append(decorator)
    return found


def written_import(name: str, value: Any, namespace: Mapping[str, Any]) -> tuple[str, str] | None:
    """Find the `from ... import` that bound a name, as its author wrote it."""
    for text in texts.of_namespace(namespace):
        for node in ast.walk(text.tree):
            if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
                continue
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    home = sys.modules.get(node.module)
                    if getattr(home, alias.name, MISSING) is value:
                        return node.module, alias.name
    return None


def defined_home(name: str, value: Any) -> tuple[str, str] | None:
    """Find the public home of a class or a function of an installed package."""
    is_plain = isinstance(value, type | types.FunctionType | types.BuiltinFunctionType)
    if not is_plain and not (callable(value) and hasattr(value, "__wrapped__")):
        is_plain = type(value).__module__ == "typing" and hasattr(value, "_name")
    if is_plain or hasattr(value, "__wrapped__"):
        home = origins.public_home(value, name)
        if home and "." not in home[1] and origins.of(home[0]).kind != "local":
            return home
    return None
