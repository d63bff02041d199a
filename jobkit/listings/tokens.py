"""The tokens that scripts show instead of a password."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jobkit import passwords, roles
from jobkit.accounts import Principal, Token, picture
from jobkit.errors import BadInput
from jobkit.listings import author
from jobkit.roles import lesser
from jobkit.store import tokens, users

if TYPE_CHECKING:
    from jobkit.kit import Kit

PREFIX = "jk_"
"""What a token begins with, so that people and scanners of code know one."""
SHORTEST, LONGEST = timedelta(minutes=1), timedelta(days=3660)
USED_EVERY = timedelta(minutes=1)
MOST_PATTERNS = 100
_NAME = re.compile(r"[\w][\w .:@/-]{0,63}")


class Tokens:
    """The tokens: iterate, make, revoke, and say whose one is."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __iter__(self) -> Iterator[Token]:
        return iter(self())

    def __call__(self, user: str | None = None) -> list[Token]:
        """Return the tokens that were not revoked, all or those of a user, by name."""
        with self._kit.database.read() as connection:
            owner = None if user is None else users.by_name(connection, user).id
            return [picture(Token, row) for row in tokens.listed(connection, owner)]

    def add(
        self,
        name: str,
        role: str = "viewer",
        *,
        user: str | None = None,
        expires: timedelta | None = timedelta(days=90),
        jobs: Sequence[str] | None = None,
    ) -> str:
        """Make a token and return it: it is shown this once. Of a user, it may no more than they.

        `expires`: after so long, 90 days by default; None for never. `jobs`: patterns of names,
        like `etl *`: the token is for these jobs and their runs alone, and lists nothing.
        """
        if not _NAME.fullmatch(name):
            raise BadInput(f"{name!r} cannot name a token.", "Use up to 64 letters and digits.")
        roles.check(role)
        if expires is not None and not SHORTEST <= expires <= LONGEST:
            raise BadInput(f"A token cannot live for {expires}.", "Use 1m to 3660d.")
        if jobs is not None:
            _check_patterns(jobs)
        secret, now = PREFIX + passwords.fresh_secret(), self._kit.clock.now()
        with self._kit.database.write() as connection:
            owner = None if user is None else users.by_name(connection, user)
            values = {
                "name": name,
                "sha256": passwords.fingerprint(secret),
                "role": role if owner is None else lesser(role, owner.role),
                "user_id": None if owner is None else owner.id,
                "created_at": now,
                "created_by": self._kit.user,
                "expires_at": None if expires is None else now + expires,
                "jobs": None if jobs is None else list(jobs),
            }
            tokens.insert(connection, values)
            author.note(self._kit, connection, "made a token", f"{name}, {values['role']}")
        return secret

    def revoke(self, name: str, *, user: str | None = None) -> None:
        """Let nobody in by a token any more; of a user only if `user` is given."""
        with self._kit.database.write() as connection:
            owner = None if user is None else users.by_name(connection, user).id
            tokens.revoke(connection, name, self._kit.clock.now(), owner)
            author.note(self._kit, connection, "revoked a token", name)

    def shown(self, secret: str) -> Principal | None:
        """Return who shows a token; None when it is none, or not good any more."""
        if not secret.startswith(PREFIX):
            return None
        now = self._kit.clock.now()
        with self._kit.database.read() as connection:
            found = tokens.by_secret(connection, passwords.fingerprint(secret))
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            return None
        if found.user_id is not None and found.user_role is None:
            return None
        if found.used_at is None or now - found.used_at > USED_EVERY:
            with self._kit.database.write(lazily=True) as connection:
                tokens.see(connection, found.id, now)
        if found.user_id is None:
            return Principal(f"token {found.name}", found.role, jobs=_patterns(found))
        role = lesser(found.role, found.user_role)
        return Principal(found.user_name, role, user=found.user_name, jobs=_patterns(found))


def _check_patterns(jobs: Sequence[str]) -> None:
    if isinstance(jobs, str) or not jobs or not all(jobs) or len(jobs) > MOST_PATTERNS:
        raise BadInput(
            f"{jobs!r} names no jobs.", f"Give 1 to {MOST_PATTERNS} names or patterns of names."
        )


def _patterns(found: Any) -> tuple[str, ...] | None:
    return None if found.jobs is None else tuple(found.jobs)
