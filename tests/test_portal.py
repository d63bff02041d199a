"""The portal's pages, actions and errors, on a real kit."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import html5lib
import pytest
from flask.testing import FlaskClient

import jobkit
from portal import create_app
from portal.reports.questions import Reports
from tests.stage import Stage

TOKEN = "the-token"
SAME_ORIGIN = {"Sec-Fetch-Site": "same-origin"}
HTMX = {"HX-Request": "true"}
XML = "{http://www.w3.org/1999/xhtml}"


def open_portal(kit: jobkit.Kit, reports: Reports | None = None) -> FlaskClient:
    client = create_app(kit, token=TOKEN, reports=reports).test_client()
    assert client.get("/", query_string={"token": TOKEN}).status_code == 303
    return client


@pytest.fixture
def client(stage: Stage) -> FlaskClient:
    return open_portal(stage.kit)


@pytest.fixture
def history(stage: Stage) -> Stage:
    """Three jobs and a run in each of these states: completed, failed, running, waiting."""
    stage.job("sales", daily="06:30", tz="Europe/Berlin", retries=0, params={"day": "monday"})
    stage.job("a <script>alert(1)<b>", every="15m")
    stage.job("on demand", queue="heavy")
    stage.kit.submit("sales")
    done = stage.claim_one()
    write(stage, done, "one\n", "\x1b[32mtwo\x1b[0m <script>alert('x')</script>\n")
    stage.clock.turn(timedelta(seconds=90))
    stage.finish(done)
    stage.kit.submit("sales", day="tuesday")
    stage.finish(stage.claim_one(), exit_code=3)
    stage.kit.submit("sales")
    stage.claim_one()
    stage.kit.submit("on demand")
    return stage


def write(stage: Stage, claim: Any, *chunks: str, first: int = 0) -> None:
    from jobkit.store import claims

    numbered = [(first + seq, stage.clock.now(), text, "output") for seq, text in enumerate(chunks)]
    with stage.kit.database.write() as connection:
        assert claims.write_output(connection, claim, numbered)


def body(client: FlaskClient, path: str, **headers: str) -> str:
    answer = client.get(path, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.text


def tree(document: str) -> Any:
    return html5lib.HTMLParser(strict=True).parse(document)


def words(document: str) -> str:
    """Return the text that a person sees, on one line."""
    return " ".join(" ".join(tree(document).itertext()).split())


JOB_PAGES = ("/jobs/sales", "/jobs/sales/start", "/jobs/on%20demand/start", "/jobs/sales/backfill")
PAGES = ("/", "/jobs", *JOB_PAGES, "/runs", "/runs/1", "/runs/2", "/runs/3", "/runs/4")
MORE_PAGES = ("/workers", "/runs?job=sales&status=FAILED", "/runs/1?attempt=1", "/jobs/on%20demand")


@pytest.mark.parametrize("path", [*PAGES, *MORE_PAGES])
def test_a_page_is_valid_html_with_language_title_and_one_heading(
    history: Stage, client: FlaskClient, path: str
) -> None:
    page = tree(body(client, path))
    assert page.get("lang") == "en"
    title = page.find(f".//{XML}title").text
    assert title.endswith("· jobkit")
    assert len(title) > len("· jobkit") + 1
    assert len(page.findall(f".//{XML}h1")) == 1
    ids = Counter(element.get("id") for element in page.iter() if element.get("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    assert all(head.get("scope") for head in page.iter(f"{XML}th"))
    assert not [element for element in page.iter() if element.get("style") is not None]
    assert not [script for script in page.iter(f"{XML}script") if not script.get("src")]


@pytest.mark.parametrize("path", [*PAGES, *MORE_PAGES])
def test_htmx_gets_the_live_part_of_the_same_page(
    history: Stage, client: FlaskClient, path: str
) -> None:
    whole, part = body(client, path), body(client, path, **HTMX)
    assert len(part) < len(whole)
    assert part.lstrip().startswith('<div id="live"')
    assert "<html" not in part
    assert "HX-Request" in client.get(path).headers["Vary"]


def test_every_page_asks_again_every_two_seconds(client: FlaskClient) -> None:
    for path in ("/", "/jobs", "/runs", "/workers"):
        assert f'hx-get="{path}" hx-trigger="every 2s, wake"' in body(client, path)


def test_the_filters_stay_in_what_the_list_asks_for(history: Stage, client: FlaskClient) -> None:
    assert 'hx-get="/runs?job=sales&amp;status=FAILED"' in body(
        client, "/runs?job=sales&status=FAILED"
    )


def test_a_run_that_has_ended_asks_for_nothing_more(history: Stage, client: FlaskClient) -> None:
    for headers in ({}, HTMX):
        ended, running = body(client, "/runs/1", **headers), body(client, "/runs/3", **headers)
        assert "/runs/1" not in re.findall(r'hx-get="([^"]*)"', ended)
        assert "/runs/3" in re.findall(r'hx-get="([^"]*)"', running)


def test_pages_without_anything_say_the_next_command(client: FlaskClient) -> None:
    add = "jobkit job add hello hello.py --every 15m"
    assert f"No jobs yet. Add one: {add}" in words(body(client, "/jobs"))
    assert f"No jobs yet. Add one: {add}" in words(body(client, "/"))
    assert "jobkit run NAME" in words(body(client, "/runs"))
    assert "jobkit worker" in words(body(client, "/workers"))


def test_what_people_named_and_scripts_printed_is_escaped(
    history: Stage, client: FlaskClient
) -> None:
    for path in ("/", "/jobs", "/runs/1", "/jobs/a%20%3Cscript%3Ealert(1)%3Cb%3E"):
        assert "<script>alert" not in body(client, path)
    assert "a <script>alert(1)<b>" in words(body(client, "/jobs"))
    assert "two <script>alert('x')</script>" in words(body(client, "/runs/1"))


def test_the_overview_counts_the_day_and_names_what_runs_and_what_failed(
    history: Stage, client: FlaskClient
) -> None:
    said = words(body(client, "/"))
    assert "completed 1 failed 1 timeout 0 missed 0" in said
    assert "active jobs 3 of 3" in said
    assert "None is online. Start one: jobkit worker" in said
    assert "Runs wait and no worker is online. Start one: jobkit worker" in said
    assert "1 running · 1 waiting · 0 workers" in said


def test_the_overview_says_when_slots_are_late(stage: Stage, client: FlaskClient) -> None:
    stage.job("sales", every="15m")
    assert "Slots are late" not in words(body(client, "/"))
    stage.clock.turn(timedelta(minutes=20))
    assert "Slots are late: no scheduler seems to run." in words(body(client, "/"))
    assert "late: 2026-03-02 06:15:00 UTC" in words(body(client, "/jobs"))


def test_a_job_shows_its_next_slots_in_its_zone_and_in_utc(
    history: Stage, client: FlaskClient
) -> None:
    said = words(body(client, "/jobs/sales"))
    assert "daily at 06:30 Europe/Berlin" in said
    assert "2026-03-03 06:30:00 CET 2026-03-03 05:30:00 UTC" in said
    # the summer time of 29 March is not among the next ten
    assert said.count("06:30:00 CET") == 10


def test_a_job_shows_who_changed_what(history: Stage, client: FlaskClient) -> None:
    history.kit.edit("sales", retries=7)
    said = words(body(client, "/jobs/sales"))
    assert "max retries 0 → 7" in said
    assert "1 created" in said


def test_a_run_shows_its_way_its_attempts_and_its_output(
    history: Stage, client: FlaskClient
) -> None:
    said = words(body(client, "/runs/1"))
    assert "ended 2026-03-02 06:01:30 UTC after 1 min 30 s" in said
    assert "1 ✓ success 1 min 30 s 0" in said
    assert "one two" in said
    assert "exit code 3" in words(body(client, "/runs/2"))
    assert '{"day": "tuesday"}' in words(body(client, "/runs/2"))


def test_a_run_beyond_the_threshold_is_shown_as_running_long(
    history: Stage, client: FlaskClient
) -> None:
    threshold = history.kit.settings.job_timeout_threshold
    history.clock.turn(threshold)
    assert "running long" not in body(client, "/runs/3")
    history.clock.turn(timedelta(seconds=1))
    for path in ("/", "/jobs", "/runs", "/runs/3"):
        assert "running long" in body(client, path)


def test_runs_are_filtered_by_job_and_status(history: Stage, client: FlaskClient) -> None:
    def listed(query: str) -> list[str]:
        return re.findall(r'data-key="run-(\d+)"', body(client, f"/runs{query}"))

    assert listed("") == ["4", "3", "2", "1"]
    assert listed("?job=sales&status=") == ["3", "2", "1"]
    assert listed("?job=&status=FAILED") == ["2"]
    assert "No run matches" in body(client, "/runs?job=sales&status=MISSED")


def post(client: FlaskClient, path: str) -> str:
    answer = client.post(path, headers=SAME_ORIGIN)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


def test_all_that_match_are_cancelled_after_their_number_is_said(
    history: Stage, client: FlaskClient
) -> None:
    history.kit.submit("sales")
    asked = body(client, "/runs/cancel?job=sales")
    assert "Cancel 2 runs?" in words(asked)
    history.kit.submit("sales")  # after the number was said: it stays
    form = dict(re.findall(r'name="(\w+)" value="([^"]*)"', asked.partition("<form")[2]))
    answer = client.post("/runs/cancel", data=form, headers=SAME_ORIGIN)
    assert (answer.status_code, answer.location) == (303, "/runs?job=sales&done=2&refused=0")
    assert [run.status for run in history.kit.runs("sales", limit=2)] == ["PENDING", "CANCELLED"]
    assert "2 done." in words(body(client, answer.location))


def test_the_ticked_runs_are_run_again_and_no_others(history: Stage, client: FlaskClient) -> None:
    assert "Run again 2 runs?" in words(body(client, "/runs/retry?run=1&run=2"))
    answer = client.post("/runs/retry", data={"run": ["1", "3"]}, headers=SAME_ORIGIN)
    assert answer.location == "/runs?done=1&refused=1"
    assert [run.retry_of for run in history.kit.runs("sales", limit=2)] == [1, None]


def test_run_now_makes_a_manual_run_and_leads_to_it(history: Stage, client: FlaskClient) -> None:
    assert post(client, "/jobs/sales/runs") == "/runs/5"
    assert history.kit.run(5).trigger == "manual"
    assert client.get("/runs/5").status_code == 200


def test_pause_and_resume_a_job(history: Stage, client: FlaskClient) -> None:
    assert post(client, "/jobs/sales/pause") == "/jobs/sales"
    assert not history.kit.job("sales").is_active
    assert "paused" in body(client, "/jobs/sales", **HTMX)
    assert "None while it is paused." in words(body(client, "/jobs/sales"))
    assert post(client, "/jobs/sales/resume") == "/jobs/sales"
    assert history.kit.job("sales").is_active


def test_cancel_and_run_again(history: Stage, client: FlaskClient) -> None:
    assert post(client, "/runs/4/cancel") == "/runs/4"
    assert history.kit.run(4).status == "CANCELLED"
    assert post(client, "/runs/3/cancel") == "/runs/3"
    assert history.kit.run(3).wants_cancel
    for path in ("/runs/3", "/runs?status=IN_PROGRESS"):
        said = body(client, path)
        assert "asked to end" in said
        assert "cancelled by" not in said  # not before it has ended
    assert post(client, "/runs/2/retry") == "/runs/5"
    assert history.kit.run(5).retry_of == 2


def test_drain_a_worker(history: Stage, client: FlaskClient) -> None:
    from jobkit.store import workers

    row = {"worker_id": "w1", "hostname": "h", "platform": "Linux", "status": "IDLE"}
    more = {"jobs_processed": 0, "process_id": 7, "queues": "default", "slots": 2, "version": "0"}
    with history.kit.database.write() as connection:
        workers.register(connection, history.clock.now(), row | more)
    assert "w1" in words(body(client, "/workers"))
    assert post(client, "/workers/w1/drain") == "/workers"
    assert history.renew("w1").drain


@pytest.mark.parametrize(
    ("method", "path", "code", "said"),
    [
        ("GET", "/jobs/nothing", 404, "nothing"),
        ("GET", "/runs/77", 404, "There is no run 77."),
        ("GET", "/runs?job=nothing", 404, "nothing"),
        ("POST", "/jobs/nothing/runs", 404, "nothing"),
        ("POST", "/workers/nobody/drain", 404, "No worker named 'nobody' is online."),
        ("GET", "/elsewhere", 404, "There is no such page."),
        ("GET", "/runs?status=LAZY", 400, "'LAZY' is no status."),
        ("POST", "/runs/1/cancel", 400, "Run 1 has ended as COMPLETED"),
        ("POST", "/runs/4/retry", 400, "Run 4 is PENDING, not finished."),
        ("POST", "/workers", 405, "use the buttons"),
    ],
)
def test_an_error_is_a_page_that_names_the_way_out(
    history: Stage, client: FlaskClient, method: str, path: str, code: int, said: str
) -> None:
    answer = client.open(path, method=method, headers=SAME_ORIGIN)
    assert answer.status_code == code
    assert said in words(answer.text)
    assert tree(answer.text).find(f".//{XML}h1") is not None


def test_a_database_that_is_away_is_a_page_too(
    history: Stage, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise jobkit.DatabaseUnavailable("The database does not answer.", "Is it started?")

    monkeypatch.setattr(history.kit.database, "read", away)
    answer = client.get("/jobs")
    assert answer.status_code == 503
    assert "The database does not answer. Is it started?" in words(answer.text)
    assert client.get("/healthz").status_code == 503
    assert client.get("/healthz").json["status"] == "unavailable"


def follow(client: FlaskClient, document: str) -> tuple[str, str | None]:
    """Return the output shown and the address that it goes on at."""
    shown = document.partition('aria-label="Output">')[2].partition("</pre>")[0] or document
    onward = re.search(r'id="more" hx-get="([^"]*)"', document)
    return re.sub(r"<[^>]*>", "", shown).strip(), onward and onward[1].replace("&amp;", "&")


def test_output_comes_in_parts_and_none_comes_twice(history: Stage, client: FlaskClient) -> None:
    claim = running(history, 3)
    shown, onward = follow(client, body(client, "/runs/3"))
    assert shown == ""
    assert client.get(onward).status_code == 204
    write(history, claim, "first\n")
    shown, onward = follow(client, body(client, onward))
    assert shown == "first"
    assert client.get(onward).status_code == 204
    write(history, claim, "second\n", "third\n", first=1)
    history.finish(claim)
    assert follow(client, body(client, onward)) == ("second\nthird", None)
    assert follow(client, body(client, "/runs/3")) == ("first\nsecond\nthird", None)


def test_output_goes_on_with_the_next_attempt(stage: Stage, client: FlaskClient) -> None:
    stage.job(retries=1, retry_delay="10s")
    stage.kit.submit("sales")
    first = stage.claim_one()
    write(stage, first, "broken\n")
    _, onward = follow(client, body(client, "/runs/1"))
    stage.finish(first, exit_code=1)
    _, onward = follow(client, body(client, onward))
    assert client.get(onward).status_code == 204
    stage.clock.turn(timedelta(seconds=20))
    second = stage.claim_one()
    assert client.get(onward).status_code == 204
    write(stage, second, "mended\n")
    stage.finish(second)
    assert follow(client, body(client, onward)) == ("attempt 2mended", None)
    assert follow(client, body(client, "/runs/1"))[0] == "attempt 2mended"
    assert follow(client, body(client, "/runs/1?attempt=1")) == ("broken", None)


def test_what_is_written_just_before_the_end_is_not_missed(
    history: Stage, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On PostgreSQL an attempt can end between the two questions of one `Kit.output`."""
    claim, ask = running(history, 3), history.kit.output
    write(history, claim, "first\n")

    def overtaken(_kit: jobkit.Kit, *question: Any) -> Any:
        answer = ask(*question)
        if not answer.is_complete:
            write(history, claim, "last\n", first=1)
            history.finish(claim)
        return replace(answer, is_complete=True)

    monkeypatch.setattr(jobkit.Kit, "output", overtaken)
    assert follow(client, body(client, "/runs/3/output?attempt=1")) == ("first\nlast", None)


