"""Where the text of running code is: in files, and in the cells of a notebook."""

from __future__ import annotations

import ast
import functools
import io
import linecache
import sys
import textwrap
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType
from typing import Any

from jobkit.ipython import shell

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
# Where tokens begin and end that may span lines whose spaces mean something.
_OPENS = {"FSTRING_START", "TSTRING_START"}
_CLOSES = {"FSTRING_END", "TSTRING_END"}


@dataclass(frozen=True)
class Text:
    """A file or a cell, parsed."""

    source: str
    tree: ast.Module

    @property
    def lines(self) -> list[str]:
        """Its lines, each with its end."""
        return self.source.splitlines(keepends=True)


@functools.lru_cache(maxsize=512)
def parsed(source: str) -> Text | None:
    """Parse a text, once for each; None when it is no Python."""
    try:
        return Text(source, ast.parse(source))
    except (SyntaxError, ValueError):
        return None


def of_file(filename: str) -> Text | None:
    """Return the text that a file, or a cell by the name that its code carries, holds now."""
    linecache.checkcache(filename)
    lines = linecache.getlines(filename)
    return parsed("".join(lines)) if lines else None


def cells() -> list[Text]:
    """Return the cells that were run, the latest first, as the Python that they became."""
    running = shell()
    history = getattr(getattr(running, "history_manager", None), "input_hist_parsed", None) or ()
    return [text for source in reversed(list(history)) if source and (text := parsed(source))]


def of_namespace(namespace: Mapping[str, Any]) -> list[Text]:
    """Return the texts whose top level made a module's names, the latest first."""
    running = shell()
    if running is not None and namespace.get("__name__") == "__main__":
        return cells()
    filename = namespace.get("__file__")
    text = of_file(filename) if isinstance(filename, str) else None
    return [text] if text else []


