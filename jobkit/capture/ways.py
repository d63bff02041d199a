"""The way out for what cannot travel, by what it is."""

from __future__ import annotations

import inspect
import io
import types
from typing import Any

_BY_WORD = (
    (("DataFrame", "LazyFrame", "Series", "ndarray", "Table"), "frame"),
    (("Connection", "Engine", "Session", "Client", "Cursor", "Kit", "Pool", "socket"), "opened"),
)
_WAYS = {
    "frame": "Read it inside the function, or pass what selects it as a parameter: {name}_path=...",
    "opened": "Open it inside the function",
}


def way_out(value: Any, name: str) -> str:
    """Say what to do instead, naming the thing."""
    kind = type(value).__name__
    for words, way in _BY_WORD:
        if any(word.lower() in kind.lower() for word in words):
            return _WAYS[way].format(name=name)
    if isinstance(value, io.IOBase):
        return "Open the file inside the function, and pass its path as a parameter"
    if inspect.isgenerator(value) or hasattr(value, "__next__"):
        return "Make it inside the function; what was taken from it already is gone"
    if isinstance(value, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        return "Define it with `def` in a cell or a file"
    if isinstance(value, type):
        return "Define it with a `class` statement in a cell or a file"
    return f"Make it inside the function, write it as a literal, or pass {name!r} as a parameter"


def shown_by(name: str) -> str:
    """Say what to use instead of what only a notebook has."""
    return {
        "display": "Print it, or return it: the result is kept with the run",
        "get_ipython": "Write magics and `!` lines as Python: subprocess.run(...)",
    }.get(name, "Give the value a name of its own, as a literal")
