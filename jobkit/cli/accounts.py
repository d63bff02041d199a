"""`jobkit user` and `jobkit token`: who may use the portal, and as what."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape

from jobkit import text
from jobkit.accounts import User
from jobkit.cli import options as o
from jobkit.cli.show import err, out, print_json, table
from jobkit.errors import BadInput

users = typer.Typer(no_args_is_help=True, help="Who may sign in to the portal, and as what.")
tokens = typer.Typer(no_args_is_help=True, help="Tokens that scripts show to the portal's API.")

UserName = Annotated[str, typer.Argument(metavar="NAME", help="The user.", show_default=False)]
TokenName = Annotated[str, typer.Argument(metavar="NAME", help="The token.", show_default=False)]
Role = Annotated[
    str, typer.Option("--role", metavar="ROLE", help="viewer, operator, editor or admin.")
]


@users.command("add")
def add(
    name: UserName,
    role: Role = "viewer",
    service: Annotated[
        bool, typer.Option("--service", help="No person: it holds tokens and cannot sign in.")
    ] = False,
) -> None:
    """Add a user; the password is asked for, or read from stdin."""
    with o.open_kit() as kit:
        if service:
            made = kit.users.add_service(name, role)
            said = f"{escape(made.name)} may hold tokens, as {made.role} at most"
        else:
            made = kit.users.add(name, _new_password(), role)
            said = f"{escape(made.name)} may sign in as {made.role}"
    out.print(said)


@users.command("list")
def list_users(as_json: o.AsJson = False) -> None:
    """List the users."""
    with o.open_kit() as kit:
        found, now = list(kit.users), kit.clock.now()
    if as_json:
        print_json(found)
        return
    table(
        ("user", "role", "since", "comes by", ""),
        (
            (
                escape(user.name),
                user.role,
                text.age(user.created_at, now),
                _way_in(user, now),
                "" if user.is_active else "disabled",
            )
            for user in found
        ),
        "No users. Add one: jobkit user add NAME --role admin",
    )


@users.command("passwd")
def set_password(name: UserName) -> None:
    """Set a user's password, asked for or read from stdin; their sessions end."""
    with o.open_kit() as kit:
        user = kit.users[name]  # before the question
        kit.users.set_password(user.name, _new_password())
    out.print(f"the password of {escape(name)} is set")


@users.command("role")
def set_role(
    name: UserName,
    role: Annotated[
        str, typer.Argument(help="viewer, operator, editor or admin.", show_default=False)
    ],
) -> None:
    """Give a user another role."""
    with o.open_kit() as kit:
        changed = kit.users.set_role(name, role)
    out.print(f"{escape(changed.name)} is {changed.role} now")


@users.command("disable")
def disable(name: UserName) -> None:
    """Let a user in no more, nor their tokens; their sessions end."""
    with o.open_kit() as kit:
        kit.users.disable(name)
    out.print(f"{escape(name)} may not sign in any more")


@users.command("enable")
def enable(name: UserName) -> None:
    """Let a user in again."""
    with o.open_kit() as kit:
        kit.users.enable(name)
    out.print(f"{escape(name)} may sign in again")


@users.command("remove")
def remove(name: UserName) -> None:
    """Delete a user with their sessions and tokens; what they did stays recorded."""
    with o.open_kit() as kit:
        kit.users.remove(name)
    out.print(f"{escape(name)} is removed")


@tokens.command("add")
def add_token(
    name: TokenName,
    role: Role = "viewer",
    user: Annotated[
        str | None,
        typer.Option("--user", metavar="NAME", help="Whose it is: it may no more than they."),
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", metavar="D", help="After so long; never: for ever.")
    ] = "90d",
    job: Annotated[
        list[str] | None,
        typer.Option("--job", metavar="PATTERN", help="For these jobs alone; may be repeated."),
    ] = None,
    as_json: o.AsJson = False,
) -> None:
    """Make a token and print it, this once."""
    lifetime = None if expires == "never" else text.parse_duration(expires)
    with o.open_kit() as kit:
        secret = kit.tokens.add(name, role, user=user, expires=lifetime, jobs=job or None)
    if as_json:
        print_json({"name": name, "token": secret})
        return
    print(secret)  # noqa: T201
    err.print("Keep it: of it only a hash is stored. Scripts show it as")
    err.print("  Authorization: Bearer jk_...")


@tokens.command("list")
def list_tokens(as_json: o.AsJson = False) -> None:
    """List the tokens that were not revoked."""
    with o.open_kit() as kit:
        found, now = list(kit.tokens), kit.clock.now()
    if as_json:
        print_json(found)
        return
    table(
        ("token", "role", "for", "of", "made", "used", "ends"),
        (
            (
                escape(token.name),
                token.role,
                escape(", ".join(token.jobs or ["all jobs"])),
                escape(token.user_name or ""),
                text.age(token.created_at, now),
                text.age(token.used_at, now),
                text.age(token.expires_at, now) if token.expires_at else "never",
            )
            for token in found
        ),
        "No tokens. Make one: jobkit token add NAME --role operator",
    )


@tokens.command("revoke")
def revoke(name: TokenName) -> None:
    """Let nobody in by a token any more."""
    with o.open_kit() as kit:
        kit.tokens.revoke(name)
    out.print(f"the token {escape(name)} is revoked")


def _way_in(user: User, now: datetime) -> str:
    """Say how a user comes in, and of a password since when."""
    if user.is_service:
        return "tokens alone"
    return "single sign-on" if user.subject else f"password, set {text.age(user.password_at, now)}"


def _new_password() -> str:
    """Ask for a password twice, or read one line of stdin; it is never an argument."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first: str = typer.prompt("Password", hide_input=True, err=True)
    if typer.prompt("Again", hide_input=True, err=True) != first:
        raise BadInput("The two passwords are not the same.", "Try again.")
    return first
