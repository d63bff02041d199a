"""Results are delivered in groups, each recorded once, none held up by another."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from jobkit.errors import DatabaseUnavailable
from jobkit.store.claims import Claim, Result
from jobkit.worker.delivery import Delivery
from jobkit.worker.spool import Report
from tests.stage import Stage


def report(claim: Claim, text: str = "done\n", **result: Any) -> Report:
    ended = {"ended_by": "exit", "exit_code": 0} | result
    came_to = Result(started_at=claim.claimed_at, finished_at=claim.claimed_at, **ended)
    return Report(claim, came_to, ((0, claim.claimed_at, text, "output"),))


def claimed(stage: Stage, count: int) -> list[Claim]:
    stage.job(overlap="allow")
    stage.kit.submit_many("sales", [{}] * count)
    return stage.claim(limit=count)


def delivery(stage: Stage) -> Delivery:
    return Delivery(stage.kit.database, random.Random(1))


def at_once(made: Delivery, reports: Sequence[Report]) -> list[bool | Exception]:
    """Deliver from one thread each; returns what each was told."""
    told: list[bool | Exception] = [False] * len(reports)

    def deliver(index: int) -> None:
        try:
            told[index], _ = made.deliver(reports[index])
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            told[index] = error

    threads = [threading.Thread(target=deliver, args=(index,)) for index in range(len(reports))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told


def test_many_threads_deliver_at_once_and_each_result_is_recorded_once(stage: Stage) -> None:
    claims = claimed(stage, 40)
    made = delivery(stage)
    reports = [report(claim) for claim in claims]
    assert at_once(made, [*reports, *reports]) == [True] * 80
    assert set(stage.states()) == {"COMPLETED"}
    for run in stage.runs():
        assert [item.status for item in run.attempts()] == ["SUCCESS"]
        assert run.output().text == "done\n"


def test_a_group_holds_every_kind_of_ending(stage: Stage) -> None:
    good, bad, late, back = claimed(stage, 4)
    made = delivery(stage)
    at_once(
        made,
        [
            report(good),
            report(bad, exit_code=3, error="exit code 3"),
            report(late, ended_by="timeout", exit_code=None, error="too long"),
            report(back, ended_by="release", exit_code=None),
        ],
    )
    assert stage.states() == ["COMPLETED", "PENDING", "PENDING", "PENDING"]
    statuses = [run.attempts()[0].status for run in stage.runs()]
    assert statuses == ["SUCCESS", "FAILURE", "TIMEOUT", "RELEASED"]


def test_a_stale_result_in_a_group_writes_nothing(stage: Stage) -> None:
    mine, taken = claimed(stage, 2)
    stale = report(taken)
    stage.finish(taken, ended_by="release")
    (again,) = stage.claim("w2")
    assert at_once(delivery(stage), [report(mine), stale]) == [True, True]
    assert stage.states() == ["COMPLETED", "IN_PROGRESS"]
    assert stage.kit.run(taken.run_id).output(attempt=1).text == ""
    assert stage.finish(again)


def test_a_result_that_is_refused_holds_up_no_other(stage: Stage) -> None:
    claims = claimed(stage, 5)
    reports = [report(claim) for claim in claims]
    reports[2] = report(claims[2], text=object())  # type: ignore[arg-type]
    told = at_once(delivery(stage), reports)
    assert [isinstance(it, Exception) for it in told] == [False, False, True, False, False]
    assert sorted(stage.states()) == ["COMPLETED"] * 4 + ["IN_PROGRESS"]


def test_while_the_database_is_away_nobody_is_told_that_it_is_written(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = claimed(stage, 3)
    made = delivery(stage)

    @contextmanager
    def away() -> Any:
        raise DatabaseUnavailable("away")
        yield

    with monkeypatch.context() as patch:
        patch.setattr(stage.kit.database, "write", away)
        assert at_once(made, [report(claim) for claim in claims]) == [False] * 3
    assert at_once(made, [report(claim) for claim in claims]) == [True] * 3
