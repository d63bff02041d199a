"""Alerts on the command line, in Python and in the portal: seen, acknowledged, muted, written."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

import jobkit
from jobkit.cli import main
from jobkit.errors import BadInput, Conflict, NotFound
from jobkit.store import notices
from portal import create_app
from tests.people import SAME_ORIGIN, add_people, enter
from tests.stage import Stage, at
from tests.test_portal import TOKEN, body, words
from tests.watching import look, run_once_by_hand, watched

__all__ = ["watched"]


@pytest.fixture
def failing(watched: Stage) -> Stage:
    """A stage where an alert of a job fires."""
    watched.job(retries=0, alerts="failed failures=3")
    run_once_by_hand(watched, exit_code=3)
    look(watched)
    return watched


@pytest.fixture
def client(failing: Stage) -> FlaskClient:
    client = create_app(failing.kit, token=TOKEN).test_client()
    client.get("/", query_string={"token": TOKEN})
    return client


def test_an_alert_is_listed_acknowledged_once_and_stays_open(failing: Stage) -> None:
    kit = failing.kit.acting_as("ada")
    (alert,) = kit.alerts()
    assert (alert.kind, alert.job_name, alert.run_id, alert.is_open) == ("failed", "sales", 1, True)
    assert kit.alerts.ack(alert.id).acknowledged_by == "ada"
    assert failing.kit.acting_as("bob").alerts.ack(alert.id).acknowledged_by == "ada"
    assert len(kit.alerts) == 1
    run_once_by_hand(failing)
    look(failing)
    assert kit.alerts() == []
    assert [item.is_open for item in kit.alerts(is_open=None)] == [False]
    with pytest.raises(Conflict, match="is over: has succeeded again"):
        kit.alerts.ack(alert.id)
    with pytest.raises(NotFound, match="no alert 99"):
        kit.alerts.ack(99)


def test_a_job_or_everything_is_muted_for_a_while_or_until_an_instant(failing: Stage) -> None:
    alerts = failing.kit.alerts
    alerts.mute("2h", job="sales")
    alerts.mute(at("12:00"))
    alerts.mute("2026-03-02T18:00", job="sales")
    assert [(item.job_name, item.until) for item in alerts.mutes()] == [
        (None, at("12:00")),
        ("sales", at("18:00")),
    ]
    alerts.unmute()
    with pytest.raises(NotFound, match="Everything is not muted"):
        alerts.unmute()
    failing.clock.turn_to(at("18:00"))
    assert alerts.mutes() == []
    for until in (timedelta(0), at("17:00"), "yesterday"):
        with pytest.raises(BadInput):
            alerts.mute(until)


def test_a_test_goes_to_every_channel(failing: Stage) -> None:
    assert failing.kit.alerts.test() == ["team"]
    with failing.kit.database.read() as connection:
        assert notices.latest(connection, 1)[0].subject == "jobkit: a test"


def test_the_command_line_lists_acknowledges_and_mutes(
    sqlite_database: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_DB_URL", sqlite_database)

    def said(*arguments: str, code: int = 0) -> Any:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == code
        printed = capsys.readouterr()
        return printed.out if code == 0 else printed.err

    said("job", "add", "sales", "hello.py", "--every", "1h", "--alert", "late=15m", "--alert",
         "failed")  # fmt: skip
    assert "late=15m failed" in said("job", "show", "sales")
    said("job", "edit", "sales", "--alert", "none")
    assert json.loads(said("job", "show", "sales", "--json"))["alerts"] is None
    assert "'later' is no alert" in said("job", "edit", "sales", "--alert", "later=5m", code=2)
    assert json.loads(said("alert", "list", "--json")) == []
    said("alert", "mute", "2h", "--job", "sales")
    assert "muted: sales, ends in" in said("alert", "list")
    said("alert", "unmute", "--job", "sales")
    assert "Give --job NAME or --all" in said("alert", "mute", "2h", code=2)
    assert "no alert 7" in said("alert", "ack", "7", code=2)
    assert "No scheduler serves a channel" in said("alert", "test", code=1)


def test_the_portal_shows_what_fires_in_its_bar_on_its_page_and_with_the_job_and_the_run(
    failing: Stage, client: FlaskClient
) -> None:
    assert "! 1 alert" in words(body(client, "/"))
    assert "firing sales failed in run 1: exit code 3" in words(body(client, "/alerts"))
    for place in ("/jobs/sales", "/runs/1"):
        assert "Alert: failed in run 1: exit code 3, since" in words(body(client, place)), place
    assert "failed failures=3" in words(body(client, "/jobs/sales"))
    assert client.post("/alerts/1/ack", headers=SAME_ORIGIN).status_code == 303
    assert "looks after it" in words(body(client, "/alerts"))
    run_once_by_hand(failing)
    look(failing)
    said = words(body(client, "/alerts"))
    assert "Nothing fires." in said
    assert "has succeeded again" in said
    assert "alert" not in client.get("/counts").text
    assert client.post("/alerts/1/ack", headers=SAME_ORIGIN).status_code == 303


def test_the_portal_mutes_and_tells_again(client: FlaskClient) -> None:
    form = {"until": "4h", "job": "sales"}
    assert client.post("/alerts/mutes", data=form, headers=SAME_ORIGIN).status_code == 303
    assert (
        client.post("/alerts/mutes", data={"until": "1d"}, headers=SAME_ORIGIN).status_code == 303
    )
    said = words(body(client, "/alerts"))
    assert "sales 2026-03-02 10:00:01 UTC" in said
    assert "everything 2026-03-03 06:00:01 UTC" in said
    for job in ("sales", "", ""):
        gone = client.post("/alerts/mutes/end", data={"job": job}, headers=SAME_ORIGIN)
        assert gone.status_code == 303
    assert "Nothing is muted" in words(body(client, "/alerts"))
    assert client.post("/alerts/mutes", data={"until": "?"}, headers=SAME_ORIGIN).status_code == 400


def test_a_viewer_sees_alerts_and_an_operator_acts(failing: Stage) -> None:
    add_people(failing.kit)
    app = create_app(failing.kit, token=None)
    viewer, operator = enter(app, "viewer"), enter(app, "operator")
    assert "Acknowledge" not in viewer.get("/alerts").text
    assert "Acknowledge" in operator.get("/alerts").text
    assert viewer.post("/alerts/1/ack", headers=SAME_ORIGIN).status_code == 403


def test_the_form_of_a_job_takes_alerts_and_says_what_is_wrong(
    failing: Stage, client: FlaskClient
) -> None:
    typed = {"name": "other", "target": "hello.py", "timing": "every", "when": "1h"}
    wrong = client.post("/jobs", data=typed | {"alerts": "later=5m"}, headers=SAME_ORIGIN)
    assert wrong.status_code == 422
    assert "&#39;later&#39; is no alert" in wrong.text
    right = client.post("/jobs", data=typed | {"alerts": "late=5m, failed"}, headers=SAME_ORIGIN)
    assert right.status_code == 303
    assert failing.kit.job("other").alerts == {"late": 300.0, "failed": True}
    assert 'value="late=5m failed"' in body(client, "/jobs/other/definition")


def test_a_function_says_what_it_is_watched_for(failing: Stage) -> None:
    @jobkit.job(alerts=["no-success=26h", "failed"], kit=failing.kit)
    def load() -> None:
        print("loaded")

    load.deploy()
    assert load.job.alerts == {"no-success": 93600.0, "failed": True}
    with pytest.raises(BadInput, match="goes by slots"):
        jobkit.job(alerts="late=5m")(load.function)


def test_a_portal_says_itself_that_no_scheduler_is_there(
    failing: Stage, client: FlaskClient
) -> None:
    from jobkit.scheduler import Scheduler

    Scheduler(failing.kit.database, failing.kit.settings).step()
    assert "No scheduler is there" not in words(body(client, "/alerts"))
    failing.clock.turn(timedelta(minutes=6))
    assert "No scheduler is there" in words(body(client, "/alerts"))
    assert "2 alerts" in client.get("/counts").text
