"""Webhooks: signed, to hosts that are allowed, and to no address that is not on the internet."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobkit import settings
from jobkit.notify import Channel, outgoing, webhook
from jobkit.notify.outgoing import Hosts, is_public
from jobkit.notify.undelivered import Undelivered
from tests.listeners import Listener, listening
from tests.stage import MONDAY

NOTICE = SimpleNamespace(
    id=7, key="failed:12", subject="sales failed", text="exit code 3", severity="critical",
    job="sales", run_id=12, created_at=MONDAY,
)  # fmt: skip
HERE = Hosts(private=("hooks.internal", "127.0.0.1"))


@pytest.fixture
def server() -> Iterator[Listener]:
    with listening() as opened:
        yield opened


def leads_to(*addresses: str) -> Any:
    """Return what asks for the addresses of a name, and gets these."""

    def resolve(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        kinds = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(kinds[":" in ip], 1, 6, "", (ip, port)) for ip in addresses]

    return resolve


def sent(url: str, hosts: Hosts, **given: Any) -> str:
    """Send a request; return why it was not taken."""
    with pytest.raises(Undelivered) as why:
        outgoing.post(url, b"{}", {}, hosts, **given)
    return str(why.value)


def test_a_webhook_is_json_that_is_signed_as_the_standard_has_it(server: Listener) -> None:
    secret = "whsec_" + base64.b64encode(b"k" * 24).decode()
    chosen = settings.load(webhook_secret=secret, webhook_private_hosts="127.0.0.1")
    channel = Channel("ops", f"webhook+http://127.0.0.1:{server.port}/hook?a=b")
    webhook.send(channel, NOTICE, MONDAY, chosen, "https://jobs.example/runs/12")
    (heard,) = server.heard
    assert (heard.method, heard.path) == ("POST", "/hook?a=b")
    assert heard.headers["content-type"] == "application/json"
    assert json.loads(heard.body) == {
        "key": "failed:12",
        "subject": "sales failed",
        "text": "exit code 3",
        "severity": "critical",
        "job": "sales",
        "run_id": 12,
        "created_at": "2026-03-02T06:00:00Z",
        "url": "https://jobs.example/runs/12",
    }
    stamp = str(int(MONDAY.timestamp()))
    assert heard.headers["webhook-id"] == "notice-7"
    assert heard.headers["webhook-timestamp"] == stamp
    signed = b"notice-7." + stamp.encode() + b"." + heard.body
    digest = hmac.new(b"k" * 24, signed, hashlib.sha256).digest()
    assert heard.headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_a_webhook_without_a_secret_is_not_sent(server: Listener) -> None:
    chosen = settings.load(webhook_private_hosts="127.0.0.1")
    channel = Channel("ops", f"webhook+http://127.0.0.1:{server.port}/")
    with pytest.raises(Undelivered, match="JOBKIT_WEBHOOK_SECRET"):
        webhook.send(channel, NOTICE, MONDAY, chosen, "")
    assert server.heard == []


# What resolves to this machine by some names, and what carries an address to elsewhere.
NOT_PUBLIC = (
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "192.0.2.1"),
    *("169.254.169.254", "100.64.0.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1"),
    *("255.255.255.255", "::1", "::", "::127.0.0.1", "::ffff:10.0.0.1", "::ffff:127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "fc00::1"),
    *("fd00::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "nonsense"),
)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_is_not_on_the_internet_is_refused(address: str) -> None:
    assert not is_public(address)
    said = sent("https://a.example/", Hosts(("*.example",)), resolve=leads_to("8.8.8.8", address))
    assert "JOBKIT_WEBHOOK_PRIVATE_HOSTS" in said, "one of several is enough"


def test_an_address_of_the_internet_is_none_of_those() -> None:
    assert all(map(is_public, ("8.8.8.8", "::ffff:8.8.8.8", "2606:4700:4700::1111")))


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "017700000001", "[::1]"])
def test_a_name_that_is_a_way_to_write_this_machine_is_refused(host: str, server: Listener) -> None:
    said = sent(f"https://{host}:{server.port}/", Hosts(("*",)))
    assert "leads to" in said or "is not found" in said
    assert server.heard == []


def test_a_name_that_leads_elsewhere_when_asked_again_is_asked_once(server: Listener) -> None:
    asked: list[str] = []

    def rebinds(host: str, port: int, **_: object) -> list[tuple[Any, ...]]:
        asked.append(host)
        return leads_to("127.0.0.1" if len(asked) == 1 else "10.9.9.9")(host, port)

    url = f"http://hooks.internal:{server.port}/"
    outgoing.post(url, b"{}", {}, HERE, resolve=rebinds)
    assert asked == ["hooks.internal"]
    assert server.heard[0].headers["host"] == f"hooks.internal:{server.port}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://b.example/", "not among JOBKIT_WEBHOOK_HOSTS"),
        ("https://a.example.b.example/", "not among JOBKIT_WEBHOOK_HOSTS"),
        ("https://a.example@b.example/", "holds a user"),
        ("https:///x", "no host"),
        ("https://a.example:99999/", "odd port"),
        ("http://a.example/", "https only"),
    ],
)
def test_a_host_that_is_not_allowed_is_not_spoken_to(url: str, said: str) -> None:
    def nobody(*_: object, **__: object) -> Any:
        raise AssertionError("it was asked for")

    assert said in sent(url, Hosts(("a.example",)), resolve=nobody)


def test_a_redirect_is_not_followed_and_what_is_no_success_is_a_failed_try(
    server: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.status = 302
    server.headers["Location"] = f"http://127.0.0.1:{server.port}/secret"
    url = f"http://127.0.0.1:{server.port}/"
    assert "answered 302, and redirects are not followed" in sent(url, HERE)
    assert [heard.path for heard in server.heard] == ["/"]
    server.status = 500
    assert sent(url, HERE) == "127.0.0.1 answered 500"


def test_a_server_that_drips_its_answer_is_left_after_the_time_for_all_of_it() -> None:
    with dripping() as port:
        assert "took longer than 0.5 s" in sent(f"http://127.0.0.1:{port}/", HERE, seconds=0.5)


@contextmanager
def dripping() -> Iterator[int]:
    """Serve one answer that has a byte of a header now and then, and no end."""
    stop = threading.Event()

    def drip() -> None:
        connection, _ = server.accept()
        with connection, suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not stop.wait(0.1):
                connection.sendall(b"X")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        stop.set()
        thread.join(5)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of hooks.internal, with its key."""
    path = tmp_path_factory.mktemp("tls") / "hooks.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=hooks.internal", "-keyout", path),
            *("-addext", "subjectAltName=DNS:hooks.internal", "-out", f"{path}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text("utf-8") + Path(f"{path}.crt").read_text("utf-8"), "utf-8")
    return path


def test_the_certificate_is_that_of_the_name_and_not_of_the_address(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listening(certificate) as server:
        hosts = Hosts(private=("*.internal",))
        here = leads_to("127.0.0.1")
        url = f"https://hooks.internal:{server.port}/"
        assert "CERTIFICATE_VERIFY_FAILED" in sent(url, hosts, resolve=here)
        monkeypatch.setenv(ssl.get_default_verify_paths().openssl_cafile_env, f"{certificate}.crt")
        outgoing.post(url, b"{}", {}, hosts, resolve=here)
        other = url.replace("hooks", "other")
        assert "CERTIFICATE_VERIFY_FAILED" in sent(other, hosts, resolve=here)
    assert len(server.heard) == 1
