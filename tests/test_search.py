"""Runs are found by what is known of them, page after page, and acted on as one."""

from __future__ import annotations

from datetime import timedelta

import pytest

from jobkit import BadInput, NotFound, Search
from jobkit.store import search
from tests.stage import Stage


@pytest.fixture
def history(stage: Stage) -> Stage:
    """Runs 1 to 4 of `load` (north, tagged), 5 of `send`; 1 failed, 2 completed, the rest wait."""
    stage.job("load", tags=["nightly", "sales"], retries=0, overlap="queue_all")
    stage.job("send", queue="mail")
    for region in ("north", "south", "north", "west"):
        stage.kit.submit("load", region=region, depth={"a": [1, 2]})
        stage.clock.turn(timedelta(hours=1))
    stage.kit.submit("send")
    stage.finish(stage.claim_one(), exit_code=1, error="Disk 100% full")
    stage.finish(stage.claim_one())
    return stage


def found(stage: Stage, **wanted: str) -> list[int]:
    return [run.id for run in stage.kit.search.page(Search(**wanted)).runs]


def test_each_filter_finds_its_runs_the_newest_first(history: Stage) -> None:
    assert found(history) == [5, 4, 3, 2, 1]
    assert found(history, job="send") == [5]
    assert found(history, tag="sales") == [4, 3, 2, 1]
    assert found(history, tag="sales", job="send") == []
    assert found(history, tag="none has it") == []
    assert found(history, status="FAILED") == [1]
    assert found(history, status="FAILED,COMPLETED") == [2, 1]
    assert found(history, trigger="schedule") == []
    assert found(history, param="region=north") == [3, 1]
    assert found(history, param='depth={"a": [1, 2]}') == [4, 3, 2, 1]
    assert found(history, param="a=[1,2]") == []
    assert found(history, since="90m") == [5, 4]
    assert found(history, until="90m") == [3, 2, 1]
    assert found(history, since="2026-03-02T07:30", until="2026-03-02T08:30") == [3]
    worker = history.kit.run(1).worker_id
    assert found(history, worker=str(worker)) == [2, 1]


def test_the_text_of_an_error_is_found_whatever_its_case_and_signs(history: Stage) -> None:
    assert found(history, text="100% FULL") == [1]
    assert found(history, text="100_") == []


def test_pages_follow_each_other_without_a_gap_or_a_repeat(history: Stage) -> None:
    seen: list[int] = []
    before = None
    while True:
        page = history.kit.search.page(Search(tag="sales"), before=before, limit=3)
        seen += [run.id for run in page.runs]
        history.kit.submit("load", region="new")  # what comes meanwhile is on no later page
        before = page.onward
        if before is None:
            break
    assert seen == [4, 3, 2, 1]


def test_a_page_whose_time_is_up_says_where_it_goes_on(
    history: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "SPAN", 2)
    with history.kit.database.read() as connection:
        sieve = search.Sieve(text="nowhere")
        looked = search.page(connection, sieve, limit=10, is_time_up=lambda: True)
        assert (looked.rows, looked.onward, looked.is_full) == ([], 4, False)
        looked = search.page(connection, sieve, limit=10, before=4, is_time_up=lambda: True)
        assert looked.onward == 2
        looked = search.page(connection, sieve, limit=10, before=2, is_time_up=lambda: True)
        assert (looked.rows, looked.onward) == ([], None)


def test_all_that_match_are_cancelled_and_what_runs_is_asked_to_end(history: Stage) -> None:
    running = history.claim_one()
    wanted = history.kit.search.to_cancel(Search(tag="sales"))
    assert wanted == [4, 3]
    done = history.kit.search.cancel([*wanted, 1])
    assert done.done == [4, 3]
    assert list(done.refused) == [1]
    assert "has ended as FAILED" in done.refused[1]
    assert history.kit.run(running.run_id).wants_cancel
    assert history.kit.run(4).status == "CANCELLED"


def test_all_that_match_are_run_again(history: Stage) -> None:
    wanted = history.kit.search.to_retry(Search(job="load"))
    assert wanted == [2, 1]
    done = history.kit.search.retry(wanted)
    assert [history.kit.run(7).retry_of, history.kit.run(6).retry_of] == [1, 2]
    assert done.refused == {}
    assert history.kit.search.to_retry(Search(status="PENDING")) == []


def test_what_is_wrong_with_a_search_is_named(history: Stage) -> None:
    for wanted, says in (
        (Search(status="LAZY"), "'LAZY' is no status"),
        (Search(trigger="LAZY"), "'LAZY' is no trigger"),
        (Search(since="yore"), "'yore' is not an instant"),
        (Search(param="north"), "'north' is no pair"),
    ):
        with pytest.raises(BadInput, match=says):
            history.kit.search.page(wanted)
    with pytest.raises(NotFound, match="nothing"):
        history.kit.search.page(Search(job="nothing"))
