"""What is usual, what is not, and when a run will end: from the last successes."""

from __future__ import annotations

import json
import math
import random
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from jobkit import cli, verify
from jobkit.errors import BadInput
from jobkit.executors.process import Outcome
from jobkit.expectation import LEAST, MOST, Expectation, expectation, quantile
from jobkit.worker.attempt import Attempt, Order
from jobkit.worker.claiming import Claiming
from tests.stage import MONDAY, Stage
from tests.test_portal import body, open_portal, words

MINUTE = timedelta(minutes=1)
NINE_MINUTES = [540.0 + second for second in range(-30, 31)]


def running(known: Expectation, minutes: float) -> Expectation:
    return known.about("IN_PROGRESS", MONDAY, minutes * MINUTE)


def test_percentiles_lie_between_the_two_nearest_durations() -> None:
    known = expectation([40, 10, 30, 20])
    assert known.p50 == timedelta(seconds=25)
    assert known.p95 == timedelta(seconds=38.5)
    assert quantile([7.0], 0.99) == 7


def test_without_a_success_nothing_is_expected() -> None:
    known = running(expectation([]), 5)
    assert (known.p50, known.timeout, known.ends_at, known.marks) == (None, None, None, ())
    assert str(known) == "no success yet"


def test_a_timeout_is_the_greater_of_three_p95_and_p99_and_five_minutes() -> None:
    assert expectation([600.0] * 8).timeout == 30 * MINUTE
    assert expectation([10.0] * 8).timeout == timedelta(seconds=310)
    said = expectation([600.0] * 8).timeout_words
    assert said == "30 min = max(3 x p95 10 min, p99 10 min + 5 min) of 8 successes"


def test_seven_successes_make_no_timeout_and_no_mark() -> None:
    known = running(expectation([10.0] * 7), 600)
    assert known.timeout is None
    assert known.marks == ()
    assert known.timeout_words == "none yet: 7 successes, 8 are needed"


def test_an_end_is_expected_from_those_that_took_longer() -> None:
    half = expectation([10.0] * 50 + [600.0] * 50)
    assert running(half, 0).ends_at == MONDAY + timedelta(seconds=305)
    assert running(half, 1).ends_at == MONDAY + timedelta(seconds=600)
    assert running(half, 1).end_words == (
        "about 2026-03-02 06:10:00 UTC, in 9 min: "
        "the median of the 50 of 100 successes that took longer than 1 min"
    )


def test_two_more_minutes_are_not_promised_for_an_hour() -> None:
    known = expectation(NINE_MINUTES)
    promised, broken = running(known, 0).ends_at, 0
    for second in range(90 * 60):
        now = running(known, second / 60)
        assert now.ends_at is not None
        assert promised is not None
        if MONDAY + timedelta(seconds=second) >= promised:
            promised, broken = now.ends_at, broken + 1
    # Six while there are others that took as long, then 1, 2, 4, 8 ... minutes more.
    assert broken <= 6 + math.log2(90 / 1)
    assert "a guess, as it has run longer than 61 of 61 successes" in running(known, 30).end_words


def test_a_run_that_takes_far_longer_than_p99_is_unusually_long() -> None:
    spread = expectation([60.0 * minute for minute in range(1, 101)])
    assert spread.p99 is not None
    assert spread.long_after == pytest.approx(1.9 * spread.p99, abs=MINUTE / 1000)
    known = expectation(NINE_MINUTES)
    bound = known.long_after
    assert bound == timedelta(seconds=2.3 * 570)
    assert not known.about("IN_PROGRESS", MONDAY, bound).is_long
    late = known.about("IN_PROGRESS", MONDAY, bound + MINUTE)
    assert late.marks[0] == (
        "unusually long: 22 min 51 s, p50 is 9 min, p99 9 min 29 s, the longest 9 min 30 s "
        "of 61 successes"
    )


def test_one_success_that_took_long_allows_another_up_to_three_times_the_usual() -> None:
    seldom = expectation([600.0] * 199 + [1700.0])
    assert seldom.p99 == 10 * MINUTE
    assert seldom.long_after == 31 * MINUTE
    assert expectation([600.0] * 199 + [9000.0]).long_after == 31 * MINUTE


