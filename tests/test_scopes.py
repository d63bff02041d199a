"""Accounts of services, and tokens that are for some jobs only."""

from __future__ import annotations

import pytest
from flask import Flask

import jobkit
from jobkit.errors import BadInput, Conflict
from portal import create_app
from tests.people import PASSWORD
from tests.stage import Stage


@pytest.fixture
def small(stage: Stage) -> Stage:
    """A job that a token is for and one that it is not, each with a run."""
    for name in ("etl orders", "payroll"):
        stage.job(name)
        stage.kit.submit(name)
    return stage


@pytest.fixture
def app(small: Stage) -> Flask:
    return create_app(small.kit, token="of this machine")


def shown(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_a_token_for_some_jobs_touches_these_and_their_runs_alone(app: Flask, small: Stage) -> None:
    secret = small.kit.tokens.add("etl", "editor", jobs=["etl *"])
    client, headers = app.test_client(), shown(secret)
    mine, other = (run.id for run in reversed(small.kit.runs()))
    allowed = {
        ("GET", "/jobs/etl%20orders"): 200,
        ("GET", "/jobs/etl%20orders/next"): 200,
        ("POST", "/jobs/etl%20orders/pause"): 200,
        ("GET", f"/runs/{mine}"): 200,
        ("POST", f"/runs/{mine}/cancel"): 200,
        ("GET", "/me"): 200,
    }
    for (method, path), status in allowed.items():
        answer = client.open(f"/api/v1{path}", method=method, headers=headers)
        assert answer.status_code == status, (path, answer.text)
    refused = [
        ("GET", "/jobs/payroll"), ("DELETE", "/jobs/payroll"), ("POST", "/jobs"), ("GET", "/jobs"),
        ("GET", "/runs"), ("GET", f"/runs/{other}"), ("POST", f"/runs/{other}/cancel"),
        ("GET", "/runs/999"), ("GET", "/workers"), ("POST", "/workers/etl%20orders/drain"),
        ("GET", "/stats"),
    ]  # fmt: skip
    for method, path in refused:
        answer = client.open(f"/api/v1{path}", method=method, headers=headers, json={})
        assert answer.status_code == 403, (path, answer.text)
        assert "for some jobs and their runs only: etl *" in answer.text
    assert client.get("/metrics", headers=headers).status_code == 403
    assert [run.status for run in small.kit.runs("payroll")] == ["PENDING"]
    assert {token.name: token.jobs for token in small.kit.tokens} == {"etl": ["etl *"]}


def test_a_token_for_no_jobs_at_all_is_refused(small: Stage) -> None:
    for jobs in ([], [""], "etl"):
        with pytest.raises(BadInput, match="names no jobs"):
            small.kit.tokens.add("etl", jobs=jobs)
    assert list(small.kit.tokens) == []


def test_a_service_holds_tokens_and_never_signs_in(app: Flask, small: Stage) -> None:
    users, tokens = small.kit.users, small.kit.tokens
    made = users.add_service("airbyte", "operator")
    assert (made.is_service, made.role) == (True, "operator")
    assert not users.any_active(), "a portal with services alone still opens with its token"
    for password in ("", PASSWORD):
        with pytest.raises(jobkit.JobkitError):
            users.sign_in("airbyte", password, address="10.0.0.1")
    with pytest.raises(Conflict, match="is a service"):
        users.set_password("airbyte", PASSWORD)
    secret = tokens.add("nightly", "admin", user="airbyte")
    client = app.test_client()
    answer = client.post("/api/v1/jobs/payroll/runs", headers=shown(secret), json={})
    assert answer.status_code == 201, answer.text
    assert small.kit.runs("payroll")[0].requested_by == "airbyte"
    assert client.get("/api/v1/me", headers=shown(secret)).json["role"] == "operator"
    users.disable("airbyte")
    assert client.get("/api/v1/me", headers=shown(secret)).status_code == 401


def test_a_service_that_is_admin_is_not_the_last_admin(small: Stage) -> None:
    small.kit.users.add("root", PASSWORD, "admin")
    small.kit.users.add_service("airbyte", "admin")
    with pytest.raises(Conflict, match="last admin"):
        small.kit.users.disable("root")
