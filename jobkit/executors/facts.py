"""Facts that a program tells by printing a line: progress, metrics, a result, an early end.

    ::progress 0.42 loading the north      a number from 0 to 1, or a percentage
    ::metric rows 1200000                  a name and a finite number
    ::result {"rows": 1200000}             any JSON of at most 64 KiB
    ::stop nothing new                     why it ends early and well
    ::cell {"id": "a1", "kind": "start"}   JSON, from the runner of notebooks

The bars of tqdm are progress as well. A line that is not quite like this is just text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from jobkit.text import clean

LONGEST_LINE = 70 << 10
LONGEST_RESULT = 64 << 10
LONGEST_TEXT = 200
DEEPEST = 100
_CELL = b"::cell "
_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PROGRESS = re.compile(rf"({_NUMBER})(%?)(?:\s+(.*))?", re.ASCII)
_METRIC = re.compile(rf"([A-Za-z_][\w.-]{{0,63}})\s+({_NUMBER})", re.ASCII)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_PERCENT = re.compile(r"(?:^|(?<=\s))(\d{1,3})%\|", re.ASCII)
_BAR = re.compile(r"[^|]*\| *[^\s|/]+/[^\s|/]+ \[[^<]*<.*\]")
_LINE = re.compile(rb"[^\r\n]*[\r\n]")


@dataclass(frozen=True)
class Fact:
    """What a line says."""

    kind: str
    """progress, metric, result, stop or cell."""
    name: str
    """The metric's name, else empty."""
    value: Any
    """Progress from 0 to 1, a number, or what the JSON holds."""
    text: str
    """The message of progress or the reason to stop, of at most 200 characters; the JSON."""


def recognise(line: str) -> Fact | None:
    """Return the fact that a line tells, given without its end; None when it is just text."""
    if line.startswith("::"):
        kind, _, rest = line[2:].partition(" ")
        reader = _READERS.get(kind)
        return reader(clean(rest.strip())) if reader else None
    return _bar(line) if "%|" in line else None


def _progress(rest: str) -> Fact | None:
    if not (found := _PROGRESS.fullmatch(rest)):
        return None
    number, percent, message = found.groups()
    share = float(number) / 100 if percent else float(number)
    return _share(share, message or "")


def _share(share: float, message: str) -> Fact | None:
    if not 0 <= share <= 1:
        return None
    return Fact("progress", "", share, message[:LONGEST_TEXT])


def _metric(rest: str) -> Fact | None:
    if not (found := _METRIC.fullmatch(rest)):
        return None
    name, number = found.groups()
    value = float(number)
    if not math.isfinite(value):
        return None
    is_exact = number.lstrip("+-").isdigit() and abs(value) < 2**53
    return Fact("metric", name, int(number) if is_exact else value, "")


def _result(rest: str) -> Fact | None:
    return _json("result", rest) if len(rest.encode()) <= LONGEST_RESULT else None


def _stop(rest: str) -> Fact | None:
    return Fact("stop", "", None, rest[:LONGEST_TEXT] or "stopped")


def _cell(rest: str) -> Fact | None:
    return _json("cell", rest)


def _json(kind: str, text: str) -> Fact | None:
    try:
        return Fact(kind, "", _storable(json.loads(text), DEEPEST), text)
    except (ValueError, RecursionError):
        return None


def _storable(value: Any, depth: int) -> Any:
    """Return what both databases take as JSON; ValueError for NaN, infinity and endless depth."""
    if depth == 0 or (isinstance(value, float) and not math.isfinite(value)):
        raise ValueError("cannot be kept as JSON")
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_storable(item, depth - 1) for item in value]
    if isinstance(value, dict):
        return {clean(name): _storable(item, depth - 1) for name, item in value.items()}
    return value


_READERS = {
    "progress": _progress,
    "metric": _metric,
    "result": _result,
    "stop": _stop,
    "cell": _cell,
}


def _bar(line: str) -> Fact | None:
    """Read `Loading:  42%|████      | 42/100 [00:01<00:02, 30.00it/s]`."""
    line = _COLOUR.sub("", line).strip()
    found = _PERCENT.search(line)
    if not found or not _BAR.fullmatch(line, found.end()):
        return None
    said = line[: found.start()].strip().removesuffix(":")
    return _share(int(found[1]) / 100, clean(said))


