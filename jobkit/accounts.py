"""What a Kit hands out of accounts: users, their sessions, tokens, and who somebody is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, TypeVar


@dataclass(frozen=True)
class Principal:
    """Who asks, and what they may."""

    name: str
    """As it is recorded with what they do."""
    role: str
    user: str | None = None
    """The user's name; None for a token that is nobody's."""
    session: str | None = None
    """The hash of the session by which they came, if by one."""
    jobs: tuple[str, ...] | None = None
    """Patterns of the names of jobs that they may touch; None: all."""

    def covers(self, job: str) -> bool:
        """Whether a job is among those that they may touch."""
        return self.jobs is None or any(fnmatchcase(job, pattern) for pattern in self.jobs)


@dataclass(frozen=True)
class User:
    """Somebody who may sign in to the portal."""

    name: str
    role: str
    created_at: datetime
    password_at: datetime
    """When the password was set."""
    disabled_at: datetime | None
    subject: str | None
    """Who they are to the provider of single sign-on, if it let them in."""
    is_service: bool
    """Whether it is no person: it holds tokens and cannot sign in."""

    @property
    def is_active(self) -> bool:
        """Whether they may sign in."""
        return self.disabled_at is None


@dataclass(frozen=True)
class Session:
    """A browser in which a user is signed in."""

    sha256: str
    created_at: datetime
    seen_at: datetime
    address: str
    browser: str


@dataclass(frozen=True)
class Token:
    """A token that scripts show; what it is, not what it says."""

    name: str
    role: str
    user_name: str | None
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    used_at: datetime | None
    jobs: list[str] | None
    """Patterns of the names of jobs that it is for; None: for all."""


@dataclass(frozen=True)
class Deed:
    """What somebody did, or tried to: a row of the audit."""

    id: int
    at: datetime
    who: str
    what: str
    about: str
    face: str
    """The command line, Python, a notebook, the portal or its API."""
    address: str
    """Of the browser or the script that asked; empty where jobkit itself was called."""
    number: int | None
    """Its place in the chain; None until it is sealed, which takes half a minute."""
    sha256: str | None


Kind = TypeVar("Kind", User, Session, Token, Deed)


def picture(kind: type[Kind], row: Any) -> Kind:
    """Picture a row."""
    return kind(**{item.name: getattr(row, item.name) for item in fields(kind)})
