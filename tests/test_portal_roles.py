"""Who may what in a portal with users: each endpoint, each role; sessions, cookies, origins."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import html5lib
import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

import jobkit
from jobkit import passwords
from jobkit.roles import ROLES, allows
from portal import create_app, permissions, presence
from portal.api import routes
from tests.people import PASSWORD, SAME_ORIGIN, add_people, bearer, enter
from tests.stage import Stage, set_stage

NEEDED = permissions.NEEDED | routes.NEEDED
WRITES = ("POST", "PATCH", "PUT", "DELETE")
XML = "{http://www.w3.org/1999/xhtml}"


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "COST", 4)


@pytest.fixture
def small(sqlite_database: str) -> Iterator[Stage]:
    """A job, and a user of each role; who may what does not depend on the database."""
    stage = set_stage(sqlite_database)
    stage.job()
    add_people(stage.kit)
    yield stage
    stage.kit.close()


@pytest.fixture
def app(small: Stage) -> Flask:
    return create_app(small.kit, token=None)


def requests(app: Flask) -> list[tuple[str, str, str]]:
    """Return the endpoint, the method and an address of every way to ask this portal."""
    found = []
    for rule in app.url_map.iter_rules():
        values: dict[str, Any] = {"name": "nobody-there", "worker_id": "w9"}
        values |= {"run_id": 9, "attempt": 9, "alert_id": 9}
        values["wish"] = "pause" if rule.endpoint.startswith("jobs.") else "cancel"
        filled = {name: values.get(name, "portal.css") for name in rule.arguments}
        address = app.url_map.bind("localhost").build(
            rule.endpoint, filled, method="GET" if "GET" in (rule.methods or ()) else None
        )
        found += [
            (rule.endpoint, method, address)
            for method in sorted(rule.methods or ())
            if method not in ("HEAD", "OPTIONS")
        ]
    return found


def ask(client: FlaskClient, method: str, address: str, headers: dict[str, str]) -> Any:
    body: dict[str, Any] = {"json": {}} if address.startswith("/api/") and method in WRITES else {}
    with client.open(address, method=method, headers={**SAME_ORIGIN, **headers}, **body) as answer:
        return answer


def test_every_endpoint_names_its_role_and_every_name_is_an_endpoint(app: Flask) -> None:
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == set(NEEDED)
    assert set(NEEDED.values()) == {*ROLES, permissions.ANYBODY}
    for endpoint, method, _ in requests(app):
        if method in WRITES and endpoint != "enter":
            assert NEEDED[endpoint] != permissions.ANYBODY
            own = endpoint.startswith("account.") or endpoint == "theme"
            assert own or allows(NEEDED[endpoint], "operator"), endpoint


def test_a_portal_with_an_endpoint_that_names_no_role_does_not_start(
    small: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(permissions.NEEDED, "jobs.pause")
    with pytest.raises(RuntimeError, match=r"jobs\.pause: no role is named"):
        create_app(small.kit, token=None)


def test_an_endpoint_that_came_later_works_for_nobody(app: Flask) -> None:
    app.add_url_rule("/later", "later", lambda: "secret")
    for client in (app.test_client(), enter(app, "admin")):
        answer = client.get("/later")
        assert answer.status_code == 500
        assert "secret" not in answer.text


def test_nobody_gets_where_only_people_with_a_role_may(app: Flask, small: Stage) -> None:
    for endpoint, method, address in requests(app):
        answer = ask(app.test_client(), method, address, {})
        if NEEDED[endpoint] == permissions.ANYBODY:
            assert answer.status_code in (200, 401, 404, 503), address
        else:
            assert answer.status_code == 401, (method, address)
            assert "sales" not in answer.text
    done = {deed.what for deed in small.kit.audit() if deed.face != "python"}
    assert done <= {"was refused to sign in"}


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_what_it_may_and_nothing_else(app: Flask, small: Stage, role: str) -> None:
    of_role = {"script": bearer(small.kit, role), "browser": {}}
    seen = set()
    for endpoint, method, address in requests(app):
        is_api = endpoint.startswith("api.")
        client = app.test_client() if is_api else enter_once(app, role)
        answer = ask(client, method, address, of_role["script" if is_api else "browser"])
        needed = NEEDED[endpoint]
        may = needed == permissions.ANYBODY or allows(role, needed)
        if may:
            # The door itself says 401 to a name that is none.
            assert answer.status_code != 403, (method, address)
            assert answer.status_code != 401 or endpoint == "enter", (method, address)
            assert answer.status_code < 500 or endpoint == "health.healthz", (method, address)
        else:
            assert answer.status_code == 403, (method, address)
            assert needed in answer.text
        seen.add((endpoint, may))
    assert len(seen) == len({rule.endpoint for rule in app.url_map.iter_rules()})
    assert {may for _, may in seen} == ({True} if role == "admin" else {True, False})


def enter_once(app: Flask, role: str) -> FlaskClient:
    """Return a browser of its own: what was asked before may have signed it out."""
    client = app.test_client()
    kit: jobkit.Kit = app.config["KIT"]
    client.set_cookie("jobkit-80", kit.users.sign_in(role, PASSWORD))
    return client


def test_what_was_refused_is_recorded(app: Flask, small: Stage) -> None:
    viewer = enter(app, "viewer")
    answer = viewer.post("/jobs/sales/pause", headers=SAME_ORIGIN)
    assert answer.status_code == 403
    assert "This needs the role operator, and viewer is viewer." in answer.text
    assert small.kit.job("sales").is_active
    deed = small.kit.audit()[0]
    assert (deed.who, deed.what, deed.about) == (
        "viewer",
        "was refused",
        "POST /jobs/sales/pause",
    )
    assert deed.address == "127.0.0.1"


def test_what_somebody_does_is_theirs(app: Flask, small: Stage) -> None:
    operator = enter(app, "operator")
    operator.post("/jobs/sales/runs", headers=SAME_ORIGIN)
    operator.post("/jobs/sales/pause", headers=SAME_ORIGIN)
    assert small.kit.run(1).requested_by == "operator"
    version = small.kit.versions("sales")[0]
    assert (version.changed_by, version.changed_from.split(" on ")[0]) == ("operator", "portal")
    operator.post("/runs/1/cancel", headers=SAME_ORIGIN)
    assert small.kit.run(1).reason == "cancelled by operator"
    small.register("w1")
    operator.post("/workers/w1/drain", headers=SAME_ORIGIN)
    assert [(deed.who, deed.what, deed.about) for deed in small.kit.audit(limit=3)] == [
        ("operator", "drained workers", "w1 (1)"),
        ("operator", "cancelled a run", "run 1"),
        ("operator", "paused a job", "sales, version 2"),
    ]
    assert {(deed.face, deed.address) for deed in small.kit.audit("operator")} == {
        ("portal", "127.0.0.1")
    }


def test_a_cookie_is_only_this_portal_s(app: Flask) -> None:
    client = app.test_client()
    form = {"name": "viewer", "password": PASSWORD, "next": "/runs?job=sales"}
    answer = client.post("/login", data=form, headers=SAME_ORIGIN)
    assert answer.headers["Location"] == "/runs?job=sales"
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("jobkit-80=")
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert "Strict-Transport-Security" not in answer.headers


def test_under_tls_the_cookie_is_the_host_s(app: Flask) -> None:
    client, tls = app.test_client(), {"base_url": "https://localhost"}
    form = {"name": "viewer", "password": PASSWORD}
    answer = client.post("/login", data=form, headers=SAME_ORIGIN, **tls)
    cookie = answer.headers["Set-Cookie"]
    assert cookie.startswith("__Host-jobkit-443=")
    assert "; Secure" in cookie
    assert "Path=/" in cookie
    assert "Domain" not in cookie
    assert client.get("/jobs", **tls).status_code == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    plain = app.test_client()
    plain.set_cookie("__Host-jobkit-443", cookie.partition("=")[2].partition(";")[0])
    assert plain.get("/jobs").status_code == 401


def test_a_link_in_a_notebook_leads_in(app: Flask) -> None:
    client = enter(app, "viewer")
    assert client.get("/jobs/sales", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200


def test_each_sign_in_is_another_session_and_ends_the_one_before(app: Flask, small: Stage) -> None:
    client = app.test_client()
    client.set_cookie("jobkit-80", "chosen by somebody else")
    seen = set()
    for _ in range(3):
        form = {"name": "viewer", "password": PASSWORD}
        assert client.post("/login", data=form, headers=SAME_ORIGIN).status_code == 303
        cookie = client.get_cookie("jobkit-80")
        assert cookie is not None
        seen.add(cookie.value)
    assert len(seen) == 3
    assert "chosen by somebody else" not in seen
    assert len(small.kit.users.sessions("viewer")) == 1


def test_a_cookie_that_was_copied_is_worth_nothing_after_the_sign_out(app: Flask) -> None:
    client = enter(app, "viewer")
    cookie = client.get_cookie("jobkit-80")
    assert cookie is not None
    answer = client.post("/logout", headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/login")
    assert client.get_cookie("jobkit-80") is None
    thief = app.test_client()
    thief.set_cookie("jobkit-80", cookie.value)
    assert thief.get("/").status_code == 401


def test_who_is_disabled_or_demoted_is_out_at_once(app: Flask, small: Stage) -> None:
    operator = enter(app, "operator")
    assert operator.get("/jobs").status_code == 200
    small.kit.users.set_role("operator", "viewer")
    assert operator.get("/jobs").status_code == 401
    again = enter(app, "operator")
    assert again.post("/jobs/sales/runs", headers=SAME_ORIGIN).status_code == 403
    small.kit.users.disable("operator")
    assert again.get("/jobs").status_code == 401
    assert again.get("/jobs", headers={"HX-Request": "true"}).headers["HX-Redirect"] == "/login"


def wrong(client: FlaskClient, name: str, password: str, **form: str) -> str:
    answer = client.post(
        "/login", data={"name": name, "password": password, **form}, headers=SAME_ORIGIN
    )
    assert answer.status_code == 401
    assert "Set-Cookie" not in answer.headers
    return answer.text


def test_the_door_says_the_same_to_all_it_does_not_let_in(app: Flask, small: Stage) -> None:
    small.kit.users.disable("editor")
    said = {
        wrong(app.test_client(), name, password)
        for name, password in [
            ("viewer", "wrong horse"),
            ("nobody", PASSWORD),
            ("editor", PASSWORD),
            ("", ""),
            ("<script>", "x"),
            ("viewer", "x" * 100_000),
        ]
    }
    said |= {wrong(app.test_client(), "viewer", "wrong horse") for _ in range(6)}
    said.add(wrong(app.test_client(), "viewer", PASSWORD))
    assert len(said) == 1
    assert "<script>alert" not in said.pop()
    small.clock.turn(timedelta(minutes=20))
    enter(app, "viewer")


@pytest.mark.parametrize(
    "onward",
    [
        "https://evil.test/", "//evil.test", "///evil.test", "/\\evil.test", "\\/evil.test",
        "/\t/evil.test", "https:evil.test", "javascript:alert(1)", "/x\r\nSet-Cookie: a=b",
        "http://[", "", "jobs",
    ],
)  # fmt: skip
def test_signing_in_leads_to_no_other_site(app: Flask, onward: str) -> None:
    form = {"name": "viewer", "password": PASSWORD, "next": onward}
    answer = app.test_client().post("/login", data=form, headers=SAME_ORIGIN)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    shown = app.test_client().get("/login", query_string={"next": onward})
    assert 'name="next" value="/"' in shown.text


def test_the_door_is_a_page_that_a_screen_reader_reads(app: Flask) -> None:
    for text in (app.test_client().get("/login").text, wrong(app.test_client(), "a", "b")):
        page = html5lib.HTMLParser(strict=True).parse(text)
        assert page.get("lang") == "en"
        assert [heading.text for heading in page.iter(f"{XML}h1")] == ["jobkit"]
        assert page.find(f".//{XML}title").text.startswith("Log in")
        fields = [item for item in page.iter(f"{XML}input") if item.get("type") != "hidden"]
        labels = {item.get("for") for item in page.iter(f"{XML}label")}
        assert {item.get("id") for item in fields} == labels == {"name", "password"}
        assert [item.get("autocomplete") for item in fields] == ["username", "current-password"]
        assert page.find(f".//{XML}main") is not None
    alerts = [item for item in page.iter(f"{XML}p") if item.get("role") == "alert"]
    assert len(alerts) == 1


ORIGINS: list[tuple[dict[str, str], int]] = [
    ({"Sec-Fetch-Site": "same-origin"}, 303),
    ({"Origin": "http://localhost"}, 303),
    ({"Sec-Fetch-Site": "cross-site"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
    ({"Origin": "http://evil.test"}, 403),
    ({"Origin": "http://localhost:81"}, 403),
    ({"Origin": "null"}, 403),
    ({}, 403),
]


@pytest.mark.parametrize(("headers", "code"), ORIGINS)
def test_another_site_s_page_can_do_nothing(
    app: Flask, small: Stage, headers: dict[str, str], code: int
) -> None:
    admin = enter(app, "admin")
    assert admin.post("/users/viewer/disable", headers=headers).status_code == code
    assert small.kit.users["viewer"].is_active == (code == 403)
    form = {"name": "viewer", "password": "wrong", "next": "/"}
    door = app.test_client().post("/login", data=form, headers=headers)
    assert door.status_code == (401 if code == 303 else 403)


def test_every_write_is_refused_from_another_site(app: Flask) -> None:
    admin = enter(app, "admin")
    for endpoint, method, address in requests(app):
        if method in WRITES and not endpoint.startswith("api."):
            answer = admin.open(address, method=method, headers={"Sec-Fetch-Site": "cross-site"})
            assert answer.status_code == 403, address
            assert "another site" in answer.text


def test_a_browser_that_does_not_say_where_it_comes_from_shows_the_form_s_token(
    app: Flask, small: Stage
) -> None:
    admin, other = enter(app, "admin"), enter(app, "editor")

    def token(client: FlaskClient) -> str:
        found = re.search(r'name="form_token" value="([0-9a-f]{80})"', client.get("/account").text)
        assert found is not None
        return found[1]

    for given, code in [("", 403), ("0" * 64, 403), (token(other), 403), (token(admin), 303)]:
        answer = admin.post("/users/viewer/disable", data={"form_token": given})
        assert answer.status_code == code
    hostile = {"Sec-Fetch-Site": "cross-site"}
    form = {"form_token": token(admin)}
    assert admin.post("/users/viewer/enable", data=form, headers=hostile).status_code == 403


@pytest.mark.parametrize(
    "address",
    [
        "/jobs/a%00b", "/runs?job=%00", "/runs?%00=1", "/runs/99999999999999999999",
        "/runs/1?attempt=2147483648", "/runs/1/output?after=99999999999", "/workers?x=" + "9" * 40,
        "/runs/9223372036854775807", "/runs/1/output?attempt=-1&after=-99",
    ],
)  # fmt: skip
def test_what_no_database_takes_is_refused(app: Flask, small: Stage, address: str) -> None:
    small.kit.submit("sales")
    assert enter(app, "viewer").get(address).status_code in (200, 204, 400, 404)


def test_too_much_is_refused(app: Flask) -> None:
    admin = enter(app, "admin")
    answer = admin.post("/users", data={"name": "x" * (5 << 20)}, headers=SAME_ORIGIN)
    assert answer.status_code == 413


def test_the_token_of_this_machine_s_portal_opens_no_portal_with_users(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/?token=anything").status_code == 401
    assert client.post("/login", data={"token": "x"}, headers=SAME_ORIGIN).status_code == 401


def test_a_script_s_token_opens_no_page(app: Flask, small: Stage) -> None:
    shown = bearer(small.kit, "admin")
    assert app.test_client().get("/jobs", headers=shown).status_code == 401
    assert app.test_client().get("/users", headers=shown).status_code == 401


def test_a_page_of_one_s_own_is_never_given_to_another_of_the_same_role(
    app: Flask, small: Stage
) -> None:
    """Pages are rendered once for all of a role who look at them: not these."""
    small.kit.users.add("other", PASSWORD, "viewer")
    small.kit.tokens.add("of the viewer", user="viewer")
    news = {"HX-Request": "true", "X-Have": "x-y"}
    assert "of the viewer" in enter(app, "viewer").get("/account", headers=news).text
    assert "of the viewer" not in enter(app, "other").get("/account", headers=news).text


def test_a_poll_of_who_may_not_look_any_more_brings_nothing(app: Flask, small: Stage) -> None:
    viewer = enter(app, "viewer")
    news = {"HX-Request": "true", "X-Have": "x-y"}
    have = viewer.get("/jobs", headers=news).headers["X-Have"]
    assert viewer.get("/jobs", headers=news | {"X-Have": have}).status_code == 204
    enter(app, "admin").post("/users/viewer/disable", headers=SAME_ORIGIN)
    assert viewer.get("/jobs", headers=news | {"X-Have": have}).status_code == 401


def test_who_is_shut_out_by_another_program_sees_no_page_at_once_and_no_poll_after_seconds(
    app: Flask, small: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = enter(app, "viewer")
    news = {"HX-Request": "true", "X-Have": "x-y"}
    assert viewer.get("/jobs", headers=news).status_code == 200
    small.kit.users.disable("viewer")
    assert viewer.get("/jobs", headers=news).status_code == 200
    monkeypatch.setattr(presence, "OLD_SECONDS", 0)
    assert viewer.get("/jobs", headers=news).status_code == 401
    monkeypatch.undo()
    viewer = enter(app, "operator")
    assert viewer.get("/jobs").status_code == 200
    small.kit.users.disable("operator")
    assert viewer.get("/jobs").status_code == 401


def test_whose_session_it_is_is_not_asked_for_again_while_nothing_is_committed(
    app: Flask, small: Stage
) -> None:
    viewer = enter(app, "viewer")
    viewer.get("/workers")
    asked: list[str] = []
    sa.event.listen(
        small.kit.database.engine,
        "before_cursor_execute",
        lambda _connection, _cursor, sql, *_: asked.append(sql),
    )
    viewer.get("/theme")
    viewer.get("/runs/1")
    assert not [sql for sql in asked if "portal_sessions" in sql or "sha256" in sql]


# The pages of accounts


def test_an_admin_adds_changes_and_removes_users(app: Flask, small: Stage) -> None:
    admin = enter(app, "admin")

    def post(path: str, code: int = 303, **form: str) -> str:
        answer = admin.post(path, data=form, headers=SAME_ORIGIN)
        assert answer.status_code == code, answer.text
        return answer.text

    post("/users", name="zoe", password="horse battery", role="viewer")
    assert ">zoe<" in admin.get("/users").text
    post("/users/zoe/role", role="editor")
    assert small.kit.users["zoe"].role == "editor"
    enter(app, "zoe", "horse battery")
    post("/users/zoe/password", password="staple battery")
    enter(app, "zoe", "staple battery")
    post("/users/zoe/disable")
    assert not small.kit.users["zoe"].is_active
    post("/users/zoe/enable")
    post("/users/zoe/remove")
    assert "zoe" not in [user.name for user in small.kit.users]
    assert "&#39;admin&#39; exists" in post(
        "/users", 409, name="admin", password="horse battery", role="viewer"
    )
    assert "10 characters" in post("/users", 422, name="tim", password="x", role="viewer")
    assert "last admin" in post("/users/admin/disable", 409)
    post("/users/nobody/disable", 404)
    assert small.kit.audit()[0].who == "admin"


def test_a_user_makes_tokens_up_to_their_own_role_and_sees_each_once(
    app: Flask, small: Stage
) -> None:
    operator = enter(app, "operator")
    form = {"name": "nightly", "role": "operator", "expires": "7d"}
    answer = operator.post("/account/tokens", data=form, headers=SAME_ORIGIN)
    found = re.search(r"jk_[\w-]{43}", answer.text)
    assert found is not None
    shown = {"Authorization": f"Bearer {found[0]}"}
    assert app.test_client().get("/api/v1/me", headers=shown).json == {
        "name": "operator",
        "role": "operator",
    }
    assert found[0] not in operator.get("/account").text
    form = {"name": "more", "role": "admin", "expires": ""}
    answer = operator.post("/account/tokens", data=form, headers=SAME_ORIGIN)
    assert (answer.status_code, "cannot be admin" in answer.text) == (422, True)
    small.kit.tokens.add("of somebody else")
    form = {"name": "of somebody else"}
    answer = operator.post("/account/tokens/revoke", data=form, headers=SAME_ORIGIN)
    assert answer.status_code == 404
    operator.post("/account/tokens/revoke", data={"name": "nightly"}, headers=SAME_ORIGIN)
    assert app.test_client().get("/api/v1/me", headers=shown).status_code == 401


def test_a_user_sets_their_own_password(app: Flask) -> None:
    here, there = enter(app, "viewer"), enter(app, "viewer")

    def post(old: str, new: str, again: str) -> tuple[int, str]:
        form = {"old": old, "new": new, "again": again}
        answer = here.post("/account/password", data=form, headers=SAME_ORIGIN)
        return answer.status_code, answer.text

    assert post("wrong horse", "another horse", "another horse")[0] == 422
    assert "not the same" in post(PASSWORD, "another horse", "another house")[1]
    assert "10 characters" in post(PASSWORD, "x", "x")[1]
    code, said = post(PASSWORD, "another horse", "another horse")
    assert (code, "every other session has ended" in said) == (200, True)
    assert here.get("/account").status_code == 200
    assert there.get("/account").status_code == 401
    enter(app, "viewer", "another horse")
    assert here.post("/account/leave", headers=SAME_ORIGIN).status_code == 303
    assert here.get("/account").status_code == 401


def test_the_pages_of_accounts_are_well_formed_and_escape_names(app: Flask, small: Stage) -> None:
    small.kit.audit.note("did", "POST /jobs/<script>alert(1)</script>", who="<b>x</b>")
    admin = enter(app, "admin")
    for path in ("/users", "/audit", "/account", "/login"):
        text = admin.get(path).text
        html5lib.HTMLParser(strict=True).parse(text)
        assert "<script>alert" not in text
    assert "Sign out" in admin.get("/").text


def test_this_machine_s_own_portal_needs_no_users(small: Stage) -> None:
    client = create_app(small.kit, token="the-token").test_client()
    assert client.get("/?token=the-token").status_code == 303
    assert "jobkit user add" in client.get("/account").text
    assert "Sign out" not in client.get("/").text
    assert client.get("/users").status_code == 200
    client.post("/jobs/sales/runs", headers=SAME_ORIGIN)
    assert small.kit.run(1).requested_by == small.kit.user
    shown = {"Authorization": "Bearer the-token"}
    assert client.get("/api/v1/me", headers=shown).json["role"] == "admin"
    stranger = create_app(small.kit, token="the-token").test_client()
    assert stranger.get("/api/v1/me", headers={"Authorization": "Bearer x"}).status_code == 401


PLACES = (
    "/", "/jobs", "/jobs/sales", "/jobs/typed", "/runs", "/runs/1", "/runs/2", "/workers",
    "/coverage", "/account",
)  # fmt: skip


def offered(app: Flask, html: str) -> dict[str, str]:
    """Return the endpoints that a page's links, forms and buttons lead to, each by its address."""
    page = html5lib.parse(html)
    asked = [(link.get("href"), "GET") for link in page.iter(f"{XML}a")]
    asked += [(form.get("action"), form.get("method", "get")) for form in page.iter(f"{XML}form")]
    asked += [(button.get("formaction"), "GET") for button in page.iter(f"{XML}button")]
    urls, found = app.url_map.bind("localhost"), {}
    for address, method in asked:
        if address and address.startswith("/"):
            path = address.partition("?")[0].partition("#")[0]
            endpoint, _ = urls.match(unquote(path), method=method.upper())
            found[endpoint] = f"{method} {address}"
    return found


@pytest.mark.parametrize("role", ROLES)
def test_a_page_offers_what_the_role_may_and_nothing_else(
    app: Flask, small: Stage, role: str
) -> None:
    kit = small.kit
    kit.edit("sales", every="15m")
    small.job("typed", signature=[{"name": "day", "type": "date"}])
    kit.submit("sales")
    small.finish(small.claim_one())
    kit.submit("sales")
    small.register("w1")
    client, seen = enter(app, role), set()
    for path in PLACES:
        answer = client.get(path)
        assert answer.status_code == 200, path
        found = offered(app, answer.text)
        refused = {
            endpoint: address
            for endpoint, address in found.items()
            if NEEDED[endpoint] != permissions.ANYBODY and not allows(role, NEEDED[endpoint])
        }
        assert refused == {}, path
        seen |= set(found)
    acts = {"jobs.start", "jobs.form", "jobs.pause", "jobs.ask_backfill", "jobs.ask_many"}
    acts |= {"runs.retry", "runs.cancel", "runs.ask_many", "workers.drain"}
    assert acts & seen == (acts if allows(role, "operator") else set())
    assert ("definitions.edit" in seen) == allows(role, "editor")
    assert ("users.index" in seen) == allows(role, "admin")
