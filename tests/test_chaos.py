"""A bad day of real processes: whatever is killed, stopped, cut or crashed, every law holds."""

from __future__ import annotations

import pytest

from tests.chaos import chaos

KINDS = ("sqlite", "postgresql")


@pytest.mark.parametrize("on", KINDS)
def test_ten_bad_seconds_break_no_law(on: str) -> None:
    result = chaos(on, seconds=10, seed=7, workers=2)
    assert result.breaches == []
    assert sum(result.faults.values()) >= 5
    assert result.runs["COMPLETED"] >= 5


@pytest.mark.soak
@pytest.mark.parametrize("on", KINDS)
def test_a_bad_minute_breaks_no_law(on: str) -> None:
    result = chaos(on, seconds=60, seed=1)
    assert result.breaches == []
    assert sum(result.faults.values()) >= 30
