"""Parameters say which slot they are for."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from jobkit.errors import BadInput
from jobkit.placeholders import Occasion, check, fill

SLOT = datetime(2026, 1, 4, 23, 30, tzinfo=UTC)
BERLIN = Occasion(SLOT, 7, 2, "weekly", "Europe/Berlin")


def test_a_slot_is_written_in_the_zone_of_its_job() -> None:
    params = {"week": "{{ scheduled_for:%G-W%V }}", "day": ["from {{scheduled_for:%Y-%m-%d}}"]}
    assert fill(params, BERLIN) == {"week": "2026-W02", "day": ["from 2026-01-05"]}
    assert fill(params, Occasion(SLOT, 7, 2, "weekly"))["week"] == "2026-W01"
    assert fill({"at": "{{ scheduled_for }}"}, BERLIN) == {"at": "2026-01-05T00:30:00+01:00"}


def test_numbers_stay_numbers_and_names_are_text() -> None:
    params = {"a": "{{ run_id }}", "b": "{{ attempt }}", "c": "{{ job }}-{{ run_id }}", "d": 3}
    assert fill(params, BERLIN) == {"a": 7, "b": 2, "c": "weekly-7", "d": 3}


def test_what_others_mean_by_double_braces_stays() -> None:
    params = {"template": "{{ ds }} {{ user.name }} {% if x %} {{}}", "nested": {"{{ job }}": 1}}
    check(params)
    assert fill(params, BERLIN) == params


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{{ schedule_for }}", "{{ schedule_for }} is not known. Write {{ scheduled_for }}."),
        ("{{ run_id:%d }}", "only scheduled_for has a format"),
        ("x {{ scheduled_for:%Q }}", "has no format of a date"),
    ],
)
def test_a_misspelt_placeholder_is_refused_by_name(text: str, says: str) -> None:
    with pytest.raises(BadInput) as error:
        check({"deep": [{"er": text}]})
    assert says in str(error.value)
