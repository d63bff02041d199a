"""Who may do what: every request is let in by a token, a session or not at all.

Without users the portal is this machine's own: the token that it prints opens it, as Jupyter's
does. With users each has a role, and each endpoint needs one (`portal.permissions`).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import urlsplit

from flask import (
    Flask,
    Response,
    abort,
    current_app,
    g,
    has_app_context,
    make_response,
    redirect,
    render_template,
)
from flask.typing import ResponseReturnValue
from htmx_flask import request
from werkzeug.local import LocalProxy

import jobkit
from jobkit.roles import allows
from portal import live, origin, scope
from portal.api.problems import is_api, problem
from portal.pages import page
from portal.permissions import ANYBODY
from portal.presence import Presence

COOKIE_SECONDS = 30 * 86400
SESSION_SECONDS = 7 * 86400
BEARER = "bearer "
METRICS = "metrics.show"
"""Programs ask for it as well: Prometheus shows a token."""


@dataclass(frozen=True)
class Gate:
    """What lets people in: the token of this machine's own portal, or the users of a kit."""

    kit: jobkit.Kit
    token: str | None
    needed: Mapping[str, str]
    present: Presence = field(default_factory=Presence)

    @property
    def has_users(self) -> bool:
        """Whether people sign in by name; else the token makes whoever has it the admin."""
        return self.token is None

    @cached_property
    def sealed(self) -> str:
        """What the cookie of a portal with a token holds."""
        return hmac.new(str(self.token).encode(), b"jobkit portal", hashlib.sha256).hexdigest()

    def who(self) -> jobkit.Principal | None:
        """Return who asks, by what the request shows."""
        shown: str = request.headers.get("Authorization", "")
        if shown and (is_api() or request.endpoint == METRICS):
            return self._bearer(shown)
        if is_api() and request.method not in origin.SAFE:
            return None  # a browser sends cookies for anybody's page, and tokens for none
        secret: str = request.cookies.get(cookie_name(), "")
        if self.has_users:
            return self._signed_in(secret) if secret else None
        return self._owner() if _same(secret, self.sealed) else None

    def _signed_in(self, secret: str) -> jobkit.Principal | None:
        """Return whose session it is; where nothing was committed since it was known, by memory."""
        g.pulse = self.kit.pulse.read()
        return self.present.who(
            secret, g.pulse, lambda: self.kit.users.signed_in(secret), may_be_old=live.is_poll()
        )

    def _bearer(self, shown: str) -> jobkit.Principal | None:
        if not shown.lower().startswith(BEARER):
            return None
        secret = shown[len(BEARER) :].strip()
        if self.token is not None and _same(secret, self.token):
            return self._owner()
        return self.kit.tokens.shown(secret)

    def _owner(self) -> jobkit.Principal:
        return jobkit.Principal(self.kit.user, "admin")


def install(
    app: Flask,
    kit: jobkit.Kit,
    *,
    token: str | None,
    host: str,
    trusted_hosts: Sequence[str],
    needed: Mapping[str, str],
) -> None:
    """Let in only those who may, from pages of this portal, by a name it has.

    `token`: opens the portal of this machine; None where people sign in by name.
    """
    if token == "":
        raise ValueError("an empty token would let in everybody")
    gate = Gate(kit.acting_as(kit.user, source="portal"), token, needed)
    app.config["GATE"] = gate
    names = {name.lower() for name in ("127.0.0.1", "localhost", "::1", host, *trusted_hosts)}
    everywhere = host in ("0.0.0.0", "::")  # noqa: S104

    def check() -> ResponseReturnValue | None:
        if not origin.is_ours(names, everywhere=everywhere):
            abort(make_response(f"This portal is not {request.host}.\n", 400))
        if not origin.is_readable():
            return _refuse(400, "Not like that", "The address holds what no database takes.")
        given = request.args.get("token")
        if given is not None and request.method == "GET" and not is_api() and token is not None:
            return _enter_by_token(gate, given, origin.without_token())
        return _judge(gate)

    app.before_request(check)
    app.after_request(lambda answer: _note(gate, answer))
    app.after_request(origin.harden)
    app.add_url_rule("/login", "login", lambda: _door(gate, request.args.get("next", "/")))
    app.add_url_rule("/login", "enter", lambda: _enter(gate), methods=["POST"])
    # Each request acts as whoever asks: what it changes is recorded as theirs.
    app.config["KIT"] = LocalProxy(
        lambda: g.get("kit", gate.kit) if has_app_context() else gate.kit
    )
    app.jinja_env.globals.update(
        may=lambda role: allows(g.get("role", ""), role),
        can=lambda endpoint: allows(g.get("role", ""), gate.needed[endpoint]),
        who=lambda: g.get("who"),
        form_token=lambda: origin.form_token(_form_key()),
        people_sign_in=gate.has_users,
    )


def _judge(gate: Gate) -> ResponseReturnValue | None:
    """Let a request through, or answer it with why not."""
    needed = ANYBODY if request.endpoint is None else gate.needed.get(request.endpoint)
    if needed is None:
        abort(500)
    who = None if _is_the_same_for_all() else gate.who()
    if who is not None:
        source = "API" if is_api() else "portal"
        g.who, g.role = who, who.role
        g.kit = gate.kit.acting_as(who.name, source=source, address=_address())
    acts = request.method not in origin.SAFE and not is_api()
    if acts and not origin.is_same(_form_key()):
        return _refuse(403, "Not from there", "The request came from another site.")
    if who is None:
        is_open = needed == ANYBODY and request.endpoint is not None
        return None if is_open else _closed_door(gate)
    if needed == ANYBODY or allows(who.role, needed):
        return None if scope.covers(gate.kit, who) else _refuse_scope(who)
    with suppress(jobkit.DatabaseUnavailable):
        g.kit.audit.note("was refused", _deed())
    return _refuse(
        403,
        "Not yours",
        f"This needs the role {needed}, and {who.name} is {who.role}.",
        f"Ask an admin for it: jobkit user role {who.name} {needed}",
    )