def test_three_of_two_hundred_that_took_long_do_not_double_the_bound() -> None:
    assert expectation([600.0] * 197 + [1700.0] * 3).long_after == 31 * MINUTE
    # Where one in twenty takes long, long is what it sometimes takes.
    often = expectation([600.0] * 185 + [1700.0] * 15)
    assert often.long_after == 1.9 * timedelta(seconds=1700)


def test_of_a_job_that_runs_rarely_nothing_is_awaited_beyond_twice_p99() -> None:
    daily, hourly = (expectation([600.0] * 200, monthly=count) for count in (30, 730))
    assert daily.long_after == 20 * MINUTE
    assert hourly.long_after == timedelta(seconds=2.3 * 600)
    assert expectation([0.0] * 8, monthly=30).long_after == timedelta(0)


def test_a_success_that_is_far_too_fast_is_asked_whether_it_read_anything() -> None:
    known = expectation(NINE_MINUTES)
    fast = known.about("COMPLETED", MONDAY, timedelta(seconds=4))
    assert fast.marks == (
        "unusually short: 4 s, usually 9 min (p50 of 61 successes): did it read anything?",
    )
    assert not known.about("FAILED", MONDAY, timedelta(seconds=4)).is_short
    assert not known.about("COMPLETED", MONDAY, 3 * MINUTE).is_short


def test_a_job_that_often_finds_nothing_to_do_is_not_asked() -> None:
    known = expectation([4.0] * 20 + [540.0] * 180)
    assert not known.about("COMPLETED", MONDAY, timedelta(seconds=4)).is_short


# A year of a job whose truth is known


