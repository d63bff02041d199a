"""Output of any size in little memory: head and tail are kept, the middle is counted."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Callable

HEAD_BYTES = 4 << 20
TAIL_BYTES = 6 << 20
FLUSH_BYTES = 64 << 10
# 64 Ki characters are at most 256 KB of UTF-8, whatever bytes they came from.
CHUNK_CHARACTERS = 64 << 10
LAST_BYTES = 4096


class Capture:
    """Takes bytes, hands on text in chunks of at most 256 KB.

    Any bytes are text: what is no UTF-8 becomes U+FFFD, and NUL, which PostgreSQL refuses, U+2400.
    """

    def __init__(
        self,
        on_chunk: Callable[[str], None],
        head_bytes: int = HEAD_BYTES,
        tail_bytes: int = TAIL_BYTES,
    ) -> None:
        self._on_chunk = on_chunk
        self._head_left = head_bytes
        self._tail_bytes = tail_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[str] = []
        self._pending_bytes = 0
        self._tail: deque[bytes] = deque()
        self._tail_kept = 0
        self._last = b""
        self.total_bytes = 0
        self.omitted_bytes = 0

    def feed(self, data: bytes) -> None:
        """Take what was read; text is handed on when 64 KiB have come together."""
        self.total_bytes += len(data)
        self._last = (self._last + data[-LAST_BYTES:])[-LAST_BYTES:]
        head, rest = data[: self._head_left], data[self._head_left :]
        if head:
            self._head_left -= len(head)
            self._pending.append(self._decoder.decode(head))
            self._pending_bytes += len(head)
            if self._pending_bytes >= FLUSH_BYTES:
                self.flush()
        if rest:
            self._keep(rest)

    def flush(self) -> None:
        """Hand on what has come so far."""
        self._emit("".join(self._pending))
        self._pending, self._pending_bytes = [], 0

    def close(self) -> str:
        """Hand on the rest but for its last chunk, which is returned.

        What was left out is said in a line of its own.
        """
        if self.omitted_bytes:
            self._pending.append(self._decoder.decode(b"", final=True))
            self.flush()
            self._emit(f"\n… {self.omitted_bytes} bytes left out …\n")
            self._decoder.reset()
            first = self._tail.popleft().lstrip(bytes(range(0x80, 0xC0)))  # half a character
            self._tail.appendleft(first)
        self._pending += [self._decoder.decode(block) for block in self._tail]
        self._pending.append(self._decoder.decode(b"", final=True))
        self._tail.clear()
        *chunks, last = self._chunks("".join(self._pending)) or [""]
        for chunk in chunks:
            self._on_chunk(chunk)
        return last

    def last(self) -> str:
        """Return the last 4 KiB."""
        whole = (
            self._last
            if self.total_bytes <= LAST_BYTES
            else self._last.lstrip(bytes(range(0x80, 0xC0)))
        )
        return _printable(whole.decode("utf-8", "replace"))

    def _keep(self, data: bytes) -> None:
        self._tail.append(data)
        self._tail_kept += len(data)
        while self._tail_kept - len(self._tail[0]) >= self._tail_bytes:
            self._drop(len(self._tail[0]))
        if self._tail_kept > self._tail_bytes:
            excess = self._tail_kept - self._tail_bytes
            kept = self._tail[0][excess:]
            self._drop(len(self._tail[0]))
            self._tail.appendleft(kept)
            self._tail_kept += len(kept)
            self.omitted_bytes -= len(kept)

    def _drop(self, count: int) -> None:
        self._tail.popleft()
        self._tail_kept -= count
        self.omitted_bytes += count

    def _emit(self, text: str) -> None:
        for chunk in self._chunks(text):
            self._on_chunk(chunk)

    @staticmethod
    def _chunks(text: str) -> list[str]:
        text = _printable(text)
        starts = range(0, len(text), CHUNK_CHARACTERS)
        return [text[start : start + CHUNK_CHARACTERS] for start in starts]


def _printable(text: str) -> str:
    return text.replace("\x00", "␀")
