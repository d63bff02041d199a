"""The outbox: each notice once for each channel, sent by one scheduler."""

from __future__ import annotations

from datetime import timedelta

from jobkit.store import notices
from tests.stage import MONDAY, Stage


def post(stage: Stage, key: str = "late:sales:1", **given: object) -> None:
    words = {"subject": "sales is late", "text": "No run for 2 h.", "severity": "warning"}
    with stage.kit.database.write() as connection:
        notices.post(connection, stage.clock.now(), key=key, **(words | given))  # type: ignore[arg-type]


def serve(stage: Stage, *names: str) -> None:
    with stage.kit.database.write() as connection:
        notices.serve(connection, names, stage.clock.now())


def posted(stage: Stage) -> list[tuple[str, str]]:
    with stage.kit.database.read() as connection:
        return sorted((row.key, row.channel) for row in notices.latest(connection, 100))


def test_a_notice_is_a_row_for_each_channel_and_a_repeat_is_none(stage: Stage) -> None:
    post(stage, "unheard")
    serve(stage, "mail", "chat")
    post(stage, "a")
    post(stage, "a", text="said again")
    post(stage, "b")
    assert posted(stage) == [("a", "chat"), ("a", "mail"), ("b", "chat"), ("b", "mail")]


def test_a_channel_that_nobody_serves_any_more_gets_no_notices(stage: Stage) -> None:
    serve(stage, "mail", "chat")
    stage.clock.turn_to(MONDAY + timedelta(days=2))
    serve(stage, "chat")
    post(stage, "a")
    assert posted(stage) == [("a", "chat")]
