"""What terminals understand and people do not read: colours, cursor movements, bells."""

from __future__ import annotations

import re

SEQUENCE = re.compile(
    r"\x1b(?:\[([0-?]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_]|\[?[0-?]*$)"
)
"""Its numbers and its letter, where it has them; one that is cut off at the end counts as well."""
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""Single characters; not tab, line feed and carriage return."""


def without_sequences(text: str) -> str:
    """Leave out what colours terminals and moves their cursors."""
    return SEQUENCE.sub("", text)


def plain(text: str) -> str:
    """Leave out all that only a terminal understands."""
    return CONTROLS.sub("", without_sequences(text))
