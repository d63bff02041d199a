"""The hash chain of the audit: each link holds the hash of the one before, and what was done.

What is hashed is written down here once and for all: a change would break every chain there is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

ORIGIN = "0" * 64
"""What stands before the first link."""
HASHED = ("number", "id", "at", "who", "what", "about", "face", "address")
"""What of a row the chain holds fast: its place in the chain, and all that it says."""

_PLAIN = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True)
class Link:
    """One link: what was done, and the hashes of the one before and of itself."""

    content: Mapping[str, Any]
    """What `HASHED` names, as JSON has it."""
    previous: str
    sha256: str

    @property
    def number(self) -> int:
        """Its place, from 1."""
        number: int = self.content["number"]
        return number

    @property
    def line(self) -> str:
        """The link as a line of JSON, as it is exported."""
        hashes = {"previous": self.previous, "sha256": self.sha256}
        return json.dumps({**self.content, **hashes}, ensure_ascii=False)

    def fault(self, previous: str, number: int) -> str:
        """Say what is wrong with it as the next link, of this number; nothing when it is right."""
        if self.number != number:
            return f"row {number} is missing: after row {number - 1} comes row {self.number}"
        if self.previous != previous:
            return f"row {number} does not follow from the row before it"
        if self.sha256 != forge(previous, self.content):
            return f"row {number} is not what was written: {self.content['what']!r}"
        return ""


@dataclass(frozen=True)
class Checked:
    """What came of following a chain."""

    links: int
    """How many links were followed, those after a break too."""
    sha256: str
    """The hash of the last one."""
    fault: str
    """The first break, naming the row; empty when there is none."""


def content(number: int, row: Any) -> dict[str, Any]:
    """Return what is hashed of a row that gets this number."""
    at: datetime = row.at
    said = {name: getattr(row, name) for name in ("id", "who", "what", "about", "face", "address")}
    moment = at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return {"number": number, **said, "at": f"{moment}Z"}


def forge(previous: str, content: Mapping[str, Any]) -> str:
    """Return the hash of a link: SHA-256 of the hash before it and its content, in hexadecimal.

    The content is JSON in UTF-8 with sorted names and no spaces.
    """
    plain = {name: content[name] for name in HASHED}
    return hashlib.sha256((previous + _PLAIN.encode(plain)).encode()).hexdigest()


def links(rows: Iterable[Any], previous: str = ORIGIN) -> Iterator[Link]:
    """Make links of rows of the audit, in the order of their numbers."""
    for row in rows:
        yield Link(content(row.number, row), previous, row.sha256)
        previous = row.sha256


def read(line: str) -> Link:
    """Read a line that was exported; ValueError when it is none."""
    found = json.loads(line)
    if not isinstance(found, dict) or not {*HASHED, "previous", "sha256"} <= found.keys():
        raise ValueError("it is no row of the audit")
    if not isinstance(found["number"], int):
        raise ValueError("its number is none")
    plain = {name: found[name] for name in HASHED}
    return Link(plain, str(found["previous"]), str(found["sha256"]))


def check(chain: Iterable[Link], *, is_whole: bool = True) -> Checked:
    """Follow a chain; the first break is told. `is_whole`: it begins with the first link."""
    fault, count, previous, number = "", 0, ORIGIN, 0
    for link in chain:
        if count == 0 and not is_whole:
            previous, number = link.previous, link.number - 1
        fault = fault or link.fault(previous, number + 1)
        count, previous, number = count + 1, link.sha256, link.number
    return Checked(count, previous, fault)
