"""What differs between two attempts of a job, in words, most telling first. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from jobkit.analytics import scripts
from jobkit.text import duration, size

HIDDEN = "***"
MENTIONED = 100
"""How much more a change weighs whose name the failed attempt printed."""
MOST_NAMED = 5
LONGEST_VALUE = 60
NOTABLE = 2.0
"""A metric is told when it is so many times greater or smaller."""

_TELLTALE = re.compile(
    r"passw|passphrase|pwd|secret|token|api_?key|credential|private_?key", re.IGNORECASE
)
_UNITS = ((1e9, 1e9, "bn"), (1e6, 1e6, "M"), (1e4, 1e3, "k"))
"""From which number on, in steps of what, called what."""


@dataclass(frozen=True)
class Ran:
    """What is known of an attempt: what it ran on, what it told, and what its hashes stand for."""

    provenance: Mapping[str, Any] = field(default_factory=dict)
    definition: Mapping[str, Any] = field(default_factory=dict)
    """Of the version of its job."""
    packages: Mapping[str, str] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    text: str | None = None
    """Of its script, where it is kept."""
    said: str = ""
    """The end of what it printed, and how it ended."""


@dataclass(frozen=True)
class Change:
    """One difference."""

    kind: str
    """script, edit, job, commit, packages, parameter, host, python, variables or metric."""
    before: Any
    after: Any
    """Values that may be secret are `***`."""
    words: str
    weight: int
    """The more, the more telling."""
    diff: str = ""
    """Of a script whose texts are known: a unified diff."""


def differences(before: Ran, after: Ran) -> list[Change]:
    """Return what differs between an attempt that worked and a later one, most telling first.

    What the later one printed counts: a package, parameter or variable that it names goes first.
    Metrics are told when they became 0, or half or twice as much. No value that is hidden in one of
    the records, or whose name is that of a secret, is in what is returned.
    """
    found = [change for compare in _COMPARISONS for change in compare(before, after)]
    return sorted(found, key=lambda change: -change.weight)


def _script(before: Ran, after: Ran) -> Iterator[Change]:
    one, two = before.provenance.get("sha256"), after.provenance.get("sha256")
    if not one or not two or one == two:
        return
    names = [PurePath(str(ran.provenance.get("script", ""))).name for ran in (before, after)]
    kind = "notebook" if names[1].endswith(".ipynb") else "script"
    if names[0] != names[1]:
        words = f"another {kind}: {names[0]} to {names[1]}"
    else:
        words = f"{kind} edited: {names[1]}"
    diff = ""
    if before.text is not None and after.text is not None:
        diff = scripts.diff(before.text, after.text, names[1])
        words += scripts.summary(diff)
    yield Change("script", one, two, words, 90, diff)


def corrections(provenance: Mapping[str, Any]) -> Iterator[Change]:
    """Yield the cells that were corrected by hand while an attempt's kernel was kept."""
    for edit in provenance.get("edits") or ():
        if isinstance(edit, Mapping):
            words = f"cell {edit.get('cell')} was corrected by {edit.get('by')}"
            words += scripts.summary(str(edit.get("diff", "")))
            yield Change("edit", None, edit.get("at"), words, 95, str(edit.get("diff", "")))


def _corrected(_before: Ran, after: Ran) -> Iterator[Change]:
    yield from corrections(after.provenance)


_EXECUTION: dict[str, tuple[str, Callable[[Any], str]]] = {
    "script_args": ("arguments", str),
    "kind": ("kind", str),
    "python": ("interpreter", str),
    "working_dir": ("working directory", str),
    "timeout_seconds": ("timeout", duration),
    "memory_limit_bytes": ("memory limit", size),
    "nice": ("nice", str),
}