def _refuse_scope(who: jobkit.Principal) -> ResponseReturnValue:
    with suppress(jobkit.DatabaseUnavailable):
        g.kit.audit.note("was refused", _deed())
    named = ", ".join(who.jobs or ())
    return _refuse(403, "Not yours", f"This token is for some jobs and their runs only: {named}.")


def _enter(gate: Gate) -> ResponseReturnValue:
    form = request.form
    if not gate.has_users:
        return _enter_by_token(gate, form.get("token", "").strip(), form.get("next", "/"))
    try:
        secret = gate.kit.users.sign_in(
            form.get("name", "").strip(),
            form.get("password", ""),
            address=_address(),
            browser=request.headers.get("User-Agent", ""),
        )
    except jobkit.Refused as error:
        return _door(gate, form.get("next", "/"), wrong=error.message), 401
    return admit(secret, origin.local(form.get("next", "/")))


def admit(secret: str, onward: str) -> Response:
    """Let a browser in with a session that was opened for it; the one that it had ends."""
    gate = _gate()
    if "who" in g:
        gate.kit.users.sign_out(g.who)
    gate.present.forget()
    answer = make_response(redirect(onward, 303))
    # Lax: a link in a notebook leads in. Looking changes nothing, and what acts is checked.
    set_cookie(answer, secret, SESSION_SECONDS, "Lax")
    return answer


def door(onward: str, *, wrong: str = "") -> str:
    """Show where people sign in, and why they must again."""
    return _door(_gate(), onward, wrong=wrong)


def _gate() -> Gate:
    gate: Gate = current_app.config["GATE"]
    return gate


def _enter_by_token(gate: Gate, given: str, onward: str) -> ResponseReturnValue:
    if not _same(given, str(gate.token)):
        return _door(gate, onward, wrong="That is not the token."), 401
    onward = origin.local(onward)
    if origin.is_from_elsewhere():
        # A redirect would still count as the other site's, and go without the strict cookie.
        answer = make_response(render_template("enter.html", layout="base.html", onward=onward))
    else:
        answer = make_response(redirect(onward, 303))
    set_cookie(answer, gate.sealed, COOKIE_SECONDS, "Strict")
    return answer


def _closed_door(gate: Gate) -> ResponseReturnValue:
    if is_api():
        answer = problem(401, "No token that is good was shown.", "Authorization: Bearer jk_...")
        answer.headers["WWW-Authenticate"] = 'Bearer realm="jobkit"'
        return answer
    if request.htmx:
        return Response("", 401, {"HX-Redirect": "/login"})
    is_page = request.method == "GET"
    return _door(gate, request.full_path.rstrip("?") if is_page else "/"), 401


def _door(gate: Gate, onward: str, *, wrong: str = "") -> str:
    return render_template(
        "login.html",
        layout="base.html",
        next=origin.local(onward),
        wrong=wrong,
        by_password=not gate.has_users or gate.kit.settings.passwords,
        by_provider=gate.has_users and current_app.config["PROVIDER"] is not None,
        may_go_on=not gate.has_users and origin.is_from_elsewhere() and not wrong,
    )


def _refuse(code: int, title: str, message: str, hint: str = "") -> ResponseReturnValue:
    if is_api():
        return problem(code, message, hint)
    if "who" not in g:
        return make_response(f"{message}\n", code)
    return page("error.html", poll=False, title=title, message=message, hint=hint), code


def _note(gate: Gate, answer: Response) -> Response:
    """Record what was done, where the kit has not recorded it in better words."""
    if request.method not in origin.SAFE:
        gate.present.forget()  # who may come may be what was changed
    is_deed = request.method not in origin.SAFE and "who" in g and answer.status_code < 400
    if is_deed and request.blueprint is not None and not g.kit.has_noted:
        with suppress(jobkit.DatabaseUnavailable):
            g.kit.audit.note("did", _deed())
    return answer


def _deed() -> str:
    return f"{request.method} {request.path}"


def _address() -> str:
    address: str = request.remote_addr or ""
    return address


def _is_the_same_for_all() -> bool:
    return request.endpoint in ("static", "health.healthz")


def _form_key() -> str:
    key: str = request.cookies.get(cookie_name(), "")
    return key


def set_cookie(
    answer: Response, value: str, seconds: int, same_site: str, *, name: str | None = None
) -> None:
    """Let the browser keep a secret, by the name of the portal's cookie unless one is given."""
    answer.set_cookie(
        name or cookie_name(),
        value,
        httponly=True,
        samesite=same_site,
        secure=request.is_secure,
        max_age=seconds,
    )


def forget_cookie(answer: Response, *, name: str | None = None) -> None:
    """Let the browser forget who signed in; under TLS it takes that only from what is as secure."""
    answer.delete_cookie(
        name or cookie_name(), httponly=True, samesite="Lax", secure=bool(request.is_secure)
    )


def cookie_name() -> str:
    """Return the name of the cookie of this portal.

    Cookies know no ports: two portals on one machine must not put out each other's. Under TLS
    browsers take one of this name from this host only.
    """
    name = f"jobkit-{urlsplit(request.host_url).port or (443 if request.is_secure else 80)}"
    return f"__Host-{name}" if request.is_secure else name


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
