"""`/account`: one's own password, sessions and tokens; and the way out."""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint, current_app, g, make_response, redirect, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from jobkit.roles import ROLES, allows
from jobkit.text import parse_duration
from portal.access import forget_cookie
from portal.pages import page

blueprint = Blueprint("account", __name__)


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("/account")
def show() -> str:
    """Show who one is here, where one is signed in, and one's tokens."""
    return _shown()


@blueprint.post("/logout")
def leave() -> ResponseReturnValue:
    """End this session."""
    _kit().users.sign_out(g.who)
    return _left()


@blueprint.post("/account/leave")
def leave_everywhere() -> ResponseReturnValue:
    """End all of one's sessions."""
    _kit().users.sign_out(g.who, everywhere=True)
    return _left()


@blueprint.post("/account/password")
def set_password() -> ResponseReturnValue:
    """Set one's own password, which takes the old one."""
    given = request.form
    if g.who.user is None:
        raise jobkit.BadInput("There is no password here.", "Add a user: jobkit user add NAME")
    if given.get("new", "") != given.get("again", ""):
        return _shown(wrong="The two new passwords are not the same."), 422
    try:
        _kit().users.change_password(
            g.who, given.get("old", ""), given.get("new", ""), address=request.remote_addr or ""
        )
    except jobkit.Refused:
        return _shown(wrong="The old password is not right, or the next try has to wait."), 422
    except jobkit.BadInput as error:
        return _shown(wrong=str(error)), 422
    return _shown(done="The password is set; every other session has ended.")


@blueprint.post("/account/tokens")
def make_token() -> ResponseReturnValue:
    """Make a token of one's own, and show it this once."""
    role = request.form.get("role", "viewer")
    if not allows(g.role, role):
        return _shown(wrong=f"You are {g.role}: a token of yours cannot be {role}."), 422
    try:
        secret = _kit().tokens.add(
            request.form.get("name", "").strip(), role, user=g.who.user, expires=lifetime()
        )
    except jobkit.BadInput as error:
        return _shown(wrong=str(error)), 422
    return _shown(secret=secret)


@blueprint.post("/account/tokens/revoke")
def revoke_token() -> ResponseReturnValue:
    """Let nobody in by a token of one's own any more."""
    _kit().tokens.revoke(request.form.get("name", ""), user=g.who.user)
    return redirect(url_for("account.show"), 303)


def lifetime() -> timedelta | None:
    """Return how long a token is to live, by the form; None for ever."""
    given = request.form.get("expires", "90d").strip()
    return parse_duration(given) if given else None


def _left() -> ResponseReturnValue:
    answer = make_response(redirect(url_for("login"), 303))
    forget_cookie(answer)
    return answer


def _shown(*, wrong: str = "", done: str = "", secret: str = "") -> str:
    kit, name = _kit(), g.who.user
    return page(
        "account.html",
        poll=False,
        wrong=wrong,
        done=done,
        secret=secret,
        sessions=[] if name is None else kit.users.sessions(name),
        tokens=kit.tokens(name) if name is not None else [],
        roles=[role for role in ROLES if allows(g.role, role)],
    )