def _job(before: Ran, after: Ran) -> Iterator[Change]:
    if not before.definition or not after.definition:
        return
    for column, (name, say) in _EXECUTION.items():
        one, two = before.definition.get(column), after.definition.get(column)
        if one != two:
            if _TELLTALE.search(f"{one} {two}"):
                one, two = HIDDEN, HIDDEN
            yield Change("job", one, two, f"job edited: {name} {_step(one, two, say)}", 85)
    yield from _variables_of_job(before.definition, after.definition)
    names = [set(ran.definition.get("secrets") or ()) for ran in (before, after)]
    if names[0] != names[1]:
        words = f"job edited: secrets {_coming_and_going(*names)}"
        yield Change("job", sorted(names[0]), sorted(names[1]), words, 85)


def _variables_of_job(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Tell which of the job's own variables have another value, never the value."""
    one, two = before.get("variables") or {}, after.get("variables") or {}
    changed = sorted(name for name in one.keys() & two.keys() if one[name] != two[name])
    if changed:
        words = f"job edited: another value of {_shortened(changed)}"
        hidden = dict.fromkeys(changed, HIDDEN)
        yield Change("job", hidden, hidden, words, 85)


def _commit(before: Ran, after: Ran) -> Iterator[Change]:
    one, two = before.provenance.get("git") or {}, after.provenance.get("git") or {}
    if not one or not two:
        return
    if one.get("branch") != two.get("branch"):
        words = f"branch {_step(one.get('branch'), two.get('branch'))}"
        yield Change("commit", one.get("branch"), two.get("branch"), words, 79)
    if one.get("commit") != two.get("commit"):
        words = f"commit {_step(one.get('commit'), two.get('commit'), lambda sha: str(sha)[:9])}"
        yield Change("commit", one.get("commit"), two.get("commit"), words, 80)
    if one.get("dirty") is False and two.get("dirty") is True:
        yield Change("commit", False, True, "the repository has uncommitted changes", 78)


def _packages(before: Ran, after: Ran) -> Iterator[Change]:
    one, two = before.packages, after.packages
    if one is None or two is None or one == two:
        return
    names = [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)]
    mentioned = {name for name in names if _mentions(after.said, name, name.replace("-", "_"))}
    names.sort(key=lambda name: (name not in mentioned, name))
    said = [_package(name, one.get(name), two.get(name)) for name in names]
    yield Change(
        "packages",
        {name: one.get(name) for name in names},
        {name: two.get(name) for name in names},
        _shortened(said),
        70 + (MENTIONED if mentioned else 0),
    )


def _package(name: str, before: str | None, after: str | None) -> str:
    if before is None:
        return f"{name} {after} installed".replace("  ", " ")
    if after is None:
        return f"{name} {before} removed".replace("  ", " ")
    return f"{name} {before} to {after}"


def _parameters(before: Ran, after: Ran) -> Iterator[Change]:
    if "params" not in before.provenance or "params" not in after.provenance:
        return
    one, two = before.provenance["params"] or {}, after.provenance["params"] or {}
    for name in sorted(one.keys() | two.keys()):
        if name in one and name in two and one[name] == two[name]:
            continue
        old, new = one.get(name), two.get(name)
        if _is_hidden(name, old, new):
            old, new = HIDDEN, HIDDEN
        if name not in two:
            words = f"parameter {name} gone, it was {_value(old)}"
        elif name not in one:
            words = f"parameter {name} is new: {_value(new)}"
        elif old == new == HIDDEN:
            words = f"parameter {name} has another value"
        else:
            words = f"parameter {name}: {_value(old)} to {_value(new)}"
        weight = 65 + (MENTIONED if _mentions(after.said, name) else 0)
        yield Change("parameter", old, new, words, weight)


def _is_hidden(name: str, *values: Any) -> bool:
    return bool(_TELLTALE.search(name)) or any(HIDDEN in str(value) for value in values)


def _machine(before: Ran, after: Ran) -> Iterator[Change]:
    for name, kind, weight in (("host", "host", 60), ("platform", "host", 30)):
        one, two = before.provenance.get(name), after.provenance.get(name)
        if one and two and one != two:
            yield Change(kind, one, two, f"{name} {one} to {two}", weight)
    one, two = before.provenance.get("isolation"), after.provenance.get("isolation")
    if one and two and one != two:
        yield Change("python", one, two, f"{one} interpreter to {two}", 15)


