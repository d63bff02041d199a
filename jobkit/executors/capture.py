"""Output of any size in little memory: head and tail are kept, the middle is counted."""

from __future__ import annotations

import codecs
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from jobkit.executors.facts import Fact, Lines
from jobkit.executors.masking import Mask
from jobkit.text import clean

HEAD_BYTES = 4 << 20
TAIL_BYTES = 6 << 20
FLUSH_BYTES = 64 << 10
# 64 Ki characters are at most 256 KB of UTF-8, whatever bytes they came from.
CHUNK_CHARACTERS = 64 << 10
LAST_BYTES = 4096
OUTPUT = "output"
CELL = "cell"
KEPT = "kept"
"""The kind of the event by which a runner tells that it keeps its kernel."""
_GO_ON = bytes(range(0x80, 0xC0))  # bytes that go on with a character of UTF-8

Chunk = tuple[str, str]
"""A text and its stream: `output`, or `cell` for events of a notebook, JSON, one a line."""


class Capture:
    """Takes bytes, hands on text in chunks of at most 256 KB, and the facts that lines tell.

    Any bytes are text: what is no UTF-8 becomes U+FFFD, and NUL, which PostgreSQL refuses, U+2400.
    Secrets are masked before anything else looks at the bytes. Facts count also where the text is
    left out. `on_chunk` takes a text and its stream; it and `on_fact` never raise.
    """

    def __init__(
        self,
        on_chunk: Callable[[str, str], None],
        on_fact: Callable[[Fact], None] = lambda _: None,
        secrets: Sequence[str] = (),
        head_bytes: int = HEAD_BYTES,
        tail_bytes: int = TAIL_BYTES,
    ) -> None:
        self._on_chunk = on_chunk
        self._on_fact = on_fact
        self._mask = Mask(secrets)
        self._lines = Lines()
        self._head_left = head_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = bytearray()
        self._stream = OUTPUT
        self._tail = Tail(tail_bytes)
        self._last = b""
        self.total_bytes = 0
        """Bytes that were written, secrets and all."""

    @property
    def omitted_bytes(self) -> int:
        """Bytes between head and tail that are left out; exact once it is closed."""
        return self._tail.dropped

    def feed(self, data: bytes) -> None:
        """Take what was read; text is handed on when 64 KiB have come together."""
        self.total_bytes += len(data)
        if shown := self._mask.feed(data):
            self._sort(self._lines.feed(shown))

    def flush(self) -> None:
        """Hand on what has come so far."""
        if fact := self._lines.peek():
            self._on_fact(fact)
        self._hand_on()

    def close(self) -> list[Chunk]:
        """Hand on the rest but for its last chunks, which are returned: at most 64 Ki characters.

        What was left out is said in a line of its own.
        """
        if shown := self._mask.close():
            self._sort(self._lines.feed(shown))
        self._sort(self._lines.close())
        last: deque[Chunk] = deque()
        for chunk in self._rest():
            last.append(chunk)
            while sum(len(text) for text, _ in last) > CHUNK_CHARACTERS:
                self._on_chunk(*last.popleft())
        return list(last)

    def last(self) -> str:
        """Return the last 4 KiB of the output, masked as all of it."""
        is_whole = len(self._last) < LAST_BYTES
        last = self._last if is_whole else self._last.lstrip(_GO_ON)
        return clean(last.decode("utf-8", "replace"))

    def _sort(self, items: Iterable[bytes | Fact]) -> None:
        for item in items:
            if isinstance(item, bytes):
                self._last = (self._last + item[-LAST_BYTES:])[-LAST_BYTES:]
                self._keep(item, OUTPUT)
            elif item.kind == CELL:
                self._keep(item.text.encode() + b"\n", CELL)
                if isinstance(item.value, dict) and item.value.get("kind") == KEPT:
                    self._on_fact(item)
            else:
                self._on_fact(item)

    def _keep(self, data: bytes, stream: str) -> None:
        """Add to the head while there is room, then to the tail; an event is never cut."""
        if stream == CELL and len(data) > self._head_left:
            self._head_left = 0
        head, rest = data[: self._head_left], data[self._head_left :]
        if head:
            self._head_left -= len(head)
            self._add(head, stream)
        if rest:
            self._tail.add(rest, stream)

    def _add(self, data: bytes, stream: str) -> None:
        if stream != self._stream:
            self._hand_on()
            self._stream = stream
        self._pending += data
        if len(self._pending) >= FLUSH_BYTES:
            self._hand_on()

    def _hand_on(self) -> None:
        for chunk in self._take():
            self._on_chunk(*chunk)

    def _take(self, is_end: bool = False) -> list[Chunk]:
        """Return what is pending as text; half a character waits for its other half."""
        text = clean(self._decoder.decode(self._pending, final=is_end))
        self._pending.clear()
        return [(piece, self._stream) for piece in _pieces(text, self._stream)]

    def _rest(self) -> Iterator[Chunk]:
        """Yield the end of the head, what is said of the gap, and the tail."""
        blocks = self._tail.take()
        if self.omitted_bytes:
            yield from self._take(is_end=True)
            yield f"\n… {self.omitted_bytes} bytes left out …\n", OUTPUT
        while blocks:
            data, stream = blocks.popleft()
            yield from self._take(is_end=stream != self._stream)
            self._stream = stream
            self._pending += data
        yield from self._take(is_end=True)


class Tail:
    """The last so many bytes of what is added; `dropped` counts the others."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._blocks: deque[tuple[bytearray, str]] = deque()
        self._kept = 0
        self.dropped = 0

    def add(self, data: bytes, stream: str) -> None:
        """Keep it, and drop what is too old by whole blocks: `take` cuts to the byte."""
        if not self._blocks or self._is_full(stream):
            self._blocks.append((bytearray(), stream))
        self._blocks[-1][0].extend(data)
        self._kept += len(data)
        while self._blocks and self._kept - len(self._blocks[0][0]) >= self._most:
            self._drop(len(self._blocks.popleft()[0]))

    def take(self) -> deque[tuple[bytearray, str]]:
        """Return the blocks, which are the caller's from now on.

        The first begins with a whole character, or with a whole event.
        """
        while self._blocks and (excess := self._kept - self._most) > 0:
            block, stream = self._blocks.popleft()
            self._drop(min(excess, len(block)))
            del block[:excess]
            if stream == CELL:
                self._cut(block, block.find(b"\n") + 1)
            if block:
                self._blocks.appendleft((block, stream))
        if self.dropped and self._blocks:
            first = self._blocks[0][0]
            self._cut(first, len(first[:3]) - len(first[:3].lstrip(_GO_ON)))
        return self._blocks

    def _is_full(self, stream: str) -> bool:
        block, of = self._blocks[-1]
        return of != stream or len(block) >= FLUSH_BYTES

    def _cut(self, block: bytearray, count: int) -> None:
        del block[:count]
        self._drop(count)

    def _drop(self, count: int) -> None:
        self._kept -= count
        self.dropped += count


def _pieces(text: str, stream: str) -> list[str]:
    """Cut a long text; events at their ends only, and one that is longer is a piece by itself."""
    if stream == OUTPUT or len(text) <= CHUNK_CHARACTERS:
        starts = range(0, len(text), CHUNK_CHARACTERS)
        return [text[start : start + CHUNK_CHARACTERS] for start in starts]
    pieces = [""]
    for event in re.findall(r"[^\n]*\n", text):
        if pieces[-1] and len(pieces[-1]) + len(event) > CHUNK_CHARACTERS:
            pieces.append("")
        pieces[-1] += event
    return pieces