def test_a_long_output_shows_its_end_and_is_downloaded_whole(
    history: Stage, client: FlaskClient
) -> None:
    claim = running(history, 3)
    write(history, claim, *(f"{number:06} {'x' * 92}\n" for number in range(3000)))
    history.finish(claim)
    page = body(client, "/runs/3")
    assert len(page) < 250_000
    assert "002999 xxx" in page
    assert "000000 xxx" not in page
    answer = client.get("/runs/3/output.txt")
    assert answer.mimetype == "text/plain"
    assert answer.headers["Content-Disposition"] == "attachment; filename=run-3-attempt-1.txt"
    assert len(answer.text.splitlines()) == 3000


def running(stage: Stage, run_id: int) -> Any:
    """Return the claim of a run that `w1` holds."""
    from jobkit.store.claims import Claim

    run = stage.kit.run(run_id)
    assert run.worker_id == "w1"
    values = {name: getattr(run, name) for name in Claim.__dataclass_fields__ if name != "run_id"}
    return Claim(run_id=run_id, **values)


def test_what_only_a_terminal_understands_is_taken_out() -> None:
    from jobkit.terminal import plain

    assert plain("\x1b[1;31mred\x1b[0m \x1b]0;title\x07and \x1b[2Kplain\x07\x00") == "red and plain"
    assert plain("cut in the middle \x1b[3") == "cut in the middle "
    assert plain("tab\tnew\nline ä 你 ✓") == "tab\tnew\nline ä 你 ✓"


