"""Secret values in a stream of bytes become `***`, in whatever pieces the stream comes."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from urllib.parse import quote, quote_plus

MASK = b"***"
LEAST_CHARACTERS = 4
_HEAD = 4
_RARE = 8
_PLAIN = re.compile(rb"[A-Za-z0-9]+")
_HEX = re.compile(r"%[0-9A-F]{2}")
# What the usual functions of Python and of JavaScript leave as it is.
_URL_SAFE = ("", "/", "!'()*")


class Mask:
    """Replaces the given values; each run of bytes that belong to one becomes one `***`.

    A value is found as it is, escaped as in JSON, quoted as in URLs and in base64, there also
    inside a longer encoded text; each line of a value of many lines is found by itself. Values
    and lines of fewer than 4 characters are not masked, nor is white space: they would tear every
    text apart. An encoded value that is broken over lines is not found.

    Held back is only what may be the beginning of a value.
    """

    def __init__(self, values: Sequence[str]) -> None:
        patterns = sorted({item for value in values for item in _patterns(value)}, key=len)
        self._patterns = [(pattern[:_HEAD], pattern) for pattern in patterns]
        self._needles = _shortest({_core(pattern) for pattern in patterns})
        self._beginnings = {pattern[:size] for pattern in patterns for size in range(1, _HEAD)}
        self._held = b""
        self._known = 0  # so many bytes of what is held belong to the mask written last
        self._is_masked = False  # the last thing written is a mask

    def feed(self, data: bytes) -> bytes:
        """Take a piece of the stream, return what can be shown of it so far."""
        if not self._patterns or not data:
            return data
        buffer = self._held + data if self._held else data
        return self._show(buffer, self._unfinished(buffer))

    def close(self) -> bytes:
        """Return what was held back; the stream has ended."""
        return self._show(self._held, len(self._held))

    def _show(self, buffer: bytes, until: int) -> bytes:
        """Return the buffer before `until`, masked; hold the rest."""
        shown: list[bytes] = []
        at = self._known
        for start, end in self._found(buffer):
            if start > max(at, until):  # undecided bytes lie before it
                break
            if start > at:
                shown.append(buffer[at:start])
                self._is_masked = False
            if not self._is_masked:
                shown.append(MASK)
                self._is_masked = True
            at = max(at, end)
        if at < until:
            shown.append(buffer[at:until])
            self._is_masked = False
        self._held = buffer[until:]
        self._known = max(0, at - until)
        return shown[0] if len(shown) == 1 else b"".join(shown)

    def _found(self, buffer: bytes) -> list[tuple[int, int]]:
        """Return where patterns lie, also those that overlap, in order."""
        if not any(needle in buffer for needle in self._needles):
            return []
        return sorted(
            (start, start + len(pattern))
            for _, pattern in self._patterns
            for start in _occurrences(pattern, buffer)
        )

    def _unfinished(self, buffer: bytes) -> int:
        """Return where the longest end of the buffer starts that may go on to be a pattern."""
        first = end = len(buffer)
        for size in range(1, _HEAD):
            if (piece := buffer[-size:]) in self._beginnings:
                first = end - len(piece)
        for head, pattern in self._patterns:
            at = buffer.find(head, max(0, end - len(pattern) + 1))
            while 0 <= at < first:
                if pattern.startswith(buffer[at:]):
                    first = at
                at = buffer.find(head, at + 1)
        return first


def _occurrences(pattern: bytes, buffer: bytes) -> Iterator[int]:
    at = buffer.find(pattern)
    while at >= 0:
        yield at
        at = buffer.find(pattern, at + 1)


def _core(pattern: bytes) -> bytes:
    """Return the longest piece that no spelling changes, if it is long enough to be rare."""
    piece = max(_PLAIN.findall(pattern), key=len, default=b"")
    return piece if len(piece) >= _RARE else pattern


def _shortest(pieces: set[bytes]) -> list[bytes]:
    """Return those that hold no other: where none of them is, there is no pattern at all."""
    needles: list[bytes] = []
    for piece in sorted(pieces, key=len):
        if not any(needle in piece for needle in needles):
            needles.append(piece)
    return needles


def _patterns(value: str) -> Iterator[bytes]:
    for text in {value, *(line.strip() for line in value.splitlines())}:
        if len(text) >= LEAST_CHARACTERS and not text.isspace():
            yield from _spellings(text)


def _spellings(text: str) -> Iterator[bytes]:
    raw = text.encode("utf-8", "surrogateescape")  # as in the environment of a process
    yield raw
    for is_ascii in (True, False):
        yield json.dumps(text, ensure_ascii=is_ascii)[1:-1].encode("utf-8", "surrogateescape")
    for quoted in (quote_plus(raw), *(quote(raw, safe) for safe in _URL_SAFE)):
        yield quoted.encode()
        yield _HEX.sub(lambda found: found[0].lower(), quoted).encode()
    yield from _encoded(raw)


def _encoded(raw: bytes) -> Iterator[bytes]:
    """Yield base64: by itself, and what is the same in any longer text that holds the value."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw)
        yield encode(raw).rstrip(b"=")
        for before in range(3):
            first = -(-8 * before // 6)
            last = 8 * (before + len(raw)) // 6
            yield encode(bytes(before) + raw + bytes(2))[first:last]
