"""From a function to source, not to a pickle: a script that runs on another machine and Python.

The script holds the function with the helpers, classes, imports and literals that it reads, as
they are when it is captured. Nothing here knows a database.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jobkit.capture import script
from jobkit.capture.meaning import underlying
from jobkit.capture.refusal import CannotTravel, Refusal
from jobkit.capture.walk import Walk

__all__ = ["CannotTravel", "Captured", "Refusal", "capture"]


@dataclass(frozen=True)
class Captured:
    """A function and all that it reads, as one script; or what stands in the way."""

    name: str
    text: str
    """The script; empty when something is refused."""
    dependencies: tuple[str, ...]
    """What uv installs for it."""
    refusals: tuple[Refusal, ...] = ()

    @cached_property
    def sha256(self) -> str:
        """The hash of the script: the same code gives the same one."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def check(self) -> None:
        """Raise CannotTravel, with all that is refused, when anything is."""
        if self.refusals:
            raise CannotTravel(self.name, self.refusals)


def capture(
    function: Callable[..., Any],
    *,
    dependencies: Sequence[str] | None = None,
    refusals: Sequence[Refusal] = (),
) -> Captured:
    """Capture a function as it is now.

    `dependencies`: requirements instead of those found, none for the worker's own environment;
    `refusals`: what the caller found wrong with it already.
    """
    function = underlying(function)
    walk = Walk(dependencies)
    if problem := _problem(function):
        walk.refuse(function.__name__, function, function.__name__, *problem)
    else:
        walk.whole(function)
    found = (*refusals, *walk.refusals.values())
    wanted = sorted(walk.requirements) if dependencies is None else list(dependencies)
    if found:
        return Captured(function.__name__, "", tuple(wanted), found)
    text = script.write(
        function.__name__,
        walk.pieces,
        walk.imports.values(),
        wanted,
        is_future=walk.is_future,
    )
    return Captured(function.__name__, text, tuple(wanted))


def _problem(function: Callable[..., Any]) -> tuple[str, str] | None:
    """Say why a thing cannot be a job by what it is, and what to do."""
    if not inspect.isfunction(inspect.unwrap(function)):
        return "it is no function", "Write it with `def`"
    if function.__name__ == "<lambda>":
        return "a job has a name", "Write it with `def`"
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        return "it yields", "Return a list, or write what it yields to a file"
    outer = function.__qualname__.rpartition(".")[0]
    if outer and not outer.endswith("<locals>"):
        return "it is a method", "Write a function that makes the object and calls it"
    return None
