"""The outbox: each notice once for each channel, sent by one scheduler, tried again, given up."""

from __future__ import annotations

import contextlib
import json
import logging
import random
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobkit import settings
from jobkit.artifacts import collect
from jobkit.cli import main
from jobkit.errors import BadInput
from jobkit.kit import Kit
from jobkit.notify import Channel, Postman, channels
from jobkit.notify.services import masked
from jobkit.notify.undelivered import Undelivered
from jobkit.scheduler import Scheduler
from jobkit.store import keepsakes, notices
from portal import create_app
from tests.listeners import listening, taking_mail
from tests.stage import MONDAY, Stage
from tests.test_processes import SOON, until

MAIL = Channel("mail", "mailto://nobody.example")
CHAT = Channel("chat", "json://nobody.example")


def post(stage: Stage, key: str = "late:sales:1", **given: Any) -> None:
    words = {"subject": "sales is late", "text": "No run for 2 h.", "severity": "warning"}
    with stage.kit.database.write() as connection:
        notices.post(connection, stage.clock.now(), key=key, **(words | given))


def serve(stage: Stage, *names: str) -> None:
    with stage.kit.database.write() as connection:
        notices.serve(connection, names, stage.clock.now())


def posted(stage: Stage) -> list[Any]:
    with stage.kit.database.read() as connection:
        return sorted(notices.latest(connection, 100), key=lambda row: (row.key, row.channel))


def postman(stage: Stage, **chosen: Any) -> Postman:
    return Postman(stage.kit.database, stage.kit.settings.model_copy(update=chosen))


