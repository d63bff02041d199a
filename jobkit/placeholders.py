"""Parameters that say which slot they are for: `{{ scheduled_for:%G-W%V }}`. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo

from jobkit.errors import BadInput

WORDS = ("scheduled_for", "run_id", "attempt", "job")
_PLACE = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*(?::([^{}]*?))?\s*\}\}")
# What strftime takes on every system; others differ from one to the next.
_FORMAT = re.compile(r"%[aAbBcdfGHIjmMpSuUVwWxXyYzZ%]|[^%]")
LIKE = 0.8
"""From which likeness on an unknown word is taken for a known one that was misspelt."""


@dataclass(frozen=True)
class Occasion:
    """The attempt that parameters are for."""

    scheduled_for: datetime
    """Its slot; of a run without one the instant at which it was asked for."""
    run_id: int
    attempt: int
    job: str
    timezone: str = "UTC"
    """In which instants are said: that of the job's schedule."""


def check(params: Mapping[str, Any]) -> None:
    """Refuse what looks like a placeholder and is none; BadInput names it.

    Text in double braces that is like none of ours is somebody else's, and stays as it is.
    """
    for text in _texts(params):
        for found in _PLACE.finditer(text):
            word, form = found.groups()
            if word not in WORDS:
                if like := get_close_matches(word, WORDS, 1, LIKE):
                    raise BadInput(f"{found[0]} is not known.", f"Write {{{{ {like[0]} }}}}.")
            elif form is not None and word != "scheduled_for":
                raise BadInput(f"{found[0]}: only scheduled_for has a format.", "Leave it out.")
            elif form is not None and "".join(_FORMAT.findall(form)) != form:
                raise BadInput(
                    f"{found[0]} has no format of a date.", "Write it like %Y-%m-%d or %G-W%V."
                )


def are_in(value: Any) -> bool:
    """Say whether a text holds a placeholder, so that it is not yet what it will be."""
    if not isinstance(value, str):
        return False
    return any(found[1] in WORDS for found in _PLACE.finditer(value))


def fill(params: Mapping[str, Any], occasion: Occasion) -> dict[str, Any]:
    """Return the parameters with what their placeholders stand for.

    A text that is nothing but `{{ run_id }}` or `{{ attempt }}` becomes a number.
    """

    def place(found: re.Match[str]) -> str:
        word, form = found.groups()
        if word == "scheduled_for":
            local = occasion.scheduled_for.astimezone(ZoneInfo(occasion.timezone))
            return local.strftime(form) if form else local.isoformat()
        return str(getattr(occasion, word)) if word in WORDS else found[0]

    def filled(text: str) -> Any:
        if (whole := _PLACE.fullmatch(text)) and whole[1] in ("run_id", "attempt"):
            return getattr(occasion, whole[1])
        return _PLACE.sub(place, text)

    return {name: _mapped(value, filled) for name, value in params.items()}


def _mapped(value: Any, change: Callable[[str], Any]) -> Any:
    if isinstance(value, str):
        return change(value) if "{{" in value else value
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _mapped(item, change) for key, item in value.items()}
    return value


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)
