"""Words for people, and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit import text
from jobkit.errors import BadInput

NOW = datetime(2026, 3, 2, 6, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("2h", 7200),
        ("7d", 604800),
        ("1h30m", 5400),
        ("45", 45),
        ("0.5s", 0.5),
    ],
)
def test_durations_are_read(written: str, seconds: float) -> None:
    assert text.parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize("written", ["", "soon", "5 parsecs", "-3s", "1h soon", "9" * 30 + "d"])
def test_what_is_no_duration_is_named(written: str) -> None:
    with pytest.raises(BadInput):
        text.parse_duration(written)


@pytest.mark.parametrize(
    ("written", "zone", "expected"),
    [
        ("2026-03-01", "UTC", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T06:30", "Europe/Paris", datetime(2026, 3, 1, 5, 30, tzinfo=UTC)),
        ("2026-03-01T06:30:00Z", "Europe/Paris", datetime(2026, 3, 1, 6, 30, tzinfo=UTC)),
        ("2026-03-01T06:30:00+02:00", "UTC", datetime(2026, 3, 1, 4, 30, tzinfo=UTC)),
    ],
)
def test_instants_are_read_in_a_zone(written: str, zone: str, expected: datetime) -> None:
    assert text.parse_instant(written, zone) == expected


@pytest.mark.parametrize("written", ["tomorrow", "2026-13-01", "0001-01-01T00:00+14:00"])
def test_what_is_no_instant_is_named(written: str) -> None:
    with pytest.raises(BadInput, match=r"instant|calendar"):
        text.parse_instant(written)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.08, "80 ms"),
        (2.5, "2.5 s"),
        (59.94, "59.9 s"),
        (90, "1 min 30 s"),
        (5400, "1 h 30 min"),
        (90000, "1 d 1 h"),
        (-5, "−5 s"),
    ],
)
def test_durations_are_said_by_their_two_largest_units(seconds: float, words: str) -> None:
    assert text.duration(timedelta(seconds=seconds)) == words


def test_since_is_an_age_or_an_instant() -> None:
    for written in ("2h", timedelta(hours=2), NOW - timedelta(hours=2)):
        assert text.parse_since(written, NOW) == NOW - timedelta(hours=2)
    assert text.parse_since(None, NOW) is None


def test_ages_are_said_from_now() -> None:
    assert text.age(NOW - timedelta(minutes=3, seconds=2), NOW) == "3 min ago"
    assert text.age(NOW + timedelta(hours=2, minutes=5), NOW) == "in 2 h"
    assert text.age(NOW, NOW) == "just now"
    assert text.age(None, NOW) == "never"


@pytest.mark.parametrize(
    ("count", "words"),
    [(812, "812 B"), (3200, "3.2 kB"), (999_999, "1.0 MB"), (5 * 10**12, "5.0 TB")],
)
def test_sizes_are_said_in_decimal_units(count: int, words: str) -> None:
    assert text.size(count) == words


def test_pairs_are_read_and_what_is_none_is_named() -> None:
    assert text.parse_pairs("--param", ["day=2026-03-01", "sum=a=b", "empty="]) == {
        "day": "2026-03-01",
        "sum": "a=b",
        "empty": "",
    }
    assert text.parse_pairs("--env", None) == {}
    for wrong in ("day", "=1", ""):
        with pytest.raises(BadInput, match=f"--env '{wrong}' is no pair. Write it like"):
            text.parse_pairs("--env", ["a=b", wrong])


@given(st.text(alphabet=st.characters(exclude_categories=[])))
def test_clean_text_is_what_postgresql_takes(anything: str) -> None:
    cleaned = text.clean(anything)
    assert "\x00" not in cleaned
    assert cleaned.encode("utf-8").decode("utf-8") == cleaned
    assert len(cleaned) == len(anything)