def function(code: CodeType) -> tuple[Text, ast.AST] | None:
    """Find the `def` or the lambda that became this code; None when its text is not to be had."""
    text = of_file(code.co_filename)
    if text is None:
        return None
    if code.co_name == "<lambda>":
        found = [node for node in _lambdas(text, code.co_firstlineno) if _is_of(node, code)]
        same = {ast.dump(node) for node in found}
        return (text, found[0]) if len(same) == 1 else None
    for node in ast.walk(text.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == code.co_name:
            first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
            if first == code.co_firstlineno:
                return text, node
    return None


def _lambdas(text: Text, line: int) -> Iterator[ast.Lambda]:
    for node in ast.walk(text.tree):
        if isinstance(node, ast.Lambda) and node.lineno == line:
            yield node


def _is_of(node: ast.Lambda, code: CodeType) -> bool:
    """Say whether a lambda compiles to this code, wherever it stood."""
    alone = compile(ast.Expression(node), "<lambda>", "eval").co_consts[0]
    if code.co_freevars:  # what it closes over is a global when it stands alone
        return bool(alone.co_varnames == code.co_varnames)
    return _shape(alone) == _shape(code)


def _shape(code: CodeType) -> tuple[Any, ...]:
    consts = tuple(
        _shape(item) if isinstance(item, CodeType) else (type(item), item)
        for item in code.co_consts
    )
    return code.co_code, code.co_names, code.co_varnames, consts


def class_(value: type) -> tuple[Text, ast.ClassDef] | None:
    """Find the `class` statement that made a class; None when its text is not to be had.

    By a method of it, else the latest of its module or notebook that has the same members.
    """
    *outer, name = value.__qualname__.split(".")
    for member in vars(value).values():
        code = getattr(getattr(member, "__func__", member), "__code__", None)
        if isinstance(code, CodeType) and (text := of_file(code.co_filename)):
            for node in _classes(text.tree, name):
                if node.lineno <= code.co_firstlineno <= (node.end_lineno or 0):
                    return text, node
    module = sys.modules.get(value.__module__)
    if outer or module is None:
        return None
    for text in of_namespace(vars(module)):
        found = [node for node in _classes(text.tree, name) if _has_members(node, value)]
        if found:
            return text, found[-1]
    return None


def _classes(tree: ast.Module, name: str) -> Iterator[ast.ClassDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield node


def _has_members(node: ast.ClassDef, value: type) -> bool:
    """Say whether a statement gives a class the fields and methods that it has."""
    annotated = {
        item.target.id
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }
    named = {item.name for item in node.body if isinstance(item, Definition)}
    for item in node.body:
        if isinstance(item, ast.Assign):
            named |= {target.id for target in item.targets if isinstance(target, ast.Name)}
    there = vars(value)
    fields = set(getattr(value, "__annotations__", ()))
    members = set(getattr(value, "__members__", ()))
    return annotated == fields and named <= {*there, *members} and members <= named


def piece(text: Text, node: ast.AST, without: Sequence[ast.expr] = ()) -> str:
    """Return the text of a definition as it was written, at the left margin.

    `without`: its decorators that are left out.
    """
    if not isinstance(node, Definition):
        return ast.get_source_segment(text.source, node) or ast.unparse(node)
    first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
    gone = {line for item in without for line in range(item.lineno, (item.end_lineno or 0) + 1)}
    numbers = [n for n in range(first, (node.end_lineno or first) + 1) if n not in gone]
    lines = text.lines
    written = _dedented("".join(lines[n - 1] for n in numbers)).rstrip() + "\n"
    kept = [item for item in node.decorator_list if item not in without]
    if _dump(written) == ast.dump(_bare(node, kept)):
        return written
    return ast.unparse(_bare(node, kept)) + "\n"  # lines joined by \, or several on one line


def _bare(node: Definition, decorators: list[ast.expr]) -> Definition:
    fields: dict[str, Any] = {name: getattr(node, name) for name in node._fields}
    fields["decorator_list"] = decorators
    return ast.copy_location(type(node)(**fields), node)


def _dump(source: str) -> str:
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return ""
    return ast.dump(tree.body[0]) if len(tree.body) == 1 else ""


def _dedented(source: str) -> str:
    """Take the indentation off, but not inside texts that span lines."""
    lines = source.splitlines(keepends=True)
    indent = lines[0][: len(lines[0]) - len(lines[0].lstrip())]
    if not indent:
        return source
    inside = _inside_texts(textwrap.dedent(lines[0]) + "".join(lines[1:]))
    return "".join(
        line if number in inside else line.removeprefix(indent)
        for number, line in enumerate(lines, 1)
    )


def _inside_texts(source: str) -> set[int]:
    """Return the numbers of the lines that begin within a string."""
    inside: set[int] = set()
    opened: list[int] = []
    try:
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            kind = tokenize.tok_name[token.type]
            if kind == "STRING":
                inside.update(range(token.start[0] + 1, token.end[0] + 1))
            elif kind in _OPENS:
                opened.append(token.start[0])
            elif kind in _CLOSES:
                inside.update(range(opened.pop() + 1, token.end[0] + 1))
    except (tokenize.TokenError, IndentationError):
        pass  # what comes of it is compared with what was parsed
    return inside


def is_stale(code: CodeType, text: Text) -> bool:
    """Say whether a file was changed after this process had begun, and now reads otherwise.

    Cells are kept as they were run; and what rewrites code while it is imported changes no file.
    """
    path = Path(code.co_filename)
    try:
        changed_at = path.stat().st_mtime
    except OSError:
        return False
    import psutil

    if changed_at < psutil.Process().create_time():
        return False
    whole = compile(text.tree, code.co_filename, "exec", flags=future(code), dont_inherit=True)
    return not any(_shape(found) == _shape(code) for found in _codes(whole))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for item in code.co_consts:
        if isinstance(item, CodeType):
            yield from _codes(item)


def future(code: CodeType) -> int:
    """Return the flag of `from __future__ import annotations` if this code has it, else 0."""
    import __future__

    return code.co_flags & __future__.annotations.compiler_flag