@dataclass(frozen=True)
class Year:
    """A job for a year: (seconds, the truth's p99 in seconds, whether it hangs) of each run.

    It drifts up by half, has outliers of up to three times its usual time, and one day becomes
    faster or slower for good. Two runs of a thousand hang.
    """

    seed: int
    every_hours: float

    def __iter__(self) -> Iterator[tuple[float, float, bool]]:
        dice = random.Random(self.seed)
        usual, sigma = dice.choice([20.0, 120.0, 540.0, 3600.0]), dice.uniform(0.05, 0.4)
        other = random.Random(0)
        many = sorted(self._spread(other, sigma) for _ in range(20_000))
        count = int(365 * 24 / self.every_hours)
        step_at, step = dice.randrange(count // 4, count), dice.choice([0.4, 0.6, 1.5, 1.8, 3.0])
        for number in range(count):
            now = usual * (1 + 0.5 * number / count) * (step if number >= step_at else 1)
            hangs = dice.random() < 0.002
            yield now * self._spread(dice, sigma), now * quantile(many, 0.99), hangs

    @staticmethod
    def _spread(dice: random.Random, sigma: float) -> float:
        return dice.lognormvariate(0, sigma) * (dice.uniform(1.5, 3) if dice.random() < 0.01 else 1)


@pytest.mark.parametrize("every_hours", [1, 6, 24])
def test_over_a_year_each_job_has_less_than_one_false_alarm_a_month(every_hours: int) -> None:
    alarms: list[int] = []
    caught = {"hangs": 0, "p99": 0, "p99 of the truth": 0, "the same by 2 x p99": 0}
    for seed in range(24):
        past: deque[float] = deque(maxlen=MOST)
        alarms.append(0)
        for took, true_p99, hangs in Year(seed, every_hours):
            known = expectation(past, monthly=730 / every_hours)
            if hangs:
                if known.long_after is None or known.p99 is None:
                    continue
                # It is caught as soon as it has run so long, and not after.
                late = known.long_after + timedelta(seconds=1)
                assert known.about("IN_PROGRESS", MONDAY, late).is_long
                assert known.long_after <= 1.4 * 2 * known.p99
                truth = timedelta(seconds=2 * true_p99)
                caught["hangs"] += 1
                caught["p99"] += known.long_after <= 2 * known.p99
                caught["p99 of the truth"] += known.long_after <= truth
                caught["the same by 2 x p99"] += 2 * known.p99 <= truth
                continue
            seen = known.about("COMPLETED", MONDAY, timedelta(seconds=took))
            alarms[-1] += len(seen.marks)
            past.append(took)
    assert max(alarms) / 12 < 1
    assert sum(alarms) / len(alarms) / 12 < 0.6
    assert caught["hangs"] > (300 if every_hours == 1 else 10)
    # More are seen within twice what p99 truly is than by twice the p99 of the last 200.
    assert caught["p99 of the truth"] > caught["the same by 2 x p99"] > caught["hangs"] / 2
    assert caught["p99 of the truth"] >= caught["hangs"] * (0.96 if every_hours == 1 else 0.88)
    assert caught["p99"] >= caught["hangs"] * (0.75 if every_hours == 1 else 1)


# From the database


def succeed(stage: Stage, seconds: float, **params: Any) -> int:
    run = stage.kit.submit("sales", **params)
    claim = stage.claim_one()
    stage.clock.turn(timedelta(seconds=seconds))
    assert stage.finish(claim)
    return run.id


def test_only_successes_count_and_only_the_last_two_hundred(stage: Stage) -> None:
    stage.job(retries=0)
    for _ in range(10):
        succeed(stage, 1000)
    for seconds in range(MOST):
        succeed(stage, 60 + seconds % 10)
    stage.kit.submit("sales")
    claim = stage.claim_one()
    stage.clock.turn(timedelta(hours=5))
    stage.finish(claim, exit_code=1)
    known = stage.kit.expectation("sales")
    assert known.count == MOST
    assert known.p99 == timedelta(seconds=69)
    assert str(known) == "usually 1 min 4 s (p50), p95 1 min 9 s, p99 1 min 9 s of 200 successes"


def test_how_often_a_job_succeeds_is_known_from_its_claims(stage: Stage) -> None:
    stage.job()
    succeed(stage, 60)
    assert stage.kit.expectation("sales").monthly is None
    for _ in range(10):
        stage.clock.turn(timedelta(hours=6) - MINUTE)
        succeed(stage, 60)
    assert stage.kit.expectation("sales").monthly == pytest.approx(4 * 30.4375, rel=0.01)


def test_runs_are_compared_with_those_of_their_parameters_where_there_are_enough(
    stage: Stage,
) -> None:
    stage.job(params={"region": "eu"})
    for _ in range(LEAST):
        succeed(stage, 600)
        succeed(stage, 60, region="us", day=1)
    europe = stage.kit.expectation("sales", {"region": "eu"})
    assert (europe.count, europe.p50) == (LEAST, 10 * MINUTE)
    assert europe.numbers.endswith("of 8 successes with the same parameters")
    assert stage.kit.job("sales").expectation(day=1, region="us").p50 == MINUTE
    assert stage.kit.expectation("sales", {"region": "asia"}).count == 2 * LEAST
    assert stage.kit.expectation("sales").count == 2 * LEAST


def test_a_run_is_judged_by_what_was_usual_before_it(stage: Stage) -> None:
    stage.job()
    for _ in range(LEAST):
        succeed(stage, 540)
    short = succeed(stage, 4)
    for _ in range(30):
        succeed(stage, 4)
    known = stage.kit.run(short).expectation()
    assert known.count == LEAST
    assert known.is_short


def test_what_runs_is_shown_with_its_expected_end(stage: Stage) -> None:
    stage.job()
    for _ in range(LEAST):
        succeed(stage, 600)
    run = stage.kit.submit("sales")
    assert run.expectation().ends_at is None
    stage.claim_one()
    began = stage.clock.now()
    stage.clock.turn(4 * MINUTE)
    assert run.refresh().expectation().ends_at == began + 10 * MINUTE
    stage.clock.turn(20 * MINUTE)
    assert run.refresh().expectation().marks == (
        "unusually long: 24 min, p50 is 10 min, p99 10 min, the longest 10 min of 8 successes",
    )


def test_jobkit_show_tells_what_is_unusual(
    database: str,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stage.job()
    for _ in range(LEAST):
        succeed(stage, 540)
    run = succeed(stage, 4)
    monkeypatch.setenv("JOBKIT_DB_URL", database)

    def said(*arguments: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            cli.main(arguments)
        return " ".join(capsys.readouterr().out.split())

    assert "usually 9 min (p50)" in said("show", str(run))
    assert "did it read anything?" in said("show", str(run))
    assert json.loads(said("show", str(run), "--json"))["expectation"]["p50"] == 540
    assert "usually 9 min (p50)" in said("job", "show", "sales")


def test_the_portal_shows_the_expected_end_and_what_is_unusual(stage: Stage) -> None:
    stage.job(timeout="auto")
    for _ in range(LEAST):
        succeed(stage, 600)
    short = succeed(stage, 4)
    run = stage.kit.submit("sales")
    stage.claim_one()
    client = open_portal(stage.kit)
    stage.clock.turn(4 * MINUTE)
    assert "Expected end about 2026-03-02 07:30:04 UTC, in 6 min" in words(
        body(client, f"/runs/{run.id}")
    )
    stage.clock.turn(40 * MINUTE)
    assert "unusually long: 44 min" in words(body(client, f"/runs/{run.id}"))
    assert "4 s, usually 10 min (p50 of 8 successes): did it read anything?" in words(
        body(client, f"/runs/{short}")
    )
    shown = words(body(client, "/jobs/sales"))
    assert "Timeout auto, 30 min = max(3 x p95 10 min, p99 10 min + 5 min) of 9 successes" in shown
    assert "Takes usually 10 min (p50)" in shown


# timeout="auto"


def test_an_auto_timeout_is_kept_as_a_word_and_is_a_version(stage: Stage) -> None:
    job = stage.job(timeout="auto")
    assert (job.timeout, job.timeout_policy) == (None, "auto")
    assert stage.kit.edit("sales", timeout="10m").timeout_policy is None
    edited = stage.kit.edit("sales", timeout="auto", retries=2)
    assert (edited.timeout, edited.timeout_policy) == (None, "auto")
    assert stage.kit.edit("sales", retries=1).timeout_policy == "auto"
    assert stage.kit.versions("sales")[1].changes["timeout_policy"] == (None, "auto")
    with stage.kit.database.read() as connection:
        scope = verify.Scope(now=stage.clock.now(), since=None, slots_since=None, late=MINUTE)
        assert not [found for found in verify.audit(connection, scope) if found.broken]


def test_a_timeout_that_is_no_duration_is_refused(stage: Stage) -> None:
    with pytest.raises(BadInput, match="'soon' is not a duration"):
        stage.job(timeout="soon")


def test_the_worker_asks_what_is_usual_when_it_claims(stage: Stage) -> None:
    stage.job(timeout="auto")
    claiming = Claiming(stage.kit.database, stage.kit.settings, "w1")
    stage.kit.submit("sales")
    (first,) = claiming.take("default", 1)
    assert first.usual is not None
    assert first.usual.timeout is None
    assert stage.finish(first.claim)
    for _ in range(LEAST):
        succeed(stage, 600)
    stage.kit.submit("sales")
    (order,) = claiming.take("default", 1)
    assert order.usual is not None
    assert order.usual.timeout == 30 * MINUTE


def test_a_job_with_a_timeout_of_its_own_asks_nothing(stage: Stage) -> None:
    stage.job(timeout="10m")
    stage.kit.submit("sales")
    claiming = Claiming(stage.kit.database, stage.kit.settings, "w1")
    (order,) = claiming.take("default", 1)
    assert order.usual is None


@pytest.mark.parametrize(
    ("definition", "usual", "timeout"),
    [
        ({"timeout_seconds": 60.0}, None, MINUTE),
        ({}, None, 10 * MINUTE),
        ({"timeout_policy": "auto"}, expectation([3600.0] * 8), timedelta(hours=3)),
        # Nothing is known yet: long enough to learn, and no attempt is for ever.
        ({"timeout_policy": "auto"}, expectation([3600.0] * 7), timedelta(days=1)),
    ],
)
def test_an_attempt_may_take_as_long_as_its_job_says_or_as_is_usual(
    stage: Stage, definition: dict[str, Any], usual: Expectation | None, timeout: timedelta
) -> None:
    stage.job()
    stage.kit.submit("sales")
    order = Order(stage.claim_one(), definition, MINUTE, 0.0, usual)
    settings: Any = stage.kit.settings
    attempt = Attempt(order, None, settings, stage.clock, None)  # type: ignore[arg-type]
    assert attempt._timeout == timeout
    said = attempt._explain(Outcome("timeout", None))
    assert said.startswith(f"ended at its timeout of {timeout.total_seconds():g} s")
    if usual is not None and usual.is_known:
        assert said.endswith(": 3 h = max(3 x p95 1 h, p99 1 h + 5 min) of 8 successes")