class Lines:
    """Looks at the lines of a stream of bytes, and lets the bytes pass.

    A line ends with `\\n` or `\\r`: bars are drawn over and over. Lines longer than 70 KiB tell
    nothing. Only what may be a line `::cell …` is held back until its end.
    """

    def __init__(self) -> None:
        self._line = bytearray()
        """The unfinished line; of one that is too long only so much as shows that it is."""
        self._is_open = False  # the unfinished line may still tell something
        self._is_held = False
        self._told: Fact | None = None

    def feed(self, data: bytes) -> Iterator[bytes | Fact]:
        """Yield the bytes that stay in the output, and facts, in their order.

        Lines of cells are taken out, with the byte that ends them; others stay.
        """
        last = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if self._is_plain(data):
            if last:
                self._begin(data[last:])
            else:
                self._extend(data)
            yield data
            return
        if self._line and not last:
            yield from self._go_on(data)
            return
        start = 0
        if self._line and (first := _LINE.match(data)):
            yield from self._finish(first[0])
            start = first.end()
        self._begin(data[last:])
        yield from self._look(data, start, last)

    def _look(self, data: bytes, start: int, last: int) -> Iterator[bytes | Fact]:
        """Look at whole lines; what comes after `last` is the unfinished line."""
        shown = start
        for found in _LINE.finditer(data, start, last):  # beyond `last` each try would be in vain
            fact = _fact(found[0][:-1])
            if fact and fact.kind == "cell":
                if found.start() > shown:
                    yield data[shown : found.start()]
                shown = found.end()
            if fact:
                yield fact
        until = last if self._is_held else len(data)
        if until > shown:
            yield data[shown:until]

    def peek(self) -> Fact | None:
        """Return what the unfinished line tells already: a bar ends only when it moves again."""
        if not self._is_open or b"%|" not in self._line:
            return None
        fact = _fact(bytes(self._line))
        is_new = fact is not None and fact.kind == "progress" and fact != self._told
        self._told = fact if is_new else self._told
        return fact if is_new else None

    def close(self) -> Iterator[bytes | Fact]:
        """Yield what is left: the last line may have no end."""
        if self._line:
            yield from self._finish(b"")

    def _is_plain(self, data: bytes) -> bool:
        """Return whether the data tells nothing; quick, most output is like that."""
        if self._is_open or (data.startswith(b":") and not self._line):
            return False
        return not (
            b"\n::" in data
            or (b"\r" in data and b"\r::" in data)
            or (b"|" in data and b"%|" in data)
            or data.endswith((b"\n:", b"\r:"))
        )

    def _begin(self, rest: bytes) -> None:
        """Let a new line begin with what has come of it."""
        self._line.clear()
        self._is_open, self._told = False, None
        self._extend(rest)

    def _extend(self, data: bytes) -> None:
        line = self._line
        self._append(data)
        fits = len(line) <= LONGEST_LINE
        self._is_open = fits and (self._is_open or b"%" in data or line.startswith(b":"))
        self._is_held = fits and bool(line) and line[: len(_CELL)] == _CELL[: len(line)]

    def _append(self, data: bytes) -> None:
        if (room := LONGEST_LINE + 1 - len(self._line)) > 0:
            self._line += data[:room]

    def _go_on(self, data: bytes) -> Iterator[bytes]:
        """Take more of the unfinished line."""
        before = self._held()
        self._extend(data)
        if not self._is_held:
            yield before + data

    def _finish(self, data: bytes) -> Iterator[bytes | Fact]:
        """Take the last of the unfinished line, with the byte that ends it if there is one."""
        text = self._held() + data
        self._append(data[:-1])
        fact, told = _fact(bytes(self._line)), self._told
        self._begin(b"")
        if text and not (fact and fact.kind == "cell"):
            yield text
        if fact and fact != told:
            yield fact

    def _held(self) -> bytes:
        return bytes(self._line) if self._is_held else b""


def _fact(line: bytes) -> Fact | None:
    if len(line) > LONGEST_LINE or not (line.startswith(b"::") or b"%|" in line):
        return None
    return recognise(line.decode("utf-8", "replace"))
