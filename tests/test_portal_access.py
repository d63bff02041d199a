"""Who gets into the portal, from where, and what its answers forbid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient

import jobkit
from portal import create_app
from tests.stage import set_stage

TOKEN = "the-token"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def small(sqlite_database: str) -> Iterator[jobkit.Kit]:
    """A kit with one job; who may look does not depend on the database."""
    stage = set_stage(sqlite_database)
    stage.job()
    yield stage.kit
    stage.kit.close()


@pytest.fixture
def stranger(small: jobkit.Kit) -> FlaskClient:
    return create_app(small, token=TOKEN).test_client()


@pytest.fixture
def guest(stranger: FlaskClient) -> FlaskClient:
    assert stranger.get(f"/?token={TOKEN}").status_code == 303
    return stranger


PLACES = ["/", "/jobs", "/jobs/sales", "/runs", "/workers", "/counts", "/nowhere"]


@pytest.mark.parametrize("path", PLACES)
def test_a_stranger_sees_the_door_and_nothing_else(stranger: FlaskClient, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 401
    assert "<form" in answer.text
    assert f'name="next" value="{path}"' in answer.text
    assert "sales" not in answer.text.replace(f'value="{path}"', "")


def test_a_stranger_can_do_nothing(stranger: FlaskClient, small: jobkit.Kit) -> None:
    for path in ("/jobs/sales/runs", "/jobs/sales/pause"):
        answer = stranger.post(path, headers={"Sec-Fetch-Site": "same-origin"})
        assert answer.status_code == 401
    assert small.runs() == []
    assert small.job("sales").is_active


def test_a_poll_without_a_cookie_leads_to_the_door(stranger: FlaskClient) -> None:
    answer = stranger.get("/jobs", headers=HTMX)
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/login")
    assert answer.text == ""


@pytest.mark.parametrize(
    "path", ["/healthz?live", "/login", "/static/portal.css", "/static/portal.js"]
)
def test_what_needs_no_token(stranger: FlaskClient, path: str) -> None:
    with stranger.get(path) as answer:
        assert answer.status_code == 200


def test_htmx_is_served_from_here(stranger: FlaskClient) -> None:
    with stranger.get("/static/htmx.min.js") as answer:
        assert answer.status_code == 200
        assert answer.mimetype == "text/javascript"
        assert '2.0.10"' in answer.text


def test_the_printed_address_opens_the_portal_and_loses_its_token(stranger: FlaskClient) -> None:
    answer = stranger.get(f"/runs?status=FAILED&token={TOKEN}")
    assert answer.status_code == 303
    assert answer.headers["Location"] == "/runs?status=FAILED"
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert TOKEN not in cookie
    assert stranger.get("/jobs").status_code == 200


def test_from_another_site_the_address_opens_too(stranger: FlaskClient) -> None:
    elsewhere = {"Sec-Fetch-Site": "cross-site"}
    answer = stranger.get(f"/jobs?token={TOKEN}", headers=elsewhere)
    assert answer.status_code == 200
    assert 'http-equiv="refresh" content="0; url=/jobs"' in answer.text
    assert "SameSite=Strict" in answer.headers["Set-Cookie"]
    once_more = stranger.application.test_client().get("/runs", headers=elsewhere)
    assert (once_more.status_code, '<a href="/runs">Go on</a>' in once_more.text) == (401, True)


@pytest.mark.parametrize("wrong", ["", "the-toke", "the-token2", "THE-TOKEN", "töken"])
def test_a_wrong_token_opens_nothing(stranger: FlaskClient, wrong: str) -> None:
    for answer in (
        stranger.get("/", query_string={"token": wrong}),
        stranger.post("/login", data={"token": wrong}, headers={"Sec-Fetch-Site": "same-origin"}),
    ):
        assert answer.status_code == 401
        assert "That is not the token." in answer.text
        assert "Set-Cookie" not in answer.headers
    assert stranger.get("/").status_code == 401


def test_a_cookie_of_another_token_opens_nothing(small: jobkit.Kit, guest: FlaskClient) -> None:
    cookie = guest.get_cookie("jobkit-80")
    assert cookie is not None
    other = create_app(small, token="another").test_client()
    other.set_cookie("jobkit-80", cookie.value)
    assert other.get("/").status_code == 401
    other.set_cookie("jobkit-80", "another")
    assert other.get("/").status_code == 401


def test_no_portal_without_a_token(small: jobkit.Kit) -> None:
    with pytest.raises(ValueError, match="empty token"):
        create_app(small, token="")


@pytest.mark.parametrize(
    ("onward", "leads_to"),
    [
        ("/runs?job=sales", "/runs?job=sales"),
        ("https://evil.test/", "/"),
        ("//evil.test", "/"),
        ("/\\evil.test", "/"),
        ("\\\\evil.test", "/"),
        ("/\t/evil.test", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_the_door_leads_to_no_other_site(stranger: FlaskClient, onward: str, leads_to: str) -> None:
    form = {"token": TOKEN, "next": onward}
    answer = stranger.post("/login", data=form, headers={"Sec-Fetch-Site": "same-origin"})
    assert answer.status_code == 303
    assert answer.headers["Location"] == leads_to


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 303),
        ({"Sec-Fetch-Site": "none"}, 303),
        ({"Origin": "http://localhost"}, 303),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost.evil.test"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 403),
    ],
)
def test_only_this_portal_s_pages_can_act(
    guest: FlaskClient, small: jobkit.Kit, headers: dict[str, str], code: int
) -> None:
    assert guest.post("/jobs/sales/runs", headers=headers).status_code == code
    assert len(small.runs()) == (code == 303)


@pytest.mark.parametrize(
    ("host", "code"),
    [
        ("127.0.0.1:8700", 200),
        ("LOCALHOST:8700", 200),
        ("[::1]:8700", 200),
        ("jobs.example.org", 200),
        ("evil.test", 400),
        ("localhost.evil.test", 400),
        ("10.1.2.3", 400),
        ("[::1", 400),
        ("localhost:abc", 400),
        ("", 400),
    ],
)
def test_the_portal_answers_to_its_own_names_only(small: jobkit.Kit, host: str, code: int) -> None:
    app = create_app(small, token=TOKEN, trusted_hosts=["Jobs.example.org"])
    for path in ("/login", "/healthz?live", "/static/portal.css"):
        with app.test_client().get(path, headers={"Host": host}) as answer:
            assert answer.status_code == code


def test_on_all_addresses_any_address_is_its_own_but_no_name(small: jobkit.Kit) -> None:
    client = create_app(small, token=TOKEN, host="0.0.0.0").test_client()
    assert client.get("/healthz?live", headers={"Host": "10.1.2.3:8700"}).status_code == 200
    assert client.get("/healthz?live", headers={"Host": "evil.test"}).status_code == 400


def test_answers_forbid_scripts_frames_and_sniffing(guest: FlaskClient) -> None:
    for path in ("/", "/nowhere", "/login", "/static/portal.css"):
        with guest.get(path) as answer:
            headers = answer.headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert policy[0] == "default-src 'none'"
        assert {"script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"} <= set(policy)
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "same-origin"
    assert guest.get("/").headers["Cache-Control"] == "no-store"


def test_looking_changes_nothing(guest: FlaskClient, small: jobkit.Kit) -> None:
    for path in ("/jobs/sales/runs", "/jobs/sales/pause", "/workers/w/drain"):
        assert guest.get(path).status_code in (404, 405)
    assert small.runs() == []
    assert small.job("sales").is_active