def test_jobs_are_found_by_name_tag_state_and_queue_and_sorted(
    history: Stage, client: FlaskClient
) -> None:
    history.kit.edit("sales", tags=["nightly"])
    history.kit.pause("on demand")

    def listed(query: str) -> list[str]:
        page = tree(body(client, f"/jobs{query}"))
        return [link.text for link in page.iter(f"{XML}a") if link.get("href", "")[:6] == "/jobs/"]

    script = "a <script>alert(1)<b>"
    assert listed("") == [script, "on demand", "sales"]
    assert listed("?text=DEMAND") == ["on demand"]
    assert listed("?text=hello.py") == [script, "on demand", "sales"]
    assert listed("?text=%25") == []
    assert listed("?tag=nightly") == ["sales"]
    assert listed("?tag=night") == []
    assert listed("?state=paused") == ["on demand"]
    assert listed("?state=IN_PROGRESS") == ["sales"]
    assert listed("?queue=heavy") == ["on demand"]
    assert listed("?sort=next") == [script, "sales", "on demand"]
    assert "'LAZY' is no state of a job." in words(client.get("/jobs?state=LAZY").text)
    assert "Jobs are not sorted by 'luck'." in words(client.get("/jobs?sort=luck").text)


def test_all_jobs_that_match_are_paused_after_their_number_is_said(
    history: Stage, client: FlaskClient
) -> None:
    assert "Pause 3 jobs?" in words(body(client, "/bulk/jobs/pause?state=active"))
    assert "Pause 1 job?" in words(body(client, "/bulk/jobs/pause?job=sales"))
    data = {"job": ["sales", "gone"]}
    answer = client.post("/bulk/jobs/pause", data=data, headers=SAME_ORIGIN)
    assert answer.location == "/jobs?done=1"
    assert [job.name for job in history.kit.jobs if not job.is_active] == ["sales"]
    answer = client.post("/bulk/jobs/resume", data={"state": "paused"}, headers=SAME_ORIGIN)
    assert answer.location == "/jobs?state=paused&done=1"
    assert all(job.is_active for job in history.kit.jobs)


