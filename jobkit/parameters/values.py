"""What is given to a job, checked against its signature and turned into JSON."""

from __future__ import annotations

import datetime
import decimal
import difflib
import enum
import json
import math
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobkit import placeholders
from jobkit.errors import BadInput
from jobkit.text import parse_duration

Entry = dict[str, Any]
Signature = Sequence[Entry]

_EXPECTED = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "date": "a date like 2026-03-02",
    "datetime": "an instant like 2026-03-02T06:00:00+00:00",
    "time": "a time like 06:30",
    "duration": "a duration like 90s or 15m",
    "decimal": "a decimal number like 12.50",
    "uuid": "a UUID",
    "path": "a path",
    "list": "a list",
    "dict": "a dictionary with texts as keys",
}
TYPES = (*_EXPECTED, "json")


def column(value: Sequence[Mapping[str, Any]]) -> list[Entry] | None:
    """Check a signature that somebody gives; None for one without parameters."""
    for entry in value:
        if not isinstance(entry.get("name"), str) or entry.get("type") not in TYPES:
            raise BadInput(
                f"{entry!r} describes no parameter.",
                f"Give its name, and one of these types: {', '.join(TYPES)}.",
            )
    document: list[Entry] = json.loads(json.dumps([dict(entry) for entry in value]))
    return document or None


def check(
    signature: Signature | None,
    given: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
    *,
    job: str,
    is_whole: bool = True,
) -> dict[str, Any]:
    """Return given parameters as JSON; BadInput names one that is unknown, wrong or missing.

    `own`: the job's, which stand below. `is_whole`: what is required must be there. A job without
    a signature takes anything.
    """
    if not signature:
        return dict(given)
    errors = problems(signature, given, own, is_whole=is_whole)
    if errors:
        raise BadInput(
            " ".join(dict.fromkeys(errors.values())),
            f"{job} takes: {', '.join(words(entry) for entry in signature)}.",
        )
    known = {entry["name"]: entry for entry in signature}
    return {
        name: value if placeholders.are_in(value) else _value(known[name], value)
        for name, value in given.items()
    }


def problems(
    signature: Signature,
    given: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
    *,
    is_whole: bool = True,
) -> dict[str, str]:
    """Return what is wrong with parameters, one sentence for each that is, by its name."""
    known = {entry["name"]: entry for entry in signature}
    found: dict[str, str] = {}
    for name, value in given.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            found[name] = f"There is no parameter {name!r}" + (
                f"; did you mean {near[0]!r}?" if near else "."
            )
            continue
        if placeholders.are_in(value):  # it becomes what it stands for when the run starts
            continue
        try:
            _value(known[name], value)
        except ValueError:
            found[name] = f"{name}={_shown(value)} is not {expected(known[name])}."
    if is_whole:
        there = {*given, *(own or {})}
        for name, entry in known.items():
            if entry.get("required") and name not in there:
                found[name] = f"The parameter {name!r} is missing: {expected(entry)}."
    return found


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def expected(entry: Entry) -> str:
    """Say what a parameter takes: `a whole number`, `one of "eu", "us"`."""
    if choices := entry.get("choices"):
        return "one of " + ", ".join(json.dumps(item, ensure_ascii=False) for item in choices)
    said = _EXPECTED.get(entry["type"], "JSON")
    if entry["type"] == "list" and "items" in entry:
        said = f"a list, each item {expected(entry['items'])}"
    return f"{said}, or null" if entry.get("nullable") else said


def words(entry: Entry) -> str:
    """Write a parameter as in a signature: `day: date = "2026-03-02"`."""
    default = f" = {json.dumps(entry['default'], ensure_ascii=False)}" if "default" in entry else ""
    return f"{entry['name']}: {entry['type']}{default}"


def from_text(signature: Signature | None, given: Mapping[str, str]) -> dict[str, Any]:
    """Return what people typed, in a form or on a command line, as the signature's types.

    What does not read as its type stays a text, and `check` says so.
    """
    known = {entry["name"]: entry for entry in signature or ()}
    return {name: _typed_in(known.get(name), text) for name, text in given.items()}


