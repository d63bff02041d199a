"""Kinds of things to run: each is one file, and turns a task into the command that runs it.

A kind of your own is an object with the three members of `Kind`, named by an entry point of the
group `jobkit.kinds`. Whether a worker may use it is for its own JOBKIT_KINDS to say.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Collection
from pathlib import PurePath
from typing import Protocol

from jobkit.errors import CannotStart
from jobkit.executors.kinds.function import Function
from jobkit.executors.kinds.notebook import Notebook
from jobkit.executors.kinds.program import Program
from jobkit.executors.kinds.python import Python
from jobkit.executors.kinds.shell import Shell
from jobkit.executors.kinds.sql import Sql
from jobkit.executors.kinds.task import Launch, Task, Warm
from jobkit.executors.target import split_function

__all__ = ["GROUP", "OURS", "Kind", "Launch", "Task", "Warm", "kind_of"]

GROUP = "jobkit.kinds"


class Kind(Protocol):
    """Runs one sort of file."""

    @property
    def name(self) -> str:
        """What a job's `kind` and JOBKIT_KINDS call it."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Endings of the files that it runs when a job names no kind: `.py`, in lower case."""

    def launch(self, task: Task) -> Launch:
        """Return the command; CannotStart, with the next step, when nothing here can run it."""


OURS: tuple[Kind, ...] = (Python(), Shell(), Notebook(), Sql(), Function(), Program())


def kind_of(script_path: str, name: str | None, allowed: Collection[str] | None) -> Kind:
    """Return the kind of a job by its name, else by the suffix of what it runs.

    Kinds of other packages are looked at when none of ours fits, and what nothing else claims is a
    program. `allowed`: names from the worker's JOBKIT_KINDS, None for all. CannotStart for an
    unknown kind and for one that is not allowed.
    """
    kind = _by_name(name) if name else _by_suffix(script_path)
    if allowed is not None and kind.name not in allowed:
        raise CannotStart(
            f"{script_path} is of the kind {kind.name!r}, which this worker does not run.",
            f"Add {kind.name} to its JOBKIT_KINDS, or give the job a queue of another worker.",
        )
    return kind


def _by_name(name: str) -> Kind:
    for kind in OURS:
        if kind.name == name:
            return kind
    for kind in _outside():
        if kind.name == name:
            return kind
    known = ", ".join(kind.name for kind in (*OURS, *_outside()))
    raise CannotStart(
        f"There is no kind {name!r} here; there are {known}.",
        f"Install the package that brings it (entry point group {GROUP}), or name another.",
    )


def _by_suffix(script_path: str) -> Kind:
    if split_function(script_path)[1]:
        return Function()
    suffix = PurePath(script_path).suffix.lower()
    for kind in OURS:
        if suffix in kind.suffixes:
            return kind
    if suffix:
        for kind in _outside():
            if suffix in kind.suffixes:
                return kind
    return Program()


@functools.cache  # looking through the installed packages takes tens of milliseconds
def _outside() -> tuple[Kind, ...]:
    return tuple(_load(point) for point in importlib.metadata.entry_points(group=GROUP))


def _load(point: importlib.metadata.EntryPoint) -> Kind:
    try:
        loaded = point.load()
    except Exception as error:
        package = point.dist.name if point.dist else point.value
        raise CannotStart(
            f"The kind {point.name!r} of {package} cannot be loaded: {error!r}.",
            f"Repair or remove {package}.",
        ) from error
    kind: Kind = loaded() if isinstance(loaded, type) else loaded
    return kind