def _python(before: Ran, after: Ran) -> Iterator[Change]:
    one, two = before.provenance.get("python") or {}, after.provenance.get("python") or {}
    if not one or not two:
        return
    old, new = (f"{of.get('implementation')} {of.get('version')}" for of in (one, two))
    if old != new:
        words = f"Python {_step(old.removeprefix('CPython '), new.removeprefix('CPython '))}"
        yield Change("python", old, new, words, 50)
    if one.get("path") != two.get("path"):
        words = f"interpreter {_step(one.get('path'), two.get('path'))}"
        yield Change("python", one.get("path"), two.get("path"), words, 45)


def _variables(before: Ran, after: Ran) -> Iterator[Change]:
    if "variables" not in before.provenance or "variables" not in after.provenance:
        return
    one, two = set(before.provenance["variables"]), set(after.provenance["variables"])
    if one == two:
        return
    mentioned = {name for name in one ^ two if _mentions(after.said, name)}
    words = f"variables: {_coming_and_going(one, two, mentioned)}"
    weight = 40 + (MENTIONED if mentioned else 0)
    yield Change("variables", sorted(one - two), sorted(two - one), words, weight)


def _coming_and_going(
    before: set[str], after: set[str], first: set[str] | frozenset[str] = frozenset()
) -> str:
    said = [(name, f"{name} gone") for name in before - after]
    said += [(name, f"{name} is new") for name in after - before]
    said.sort(key=lambda item: (item[0] not in first, item[0]))
    return _shortened([words for _, words in said])


def _metrics(before: Ran, after: Ran) -> Iterator[Change]:
    for name, one in sorted(before.metrics.items()):
        two = after.metrics.get(name)
        if two is None:
            yield Change("metric", one, None, f"no {name} this time, it was {_amount(one)}", 5)
        elif two != one and (weight := _notable(one, two)):
            words = f"metric {name}: {_amount(one)} to {_amount(two)}"
            yield Change("metric", one, two, words, weight)


def _notable(before: float, after: float) -> int:
    if after == 0:
        return 62  # it read or wrote nothing: as telling as a parameter
    if before == 0 or before * after < 0:
        return 20
    ratio = abs(after / before)
    return 20 if not 1 / NOTABLE < ratio < NOTABLE else 0


_COMPARISONS: tuple[Callable[[Ran, Ran], Iterator[Change]], ...] = (
    _corrected,
    _script,
    _job,
    _commit,
    _packages,
    _parameters,
    _metrics,
    _machine,
    _python,
    _variables,
)


def _mentions(said: str, *names: str) -> bool:
    """Whether a text holds one of these as a word; names of one or two letters are in any text."""
    return any(
        len(name) > 2 and re.search(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])", said)
        for name in names
    )


def _step(before: Any, after: Any, say: Callable[[Any], str] = str) -> str:
    if before == after == HIDDEN:
        return "changed"
    one, two = ("none" if value is None else say(value) for value in (before, after))
    return f"{_short(one)} to {_short(two)}"


def _value(value: Any) -> str:
    return _short(f'"{value}"' if isinstance(value, str) and value != HIDDEN else str(value))


def _short(said: str) -> str:
    said = " ".join(said.split())
    return said if len(said) <= LONGEST_VALUE else said[: LONGEST_VALUE - 1] + "…"


def _shortened(said: list[str]) -> str:
    more = len(said) - MOST_NAMED
    return ", ".join(said[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _amount(value: float) -> str:
    """Say a number as people do: `1.2 M`, `0`, `4,812`."""
    for least, step, unit in _UNITS:
        if abs(value) >= least:
            return f"{value / step:.3g} {unit}"
    return f"{value:,.4g}" if value != int(value) else f"{int(value):,}"
