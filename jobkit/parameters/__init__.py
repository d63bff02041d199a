"""The parameters of a job, read from a function's signature; values checked against it.

A signature is a JSON list, one object a parameter: `name`, `type` (str, int, float, bool, date,
datetime, time, duration, decimal, uuid, path, list, dict, or json for anything), `required`, and
where they are known `default`, `choices`, `nullable`, `items` and `help`. Values travel as JSON: a
date as `2026-03-02`, a duration as a number of seconds, a member of an Enum as its value.
"""

from __future__ import annotations

from jobkit.parameters.signature import Unreadable, read
from jobkit.parameters.values import (
    TYPES,
    Entry,
    Signature,
    as_texts,
    check,
    column,
    expected,
    from_form,
    from_text,
    problems,
    words,
)

__all__ = [
    "TYPES",
    "Entry",
    "Signature",
    "Unreadable",
    "as_texts",
    "check",
    "column",
    "expected",
    "from_form",
    "from_text",
    "problems",
    "read",
    "words",
]
