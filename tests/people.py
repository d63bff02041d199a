"""Users for the tests of the portal: one of each role, whose passwords cost next to nothing."""

from __future__ import annotations

from flask import Flask
from flask.testing import FlaskClient

import jobkit
from jobkit.roles import ROLES

PASSWORD = "correct horse"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}


def add_people(kit: jobkit.Kit) -> None:
    """Add a user of each role, who is called as it is."""
    for role in ROLES:
        kit.users.add(role, PASSWORD, role)


def enter(app: Flask, name: str, password: str = PASSWORD) -> FlaskClient:
    """Return a browser in which somebody has signed in."""
    client = app.test_client()
    answer = client.post("/login", data={"name": name, "password": password}, headers=SAME_ORIGIN)
    assert answer.status_code == 303, answer.text
    return client


def bearer(kit: jobkit.Kit, role: str) -> dict[str, str]:
    """Return the headers of a script with a token of a role."""
    return {"Authorization": f"Bearer {kit.tokens.add(f'of {role}', role)}"}