def from_form(signature: Signature, given: Mapping[str, str]) -> dict[str, Any]:
    """Return what stands in a form: a box that is not ticked sends nothing, an empty field "".

    A field left empty is not given, unless emptying it says something: no text, null.
    """
    typed = from_text(signature, {name: text for name, text in given.items() if text})
    for entry in signature:
        name = entry["name"]
        if entry["type"] == "bool" and "choices" not in entry and not entry.get("nullable"):
            typed.setdefault(name, False)
        elif given.get(name) == "" and entry.get("default") is not None:
            if entry.get("nullable"):
                typed[name] = None
            elif entry["type"] == "str" and "choices" not in entry:
                typed[name] = ""
    return typed


def as_texts(signature: Signature, own: Mapping[str, Any]) -> dict[str, str]:
    """Return what a form shows at first: the job's own parameters, and the defaults."""
    found = {}
    for entry in signature:
        value = own.get(entry["name"], entry.get("default"))
        if value is not None:
            found[entry["name"]] = value if isinstance(value, str) else json.dumps(value)
    return found


def _typed_in(entry: Entry | None, text: str) -> Any:
    if entry is None:
        return _json_or(text)
    for choice in entry.get("choices", ()):
        if text == str(choice):
            return choice
    if entry.get("nullable") and text in ("", "null"):
        return None
    if entry["type"] == "bool":
        return {"true": True, "on": True, "1": True, "false": False, "0": False}.get(
            text.lower(), text
        )
    return _json_or(text) if entry["type"] in ("int", "float", "list", "dict", "json") else text


def _json_or(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _value(entry: Entry, value: Any) -> Any:
    """Return a value as JSON; ValueError when it is not of its type."""
    try:
        value = plain(value)
    except BadInput:
        raise ValueError(value) from None
    if value is None and entry.get("nullable"):
        return None
    if "choices" in entry:
        return _choice(entry["choices"], value)
    if entry["type"] == "list":
        if not isinstance(value, list):
            raise ValueError(value)
        items = entry.get("items")
        return [_value(items, item) for item in value] if items else value
    return _READERS[entry["type"]](value)


def _choice(choices: Sequence[Any], value: Any) -> Any:
    for choice in choices:
        if type(choice) is type(value) and choice == value:
            return choice
    raise ValueError(value)


def plain(value: Any) -> Any:
    """Return what JSON holds for a value of Python; BadInput when it holds none."""
    if isinstance(value, enum.Enum):
        is_plain = isinstance(value.value, str | int | float | bool)
        return value.value if is_plain else value.name
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal | uuid.UUID | pathlib.PurePath):
        return str(value)
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in (sorted(value) if isinstance(value, set) else value)]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    raise BadInput(f"{value!r} is no JSON.", "Use text, numbers, lists and dicts of them.")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(value)
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(value)
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(value)
    return value


def _date(value: Any) -> str:
    return datetime.date.fromisoformat(_text(value)).isoformat()


def _instant(value: Any) -> str:
    return datetime.datetime.fromisoformat(_text(value)).isoformat()


def _time(value: Any) -> str:
    return datetime.time.fromisoformat(_text(value)).isoformat()


def _duration(value: Any) -> float:
    if isinstance(value, str):
        try:
            return parse_duration(value).total_seconds()
        except BadInput:
            raise ValueError(value) from None
    return _number(value)


def _decimal(value: Any) -> str:
    try:
        return str(decimal.Decimal(str(value) if not isinstance(value, bool) else "x"))
    except decimal.InvalidOperation:
        raise ValueError(value) from None


def _uuid(value: Any) -> str:
    return str(uuid.UUID(_text(value)))


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise ValueError(value)
    return value


_READERS: dict[str, Callable[[Any], Any]] = {
    "str": _text,
    "int": _whole,
    "float": _number,
    "bool": _flag,
    "date": _date,
    "datetime": _instant,
    "time": _time,
    "duration": _duration,
    "decimal": _decimal,
    "uuid": _uuid,
    "path": _text,
    "dict": _dict,
    "json": lambda value: value,
}
