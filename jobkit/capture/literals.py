"""Values as Python text that makes the same values again."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import functools
import logging
import math
import pathlib
import re
import types
import typing
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any

WIDTH = 100
MOST_CHARACTERS = 100_000
DEEPEST = 50

Named = Callable[[Any], str]
"""Returns the name of a class or function in the script, and sees to it that it is there."""


class CannotWrite(Exception):
    """A value that no text makes again; says why."""


def write(value: Any, named: Named) -> tuple[str, set[str]]:
    """Return the expression for a value, and the modules of the standard library that it needs.

    Modules are named with an underscore before, `_datetime`: no name of the author's is that.
    CannotWrite says why there is none.
    """
    writer = _Writer(named)
    text = writer.text(value, 0)
    if len(text) > MOST_CHARACTERS:
        raise CannotWrite(f"it is {len(text):,} characters long when it is written out")
    return text, writer.modules


class _Writer:
    def __init__(self, named: Named) -> None:
        self.named = named
        self.modules: set[str] = set()
        self._within: list[int] = []

    def text(self, value: Any, indent: int) -> str:
        """Write a value that begins at an indentation."""
        if id(value) in self._within:
            raise CannotWrite("it holds itself")
        if len(self._within) > DEEPEST:
            raise CannotWrite(f"it is nested more than {DEEPEST} deep")
        self._within.append(id(value))
        try:
            return self._any(value, indent)
        finally:
            self._within.pop()

    def _any(self, value: Any, indent: int) -> str:
        kind = type(value)
        if kind in (bool, type(None), type(...), str, bytes, int):
            return _plain(value)
        if kind in (float, complex):
            return self._number(value)
        if kind in (list, tuple, dict, set, frozenset, bytearray):
            return self._container(value, indent)
        if isinstance(value, enum.Enum):
            return self._member(value)
        if (maker := _MAKERS.get(kind)) is not None:
            return maker(self, value)
        if isinstance(value, type | types.FunctionType | types.BuiltinFunctionType):
            return self._named(value)
        if isinstance(value, pathlib.PurePath):
            return f"{self._module('pathlib')}.{_path_kind(value)}({str(value)!r})"
        return self._typing(value)

    def _named(self, value: Any) -> str:
        if not value.__name__.isidentifier():
            raise CannotWrite("it holds a lambda, which has no name: write it with `def`")
        return self.named(value)

    def _module(self, name: str) -> str:
        self.modules.add(name)
        return f"_{name}"

    def _number(self, value: float | complex) -> str:
        if isinstance(value, complex):
            return f"complex({self._number(value.real)}, {self._number(value.imag)})"
        return repr(value) if math.isfinite(value) else f"float({str(value)!r})"

    def _container(self, value: Any, indent: int) -> str:
        if isinstance(value, bytearray):
            return f"bytearray({bytes(value)!r})"
        if isinstance(value, dict):
            pairs = [
                f"{self.text(key, indent + 4)}: {self.text(item, indent + 4)}"
                for key, item in value.items()
            ]
            return _laid_out("{", pairs, "}", indent)
        items = [self.text(item, indent + 4) for item in value]
        if isinstance(value, set | frozenset):
            items.sort()
            if isinstance(value, frozenset):
                return f"frozenset({_laid_out('{', items, '}', indent) if items else ''})"
            return _laid_out("{", items, "}", indent) if items else "set()"
        if isinstance(value, tuple):
            return f"({items[0]},)" if len(items) == 1 else _laid_out("(", items, ")", indent)
        return _laid_out("[", items, "]", indent)

    def _member(self, value: enum.Enum) -> str:
        if type(value).__members__.get(getattr(value, "_name_", None) or "") is not value:
            raise CannotWrite("it combines members of a Flag")
        return f"{self.named(type(value))}.{value.name}"

    def _date(self, value: Any) -> str:
        module = self._module("datetime")
        if getattr(value, "tzinfo", None) is None:
            return f"_{value!r}"
        zone = self.text(value.tzinfo, 0)
        naive = repr(value.replace(tzinfo=None))
        return f"{module}.{naive.removeprefix('datetime.')[:-1]}, tzinfo={zone})"

    def _zone(self, value: Any) -> str:
        self._module("datetime")
        return f"_{value!r}"

    def _region(self, value: zoneinfo.ZoneInfo) -> str:
        if value.key is None:
            raise CannotWrite("it is a time zone without a name")
        return f"{self._module('zoneinfo')}.ZoneInfo({value.key!r})"

    def _decimal(self, value: decimal.Decimal) -> str:
        return f"{self._module('decimal')}.{value!r}"

    def _fraction(self, value: fractions.Fraction) -> str:
        return f"{self._module('fractions')}.{value!r}"

    def _uuid(self, value: uuid.UUID) -> str:
        return f"{self._module('uuid')}.{value!r}"

    def _range(self, value: range | slice) -> str:
        if isinstance(value, range):
            return repr(value)
        parts = (value.start, value.stop, value.step)
        return f"slice({', '.join(self.text(part, 0) for part in parts)})"

    def _pattern(self, value: re.Pattern[Any]) -> str:
        module = self._module("re")
        flags = value.flags & ~(re.UNICODE.value if isinstance(value.pattern, str) else 0)
        return f"{module}.compile({value.pattern!r}{f', {flags}' if flags else ''})"

    def _logger(self, value: logging.Logger) -> str:
        return f"{self._module('logging')}.getLogger({value.name!r})"

    def _partial(self, value: functools.partial[Any]) -> str:
        if not isinstance(getattr(value.func, "__name__", None), str):
            raise CannotWrite("it is a partial of something else than a function")
        parts = [self._named(value.func), *(self.text(item, 0) for item in value.args)]
        parts += [f"{name}={self.text(item, 0)}" for name, item in value.keywords.items()]
        return f"{self._module('functools')}.partial({', '.join(parts)})"

    def _variable(self, value: typing.TypeVar) -> str:
        if value.__constraints__ or value.__bound__ is not None:
            raise CannotWrite("it is a TypeVar with bounds")
        variance = ", covariant=True" if value.__covariant__ else ""
        variance += ", contravariant=True" if value.__contravariant__ else ""
        return f"{self._module('typing')}.TypeVar({value.__name__!r}{variance})"

    def _typing(self, value: Any) -> str:
        """Write what stands in annotations: `list[int]`, `Literal["a"]`, `int | None`."""
        if value is typing.Any:
            return f"{self._module('typing')}.Any"
        origin, args = typing.get_origin(value), typing.get_args(value)
        if origin is None or getattr(value, "__parameters__", None):
            raise CannotWrite("no literal makes it")
        if origin is typing.Literal:
            inner = ", ".join(self.text(item, 0) for item in args)
            return f"{self._module('typing')}.Literal[{inner}]"
        parts = ["None" if item is type(None) else self.text(item, 0) for item in args]
        if origin in (typing.Union, types.UnionType):
            return f"{self._module('typing')}.Union[{', '.join(parts)}]"
        if origin is tuple and not args:
            parts = ["()"]
        if not isinstance(origin, type):
            raise CannotWrite("no literal makes it")
        return f"{self.named(origin)}[{', '.join(parts)}]"


_MAKERS: dict[type, Callable[[Any, Any], str]] = {
    datetime.date: _Writer._date,
    datetime.datetime: _Writer._date,
    datetime.time: _Writer._date,
    datetime.timedelta: _Writer._zone,
    datetime.timezone: _Writer._zone,
    zoneinfo.ZoneInfo: _Writer._region,
    decimal.Decimal: _Writer._decimal,
    fractions.Fraction: _Writer._fraction,
    uuid.UUID: _Writer._uuid,
    range: _Writer._range,
    slice: _Writer._range,
    re.Pattern: _Writer._pattern,
    logging.Logger: _Writer._logger,
    functools.partial: _Writer._partial,
    typing.TypeVar: _Writer._variable,
}


def _plain(value: Any) -> str:
    try:
        return repr(value) if value is not ... else "..."
    except ValueError:  # more digits than Python writes
        raise CannotWrite("it is a number of thousands of digits") from None


def _path_kind(value: pathlib.PurePath) -> str:
    """Return the class of a path that exists on every system."""
    if isinstance(value, pathlib.Path):
        return "Path"
    return type(value).__name__


def _laid_out(opening: str, items: list[str], closing: str, indent: int) -> str:
    """Write items on one line, or where that is too long one on each."""
    line = f"{opening}{', '.join(items)}{closing}"
    if (len(line) + indent <= WIDTH - 20 and "\n" not in line) or not items:
        return line
    space = " " * (indent + 4)
    return opening + "\n" + "".join(f"{space}{item},\n" for item in items) + " " * indent + closing
