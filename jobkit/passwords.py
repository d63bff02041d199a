"""Passwords and other secrets: what of them is kept, and whether one that is given is right."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import threading
from functools import cache

from jobkit.errors import BadInput

SHORTEST, LONGEST = 10, 1024
"""Characters, and bytes, of a password."""
COST, BLOCK, LANES = 15, 8, 1
"""scrypt's log2(N), r and p: 32 MB and some 80 ms a guess."""
AT_ONCE = 2
"""How many are worked out at once: the portal's threads would take a quarter of a gigabyte."""

_turn = threading.BoundedSemaphore(AT_ONCE)


def check(password: str, user: str) -> None:
    """Refuse a password that is easily guessed; BadInput never holds it."""
    if len(password) < SHORTEST or len(_bytes(password)) > LONGEST:
        raise BadInput(
            f"A password has {SHORTEST} characters or more, and {LONGEST} bytes at most.",
            "A few random words are easy to keep in mind.",
        )
    if password.casefold() == user.casefold() or len(set(password)) < 3:
        raise BadInput("That password is the first that anybody would guess.", "Take another.")


def seal(password: str) -> str:
    """Return what is kept of a password: `scrypt$cost$block$lanes$salt$hash`."""
    salt = secrets.token_bytes(16)
    digest = _scrypt(password, salt, COST, BLOCK, LANES)
    return "$".join(("scrypt", str(COST), str(BLOCK), str(LANES), _text(salt), _text(digest)))


def matches(password: str, sealed: str | None) -> bool:
    """Whether a password is the one that was sealed; without one it takes as long to say no."""
    wanted = sealed or _nobody()
    try:
        name, cost, block, lanes, salt, digest = wanted.split("$")
        made = _scrypt(password, _raw(salt), int(cost), int(block), int(lanes))
        is_right = name == "scrypt" and hmac.compare_digest(made, _raw(digest))
    except (ValueError, binascii.Error):  # a row that nobody here wrote
        return False
    return is_right and sealed is not None


def is_current(sealed: str) -> bool:
    """Whether it was sealed as passwords are sealed today."""
    return sealed.split("$")[:4] == ["scrypt", str(COST), str(BLOCK), str(LANES)]


def fresh_secret() -> str:
    """Return 256 random bits as text."""
    return secrets.token_urlsafe(32)


def fingerprint(secret: str) -> str:
    """Return what is kept of a random secret: it cannot be guessed, so one round is enough."""
    return hashlib.sha256(_bytes(secret)).hexdigest()


@cache
def _nobody() -> str:
    return seal(fresh_secret())


def _scrypt(password: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    room = 132 * (1 << cost) * block * lanes + (1 << 20)
    with _turn:
        return hashlib.scrypt(
            _bytes(password), salt=salt, n=1 << cost, r=block, p=lanes, maxmem=room, dklen=32
        )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _raw(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
