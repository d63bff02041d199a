"""`/login/sso`: to the provider of single sign-on, and back."""

from __future__ import annotations

import hmac
from urllib.parse import quote, unquote

from flask import Blueprint, Response, abort, current_app, make_response, redirect, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from jobkit.passwords import fresh_secret
from portal import access, origin
from portal.provider import Attempt, Provider

blueprint = Blueprint("sso", __name__, url_prefix="/login/sso")
MINUTES = 10
"""How long somebody may take at the provider."""


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


def _provider() -> Provider:
    provider: Provider | None = current_app.config["PROVIDER"]
    if provider is None:
        abort(404)
    return provider


@blueprint.get("")
def begin() -> ResponseReturnValue:
    """Send a browser to the provider; it keeps what it must come back with."""
    secret, onward = fresh_secret(), origin.local(request.args.get("next", "/"))
    try:
        address = _provider().address(Attempt(secret), _callback())
    except jobkit.Refused as error:
        return access.door(onward, wrong=str(error)), 502
    answer = make_response(redirect(address, 303))
    # Lax: what comes back from the provider is a link of another site.
    access.set_cookie(answer, f"{secret} {quote(onward)}", MINUTES * 60, "Lax", name=_cookie_name())
    return answer


@blueprint.get("/callback")
def finish() -> ResponseReturnValue:
    """Let in whom the provider sends back.

    1. It is the browser that began, and this try is spent.
    2. The answer is this provider's, and holds a code.
    3. The code proves who it is.
    4. They are a user, with the role that their groups give.
    """
    provider, given = _provider(), request.args
    secret, _, quoted = request.cookies.get(_cookie_name(), "").partition(" ")
    onward = origin.local(unquote(quoted) or "/")
    attempt = Attempt(secret)
    if not secret or not hmac.compare_digest(attempt.state, given.get("state", "")):
        return _again(onward, "This sign-in was not begun here, or took too long. Try again.")
    if given.get("iss", provider.issuer) != provider.issuer:
        return _again(onward, "Another provider answered than the one that was asked.")
    code = given.get("code")
    if not code:
        why = given.get("error_description") or given.get("error") or "it gave no code"
        return _again(onward, f"The provider did not let you in: {why[:200]}.")
    try:
        now = _kit().clock.now().timestamp()
        who = provider.identity(attempt, _callback(), code, now)
        session = _kit().users.sign_in_as(
            who.subject,
            who.name,
            who.groups,
            address=request.remote_addr or "",
            browser=request.headers.get("User-Agent", ""),
        )
    except jobkit.Refused as error:
        return _again(onward, str(error))
    return _spent(access.admit(session, onward))


def _again(onward: str, wrong: str) -> ResponseReturnValue:
    return _spent(make_response(access.door(onward, wrong=wrong), 401))


def _spent(answer: Response) -> Response:
    access.forget_cookie(answer, name=_cookie_name())
    return answer


def _callback() -> str:
    return url_for("sso.finish", _external=True)


def _cookie_name() -> str:
    return f"{access.cookie_name()}-sso"