def test_the_overview_draws_the_last_day_of_each_job(history: Stage, client: FlaskClient) -> None:
    drawn = tree(body(client, "/"))
    svg = "{http://www.w3.org/2000/svg}"
    titles = [title.text for title in drawn.iter(f"{svg}title")]
    assert titles == ["3 runs, 1 to 3; the worst: failed", "run 4: pending"]


def test_output_is_searched_in_all_its_lines(history: Stage, client: FlaskClient) -> None:
    found = body(client, "/runs/1/lines?q=SCRIPT")
    assert "1 of 3 lines hold SCRIPT ." in words(found)
    assert "two &lt;<mark>script</mark>&gt;alert(&#39;x&#39;)&lt;/<mark>script</mark>&gt;" in found
    assert "0 of 3 lines hold nothing ." in words(body(client, "/runs/1/lines?q=nothing"))
    around = body(client, "/runs/1/lines?at=2")
    assert "The lines around line 2 of 3." in words(around)
    assert '<li id="L2" data-key="L2" value="2" aria-current="true">' in around


def test_colours_of_a_terminal_are_classes_that_go_on(history: Stage, client: FlaskClient) -> None:
    assert '<span class="ink-2">two</span> &lt;script&gt;' in body(client, "/runs/1")
    claim = running(history, 3)
    write(history, claim, "\x1b[31mbegins")
    _, onward = follow(client, body(client, "/runs/3"))
    write(history, claim, " goes on\x1b[0m", first=1)
    more = body(client, str(onward))
    assert '<span class="ink-1"> goes on</span>' in more
