"""Single sign-on against a provider on this machine: who comes in, as what, and who does not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser

import jobkit
from jobkit import passwords, settings
from jobkit.errors import BadInput
from jobkit.testing import ManualClock
from portal import create_app
from tests import provider
from tests.people import PASSWORD, SAME_ORIGIN
from tests.places import portal
from tests.provider import CLIENT, SECRET, LocalProvider
from tests.stage import MONDAY


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 4)


@pytest.fixture
def idp() -> Iterator[LocalProvider]:
    with provider.running() as running:
        running.now = MONDAY.timestamp()
        running.person["groups"] = ["everybody", "data"]
        yield running


@pytest.fixture
def kit(database: str, idp: LocalProvider) -> Iterator[jobkit.Kit]:
    with opened(database, **chosen(idp)) as kit:
        yield kit


@pytest.fixture
def app(kit: jobkit.Kit) -> Flask:
    return create_app(kit, token=None)


@contextmanager
def opened(url: str, **given: Any) -> Iterator[jobkit.Kit]:
    with jobkit.connect(url, **given) as kit:
        kit.clock = kit.database.clock = ManualClock(MONDAY)
        yield kit


def chosen(idp: LocalProvider, **more: Any) -> dict[str, Any]:
    return {
        "oidc_issuer": idp.address,
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SECRET,
        "oidc_groups": ("data=operator", "ops=admin"),
        **more,
    }


def come(app: Flask, path: str = "/jobs", client: FlaskClient | None = None) -> Any:
    """Sign in as a browser does, with the links that the portal and the provider give."""
    client = client or app.test_client()
    begun = client.get("/login/sso", query_string={"next": path})
    assert begun.status_code == 303, begun.text
    return client.get(back(begun.location))


def back(address: str) -> str:
    """Return where the provider sends a browser that comes by an address."""
    answer = requests.get(address, allow_redirects=False, timeout=10)
    assert answer.status_code == 302
    return answer.headers["Location"]


def test_who_comes_for_the_first_time_is_a_user_with_the_role_of_their_groups(
    app: Flask, kit: jobkit.Kit
) -> None:
    client = app.test_client()
    shut = client.get("/jobs?tag=sales")
    assert (shut.status_code, "/login/sso?next=/jobs?tag%3Dsales" in shut.text) == (401, True)
    answer = come(app, "/jobs?tag=sales", client)
    assert (answer.status_code, answer.location) == (303, "/jobs?tag=sales")
    assert "anna" in client.get("/account").text
    (user,) = kit.users
    assert (user.name, user.role, user.is_active) == ("anna", "operator", True)
    deeds = [(deed.what, deed.about, deed.face) for deed in kit.audit("anna")]
    assert deeds == [("signed in", "", "portal"), ("added a user", "anna, operator", "portal")]
    with pytest.raises(jobkit.JobkitError):
        kit.users.sign_in("anna", "", address="10.0.0.1")


def test_groups_are_read_at_each_sign_in_and_a_new_name_is_the_same_person(
    app: Flask, kit: jobkit.Kit, idp: LocalProvider
) -> None:
    come(app)
    idp.person |= {"groups": ["data", "ops"], "preferred_username": "anna.b"}
    come(app)
    (user,) = kit.users
    assert (user.name, user.role) == ("anna", "admin")
    idp.person["sub"] = "1002"
    come(app)
    assert [user.name for user in kit.users] == ["anna", "anna.b"]


def test_who_lost_the_groups_stays_out_and_is_out_everywhere(
    app: Flask, kit: jobkit.Kit, idp: LocalProvider
) -> None:
    client = app.test_client()
    come(app, client=client)
    assert client.get("/account").status_code == 200
    idp.person["groups"] = ["everybody"]
    refused = come(app)
    assert refused.status_code == 401
    assert "anna is in no group that has a role here" in refused.text
    assert kit.users.sessions("anna") == []


def test_who_was_disabled_and_who_has_another_s_name_stay_out(
    app: Flask, kit: jobkit.Kit, idp: LocalProvider
) -> None:
    kit.users.add("root", PASSWORD, "admin")
    come(app)
    kit.users.disable("anna")
    assert "anna may not sign in here" in come(app).text
    for name, said in (("root", "Somebody else is called root"), ("a b", "cannot name a user")):
        idp.person |= {"sub": name, "preferred_username": name}
        answer = come(app)
        assert (answer.status_code, said in answer.text) == (401, True)
    assert {user.name: user.role for user in kit.users} == {"anna": "operator", "root": "admin"}


def test_what_the_token_lacks_the_provider_is_asked_for(
    app: Flask, kit: jobkit.Kit, idp: LocalProvider
) -> None:
    idp.more["groups"] = idp.person.pop("groups")
    come(app)
    assert [user.role for user in kit.users] == ["operator"]


def test_a_fresh_key_of_the_provider_is_found(app: Flask, idp: LocalProvider) -> None:
    assert come(app).status_code == 303
    idp.new_key()
    assert come(app).status_code == 303
    asked = idp.asked
    assert come(app).status_code == 303
    assert idp.asked == asked, "what it says of itself is kept"


def _of(**changed: Any) -> provider.Bend:
    return lambda claims, header: claims.update(changed)


def _without(name: str) -> provider.Bend:
    return lambda claims, header: claims.pop(name)


def _signed_by(algorithm: str) -> provider.Bend:
    return lambda claims, header: header.update(alg=algorithm)


LONG_AGO = MONDAY - timedelta(hours=1)
BENT: dict[str, provider.Bend] = {
    "for another client": _of(aud="another"),
    "for several, ours not being who asked": _of(aud=[CLIENT, "another"], azp="another"),
    "of another provider": _of(iss="https://elsewhere.example"),
    "for another sign-in": _of(nonce="another"),
    "for no sign-in": _without("nonce"),
    "of nobody": _without("sub"),
    "expired": _of(iat=int(LONG_AGO.timestamp()), exp=int(LONG_AGO.timestamp()) + 300),
    "without an end": _without("exp"),
    "not yet good": _of(nbf=int(MONDAY.timestamp()) + 3600),
    "signed by nobody": _signed_by("none"),
    "signed by what all may know": _signed_by("HS256"),
}


@pytest.mark.parametrize("bend", BENT.values(), ids=BENT)
def test_a_token_that_proves_nothing_lets_in_nobody(
    sqlite_database: str, idp: LocalProvider, bend: provider.Bend
) -> None:
    with opened(sqlite_database, **chosen(idp)) as kit:
        app = create_app(kit, token=None)
        client = app.test_client()
        idp.bend = bend
        answer = come(app, client=client)
        assert (answer.status_code, "Single sign-on did not work" in answer.text) == (401, True)
        assert client.get("/jobs").status_code == 401
        assert list(kit.users) == []
        idp.bend = lambda claims, header: None
        assert come(app, client=client).status_code == 303, "the way is good, only the token is not"


def test_a_key_that_the_provider_does_not_own_opens_nothing(app: Flask, idp: LocalProvider) -> None:
    idp.new_key(published=False)
    assert come(app).status_code == 401


def test_a_sign_in_ends_in_the_browser_that_began_it_and_once(app: Flask, kit: jobkit.Kit) -> None:
    mine, other = app.test_client(), app.test_client()
    address = back(mine.get("/login/sso").location)
    assert "was not begun here" in other.get(address).text
    other.get("/login/sso")
    assert "was not begun here" in other.get(address).text, "it began another one"
    assert mine.get(address).status_code == 303
    again = mine.get(address)
    assert (again.status_code, "was not begun here" in again.text) == (401, True)
    begun = mine.get("/login/sso")
    answered = dict(parse_qsl(urlsplit(back(begun.location)).query))
    elsewhere = answered | {"iss": "https://elsewhere.example"}
    assert "Another provider" in mine.get("/login/sso/callback", query_string=elsewhere).text
    assert mine.get("/login/sso/callback", query_string=answered).status_code == 401, "it is spent"
    assert len(kit.users.sessions("anna")) == 1


def test_under_tls_a_spent_try_is_forgotten_by_a_cookie_that_browsers_take(app: Flask) -> None:
    client, tls = app.test_client(), {"base_url": "https://localhost"}
    address = back(client.get("/login/sso", **tls).location)
    for _ in range(2):  # let in, and refused
        told = client.get(address, **tls).headers.getlist("Set-Cookie")
        spent = [cookie for cookie in told if cookie.startswith("__Host-jobkit-443-sso=;")]
        assert len(spent) == 1
        assert all(word in spent[0] for word in ("Secure", "Max-Age=0", "Path=/"))


def test_a_code_is_good_once_and_with_what_only_this_portal_has(
    app: Flask, idp: LocalProvider
) -> None:
    thief, mine = app.test_client(), app.test_client()
    stolen = dict(parse_qsl(urlsplit(back(mine.get("/login/sso").location)).query))
    state = dict(parse_qsl(urlsplit(back(thief.get("/login/sso").location)).query))["state"]
    answer = thief.get("/login/sso/callback", query_string=stolen | {"state": state})
    assert (answer.status_code, "invalid_grant" in answer.text) == (401, True)


def test_who_is_refused_there_and_a_provider_that_is_away_are_said(
    app: Flask, idp: LocalProvider, sqlite_database: str
) -> None:
    idp.refuses = True
    assert "The provider did not let you in: access_denied" in come(app).text
    idp.discovery = {"issuer": "https://elsewhere.example"}
    nowhere = chosen(idp) | {"oidc_issuer": "http://127.0.0.1:9"}
    for given in (chosen(idp), nowhere):
        with opened(sqlite_database, **given) as kit:
            answer = create_app(kit, token=None).test_client().get("/login/sso")
            assert (answer.status_code, "Single sign-on did not work" in answer.text) == (502, True)


def test_nobody_is_led_to_another_site_afterwards(app: Flask) -> None:
    assert come(app, "//elsewhere.example/").location == "/"
    assert come(app, "https://elsewhere.example/").location == "/"


def test_passwords_can_be_switched_off(sqlite_database: str, idp: LocalProvider) -> None:
    given = chosen(idp, passwords=False)
    with opened(sqlite_database, **given) as kit:
        kit.users.add("root", PASSWORD, "admin")
        client = create_app(kit, token=None).test_client()
        assert 'type="password"' not in client.get("/login").text
        answer = client.post(
            "/login", data={"name": "root", "password": PASSWORD}, headers=SAME_ORIGIN
        )
        assert (answer.status_code, "by a password" in answer.text) == (401, True)


RIGHT: dict[str, Any] = {
    "oidc_issuer": "https://login.example",
    "oidc_client_id": CLIENT,
    "oidc_groups": ("data=viewer", "cn=ops,dc=example=admin"),
}
WRONG: dict[str, dict[str, Any]] = {
    "by https": RIGHT | {"oidc_issuer": "http://login.example"},
    "gives no role": RIGHT | {"oidc_groups": ("data=king",)},
    "needs JOBKIT_OIDC_CLIENT_ID": RIGHT | {"oidc_client_id": None},
    "names no provider": {"passwords": False},
}


def test_settings_that_would_let_in_the_wrong_people_are_refused() -> None:
    known = settings.load(**RIGHT).roles_of_groups
    assert known == {"data": "viewer", "cn=ops,dc=example": "admin"}
    for said, given in WRONG.items():
        with pytest.raises(BadInput, match=said):
            settings.load(**given)
    assert SECRET not in repr(settings.load(**RIGHT, oidc_client_secret=SECRET))


def test_a_browser_signs_in_by_the_provider(
    browser: Browser, sqlite_database: str, monkeypatch: pytest.MonkeyPatch, idp: LocalProvider
) -> None:
    names = settings.setting_names()
    for field, value in chosen(idp).items():
        monkeypatch.setenv(names[field], value if isinstance(value, str) else ",".join(value))
    idp.now = time.time()
    with portal(sqlite_database, token=None) as (url, _):
        page = browser.new_context().new_page()
        reports: list[str] = []
        page.on("console", lambda message: reports.append(message.text))
        page.goto(f"{url}/jobs?tag=sales")
        page.get_by_role("link", name="Sign in with single sign-on").click()
        page.wait_for_url(f"{url}/jobs?tag=sales")
        assert page.get_by_role("link", name="anna").is_visible()
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{url}/login")
        page.context.close()
    assert [text for text in reports if "401" not in text] == []
