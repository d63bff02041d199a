"""The JSON API as scripts use it: jobs, runs, output, artifacts, workers, and its errors."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

import jobkit
from jobkit.store import claims
from portal import create_app
from portal.api.document import document
from portal.api.operations import OPERATIONS
from portal.api.problems import TYPE
from tests.people import bearer
from tests.stage import Stage, at
from tests.test_keepsakes import kept_here, leave

__all__ = ["kept_here"]


class Script:
    """A script with a token."""

    def __init__(self, app: Flask, headers: dict[str, str]) -> None:
        self._client: FlaskClient = app.test_client()
        self._headers = headers

    def __call__(self, method: str, path: str, code: int, **given: Any) -> Any:
        """Ask; return the document of the answer, which has this code."""
        answer = self._client.open(f"/api/v1{path}", method=method, headers=self._headers, **given)
        answer.get_data()
        answer.close()
        assert answer.status_code == code, answer.text
        if code >= 400:
            assert answer.mimetype == TYPE
            found = answer.get_json(force=True)
            assert found["status"] == code
            assert found["detail"]
            return found
        assert answer.headers["Cache-Control"] == "no-store"
        return answer.json if answer.mimetype == "application/json" else answer


@pytest.fixture
def app(stage: Stage) -> Flask:
    return create_app(stage.kit, token=None)


@pytest.fixture
def ask(app: Flask, stage: Stage) -> Script:
    """An editor's script."""
    return Script(app, bearer(stage.kit, "editor"))


def test_a_job_is_made_shown_changed_paused_and_deleted(ask: Script, stage: Stage) -> None:
    made = ask(
        "POST",
        "/jobs",
        201,
        json={
            "name": "sales",
            "target": "hello.py",
            "args": ["--day", "a b"],
            "daily": "06:30",
            "tz": "Europe/Berlin",
            "timeout": "10m",
            "tags": ["etl"],
            "env_vars": {"KEY": "value"},
        },
    )
    assert made == ask("GET", "/jobs/sales", 200)
    assert made["schedule"].startswith("daily at 06:30")
    assert made["next_run"] == "2026-03-03T05:30:00Z"
    assert (made["timeout"], made["args"], made["tags"]) == (600, ["--day", "a b"], ["etl"])
    slots = ask("GET", "/jobs/sales/next?count=2", 200)["items"]
    assert slots == ["2026-03-03T05:30:00Z", "2026-03-04T05:30:00Z"]
    changed = ask("PATCH", "/jobs/sales", 200, json={"priority": 5, "if_version": 1})
    assert (changed["priority"], changed["version"]) == (5, 2)
    said = ask("PATCH", "/jobs/sales", 409, json={"priority": 6, "if_version": 1})
    assert said["detail"] == "The job 'sales' is at version 2, not 1."
    assert ask("POST", "/jobs/sales/pause", 200)["is_active"] is False
    assert ask("POST", "/jobs/sales/resume", 200, json={"catch_up": True})["is_active"] is True
    assert stage.kit.versions("sales")[0].changed_from.startswith("API on ")
    ask("DELETE", "/jobs/sales", 204)
    ask("GET", "/jobs/sales", 404)
    ask("DELETE", "/jobs/sales", 404)


def test_jobs_come_in_pages_by_name(ask: Script, stage: Stage) -> None:
    for number in range(5):
        stage.job(f"job {number}")
    stage.job("a_b")
    stage.kit.pause("job 3")
    names: list[str] = []
    after = ""
    while True:
        found = ask("GET", f"/jobs?limit=2{after}", 200)
        names += [job["name"] for job in found["items"]]
        if found["next"] is None:
            break
        after = f"&after={found['next']}"
    assert names == ["a_b", *(f"job {number}" for number in range(5))]
    listed = ask("GET", "/jobs?active=false", 200)["items"]
    assert [job["name"] for job in listed] == ["job 3"]
    assert [job["name"] for job in ask("GET", "/jobs?words=JOB+4", 200)["items"]] == ["job 4"]
    assert [job["name"] for job in ask("GET", "/jobs?words=_", 200)["items"]] == ["a_b"]


