"""What is printed for a terminal, as HTML: colours as classes, overdrawn lines as they ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from markupsafe import Markup, escape

from jobkit.terminal import CONTROLS, SEQUENCE

# From the beginning of a line: tried from each of its letters, a long line takes half a minute.
_OVERDRAWN = re.compile(r"^[^\n]*\r(?!\n)(?=[^\n\r])", re.MULTILINE)
MOST_NUMBERS, MOST_DIGITS = 64, 5
"""Of a sequence; no terminal has use for more."""
# The sixteen colours that terminals have, as they look by default; any other becomes the nearest.
_PALETTE = (
    (0, 0, 0), (205, 49, 49), (13, 188, 121), (229, 229, 16),
    (36, 114, 200), (188, 63, 188), (17, 168, 205), (229, 229, 229),
    (102, 102, 102), (241, 76, 76), (35, 209, 139), (245, 245, 67),
    (59, 142, 234), (214, 112, 214), (41, 184, 219), (255, 255, 255),
)  # fmt: skip
_STEPS = (0, 95, 135, 175, 215, 255)


@dataclass(frozen=True)
class Pen:
    """How text is written from here on."""

    ink: int | None = None
    """One of sixteen colours; None for the usual one."""
    ground: int | None = None
    is_bold: bool = False
    is_faint: bool = False
    is_italic: bool = False
    is_underlined: bool = False

    @property
    def classes(self) -> str:
        """The classes of an element whose text is written so."""
        names = [
            f"ink-{self.ink}" if self.ink is not None else "",
            f"ground-{self.ground}" if self.ground is not None else "",
            "bold" if self.is_bold else "",
            "faint" if self.is_faint else "",
            "italic" if self.is_italic else "",
            "underlined" if self.is_underlined else "",
        ]
        return " ".join(filter(None, names))

    @property
    def code(self) -> str:
        """The numbers that set a terminal's pen to this one: `1;31`."""
        marks = (self.is_bold, self.is_faint, self.is_italic, self.is_underlined)
        codes = [number for number, is_on in enumerate(marks, 1) if is_on]
        if self.ink is not None:
            codes.append(self.ink + (30 if self.ink < 8 else 82))
        if self.ground is not None:
            codes.append(self.ground + (40 if self.ground < 8 else 92))
        return ";".join(map(str, codes))


def to_html(text: str, pen: Pen | None = None) -> tuple[Markup, Pen]:
    """Return text as HTML, and the pen that writes what comes after it."""
    pen, parts, at = pen or Pen(), [], 0
    text = _OVERDRAWN.sub("", text)
    for found in SEQUENCE.finditer(text):
        parts.append(_written(text[at : found.start()], pen))
        at = found.end()
        if found[2] == "m":
            pen = changed(pen, found[1])
    parts.append(_written(text[at:], pen))
    return Markup("").join(parts), pen


def changed(pen: Pen, code: str) -> Pen:
    """Return the pen after a sequence of numbers; those that mean nothing here are passed over."""
    parts = re.split("[;:]", code)[:MOST_NUMBERS]
    numbers = [int(part[:MOST_DIGITS]) if part.isdecimal() else 0 for part in parts]
    while numbers:
        number = numbers.pop(0)
        if number == 0:
            pen = Pen()
        elif number in _MARKS:
            pen = replace(pen, **_MARKS[number])
        elif number == 38:
            pen = replace(pen, ink=_extended(numbers))
        elif number == 48:
            pen = replace(pen, ground=_extended(numbers))
        elif number == 39 or 30 <= number < 38 or 90 <= number < 98:
            pen = replace(pen, ink=_colour(number))
        elif number == 49 or 40 <= number < 48 or 100 <= number < 108:
            pen = replace(pen, ground=_colour(number - 10))
    return pen


_MARKS: dict[int, dict[str, bool]] = {
    1: {"is_bold": True},
    2: {"is_faint": True},
    3: {"is_italic": True},
    4: {"is_underlined": True},
    22: {"is_bold": False, "is_faint": False},
    23: {"is_italic": False},
    24: {"is_underlined": False},
}


def _colour(number: int) -> int | None:
    """Return one of sixteen colours: 30 to 37 and 90 to 97; 39 is the usual one."""
    if number == 39:
        return None
    return number - 30 if number < 38 else number - 82


def _extended(numbers: list[int]) -> int | None:
    """Take the numbers of one of 256 colours, or of a mixture; return the nearest of sixteen."""
    kind = numbers.pop(0) if numbers else 0
    if kind == 5 and numbers:
        return _of_256(min(numbers.pop(0), 255))
    if kind == 2 and len(numbers) >= 3:
        red, green, blue = (min(numbers.pop(0), 255) for _ in range(3))
        return _nearest((red, green, blue))
    return None


def _of_256(number: int) -> int:
    if number < 16:
        return number
    if number >= 232:
        grey = 8 + 10 * (number - 232)
        return _nearest((grey, grey, grey))
    number -= 16
    return _nearest((_STEPS[number // 36], _STEPS[number // 6 % 6], _STEPS[number % 6]))


def _nearest(colour: tuple[int, int, int]) -> int:
    def distance(index: int) -> int:
        return sum((a - b) ** 2 for a, b in zip(_PALETTE[index], colour, strict=True))

    return min(range(16), key=distance)


def _written(text: str, pen: Pen) -> Markup:
    said = escape(CONTROLS.sub("", text))
    if not said or not pen.classes:
        return said
    return Markup('<span class="{}">{}</span>').format(pen.classes, said)
