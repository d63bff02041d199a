"""A bad day of real processes: whatever is killed, stopped, cut or crashed, every law holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import Result, chaos, ledger
from tests.stage import Stage

KINDS = ("sqlite", "postgresql")


@pytest.mark.parametrize("on", KINDS)
def test_ten_bad_seconds_break_no_law(on: str) -> None:
    result = chaos(on, seconds=10, seed=7, workers=2)
    assert result.breaches == []
    assert sum(result.faults.values()) >= 5
    assert result.runs["COMPLETED"] >= 5


def test_the_ledger_of_scripts_testifies_against_the_database(
    stage: Stage, workplace: Path
) -> None:
    stage.job(overlap="queue_all")
    first, second = (stage.kit.submit("sales").id for _ in range(2))
    for _ in range(2):
        stage.finish(stage.claim_one())
    honest = f"S {first} 1 10\nE {first} 1 11\nS {second} 1 12\nE {second} 1 13\n"
    book = workplace / "ledger"
    book.write_text(honest, "utf-8")
    assert ledger(book, stage.kit, Result()) == []
    for lie, words in {
        honest.replace("E 2 1 13\n", ""): "attempt 1 of run 2 is a SUCCESS and did not end",
        honest + "S 2 1 14\n": "attempt 1 of run 2 began 2 times",
        honest + "S 2 2 14\n": "attempt 2 of run 2 was never claimed",
        honest + "S 9 1 14\n": "attempt 1 of run 9 was never claimed",
        honest.replace("S 2 1 12", "S 2 1 10.5"): "began while attempt 1 of run 1 went on",
    }.items():
        book.write_text(lie, "utf-8")
        assert any(words in found for found in ledger(book, stage.kit, Result())), words


@pytest.mark.soak
@pytest.mark.parametrize("on", KINDS)
def test_a_bad_minute_breaks_no_law(on: str) -> None:
    result = chaos(on, seconds=60, seed=1)
    assert result.breaches == []
    assert sum(result.faults.values()) >= 30
