"""What a function takes, read from its signature, its annotations and its docstring."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import enum
import inspect
import pathlib
import re
import types
import typing
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobkit.errors import BadInput
from jobkit.parameters.values import Entry, plain

_TYPES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (int, "int"),
    (float, "float"),
    (str, "str"),
    (datetime.datetime, "datetime"),
    (datetime.date, "date"),
    (datetime.time, "time"),
    (datetime.timedelta, "duration"),
    (decimal.Decimal, "decimal"),
    (uuid.UUID, "uuid"),
    (pathlib.PurePath, "path"),
)
_KINDS = inspect.Parameter


class Unreadable(Exception):
    """A parameter that no JSON can carry: its name, the type it asks for, why, and the way out."""

    def __init__(self, name: str, asked: str, why: str, way_out: str) -> None:
        super().__init__(f"{name}: {why}. {way_out}")
        self.name, self.asked, self.why, self.way_out = name, asked, why, way_out


def read(function: Callable[..., Any]) -> tuple[list[Entry], list[Unreadable]]:
    """Return what a function takes, and the parameters that cannot be given from afar."""
    hints = _hints(function)
    helps = _helps(inspect.getdoc(function) or "")
    entries, problems = [], []
    for item in inspect.signature(function).parameters.values():
        try:
            entries.append(_entry(item, hints.get(item.name, Any), helps.get(item.name)))
        except Unreadable as problem:
            problems.append(problem)
    return entries, problems


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return what annotations mean; those that are texts of nothing known are left out."""
    inner = inspect.unwrap(function)
    found: dict[str, Any] = {}
    for name, hint in getattr(inner, "__annotations__", {}).items():
        alone = types.SimpleNamespace(__annotations__={name: hint})
        with contextlib.suppress(Exception):  # an annotation may be any expression
            around = inspect.getclosurevars(inner).nonlocals
            found |= typing.get_type_hints(alone, {**inner.__globals__, **around})
    return found


def _entry(item: inspect.Parameter, hint: Any, help_: str | None) -> Entry:
    if item.kind not in (_KINDS.POSITIONAL_OR_KEYWORD, _KINDS.KEYWORD_ONLY):
        stars = "*" * [_KINDS.POSITIONAL_ONLY, _KINDS.VAR_POSITIONAL, _KINDS.VAR_KEYWORD].index(
            item.kind
        )
        raise Unreadable(
            stars + item.name,
            "parameter",
            "a job's parameters are given by name",
            f"Name each parameter, or take one list or dict instead of {stars}{item.name}",
        )
    entry: Entry = {"name": item.name, **_typed(item.name, hint)}
    entry["required"] = item.default is _KINDS.empty
    if not entry["required"]:
        with contextlib.suppress(BadInput):  # no form can show it, but the function has it
            entry["default"] = plain(item.default)
        if item.default is None:
            entry["nullable"] = True
    if help_:
        entry["help"] = help_
    return entry


def _typed(name: str, hint: Any) -> Entry:
    """Return the type of a parameter as JSON; Unreadable for what JSON does not carry."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _typed(name, inner[0])
    if hint in (Any, object, _KINDS.empty) or isinstance(hint, typing.TypeVar):
        return {"type": "json"}
    if origin in (typing.Union, types.UnionType):
        rest = [part for part in inner if part is not type(None)]
        found = _typed(name, rest[0]) if len(rest) == 1 else _any_of(name, rest)
        return found | ({"nullable": True} if len(rest) < len(inner) else {})
    if origin is typing.Literal:
        return _choices(list(inner))
    kind = origin or hint
    if not isinstance(kind, type):
        return {"type": "json"}
    if issubclass(kind, enum.Enum):
        return _choices([plain(member) for member in kind])
    if origin is None or kind in (list, tuple, set, frozenset, dict):
        return _of_class(name, kind, inner)
    return _of_origin(name, kind, inner)


def _any_of(name: str, parts: Sequence[Any]) -> Entry:
    for part in parts:
        _typed(name, part)
    return {"type": "json"}


def _of_class(name: str, kind: type, inner: tuple[Any, ...]) -> Entry:
    for known, word in _TYPES:
        if issubclass(kind, known):
            return {"type": word}
    if issubclass(kind, list | tuple | set | frozenset):
        one = inner[0] if len(inner) == 1 or inner[1:] == (...,) else None
        return {"type": "list"} | ({"items": _typed(name, one)} if one is not None else {})
    if issubclass(kind, dict):
        return {"type": "dict"}
    raise Unreadable(
        name,
        f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}".removeprefix("builtins."),
        "a parameter of this type is no JSON",
        f"Take what selects it ({name}_path: str), and read it inside the function",
    )


def _of_origin(name: str, kind: type, inner: tuple[Any, ...]) -> Entry:
    """Read `Sequence[int]`, `Mapping[str, int]` and their like."""
    if issubclass(kind, Mapping):
        return {"type": "dict"}
    return {"type": "list", "items": _typed(name, inner[0])} if inner else {"type": "json"}


def _choices(values: list[Any]) -> Entry:
    kinds = {type(value) for value in values}
    word = "str" if kinds == {str} else "int" if kinds == {int} else "json"
    return {"type": word, "choices": values}


def _helps(doc: str) -> dict[str, str]:
    """Read what a docstring says of parameters: `:param day: ...`, or `day: ...` on a line."""
    found: dict[str, str] = {}
    for line in doc.splitlines():
        matched = re.match(r"\s*(?::param\s+)?`?(\w+)`?(?:\s*\([^)]*\))?\s*:\s+(\S.*)", line)
        if matched:
            found.setdefault(matched[1], matched[2].strip())
    return found
