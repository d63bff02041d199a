"""Tracebacks: the last one in what a program printed."""

from __future__ import annotations

import re

MOST_LINES = 40
"""Of what follows the name of the exception: messages may have several lines."""
_HEAD = re.compile(r"^\s*(\+ Exception Group )?Traceback \(most recent call last\):\s*$")
_NOT_COMPILED = re.compile(r'^  File ".*", line \d+\s*$')
_LINKS = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)


def last_traceback(printed: str) -> str | None:
    """Return the last traceback, with those that it names as its causes; None without one."""
    lines = printed.splitlines()
    heads = [at for at, line in enumerate(lines) if _HEAD.match(line)]
    if not heads:
        return _not_compiled(lines)
    start = heads.pop()
    while heads and _is_linked(lines[heads[-1] + 1 : start]):
        start = heads.pop()
    last = max(at for at, line in enumerate(lines) if _HEAD.match(line))
    return "\n".join(lines[start : _end(lines, last + 1)]).rstrip()


def _is_linked(between: list[str]) -> bool:
    return any(line.strip() in _LINKS for line in between[-3:])


def _end(lines: list[str], at: int) -> int:
    """Return where a traceback ends: its frames are indented, its exception is not."""
    while at < len(lines) and (lines[at].startswith((" ", "\t")) or not lines[at]):
        at += 1
    return min(at + MOST_LINES, len(lines))


def _not_compiled(lines: list[str]) -> str | None:
    """Return what Python says of a script that it cannot read: there is no head then."""
    for at in range(len(lines) - 1, -1, -1):
        if _NOT_COMPILED.match(lines[at]):
            rest = lines[at : at + 6]
            ends = [i for i, line in enumerate(rest) if re.match(r"\w*Error: ", line)]
            return "\n".join(rest[: ends[0] + 1]) if ends else None
    return None
