"""`jobkit user` and `jobkit token`, and which portal starts where: real processes."""

from __future__ import annotations

import http.client
import io
import json
import os
import select
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import jobkit
from jobkit import cli, passwords
from tests.test_processes import until

PASSWORD = "correct horse"


class Command:
    """`jobkit`, called in this process: what it was given on stdin, and what it said."""

    def __init__(
        self, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.url = url
        self._monkeypatch, self._capsys = monkeypatch, capsys
        monkeypatch.setattr(passwords, "COST", 4)

    def __call__(self, *arguments: str, stdin: str = "", code: int = 0) -> str:
        """Return what was said: on stdout when it was done, on stderr when it was not."""
        self._monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        ended: object = 0
        try:
            cli.main(["--db", self.url, *arguments])
        except SystemExit as end:
            ended = end.code or 0
        said = self._capsys.readouterr()
        assert ended == code, said.err
        assert PASSWORD not in said.out + said.err
        return said.err if code else said.out


@pytest.fixture
def run(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    return Command(database, monkeypatch, capsys)


def test_users_are_looked_after_from_the_command_line(run: Command) -> None:
    assert "may sign in as admin" in run(
        "user", "add", "anna", "--role", "admin", stdin=f"{PASSWORD}\n"
    )
    run("user", "add", "bob", stdin=f"{PASSWORD}\r\n")
    run("user", "role", "bob", "operator")
    run("user", "passwd", "bob", stdin="another horse\n")
    run("user", "disable", "bob")
    listed = json.loads(run("user", "list", "--json"))
    assert [(user["name"], user["role"], user["disabled_at"] is None) for user in listed] == [
        ("anna", "admin", True),
        ("bob", "operator", False),
    ]
    assert "password_hash" not in listed[0]
    run("user", "enable", "bob")
    with jobkit.connect(run.url) as kit:
        kit.users.sign_in("bob", "another horse")
    run("user", "remove", "bob")
    assert "bob" not in run("user", "list")


def test_mistakes_with_users_are_named_and_end_with_2(run: Command) -> None:
    run("user", "add", "anna", "--role", "admin", stdin=f"{PASSWORD}\n")
    for arguments, stdin, said in [
        (("user", "add", "anna"), f"{PASSWORD}\n", "exists"),
        (("user", "add", "bob"), "short\n", "10 characters"),
        (("user", "add", "bob"), "", "10 characters"),
        (("user", "add", "bob", "--role", "boss"), f"{PASSWORD}\n", "'boss' is no role"),
        (("user", "passwd", "bob"), f"{PASSWORD}\n", "no user named 'bob'"),
        (("user", "disable", "anna"), "", "last admin"),
        (("token", "revoke", "x"), "", "No token named 'x'"),
    ]:
        assert said in run(*arguments, stdin=stdin, code=2)


def test_tokens_are_looked_after_from_the_command_line(run: Command) -> None:
    secret = run("token", "add", "nightly", "--role", "operator").strip()
    assert secret.startswith("jk_")
    with jobkit.connect(run.url) as kit:
        who = kit.tokens.shown(secret)
        assert who is not None
        assert who.role == "operator"
    (listed,) = json.loads(run("token", "list", "--json"))
    assert (listed["name"], listed["role"]) == ("nightly", "operator")
    assert secret not in json.dumps(listed)
    made = json.loads(run("token", "add", "x", "--expires", "never", "--json"))
    assert made["token"].startswith("jk_")
    run("token", "revoke", "nightly")
    assert "nightly" not in run("token", "list")


PUBLIC = [("portal", "--host", "0.0.0.0"), ("up", "--host", "0.0.0.0", "--no-browser")]
BEHIND = [("portal", "--trusted-proxy", "127.0.0.1"), ("portal", "--host", "example.test")]


@pytest.mark.parametrize("arguments", PUBLIC + BEHIND)
def test_a_portal_that_others_reach_does_not_start_without_users(
    run: Command, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_TOKEN", "a-token-is-not-enough")
    said = run(*arguments, "--port", "0", code=2)
    assert "has no users. Add one first: jobkit user add NAME --role admin" in said


class Portal:
    """A portal of its own process, and the address it printed."""

    def __init__(self, url: str, *arguments: str, **settings: str) -> None:
        self.log = Path("portal.log")
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jobkit", "portal", "--port", "0", *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"JOBKIT_DB_URL": url} | settings,
            )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()

    def ask(self, path: str, **headers: str) -> tuple[int, str]:
        base = self.address.partition("/?")[0].rstrip("/")
        request = urllib.request.Request(base + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@pytest.fixture
def with_anna(sqlite_database: str) -> str:
    with jobkit.connect(sqlite_database) as kit:
        kit.users.add("anna", PASSWORD, "admin")
    return sqlite_database


def test_with_users_a_portal_prints_no_token_and_listens_everywhere(with_anna: str) -> None:
    portal = Portal(with_anna, "--host", "0.0.0.0", JOBKIT_TOKEN="opens-nothing")
    try:
        assert "token" not in portal.address
        code, text = portal.ask("/login")
        assert (code, 'name="password"' in text) == (200, True)
        assert portal.ask("/jobs?token=opens-nothing")[0] == 401
        said = portal.log.read_text("utf-8")
        assert "passwords travel in the clear" in said
        assert "JOBKIT_TOKEN opens nothing" in said
    finally:
        assert portal.end() == 0


def test_only_the_proxy_that_was_named_is_believed(with_anna: str) -> None:
    forwarded = {
        "X-Forwarded-For": "203.0.113.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "jobs.example",
    }
    settings = {"JOBKIT_TRUSTED_HOSTS": "jobs.example"}
    believed = Portal(with_anna, "--trusted-proxy", "127.0.0.1", **settings)
    try:
        assert attempt(believed, forwarded) == (401, True)
        with jobkit.connect(with_anna) as kit:
            assert kit.audit()[0].address == "203.0.113.9"
        evil = forwarded | {"X-Forwarded-Host": "evil.test"}
        assert attempt(believed, evil)[0] == 400
    finally:
        assert believed.end() == 0
    direct = Portal(with_anna, **settings)
    try:
        assert attempt(direct, forwarded) == (401, False)
        with jobkit.connect(with_anna) as kit:
            assert kit.audit()[0].address == "127.0.0.1"
    finally:
        assert direct.end() == 0


def attempt(portal: Portal, headers: dict[str, str]) -> tuple[int, bool]:
    """Try to sign in; return the code, and whether the portal believes in TLS."""
    request = urllib.request.Request(
        portal.address.rstrip("/") + "/login",
        data=b"name=anna&password=wrong-horse",
        headers=headers | {"Sec-Fetch-Site": "same-origin"},
    )
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(request, timeout=20)
    with answer.value as found:
        return found.code, "Strict-Transport-Security" in found.headers


def test_what_was_asked_before_the_end_is_answered(sqlite_database: str, workplace: Path) -> None:
    """The slow part is the database: another program holds its write lock."""
    with jobkit.connect(sqlite_database) as kit:
        kit.add_job("sales", "hello.py")
        secret = kit.tokens.add("x", "operator")
    portal = Portal(sqlite_database)
    lock = sqlite3.connect(sqlite_database.removeprefix("sqlite:///"), isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    asking = http.client.HTTPConnection(urlsplit(portal.address).netloc, timeout=20)
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}
    asking.request("POST", "/api/v1/jobs/sales/runs", b"{}", headers)
    # What came later is answered, so this has come.
    until(lambda: portal.ask("/healthz?live")[0] == 200)
    portal.process.send_signal(signal.SIGTERM)
    assert select.select([asking.sock], [], [], 1)[0] == [], "it waits for the lock"
    lock.execute("ROLLBACK")
    lock.close()
    with asking.getresponse() as answer:
        assert answer.status == 201
    asking.close()
    assert portal.end() == 0
