"""What programs write to their log, and what nobody ever reads in it or anywhere else."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import jobkit
from jobkit import logs, models, passwords, settings
from jobkit.db import Database
from jobkit.errors import BadInput, DatabaseUnavailable
from portal import create_app
from tests.people import SAME_ORIGIN, add_people, enter
from tests.stage import Stage

log = logging.getLogger("jobkit.tests")


@pytest.fixture
def quiet_after() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("jobkit")
    before = root.handlers[:], root.level, ours.level
    yield
    logging.captureWarnings(False)
    root.handlers[:], level, of_ours = before
    root.setLevel(level)
    ours.setLevel(of_ours)
    logging.getLogger("portal").setLevel(logging.NOTSET)


pytestmark = pytest.mark.usefixtures("quiet_after")


def test_json_is_an_object_a_line_with_what_it_is_about(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.begin("json", "debug")
    with logs.about(worker="w1"), logs.about(run_id=5, attempt=2, job='a "job"\n'):
        log.debug("two\nlines \u2028 %s", "\ud800")
        thread = threading.Thread(target=log.info, args=("from elsewhere",))
        thread.start()
        thread.join()
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("given up")
    first, elsewhere, last = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert first.pop("ts").endswith("Z")
    assert first == {
        "level": "debug", "logger": "jobkit.tests", "message": "two\nlines \u2028 �",
        "worker": "w1", "run_id": 5, "attempt": 2, "job": 'a "job"\n',
    }  # fmt: skip
    assert "run_id" not in elsewhere
    assert last["traceback"].endswith("ValueError: broken")
    assert "run_id" not in last


def test_a_name_with_a_line_break_begins_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("text", "info")
    log.warning("job %s", "x\n2026-01-01 jobkit: all is well\x1b[2J")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(r"job x\n2026-01-01 jobkit: all is well\x1b[2J")


def test_libraries_are_heard_from_warnings_on(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin("text", "debug")
    logging.getLogger("urllib3").debug("Authorization: Bearer x")
    log.debug("ours")
    logging.getLogger("urllib3").warning("theirs")
    assert [line.split(": ")[-1] for line in capsys.readouterr().err.splitlines()] == [
        "ours", "theirs",
    ]  # fmt: skip


def test_the_settings_of_the_log_are_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_LOG_LEVEL", "WARNING")
    monkeypatch.setenv("JOBKIT_LOG_FORMAT", "xml")
    with pytest.raises(BadInput, match=r"JOBKIT_LOG_FORMAT='xml'.*'text' or 'json'"):
        settings.load()
    monkeypatch.setenv("JOBKIT_LOG_FORMAT", "JSON")
    assert (settings.load().log_format, settings.load().log_level) == ("json", "warning")


def work(url: str, **chosen: str) -> list[dict[str, Any]]:
    """Run a real worker until nothing waits; return what it logged."""
    done = subprocess.run(
        [sys.executable, "-m", "jobkit", "worker", "--drain", "--name", "w"],
        env=os.environ | {"JOBKIT_DB_URL": url, "JOBKIT_LOG_FORMAT": "json", **chosen},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_real_worker_is_quiet_when_all_is_well_and_names_the_attempt_that_failed(
    sqlite_database: str, workplace: Path
) -> None:
    (workplace / "bad.py").write_text("raise SystemExit(3)\n", "utf-8")
    (workplace / "tells.py").write_text(
        "import os, sys\nprint(os.environ['KEY'], *sys.argv)\n", "utf-8"
    )
    key = "planted-in-the-secrets-1f0c"
    with jobkit.connect(sqlite_database) as kit:
        kit.add_job("good", "hello.py")
        kit.add_job("bad", "bad.py", retries=0)
        kit.add_job("tells", "tells.py", secrets=["env:KEY"])
        kit.submit("good")
        kit.submit("tells", token="planted-in-a-parameter-77ab")
        (line,) = work(sqlite_database, KEY=key)
        assert line["level"] == "info"
        assert line["message"].startswith("w-")
        assert kit.run(1).status == kit.run(2).status == "COMPLETED"
        kit.submit("bad")
        lines = work(sqlite_database, KEY=key, JOBKIT_LOG_LEVEL="debug")
        (told,) = [line for line in lines if line["level"] == "info" and "run_id" in line]
        assert told["message"] == "run 3, attempt 1: ended by exit, exit code 3"
        assert (told["run_id"], told["attempt"], told["job"]) == (3, 1, "bad")
        assert told["worker"].startswith("w-")
        assert "run 3, attempt 1: begins" in [line["message"] for line in lines]
        kit.submit("tells", token="planted-in-a-parameter-77ab")
        said = json.dumps(work(sqlite_database, KEY=key, JOBKIT_LOG_LEVEL="debug"))
        recorded = rows(kit.database, models.audit)
    for planted in (key, "planted-in-a-parameter-77ab"):
        assert planted not in said
        assert planted not in recorded


# What nobody reads anywhere


def rows(database: Database, *tables: sa.Table) -> str:
    with database.read() as connection:
        return repr([connection.execute(sa.select(table)).all() for table in tables])


def test_what_is_secret_is_in_no_row_of_the_audit_by_whichever_face(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(passwords, "COST", 4)
    caplog.set_level(logging.DEBUG)
    kit, planted = stage.kit, [f"planted-{number}-9d2e" for number in range(5)]
    add_people(kit)
    kit.users.add("anna", planted[0], "editor")
    kit.users.set_password("anna", planted[1])
    made = kit.tokens.add("nightly", "operator")
    kit.add_job("load", "hello.py", params={"key": planted[2]}, env_vars={"PASS": planted[2]})
    kit.edit("load", args=["--password", planted[2]])
    kit.submit("load", token=planted[3])
    app = create_app(kit, token=None)
    form = {"name": "anna", "password": planted[4]}
    assert app.test_client().post("/login", data=form, headers=SAME_ORIGIN).status_code == 401
    anna = enter(app, "anna", planted[1])
    shown = {"Authorization": f"Bearer {made}"}
    body = {"params": {"token": planted[3]}}
    app.test_client().post("/api/v1/jobs/load/runs", json=body, headers=shown)
    anna.post("/jobs/load/runs", data={"token": planted[3]}, headers=SAME_ORIGIN)
    kept = rows(kit.database, models.audit) + "\n".join(kit.audit.export()) + caplog.text
    assert "was refused to sign in" in kept
    assert kept.count("submitted a run") >= 3
    for secret in (*planted, made):
        assert secret not in kept


PASSWORD = "planted-in-the-url-5b7e"
NAMED = (
    f"postgresql://anna:{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://anna@127.0.0.1:1/db?password={PASSWORD}",
    f"postgresql://anna:{PASSWORD}@127.0.0.1:1,127.0.0.2:1/db",
    f"postgresql://anna:x@{PASSWORD}@127.0.0.1:1/db",
    f"postgresql://anna:{PASSWORD}@127.0.0.1:none/db",
    f"postgresql://anna@127.0.0.1:1/db?sslpassword={PASSWORD}",
    f"mysql://anna:{PASSWORD}@127.0.0.1/db",
    f"nonsense:{PASSWORD}",
)


@pytest.mark.parametrize("url", NAMED)
def test_the_password_of_the_database_is_in_no_error_and_no_traceback(url: str) -> None:
    with pytest.raises((BadInput, DatabaseUnavailable)) as error:
        jobkit.connect(url)
    said = "".join(traceback.format_exception(error.value))
    assert PASSWORD not in said
    assert PASSWORD not in repr(settings.load(db_url=url))


COMMANDS = (
    ["job", "list"], ["runs"], ["workers"], ["queue"], ["stats"], ["verify"], ["db", "check"],
    ["db", "upgrade"], ["doctor"], ["audit", "list"], ["user", "list"], ["archive"],
    ["run", "x"], ["coverage"],
)  # fmt: skip


@pytest.mark.parametrize("url", NAMED[1:2])
def test_the_password_of_the_database_is_printed_by_no_command(
    url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from jobkit import cli

    for command in COMMANDS:
        with pytest.raises(SystemExit):
            cli.main(["--db", url, *command])
    out, err = capfd.readouterr()
    assert "anna:***@" in out + err
    assert PASSWORD not in out + err


def test_a_database_that_answers_shows_its_password_nowhere(postgres_database: str) -> None:
    # The server of the tests trusts everybody: any password opens it.
    url = f"{postgres_database}&password={PASSWORD}"
    with jobkit.connect(url) as kit:
        kit.add_job("any", "hello.py")
        seen = [
            repr(kit), kit._repr_html_(), repr(kit.jobs), repr(kit.settings), kit.url,
            str(kit.database.engine), repr(kit.database.url), kit._opening(), str(kit.meter()),
            repr(kit.archive), repr(vars(kit)),
        ]  # fmt: skip
        for statement in ("SELECT nothing", "INSERT INTO portal_users (name) VALUES (:p)"):
            with (
                pytest.raises(sa.exc.DBAPIError) as error,
                kit.database.write() as connection,
            ):
                connection.execute(sa.text(statement), {"p": "planted-in-a-row"})
            seen += traceback.format_exception(error.value)
    text = "\n".join(seen)
    assert PASSWORD not in text
    assert "[SQL parameters hidden" in text
