"""How little the portal sends: packed pages, files that are kept, connections that stay open."""

from __future__ import annotations

import gzip
import http.client
import re
import threading
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal import create_app, origin, serve
from tests.stage import Stage, set_stage

TOKEN = "the-token"
GZIP = {"Accept-Encoding": "gzip"}


@pytest.fixture
def app(sqlite_database: str) -> Iterator[Flask]:
    """A portal; what it sends does not depend on the database."""
    stage: Stage = set_stage(sqlite_database)
    stage.job("sales", every="15m")
    yield create_app(stage.kit, token=TOKEN)
    stage.kit.close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    client = app.test_client()
    client.get("/", query_string={"token": TOKEN})
    return client


def test_a_page_goes_packed_to_who_can_unpack_it(client: FlaskClient) -> None:
    packed, plain = client.get("/jobs", headers=GZIP), client.get("/jobs")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert "sales" in gzip.decompress(packed.data).decode()
    assert len(packed.data) < len(plain.data) / 2
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert "Accept-Encoding" in plain.headers["Vary"]
    refused = client.get("/jobs", headers={"Accept-Encoding": "gzip;q=0"})
    assert "Content-Encoding" not in refused.headers


def test_a_poll_of_who_cannot_unpack_is_not_answered_with_what_was_packed_for_another(
    client: FlaskClient,
) -> None:
    news = {"HX-Request": "true", "X-Have": "none"}
    packed = client.get("/jobs", headers=news | GZIP)
    assert packed.headers["Content-Encoding"] == "gzip"
    plain = client.get("/jobs", headers=news)
    assert plain.text == gzip.decompress(packed.data).decode()
    assert plain.headers["X-Have"] == packed.headers["X-Have"]


def test_the_token_of_forms_is_another_text_in_each_answer_and_each_is_good() -> None:
    first, second = origin.form_token("key"), origin.form_token("key")
    assert first != second
    assert origin.form_token("key", first[: origin.SALT_DIGITS]) == first
    assert origin.form_token("other", first[: origin.SALT_DIGITS]) != first


def test_files_have_addresses_that_say_what_they_hold_and_are_kept_for_good(
    client: FlaskClient,
) -> None:
    found = re.findall(r'"(/static/[^"]+)"', client.get("/").text)
    assert len(found) == 4
    for address in found:
        answer = client.get(address, headers=GZIP)
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["Content-Encoding"] == "gzip"
        assert gzip.decompress(answer.data) == client.get(address).data
        assert "immutable" not in client.get(f"{address}0").headers["Cache-Control"]
    assert client.get("/static/nothing.css").status_code == 404


def test_a_first_load_is_small(client: FlaskClient) -> None:
    addresses = re.findall(r'"(/static/[^"]+)"', client.get("/").text)
    sizes = [len(client.get(address, headers=GZIP).data) for address in ["/", *addresses]]
    assert sum(sizes) < 60 * 1024


def test_an_unchanged_poll_is_answered_in_200_bytes_on_a_connection_that_stays_open(
    app: Flask, client: FlaskClient
) -> None:
    server = serve(app, "127.0.0.1", 0)
    running = threading.Thread(target=server.run)
    running.start()
    port = int(server.url.rpartition(":")[2])
    line = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        line.request("GET", f"/?token={TOKEN}")
        answer = line.getresponse()
        cookie = answer.headers["Set-Cookie"].partition(";")[0]
        answer.read()
        news = {"Cookie": cookie, "HX-Request": "true", "X-Have": "none"}
        sockets = []
        for _ in range(3):
            line.request("GET", "/workers", headers=news)
            answer = line.getresponse()
            answer.read()
            news["X-Have"] = answer.headers["X-Have"]
            sockets.append(line.sock)
        assert answer.status == 204
        assert not answer.will_close
        assert sockets[0] is sockets[2] is not None
        assert len(f"HTTP/1.1 204 No Content\r\n{answer.headers}".encode()) < 200
        line.request("GET", "/workers", headers=news | {"Connection": "close"})
        assert line.getresponse().will_close
    finally:
        line.close()
        server.close()
        running.join(10)
    assert not running.is_alive()