def test_a_run_is_submitted_followed_cancelled_and_run_again(ask: Script, stage: Stage) -> None:
    stage.job("sales", params={"day": "monday"}, overlap="allow", retries=0)
    run = ask("POST", "/jobs/sales/runs", 201, json={"params": {"day": "tuesday", "name": 1}})
    assert (run["status"], run["params"]) == ("PENDING", {"day": "tuesday", "name": 1})
    assert run["requested_by"] == "token of editor"
    path = f"/runs/{run['id']}"
    claim = stage.claim_one()
    write(stage, claim, 0, "one\n")
    said = ask("GET", f"{path}/output", 200)
    assert said == {
        "text": "one\n",
        "last_seq": 0,
        "attempt": 1,
        "is_complete": False,
        "omitted_bytes": 0,
    }
    write(stage, claim, 1, "two\x00 \ud800\n")
    stage.finish(claim, exit_code=3)
    said = ask("GET", f"{path}/output?attempt=1&after=0", 200)
    assert (said["text"], said["is_complete"]) == ("two␀ �\n", True)
    assert ask("GET", path, 200)["status"] == "FAILED"
    (attempt,) = ask("GET", f"{path}/attempts", 200)["items"]
    assert (attempt["status"], attempt["exit_code"]) == ("FAILURE", 3)
    said = ask("POST", f"{path}/cancel", 409)
    assert said["detail"] == f"Run {run['id']} has ended as FAILED and stays so."
    again = ask("POST", f"{path}/retry", 201)
    assert again["retry_of"] == run["id"]
    assert "not finished" in ask("POST", f"/runs/{again['id']}/retry", 409)["detail"]
    assert ask("POST", f"/runs/{again['id']}/cancel", 200)["status"] == "CANCELLED"
    for missing in ("", "/output", "/attempts", "/artifacts"):
        ask("GET", f"/runs/99{missing}", 404)


def write(stage: Stage, claim: Any, seq: int, text: str) -> None:
    from jobkit.text import clean

    with stage.kit.database.write() as connection:
        chunk = (seq, stage.clock.now(), clean(text), "output")
        assert claims.write_output(connection, claim, [chunk])


@pytest.mark.parametrize("since", ["", "&since=1d"])
def test_pages_of_runs_do_not_shift_when_runs_are_made(
    ask: Script, stage: Stage, since: str
) -> None:
    stage.job(overlap="allow")
    ids = stage.kit.jobs.submit_many("sales", [{}] * 4)
    stage.clock.turn(timedelta(seconds=1))
    ids += stage.kit.jobs.submit_many("sales", [{}] * 3)
    seen: list[int] = []
    after = ""
    while True:
        found = ask("GET", f"/runs?limit=2{since}{after}", 200)
        seen += [run["id"] for run in found["items"]]
        stage.kit.submit("sales")
        if found["next"] is None:
            break
        after = f"&after={found['next']}"
    assert seen == sorted(ids, reverse=True)


def test_runs_are_filtered(ask: Script, stage: Stage) -> None:
    stage.job("sales", overlap="allow", retries=0)
    stage.job("other")
    stage.kit.submit("sales")
    stage.finish(stage.claim_one(), exit_code=1)
    stage.clock.turn_to(at("07:00"))
    stage.kit.submit("sales")
    stage.kit.submit("other")

    def ids(query: str) -> list[int]:
        return [run["id"] for run in ask("GET", f"/runs?{query}", 200)["items"]]

    assert ids("job=sales") == [2, 1]
    assert ids("status=FAILED&status=TIMEOUT") == [1]
    assert ids("since=30m") == [3, 2]
    assert ids("job=sales&status=PENDING&limit=1") == [2]
    ask("GET", "/runs?job=nothing", 404)
    assert "not a duration" in ask("GET", "/runs?since=yesterday", 400)["detail"]


def test_artifacts_are_listed_and_come_as_files(ask: Script, stage: Stage, tmp_path: Path) -> None:
    stage.job()
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    leave(stage, claim, {"page.html": b"<script>alert(1)</script>"}, tmp_path)
    stage.finish(claim)
    (listed,) = ask("GET", f"/runs/{run.id}/artifacts", 200)["items"]
    assert (listed["name"], listed["size"]) == ("page.html", 25)
    answer = ask("GET", f"/runs/{run.id}/artifacts/1/page.html", 200)
    assert answer.data == b"<script>alert(1)</script>"
    assert answer.mimetype == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    ask("GET", f"/runs/{run.id}/artifacts/1/..%2F..%2Fjobkit.db", 404)


