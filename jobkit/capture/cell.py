"""A notebook's cell as a function: its text is the body, what it reads of other cells is global."""

from __future__ import annotations

import ast
import keyword
import linecache
import re
from collections.abc import Mapping
from types import FunctionType
from typing import Any

from jobkit.errors import BadInput

_MAGIC = re.compile(r"^\s*(?:[%!?]|\w+\s*=\s*[%!])|\?\s*$")


def as_function(
    text: str, namespace: dict[str, Any], name: str, params: Mapping[str, Any]
) -> FunctionType:
    """Return a function that runs a cell; `params` are its parameters, with their defaults.

    `namespace` holds what other cells made; nothing of it changes. BadInput for a cell that is no
    Python, or that cannot stand in a function.
    """
    tree = _parsed(text)
    for parameter in params:
        if not parameter.isidentifier() or keyword.iskeyword(parameter):
            raise BadInput(f"{parameter!r} cannot name a parameter.", "Use letters, digits and _.")
    function = re.sub(r"\W", "_", name)
    function = f"job_{function}" if not function.isidentifier() else function
    given = ", ".join(f"{parameter}={value!r}" for parameter, value in params.items())
    kind = "async def" if _awaits(tree) else "def"
    source = f"{kind} {function}({given}):\n" + _indented(text, tree)
    filename = f"<job {name}>"
    try:
        code = compile(source, filename, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise BadInput(f"The cell cannot be a job: {error.msg}.", "Change that line.") from None
    lines = source.splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)
    made: dict[str, Any] = {}
    # The function's globals are the notebook's, and its name is not put among them.
    exec(code, namespace, made)  # noqa: S102 - it only defines what the user's own cell says
    defined: FunctionType = made[function]
    return defined


def _parsed(text: str) -> ast.Module:
    for number, line in enumerate(text.splitlines(), 1):
        if _MAGIC.search(line) and not _is_python(text):
            raise BadInput(
                f"Line {number} of the cell is no Python: {line.strip()!r}.",
                "A job's script knows no magics: write it in Python, or run the notebook as a job.",
            )
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise BadInput(
            f"Line {error.lineno} of the cell is no Python: {error.msg}.", "Correct it."
        ) from None
    if not tree.body:
        raise BadInput("The cell is empty.", "Write what the job does below the first line.")
    return tree


def _is_python(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True


def _awaits(tree: ast.Module) -> bool:
    """Say whether the cell awaits outside of its own functions."""
    waiting = list[ast.AST](tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            return True
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return False


def _indented(text: str, tree: ast.Module) -> str:
    """Indent a text by one step, but not the lines that begin within a string."""
    within: set[int] = set()
    for node in ast.walk(tree):
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str | bytes)
        if is_text or isinstance(node, ast.JoinedStr):
            first, last = vars(node)["lineno"], vars(node)["end_lineno"]
            within.update(range(first + 1, last + 1))
    lines = text.rstrip().splitlines()
    return "".join(
        f"{line}\n" if number in within or not line.strip() else f"    {line}\n"
        for number, line in enumerate(lines, 1)
    )
