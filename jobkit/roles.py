"""What people and tokens may do: each role may what those before it may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jobkit.errors import BadInput

ROLES = ("viewer", "operator", "editor", "admin")
"""viewer sees; operator runs, cancels, pauses; editor says what runs; admin says who may what."""


def check(role: str) -> None:
    """Refuse what is no role: BadInput names those that are."""
    if role not in ROLES:
        raise BadInput(f"{role!r} is no role.", f"Use one of: {', '.join(ROLES)}.")


def allows(role: str, needed: str) -> bool:
    """Whether a role may what needs another; nobody may what needs a role that is none."""
    if role not in ROLES or needed not in ROLES:
        return False
    return ROLES.index(role) >= ROLES.index(needed)


def of_groups(groups: Iterable[str], mapping: Mapping[str, str]) -> str | None:
    """Return the role that may most of those that somebody's groups give; None where none does."""
    given = [mapping[group] for group in groups if group in mapping]
    return max(given, key=ROLES.index, default=None)


def lesser(one: str, other: str) -> str:
    """Return the role that may less."""
    return min(one, other, key=ROLES.index)
