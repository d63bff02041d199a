"""`/users`: who may sign in and as what, and the tokens of all."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, current_app, redirect, url_for
from flask.typing import ResponseReturnValue
from htmx_flask import request

import jobkit
from jobkit.roles import ROLES
from portal.account import lifetime
from portal.pages import page

blueprint = Blueprint("users", __name__, url_prefix="/users")


def _kit() -> jobkit.Kit:
    kit: jobkit.Kit = current_app.config["KIT"]
    return kit


@blueprint.get("")
def index() -> str:
    """Show the users and the tokens."""
    return _shown()


@blueprint.post("")
def add() -> ResponseReturnValue:
    """Add a user."""
    form = request.form
    return _done(
        lambda: _kit().users.add(
            form.get("name", "").strip(), form.get("password", ""), form.get("role", "viewer")
        )
    )


@blueprint.post("/<name>/role")
def set_role(name: str) -> ResponseReturnValue:
    """Give a user another role."""
    return _done(lambda: _kit().users.set_role(name, request.form.get("role", "")))


@blueprint.post("/<name>/password")
def set_password(name: str) -> ResponseReturnValue:
    """Set a user's password; their sessions end."""
    return _done(lambda: _kit().users.set_password(name, request.form.get("password", "")))


@blueprint.post("/<name>/disable")
def disable(name: str) -> ResponseReturnValue:
    """Let a user in no more."""
    return _done(lambda: _kit().users.disable(name))


@blueprint.post("/<name>/enable")
def enable(name: str) -> ResponseReturnValue:
    """Let a user in again."""
    return _done(lambda: _kit().users.enable(name))


@blueprint.post("/<name>/remove")
def remove(name: str) -> ResponseReturnValue:
    """Delete a user; what they did stays recorded."""
    return _done(lambda: _kit().users.remove(name))


@blueprint.post("/tokens")
def make_token() -> ResponseReturnValue:
    """Make a token that is nobody's, and show it this once."""
    form = request.form
    try:
        secret = _kit().tokens.add(
            form.get("name", "").strip(), form.get("role", "viewer"), expires=lifetime()
        )
    except jobkit.BadInput as error:
        return _shown(wrong=str(error)), 422
    return _shown(secret=secret)


@blueprint.post("/tokens/revoke")
def revoke_token() -> ResponseReturnValue:
    """Let nobody in by a token any more."""
    return _done(lambda: _kit().tokens.revoke(request.form.get("name", "")))


def _done(act: Callable[[], object]) -> ResponseReturnValue:
    try:
        act()
    except jobkit.Conflict as error:
        return _shown(wrong=str(error)), 409
    except jobkit.NotFound:
        raise
    except jobkit.BadInput as error:
        return _shown(wrong=str(error)), 422
    return redirect(url_for("users.index"), 303)


def _shown(*, wrong: str = "", secret: str = "") -> str:
    kit = _kit()
    return page(
        "users.html",
        poll=False,
        wrong=wrong,
        secret=secret,
        users=list(kit.users),
        tokens=kit.tokens(),
        roles=ROLES,
    )