def test_workers_are_listed_and_drained(ask: Script, stage: Stage) -> None:
    stage.register("w1")
    (worker,) = ask("GET", "/workers", 200)["items"]
    assert (worker["worker_id"], worker["queues"], worker["slots"]) == ("w1", ["default"], 4)
    assert ask("POST", "/workers/w1/drain", 200) == {"asked": 1}
    ask("POST", "/workers/w2/drain", 404)
    assert ask("GET", "/stats?since=1h", 200)["workers_by_status"] == {"IDLE": 1}


def test_what_is_in_a_job_s_environment_is_for_editors(app: Flask, stage: Stage) -> None:
    stage.job(env_vars={"KEY": "value"})
    for role, shown in [("viewer", None), ("operator", None), ("editor", {"KEY": "value"})]:
        script = Script(app, bearer(stage.kit, role))
        assert script("GET", "/jobs/sales", 200)["variables"] == shown
        assert script("GET", "/jobs", 200)["items"][0]["variables"] == shown


MISTAKES: list[tuple[str, str, int, Any, str]] = [
    ("POST", "/jobs", 422, {"name": "x"}, "target"),
    ("POST", "/jobs", 422, {"name": "x", "target": "gone.py"}, "gone.py does not exist"),
    ("POST", "/jobs", 422, {"name": "x/y", "target": "hello.py"}, "cannot name a job"),
    ("POST", "/jobs", 422, {"name": "x", "target": "hello.py", "crom": "* * * * *"}, "crom"),
    ("POST", "/jobs", 422, {"name": "x", "target": "hello.py", "cron": "* * *"}, "3 fields"),
    ("POST", "/jobs", 422, {"name": "x", "target": "hello.py", "every": "1s", "at": "x"}, "one"),
    ("POST", "/jobs", 422, {"name": "x", "target": "hello.py", "priority": "1"}, "priority"),
    ("POST", "/jobs", 422, {"name": "x", "target": "hello.py", "memory": "9" * 60}, "memory"),
    ("POST", "/jobs", 409, {"name": "sales", "target": "hello.py"}, "exists"),
    ("PATCH", "/jobs/sales", 422, {}, "Nothing to change"),
    ("PATCH", "/jobs/nothing", 404, {"priority": 1}, "no job named"),
    ("POST", "/jobs/sales/runs", 422, {"params": []}, "params"),
    ("POST", "/jobs/sales/runs", 422, [], "object"),
    ("GET", "/runs?limit=0", 400, None, "limit"),
    ("GET", "/runs?limit=1&limit=2", 400, None, "limit"),
    ("GET", "/runs?status=GONE", 400, None, "status"),
    ("GET", "/runs?after=x", 400, None, "no mark of a page"),
    ("GET", "/runs?colour=red", 400, None, "colour"),
    ("GET", "/workers?colour=red", 400, None, "colour"),
    ("GET", "/runs/0", 404, None, "0"),
    ("GET", "/runs/x", 404, None, "x"),
    ("GET", "/runs/99999999999999999999", 404, None, "9999"),
    ("GET", "/runs/1/output?after=99999999999", 400, None, "after"),
    ("GET", "/stats?since=99999999d", 400, None, "calendar"),
    ("GET", "/nowhere", 404, None, "no such page"),
    ("PUT", "/jobs", 405, {}, "does not do that"),
]


@pytest.mark.parametrize(("method", "path", "code", "body", "said"), MISTAKES)
def test_a_mistake_is_a_problem_that_names_it(
    ask: Script, stage: Stage, method: str, path: str, code: int, body: Any, said: str
) -> None:
    stage.job()
    given = {} if body is None else {"json": body}
    found = ask(method, path, code, **given)
    assert said in found["detail"]
    assert len(stage.kit.jobs) == 1


