"""Where a request comes from and goes to: hosts, origins, redirects; and what answers forbid."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from urllib.parse import urlencode, urlsplit

from flask import Response
from htmx_flask import request

from portal.api.problems import is_api

SAFE = ("GET", "HEAD", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With `no-referrer` browsers say `Origin: null`, and plain HTTP has no `Sec-Fetch-Site`: there
    # every button would be taken for another site's.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
TLS_ONLY = "max-age=31536000"
SALT_DIGITS = 16
SMALL = ("attempt", "after", "version")
MOST_SMALL, MOST_NUMBER = (1 << 31) - 1, (1 << 63) - 1
"""What columns of both databases hold."""


def is_ours(names: set[str], *, everywhere: bool) -> bool:
    """Whether the request is for a name that this portal has.

    A page of another name that resolves to this machine must not read the portal.
    """
    try:
        name = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # a bracket without its partner
        return False
    return name in names or (everywhere and _is_address(name))


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach an address that the portal listens on."""
    if host.lower() == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def is_same(form_key: str) -> bool:
    """Whether a page of this portal sent the request, by what the browser says of it.

    Where it says nothing at all, the form must hold the token that only our pages know.
    """
    site: str | None = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin: str | None = request.headers.get("Origin")
    if origin is not None:
        host: str = request.host
        return origin.partition("://")[2] == host
    given: str = request.form.get("form_token", "")
    salt = given[:SALT_DIGITS]
    return bool(form_key) and hmac.compare_digest(
        given.encode(), form_token(form_key, salt).encode()
    )


def form_token(key: str, salt: str | None = None) -> str:
    """Return what a form of a session holds, for browsers that do not say where they come from.

    Each is another text: what is packed with what a stranger chose must not say it by its length.
    """
    if not key:
        return ""
    salt = secrets.token_hex(SALT_DIGITS // 2) if salt is None else salt
    return salt + hmac.new(key.encode(), b"form" + salt.encode(), hashlib.sha256).hexdigest()


def is_from_elsewhere() -> bool:
    """Whether a link on another site led here, a notebook's for instance."""
    return str(request.headers.get("Sec-Fetch-Site")) in ("cross-site", "same-site")


def local(onward: str) -> str:
    """Keep a redirect on this portal: `//elsewhere` and `https://elsewhere` go home instead."""
    try:
        parts = urlsplit(onward)
    except ValueError:
        return "/"
    is_local = not parts.scheme and not parts.netloc and onward.startswith("/")
    is_plain = onward.isprintable() and "\\" not in onward
    return onward if is_local and is_plain and not onward.startswith("//") else "/"


def without_token() -> str:
    """Return the address of this request without the token in it."""
    rest = [(name, value) for name, value in request.args.items(multi=True) if name != "token"]
    path: str = request.path
    return path + (f"?{urlencode(rest)}" if rest else "")


def is_readable() -> bool:
    """Whether both databases take the words and numbers in the address and the form."""
    given = [*(request.view_args or {}).items(), *request.args.items(multi=True)]
    if any("\x00" in f"{name}{value}" for name, value in given):
        return False
    if not is_api() and not all(_fits(name, str(value)) for name, value in given):
        return False  # the API says itself what it takes
    return not any("\x00" in text for pair in request.form.items(multi=True) for text in pair)


def _fits(name: str, value: str) -> bool:
    digits = value.lstrip("+-")
    most = MOST_SMALL if name in SMALL else MOST_NUMBER
    return not digits.isdecimal() or (len(digits) <= 19 and int(digits) <= most)


def harden(response: Response) -> Response:
    """Forbid scripts, frames, sniffing and caches; what scripts left has stricter headers."""
    if response.status_code == 204:  # nothing that could be run, framed or sniffed
        response.headers["Cache-Control"] = "no-store"
        return response
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    if request.is_secure:
        response.headers.setdefault("Strict-Transport-Security", TLS_ONLY)
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
        response.vary.update(("HX-Request", "Cookie"))
    return response


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
