"""The users of the portal: who may sign in, as what, and signing in itself."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jobkit import passwords, roles
from jobkit.accounts import Principal, Session, User, picture
from jobkit.errors import BadInput, Conflict, Refused
from jobkit.listings import author
from jobkit.store import guesses, users

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection, Row

    from jobkit.kit import Kit

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=7)
SEEN_EVERY = timedelta(minutes=10)
"""It is a commit, after which every page asks for news: many who look on must not make many."""
FREE_GUESSES = {"user at address": 5, "address": 20, "user": 50}
"""How many wrong passwords are not followed by a wait: one guesser cannot lock out a user."""
NO_PASSWORD = ""
"""In the place of a hash: no password matches, and saying so takes as long as for any other."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_WRONG = "That is no user, or not their password; after several tries the next has to wait."


class Users:
    """The users: iterate, add, change, and let one sign in."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def __iter__(self) -> Iterator[User]:
        with self._kit.database.read() as connection:
            return iter([picture(User, row) for row in users.listed(connection)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, name: str) -> User:
        with self._kit.database.read() as connection:
            return picture(User, users.by_name(connection, name))

    def any_active(self) -> bool:
        """Whether anybody may sign in."""
        with self._kit.database.read() as connection:
            return users.count(connection) > 0

    def add(self, name: str, password: str, role: str = "viewer") -> User:
        """Add a user; BadInput names what is wrong, Conflict when the name is taken."""
        _check_name(name)
        roles.check(role)
        passwords.check(password, name)
        sealed = passwords.seal(password)
        with self._kit.database.write() as connection:
            row = self._insert(connection, name, role, password_hash=sealed)
            author.note(self._kit, connection, "added a user", f"{name}, {role}")
            return picture(User, row)

    def add_service(self, name: str, role: str = "viewer") -> User:
        """Add the account of a service: it holds tokens, has no password and cannot sign in."""
        _check_name(name)
        roles.check(role)
        with self._kit.database.write() as connection:
            row = self._insert(connection, name, role, is_service=True)
            author.note(self._kit, connection, "added a service", f"{name}, {role}")
            return picture(User, row)

    def _insert(self, connection: Connection, name: str, role: str, **values: Any) -> Row[Any]:
        """Add a row; without a password nobody's is right."""
        now = self._kit.clock.now()
        usual = {
            "name": name,
            "role": role,
            "password_hash": NO_PASSWORD,
            "created_at": now,
            "password_at": now,
        }
        return users.insert(connection, usual | values)

    def set_password(self, name: str, password: str, *, keep: str | None = None) -> None:
        """Set a user's password; their sessions end, but the one that is to be kept."""
        passwords.check(password, name)
        sealed, now = passwords.seal(password), self._kit.clock.now()
        with self._kit.database.write() as connection:
            user = users.by_name(connection, name)
            if user.is_service:
                raise Conflict(
                    f"{name} is a service and cannot sign in.",
                    f"Make a token of it: jobkit token add NAME --user {name}",
                )
            users.change(connection, user.id, {"password_hash": sealed, "password_at": now})
            users.end_sessions(connection, user.id, but=keep)
            author.note(self._kit, connection, "set a password", name)

    def change_password(self, who: Principal, old: str, new: str, *, address: str = "") -> None:
        """Set one's own password, which takes the old one; every other session of theirs ends."""
        self._checked(who.user or "", old, address)
        self.set_password(who.user or "", new, keep=who.session)

    def set_role(self, name: str, role: str) -> User:
        """Give a user another role, at once; Conflict for the last admin."""
        roles.check(role)
        with self._kit.database.write() as connection:
            user = users.by_name(connection, name)
            if role != "admin":
                self._refuse_last_admin(connection, user)
            users.change(connection, user.id, {"role": role})
            if role != user.role:
                users.end_sessions(connection, user.id)
            author.note(self._kit, connection, "set a role", f"{name}, {role}")
            return picture(User, users.by_name(connection, name))

    def disable(self, name: str) -> User:
        """Let a user in no more, nor their tokens; Conflict for the last admin."""
        with self._kit.database.write() as connection:
            user = users.by_name(connection, name)
            self._refuse_last_admin(connection, user)
            users.change(connection, user.id, {"disabled_at": self._kit.clock.now()})
            users.end_sessions(connection, user.id)
            author.note(self._kit, connection, "disabled a user", name)
            return picture(User, users.by_name(connection, name))

    def enable(self, name: str) -> User:
        """Let a user in again."""
        with self._kit.database.write() as connection:
            user = users.by_name(connection, name)
            users.change(connection, user.id, {"disabled_at": None})
            author.note(self._kit, connection, "enabled a user", name)
            return picture(User, users.by_name(connection, name))

    def remove(self, name: str) -> None:
        """Delete a user with their sessions and tokens; what they did stays recorded."""
        with self._kit.database.write() as connection:
            user = users.by_name(connection, name)
            self._refuse_last_admin(connection, user)
            users.delete(connection, user.id)
            author.note(self._kit, connection, "removed a user", name)

    def sign_in(self, name: str, password: str, *, address: str = "", browser: str = "") -> str:
        """Open a session and return its secret; Refused with the same words whatever is wrong."""
        if not self._kit.settings.passwords:
            raise Refused("Nobody signs in by a password here.", "Use single sign-on.")
        user = self._checked(name, password, address)
        is_current = passwords.is_current(user.password_hash)
        sealed = user.password_hash if is_current else passwords.seal(password)
        with self._kit.database.write() as connection:
            guesses.forget(connection, self._kit.clock.now())
            if not is_current:
                users.change(connection, user.id, {"password_hash": sealed})
            return self._open(connection, user, address, browser)

    def sign_in_as(
        self,
        subject: str,
        name: str,
        groups: Iterable[str],
        *,
        address: str = "",
        browser: str = "",
    ) -> str:
        """Open a session for whom a provider has let in, and return its secret.

        `subject` is who they are to it, for ever; `name` what they are called, which counts at
        their first time only. Their groups give the role, anew each time.

        1. Who was disabled here stays out.
        2. Who is in no group that gives a role stays out, and their sessions end.
        3. Who comes for the first time becomes a user, if nobody else has the name.
        4. Whose role has changed has it from now on, in every session.

        Refused says which of these it was.
        """
        role = roles.of_groups(groups, self._kit.settings.roles_of_groups)
        by = self._from(address)
        with self._kit.database.write() as connection:
            user = users.by_subject(connection, subject)
            refused = _why_out(connection, user, name, role)
            if refused is None and role is not None:
                known = user or self._insert(connection, name, role, subject=subject)
                if user is None:
                    author.note(by, connection, "added a user", f"{name}, {role}", who=name)
                if known.role != role:
                    users.change(connection, known.id, {"role": role})
                    about = f"{known.name}, {role}"
                    author.note(by, connection, "set a role", about, who=known.name)
                return self._open(connection, known, address, browser)
            if user is not None:
                users.end_sessions(connection, user.id)
            who = name if user is None else user.name
            author.note(by, connection, "was refused to sign in", who=who)
        raise refused or Refused(_WRONG)

    def _open(self, connection: Connection, user: Row[Any], address: str, browser: str) -> str:
        """Open a session of a user and return its secret."""
        secret, now = passwords.fresh_secret(), self._kit.clock.now()
        values = {
            "sha256": passwords.fingerprint(secret),
            "user_id": user.id,
            "created_at": now,
            "seen_at": now,
            "address": address,
            "browser": browser[:200],
        }
        users.end_old_sessions(connection, now, idle=IDLE, longest=LONGEST)
        users.open_session(connection, values)
        author.note(self._from(address), connection, "signed in", who=user.name)
        return secret

    def signed_in(self, secret: str) -> Principal | None:
        """Return who has a session, None when it has ended."""
        now, sha256 = self._kit.clock.now(), passwords.fingerprint(secret)
        with self._kit.database.read() as connection:
            found = users.session(connection, sha256)
        if found is None or now - found.seen_at > IDLE or now - found.created_at > LONGEST:
            return None
        if now - found.seen_at > SEEN_EVERY:
            with self._kit.database.write(lazily=True) as connection:
                users.see(connection, sha256, now)
        return Principal(found.name, found.role, user=found.name, session=sha256)

    def sign_out(self, who: Principal, *, everywhere: bool = False) -> None:
        """End the session by which somebody came, or all of theirs."""
        with self._kit.database.write() as connection:
            if everywhere and who.user is not None:
                users.end_sessions(connection, users.by_name(connection, who.user).id)
                author.note(self._kit, connection, "signed out everywhere", who=who.name)
            elif who.session is not None:
                users.end_session(connection, who.session)
                author.note(self._kit, connection, "signed out", who=who.name)

    def sessions(self, name: str) -> list[Session]:
        """Return where a user is signed in, the session that was used last first."""
        now = self._kit.clock.now()
        with self._kit.database.read() as connection:
            rows = users.sessions_of(connection, users.by_name(connection, name).id)
        found = [picture(Session, row) for row in rows]
        return [
            item
            for item in found
            if now - item.seen_at <= IDLE and now - item.created_at <= LONGEST
        ]

    def _from(self, address: str) -> Kit:
        """Return a kit that records from where somebody came, before it is known who."""
        return self._kit.acting_as(self._kit.who, address=address) if address else self._kit

    def _checked(self, name: str, password: str, address: str) -> Row[Any]:
        """Return the user whose password it is; Refused otherwise."""
        keys = {
            passwords.fingerprint(f"{scope}: {what}"): FREE_GUESSES[scope]
            for scope, what in _scopes(name, address).items()
        }
        now = self._kit.clock.now()
        with self._kit.database.write() as connection:
            locked = guesses.begin(connection, keys, now)
            user = users.find(connection, name) if _NAME.fullmatch(name) else None
        if locked is not None:
            raise Refused(_WRONG, "Ask an admin if you do not know the password any more.")
        may_enter = user is not None and user.disabled_at is None
        sealed = user.password_hash if user is not None and may_enter else None
        if not passwords.matches(password, sealed) or user is None:
            self._from(address).audit.note("was refused to sign in", who="nobody")
            raise Refused(_WRONG, "Ask an admin if you do not know the password any more.")
        pair, *others = keys
        with self._kit.database.write() as connection:
            guesses.forgive(connection, [pair], others)
        return user

    def _refuse_last_admin(self, connection: Connection, user: Row[Any]) -> None:
        if user.role != "admin" or user.disabled_at is not None:
            return
        if users.other_admins(connection, user.id) == 0:
            raise Conflict(
                f"{user.name} is the last admin.", "Make somebody else one: jobkit user role"
            )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"{name!r} cannot name a user.",
            "Use up to 64 letters, digits, '.', '_', '-' and '@', the first a letter or digit.",
        )


def _why_out(
    connection: Connection, user: Row[Any] | None, name: str, role: str | None
) -> Refused | None:
    """Say why somebody whom a provider lets in stays out; None: they may come."""
    if user is not None and user.disabled_at is not None:
        return Refused(f"{user.name} may not sign in here.", "An admin can let them in again.")
    if role is None:
        return Refused(
            f"{name} is in no group that has a role here.",
            "Ask who looks after the portal: JOBKIT_OIDC_GROUPS says which groups have one.",
        )
    if user is not None:
        return None
    if not _NAME.fullmatch(name):
        return Refused(
            f"{name!r} cannot name a user.", "JOBKIT_OIDC_NAME_CLAIM says which name is taken."
        )
    if users.find(connection, name) is not None:
        return Refused(
            f"Somebody else is called {name} here.",
            f"If it is the same person, an admin removes that one first: jobkit user remove {name}",
        )
    return None


def _scopes(name: str, address: str) -> dict[str, str]:
    """Return what a guess is counted for; the first is forgotten wholly by a right password."""
    return {"user at address": f"{name}\n{address}", "address": address, "user": name}