def test_a_body_that_is_none_or_too_much_is_a_problem(ask: Script, stage: Stage) -> None:
    json_type = {"content_type": "application/json"}
    ask("POST", "/jobs", 400, data="{", **json_type)
    ask("POST", "/jobs", 400, data="", **json_type)
    ask("POST", "/jobs", 400, data=b"\xff\xfe", **json_type)
    ask("POST", "/jobs", 400, data='{"name": "\\ud800", "target": "x"}', **json_type)
    ask("POST", "/jobs", 422, data='{"name": "x", "target": "x", "retries": NaN}', **json_type)
    ask("POST", "/jobs", 415, data={"name": "x"})
    ask("POST", "/jobs", 413, data=json.dumps({"name": "x" * (5 << 20)}), **json_type)
    deep = "[" * 5000 + "]" * 5000
    stage.job()
    given = '{"params": {"a": ' + deep + "}}"
    assert ask("POST", "/jobs/sales/runs", 400, data=given, **json_type)


def test_a_database_that_is_away_is_a_problem_too(
    app: Flask, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = bearer(stage.kit, "viewer")

    def away(*_: object) -> None:
        raise jobkit.DatabaseUnavailable("The database does not answer.", "Is it started?")

    monkeypatch.setattr(stage.kit.database, "read", away)
    found = Script(app, headers)("GET", "/jobs", 503)
    assert (found["detail"], found["hint"]) == ("The database does not answer.", "Is it started?")


def test_without_a_good_token_nothing_is_told(app: Flask, stage: Stage) -> None:
    stage.job()
    client = app.test_client()
    for shown in ("", "Bearer", "Bearer jk_wrong", "Basic YTpi", "bearer  ", "Bearer \xe4"):
        answer = client.get("/api/v1/jobs", headers={"Authorization": shown} if shown else {})
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="jobkit"'
        assert "sales" not in answer.text


def test_a_browser_s_cookie_reads_and_never_writes(app: Flask, stage: Stage) -> None:
    stage.kit.users.add("anna", "correct horse", "admin")
    client = app.test_client()
    client.set_cookie("jobkit-80", stage.kit.users.sign_in("anna", "correct horse"))
    assert client.get("/api/v1/openapi.json").status_code == 200
    for site in ("same-origin", "cross-site"):
        headers = {"Sec-Fetch-Site": site}
        body = {"name": "x", "target": "hello.py"}
        assert client.post("/api/v1/jobs", json=body, headers=headers).status_code == 401


def test_a_job_that_runs_elsewhere_reports_itself(app: Flask, ask: Script, stage: Stage) -> None:
    body = {"name": "backup", "target": "cron of db1", "kind": "external", "cron": "0 * * * *"}
    ask("POST", "/jobs", 201, json=body)
    stage.tick(at("07:00"))
    headers = bearer(stage.kit, "operator")
    operator = Script(app, headers)
    begun = operator("POST", "/jobs/backup/pings", 201, json={"signal": "start"})
    assert (begun["status"], begun["trigger"]) == ("IN_PROGRESS", "schedule")
    end = {"signal": "fail", "exit_code": 3, "message": "no disk", "run": begun["id"]}
    assert operator("POST", "/jobs/backup/pings", 201, json=end)["status"] == "FAILED"
    assert operator("GET", f"/runs/{begun['id']}/output", 200)["text"] == "no disk"
    operator("POST", "/jobs/backup/pings", 409, json=end)
    operator("POST", "/jobs/backup/pings", 422, json={"signal": "stop"})
    assert "jobkit ping" in operator("POST", "/jobs/backup/runs", 422, json={})["hint"]
    Script(app, bearer(stage.kit, "viewer"))("POST", "/jobs/backup/pings", 403, json={})


def test_the_document_tells_of_every_route_and_of_nothing_else(app: Flask, ask: Script) -> None:
    found = ask("GET", "/openapi.json", 200)
    assert found == document(OPERATIONS.values())
    assert found["openapi"] == "3.1.0"
    told = {(path, method.upper()) for path, item in found["paths"].items() for method in item}
    served = set()
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("api.") and rule.endpoint != "api.describe":
            path = "".join(
                f"{{{part}}}" if is_place else part for is_place, part in rule._trace if part != "|"
            )
            methods = set(rule.methods or ()) - {"HEAD", "OPTIONS"}
            served |= {(path, method) for method in methods}
    assert told == served
    references = set(json.dumps(found).split('"#/components/schemas/')[1:])
    names = {reference.partition('"')[0] for reference in references}
    assert names <= set(found["components"]["schemas"])
    for item in OPERATIONS.values():
        assert item.summary.endswith((".", ";")), item.name