def test_what_was_told_is_listed_in_python_on_the_command_line_and_in_the_portal(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(stage, "mail", "chat")
    post(stage, subject="<b>sales</b> is late", job="sales")
    post(stage, "other", subject="no worker")
    made = postman(stage, notify_tries=1)
    assert made.deliver(MAIL, Service())
    assert made.deliver(CHAT, Service("mailbox full"))
    told = {it.channel: it.state for it in stage.kit.notices(job="sales")}
    assert told == {"chat": "given up", "mail": "sent"}
    assert {it.subject for it in stage.kit.notices(state="waiting")} == {"no worker"}
    assert stage.kit.notices.channels() == ["chat", "mail"]
    with pytest.raises(BadInput, match="no state of a notice"):
        stage.kit.notices(state="lost")
    url = stage.kit.database.url.render_as_string(hide_password=False)
    main_of(["--db", url, "notice", "list", "--state", "given up", "--json"])
    (said,) = json.loads(capsys.readouterr().out)
    assert (said["channel"], said["error"]) == ("chat", "mailbox full")
    client = create_app(stage.kit, token="the-token").test_client()
    page = client.get("/alerts", query_string={"token": "the-token"}, follow_redirects=True).text
    assert "&lt;b&gt;sales&lt;/b&gt; is late" in page
    assert "mailbox full" in page


def main_of(words: list[str]) -> None:
    with contextlib.suppress(SystemExit):
        main(words)


class Service:
    """A service that takes notices, or refuses them for a reason."""

    def __init__(self, refuses: str = "") -> None:
        self.took: list[str] = []
        self.refuses = refuses

    def __call__(self, channel: Channel, notice: Any, now: datetime) -> None:
        if self.refuses:
            raise Undelivered(self.refuses)
        self.took.append(notice.key)


def test_a_notice_is_a_row_for_each_channel_and_a_repeat_is_none(stage: Stage) -> None:
    post(stage, "unheard")
    serve(stage, "mail", "chat")
    post(stage, "a")
    post(stage, "a", text="said again")
    post(stage, "b")
    there = [(row.key, row.channel) for row in posted(stage)]
    assert there == [("a", "chat"), ("a", "mail"), ("b", "chat"), ("b", "mail")]


def test_a_channel_that_nobody_serves_any_more_gets_no_notices(stage: Stage) -> None:
    serve(stage, "mail", "chat")
    post(stage, "before")
    stage.clock.turn_to(MONDAY + timedelta(days=2))
    serve(stage, "chat")
    post(stage, "a")
    assert [row.channel for row in posted(stage) if row.key == "a"] == ["chat"]
    with stage.kit.database.write() as connection:
        notices.clean_up(connection, stage.clock.now(), keep=timedelta(days=30))
    lost = {row.channel: row.error for row in posted(stage) if row.given_up_at}
    assert lost == {"mail": "no scheduler sends to this channel any more"}


def test_a_subject_is_one_line_whatever_is_put_into_it(stage: Stage) -> None:
    serve(stage, "mail")
    post(stage, subject="sales\r\nBcc: all@example.com\x00")
    assert posted(stage)[0].subject == "sales Bcc: all@example.com␀"


def test_a_notice_is_sent_when_its_time_has_come_and_only_once(stage: Stage) -> None:
    serve(stage, "mail", "chat")
    post(stage, "now")
    post(stage, "later", available_at=MONDAY + timedelta(hours=1))
    service = Service()
    first, second = postman(stage), postman(stage)
    assert first.deliver(MAIL, service)
    assert not second.deliver(MAIL, service)
    assert service.took == ["now"], "chat is another's"
    stage.clock.turn(timedelta(hours=1))
    assert second.deliver(MAIL, service)
    assert service.took == ["now", "later"]


def test_of_schedulers_that_look_at_once_one_sends(stage: Stage) -> None:
    serve(stage, "mail")
    for number in range(20):
        post(stage, f"{number:02d}")
    service, together = Service(), threading.Barrier(4)

    def send_all() -> None:
        together.wait()
        made = postman(stage)
        for _ in range(40):
            made.deliver(MAIL, service)

    threads = [threading.Thread(target=send_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(service.took) == [f"{number:02d}" for number in range(20)]
    assert {row.tries for row in posted(stage)} == {1}


def test_what_a_dead_scheduler_had_taken_is_sent_by_another_after_its_lease(stage: Stage) -> None:
    serve(stage, "mail")
    post(stage)
    with stage.kit.database.write() as connection:
        taken = notices.take(connection, "mail", stage.clock.now(), lease=timedelta(minutes=5))
    service = Service()
    assert not postman(stage).deliver(MAIL, service)
    stage.clock.turn(timedelta(minutes=5))
    assert postman(stage).deliver(MAIL, service)
    with stage.kit.database.write() as connection:
        assert not notices.sent(connection, taken, stage.clock.now()), "it came back too late"


def test_a_scheduler_that_comes_back_too_late_does_not_touch_the_try_of_another(
    stage: Stage,
) -> None:
    serve(stage, "mail")
    post(stage)

    def take() -> Any:
        with stage.kit.database.write() as connection:
            return notices.take(connection, "mail", stage.clock.now(), lease=timedelta(minutes=5))

    stale = take()
    stage.clock.turn(timedelta(minutes=5))
    now = stage.clock.now()
    current = take()
    with stage.kit.database.write() as connection:
        assert not notices.sent(connection, stale, now)
        assert not notices.failed(connection, stale, now, random.Random(1), error="x", most=1)
    (row,) = posted(stage)
    assert (row.tries, row.available_at, row.error) == (2, now + timedelta(minutes=5), None)
    with stage.kit.database.write() as connection:
        assert notices.sent(connection, current, now)


def test_what_is_not_taken_is_tried_again_later_each_time_and_then_given_up(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    serve(stage, "mail")
    post(stage)
    made, service = postman(stage, notify_tries=4), Service("mailbox full")
    waits = []
    while made.deliver(MAIL, service):
        (row,) = posted(stage)
        waits.append((row.available_at - stage.clock.now()).total_seconds())
        assert row.error == "mailbox full"
        stage.clock.turn(timedelta(seconds=waits[-1]))
    assert [30 <= waits[0] <= 33, 60 <= waits[1] <= 66, 120 <= waits[2] <= 132] == [True] * 3
    assert len(waits) == 4
    assert row.given_up_at is not None
    assert row.sent_at is None
    assert "gave up 'sales is late' to mail: mailbox full" in caplog.text
    assert caplog.records[-1].levelno == logging.WARNING


def test_a_plugin_that_breaks_is_a_failed_try_that_shows_no_secret(stage: Stage) -> None:
    def breaks(*_: object) -> None:
        raise KeyError("hunter2")

    serve(stage, "mail")
    post(stage)
    assert postman(stage).deliver(MAIL, breaks)
    assert posted(stage)[0].error == "KeyError while it was sent"


def test_channels_have_names_and_their_addresses_are_never_shown() -> None:
    read = channels(("ops=mailtos://ann:hunter2@example.com", "slack://hunter2/B/C"))
    assert [channel.name for channel in read] == ["ops", "slack-e4e93eea"]
    assert "hunter2" not in repr(read)
    assert [channel.is_mail for channel in read] == [True, False]


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("hunter2", "Channel 1 of JOBKIT_NOTIFY_URLS is no address"),
        ("a b=json://hunter2", "Channel 1"),
        ("webhook+ftp://hunter2/", "Write webhook\\+https"),
        ("a=json://hunter2/ a=json://x/", "Two channels .* are called 'a'"),
    ],
)
def test_a_wrong_address_is_refused_and_not_shown(written: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as refused:
        channels(settings.load(notify_urls=written).notify_urls)
    assert "hunter2" not in str(refused.value)


def test_settings_that_hold_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_NOTIFY_URLS", "json://hunter2/ mailto://hunter2@x.example?to=a,b")
    monkeypatch.setenv("JOBKIT_WEBHOOK_SECRET", "hunter2")
    monkeypatch.setenv("JOBKIT_PING_URL", "https://hc.example/hunter2")
    chosen = settings.load()
    assert len(chosen.notify_urls) == 2, "commas are part of addresses"
    assert "hunter2" not in repr(chosen)
    with pytest.raises(BadInput) as refused:
        settings.load(webhook_secret=("hunter2",))
    assert "hunter2" not in str(refused.value)


def test_what_a_service_says_is_kept_without_the_secrets_of_its_address() -> None:
    url = "mailtos://ann:p%40ss%20word@smtp.example.com:587/?to=bob@example.com"
    said = "Failed for ann: p@ss word, p%40ss%20word at smtp.example.com"
    assert "word" not in masked(said, url)
    assert "smtp" not in masked(f"cannot open {url}", url)


def test_a_mail_of_a_failed_notebook_brings_the_executed_notebook(
    stage: Stage, tmp_path: Path
) -> None:
    stage.job()
    run = stage.kit.submit("sales")
    book = tmp_path / "out" / "report.ipynb"
    book.parent.mkdir()
    book.write_text('{"cells": []}', "utf-8")
    kept = stage.kit.store.keep(run.id, 1, collect(book.parent, 1000).files)
    with stage.kit.database.write() as connection:
        keepsakes.add_artifacts(connection, [((run.id, 1), kept)], stage.clock.now())
    serve(stage, "mail")
    post(stage, run_id=run.id, text="Zeile 1: größer")
    with taking_mail() as server:
        address = f"mailto://127.0.0.1:{server.port}/?from=j@a.example&to=b@b.example&mode=insecure"
        made = postman(stage, portal_url="https://jobs.example/")
        assert made.deliver(Channel("mail", address))
    assert posted(stage)[0].error is None
    (mail,) = server.mails
    assert mail["Subject"] == "sales is late"
    parts = {part.get_content_type(): part for part in mail.walk()}
    text = parts["text/plain"].get_payload(decode=True)
    assert isinstance(text, bytes)
    assert "Zeile 1: größer" in text.decode()
    assert f"https://jobs.example/runs/{run.id}" in text.decode()
    files = {part.get_filename(): part.get_payload(decode=True) for part in mail.walk()}
    assert files["report.ipynb"] == b'{"cells": []}'


def test_a_scheduler_sends_beside_its_loop_and_does_not_wait_for_a_slow_server(kit: Kit) -> None:
    held = threading.Event()
    with listening() as server:
        server.before = lambda: held.wait(SOON) and None
        address = f"chat=json://127.0.0.1:{server.port}/hook"
        made = Scheduler(kit.database, kit.settings.model_copy(update={"notify_urls": (address,)}))
        with kit.database.write() as connection:
            notices.serve(connection, ["chat"], kit.clock.now())
            words = {"subject": "sales is late", "text": "", "severity": "critical"}
            notices.post(connection, kit.clock.now(), key="a", **words)
        running = threading.Thread(target=made.run)
        running.start()
        try:
            until(lambda: server.heard != [])
            kit.add_job("quick", "hello.py", every="1s")
            until(lambda: kit.runs(job="quick") != [])
        finally:
            made.stop.set()
            running.join(SOON)
            alive = running.is_alive()
            held.set()
            for thread in threading.enumerate():
                if thread.name == "notify-chat":
                    thread.join(SOON)  # it still says that it sent
    assert not alive, "nor does it when it stops"
    assert b'"sales is late"' in server.heard[0].body
    assert b'"failure"' in server.heard[0].body
