"""Every ending, as a pure function of the run as it stands."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit import states
from jobkit.states import CAUGHT_UP, Earlier

NOW = datetime(2026, 3, 2, 6, 30, tzinfo=UTC)


@dataclass(frozen=True)
class Tried:
    attempt: int = 1
    retry_count: int = 0
    lost_count: int = 0
    max_retries: int = 3
    retry_delay_seconds: float = 30
    on_worker_lost: str = "retry"
    cancel_requested_at: datetime | None = None


RUN = Tried()
WISHED = replace(RUN, cancel_requested_at=NOW)


def test_a_success_completes_the_run_even_if_somebody_wished_to_cancel_it() -> None:
    ending = states.succeed(NOW)
    assert ending.run["status"] == "COMPLETED"
    assert ending.run["completed_at"] == NOW
    assert ending.attempt["status"] == "SUCCESS"


def test_a_failure_waits_for_its_retry_as_pending() -> None:
    ending = states.fail(RUN, NOW, random.Random(1), error="exit code 3")
    assert ending.run["status"] == "PENDING"
    assert ending.run["retry_count"] == 1
    assert timedelta(seconds=30) <= ending.run["available_at"] - NOW <= timedelta(seconds=33)
    assert ending.run["worker_id"] is None
    assert ending.attempt == {"status": "FAILURE", "error_message": "exit code 3"}


def test_the_last_try_fails_the_run() -> None:
    ending = states.fail(replace(RUN, retry_count=3), NOW, random.Random(1), error="exit code 3")
    assert ending.run["status"] == "FAILED"
    assert ending.run["error_message"] == "exit code 3"


def test_the_last_timeout_ends_the_run_as_timeout() -> None:
    ending = states.time_out(replace(RUN, max_retries=0), NOW, random.Random(1), error="too long")
    assert ending.run["status"] == "TIMEOUT"
    assert ending.attempt["status"] == "TIMEOUT"


def test_what_could_not_be_started_is_an_error_and_is_tried_again() -> None:
    ending = states.error(RUN, NOW, random.Random(1), error="no such script")
    assert (ending.run["status"], ending.attempt["status"]) == ("PENDING", "ERROR")


def test_a_failure_after_a_wish_to_cancel_is_not_tried_again() -> None:
    ending = states.fail(WISHED, NOW, random.Random(1), error="exit code 1")
    assert (ending.run["status"], ending.attempt["status"]) == ("CANCELLED", "FAILURE")


def test_a_release_counts_as_nothing() -> None:
    ending = states.release(replace(RUN, retry_count=2), NOW)
    assert ending.run["status"] == "PENDING"
    assert ending.run["available_at"] == NOW
    assert "retry_count" not in ending.run
    assert ending.attempt["status"] == "RELEASED"


def test_a_lost_attempt_is_counted_apart_and_tried_at_once() -> None:
    ending = states.lose(RUN, NOW)
    assert ending.run["status"] == "PENDING"
    assert ending.run["available_at"] == NOW
    assert ending.run["lost_count"] == 1
    assert "retry_count" not in ending.run
    assert ending.attempt["status"] == "LOST"


def test_the_third_loss_ends_the_run() -> None:
    ending = states.lose(replace(RUN, lost_count=2), NOW)
    assert ending.run["status"] == "FAILED"
    assert "3 times" in ending.run["error_message"]


def test_a_loss_ends_a_run_that_asks_for_at_most_once() -> None:
    ending = states.lose(replace(RUN, on_worker_lost="fail"), NOW)
    assert ending.run["status"] == "FAILED"


def test_a_loss_turns_a_wish_to_cancel_into_cancelled() -> None:
    ending = states.lose(WISHED, NOW)
    assert (ending.run["status"], ending.attempt["status"]) == ("CANCELLED", "LOST")


def test_a_release_turns_a_wish_to_cancel_into_cancelled() -> None:
    assert states.release(WISHED, NOW).run["status"] == "CANCELLED"


@given(st.floats(0, 10**6), st.integers(1, 10**4), st.integers())
def test_a_retry_never_comes_early_nor_after_an_hour_and_a_tenth(
    seconds: float, failures: int, seed: int
) -> None:
    base = timedelta(seconds=seconds)
    least = min(base.total_seconds() * 2.0 ** min(failures - 1, 1000), 3600.0)
    delay = states.retry_delay(base, failures, random.Random(seed)).total_seconds()
    assert least - 1e-6 <= delay <= least * 1.1 + 1e-6


RUNNING = Earlier(1, "IN_PROGRESS", "schedule")
WAITING = Earlier(2, "PENDING", "schedule")


@pytest.mark.parametrize("policy", states.OVERLAP_POLICIES)
def test_a_slot_after_nothing_unfinished_is_made(policy: str) -> None:
    assert states.overlap(policy, []) == states.Overlap()


@pytest.mark.parametrize(
    ("policy", "unfinished", "expected"),
    [
        ("skip", [RUNNING], states.Overlap("run 1 is unfinished")),
        ("skip", [WAITING], states.Overlap("run 2 is unfinished")),
        ("queue", [RUNNING], states.Overlap()),
        ("queue", [RUNNING, WAITING], states.Overlap("run 2 already waits")),
        ("queue_all", [RUNNING, WAITING], states.Overlap()),
        ("replace", [RUNNING, WAITING], states.Overlap(None, (1, 2))),
        ("allow", [RUNNING, WAITING], states.Overlap()),
    ],
)
def test_overlap_policies(policy: str, unfinished: list[Earlier], expected: states.Overlap) -> None:
    assert states.overlap(policy, unfinished) == expected


@pytest.mark.parametrize(
    "gives_way",
    [Earlier(7, "PENDING", "backfill"), Earlier(8, "PENDING", "schedule", CAUGHT_UP)],
)
def test_waiting_backfills_and_catch_ups_give_way_to_a_new_slot(gives_way: Earlier) -> None:
    assert states.overlap("skip", [gives_way]) == states.Overlap()
    running = replace(gives_way, status="IN_PROGRESS")
    assert states.overlap("skip", [running]).skip_reason == f"run {gives_way.id} is unfinished"
