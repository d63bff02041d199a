"""Who may look: a token opens the portal, as Jupyter's does; a cookie keeps it open."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence
from urllib.parse import urlencode, urlsplit

from flask import Flask, Response, abort, make_response, redirect, render_template
from flask.typing import ResponseReturnValue
from htmx_flask import request

from portal.pages import local

OPEN = ("overview.healthz", "static", "htmx", "login", "enter")
COOKIE_SECONDS = 30 * 86400
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
}


def install(app: Flask, *, token: str, host: str, trusted_hosts: Sequence[str]) -> None:
    """Let in only those who know the token, from pages of this portal, by a name it has."""
    if not token:
        raise ValueError("an empty token would let in everybody")
    names = {name.lower() for name in ("127.0.0.1", "localhost", "::1", host, *trusted_hosts)}
    sealed = hmac.new(token.encode(), b"jobkit portal", hashlib.sha256).hexdigest()

    def check() -> ResponseReturnValue | None:
        if not _is_ours(names, everywhere=host in ("0.0.0.0", "::")):  # noqa: S104
            abort(make_response(f"This portal is not {request.host}.\n", 400))
        if request.method not in SAFE and not _is_same_origin():
            abort(make_response("The request came from another site.\n", 403))
        given = request.args.get("token")
        if given is not None and request.method == "GET":
            return _enter(token, sealed, given, _without_token())
        if request.endpoint in OPEN or _same(request.cookies.get(_cookie(), ""), sealed):
            return None
        return _closed_door()

    def enter() -> ResponseReturnValue:
        given, onward = request.form.get("token", ""), request.form.get("next", "/")
        return _enter(token, sealed, given.strip(), onward)

    app.before_request(check)
    app.after_request(_harden)
    app.add_url_rule("/login", "login", lambda: _door(request.args.get("next", "/")))
    app.add_url_rule("/login", "enter", enter, methods=["POST"])


def _enter(token: str, sealed: str, given: str, onward: str) -> ResponseReturnValue:
    if not _same(given, token):
        return _door(onward, wrong=True), 401
    answer = _onward(local(onward))
    answer.set_cookie(
        _cookie(),
        sealed,
        httponly=True,
        samesite="Strict",
        secure=request.is_secure,
        max_age=COOKIE_SECONDS,
    )
    return answer


def _onward(path: str) -> Response:
    if _is_from_elsewhere():
        # A redirect would still count as the other site's, and go without the strict cookie.
        return make_response(render_template("enter.html", layout="base.html", onward=path))
    return make_response(redirect(path, 303))


def _is_from_elsewhere() -> bool:
    """Whether a link on another site led here, a notebook's for instance."""
    return str(request.headers.get("Sec-Fetch-Site")) in ("cross-site", "same-site")


def _closed_door() -> ResponseReturnValue:
    if request.htmx:
        return Response("", 401, {"HX-Redirect": "/login"})
    return _door(request.full_path.rstrip("?") if request.method == "GET" else "/"), 401


def _door(onward: str, *, wrong: bool = False) -> str:
    return render_template(
        "login.html",
        layout="base.html",
        next=local(onward),
        wrong=wrong,
        may_go_on=_is_from_elsewhere() and not wrong,
    )


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _cookie() -> str:
    # Cookies know no ports: two portals on one machine must not put out each other's.
    return f"jobkit-{urlsplit(request.host_url).port or 80}"


def _without_token() -> str:
    rest = [(name, value) for name, value in request.args.items(multi=True) if name != "token"]
    path: str = request.path
    return path + (f"?{urlencode(rest)}" if rest else "")


def _is_ours(names: set[str], *, everywhere: bool) -> bool:
    """A page of another name that resolves to this machine must not read the portal."""
    try:
        name = urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # a bracket without its partner
        return False
    return name in names or (everywhere and _is_address(name))


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same_origin() -> bool:
    site: str | None = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in ("same-origin", "none")
    origin: str = request.headers.get("Origin", "")
    host: str = request.host
    return origin.partition("://")[2] == host


def _harden(response: Response) -> Response:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)  # what scripts left has stricter ones
    if request.endpoint not in ("static", "htmx"):
        response.headers["Cache-Control"] = "no-store"
    response.vary.update(("HX-Request", "Cookie"))
    return response
