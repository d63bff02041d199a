"""What a function takes, and what is said when something else is given."""

# ruff: noqa: E501 - a case is a line

from __future__ import annotations

import enum
import threading
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest

from jobkit import parameters
from jobkit.errors import BadInput


class Region(enum.Enum):
    EU = "eu"
    US = "us"


class Shape(enum.Enum):
    WIDE = (2, 1)


def report(
    day: date,
    region: Region = Region.EU,
    level: Literal[1, 2] = 1,
    ids: list[int] | None = None,
    step: timedelta = timedelta(minutes=15),
    *,
    price: Decimal = Decimal("1.5"),
    share: float = 0.5,
    dry: bool = False,
    anything: Any = None,
) -> None:
    """Report.

    Args:
        day: the day that is told
        level (int): how much is told
    """


SIGNATURE, _ = parameters.read(report)


def test_a_signature_says_types_defaults_choices_and_help() -> None:
    assert SIGNATURE == [
        {"name": "day", "type": "date", "required": True, "help": "the day that is told"},
        {"name": "region", "type": "str", "choices": ["eu", "us"], "required": False, "default": "eu"},
        {"name": "level", "type": "int", "choices": [1, 2], "required": False, "default": 1, "help": "how much is told"},
        {"name": "ids", "type": "list", "items": {"type": "int"}, "nullable": True, "required": False, "default": None},
        {"name": "step", "type": "duration", "required": False, "default": 900.0},
        {"name": "price", "type": "decimal", "required": False, "default": "1.5"},
        {"name": "share", "type": "float", "required": False, "default": 0.5},
        {"name": "dry", "type": "bool", "required": False, "default": False},
        {"name": "anything", "type": "json", "required": False, "default": None, "nullable": True},
    ]  # fmt: skip
    assert parameters.column(SIGNATURE) == SIGNATURE


def check(signature: Sequence[dict[str, Any]] = SIGNATURE, **given: Any) -> dict[str, Any]:
    return parameters.check(signature, given, job="report")


def test_values_of_python_travel_as_json() -> None:
    assert check(
        day=date(2026, 3, 2), region=Region.US, step=timedelta(hours=1), price=Decimal("2.50"), ids=(1, 2)
    ) == {"day": "2026-03-02", "region": "us", "step": 3600.0, "price": "2.50", "ids": [1, 2]}  # fmt: skip
    assert check(day="20260302", step="90s", ids=None)["step"] == 90.0


WRONG = {
    "no date": ({"day": "tomorrow"}, "day='tomorrow' is not a date like 2026-03-02"),
    "an instant for a date": ({"day": datetime(2026, 1, 1, tzinfo=UTC)}, "is not a date"),
    "a near name": ({"day": "2026-01-01", "regoin": "eu"}, "did you mean 'region'"),
    "an unknown name": ({"day": "2026-01-01", "x": 1}, "There is no parameter 'x'"),
    "no choice": ({"day": "2026-01-01", "region": "asia"}, 'region=\'asia\' is not one of "eu", "us"'),
    "a choice of another type": ({"day": "2026-01-01", "level": True}, "level=True is not one of 1, 2"),
    "a text in a list": ({"day": "2026-01-01", "ids": [1, "2"]}, "is not a list, each item a whole number, or null"),
    "true as a number": ({"day": "2026-01-01", "share": True}, "share=True is not a number"),
    "not a number": ({"day": "2026-01-01", "share": float("nan")}, "share=nan is not a number"),
    "a text as a flag": ({"day": "2026-01-01", "dry": "yes"}, "dry='yes' is not true or false"),
    "a long word for a duration": ({"day": "2026-01-01", "step": "soon"}, "step='soon' is not a duration"),
    "nothing": ({}, "The parameter 'day' is missing: a date like 2026-03-02"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_named_with_its_value_and_what_is_expected(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput) as caught:
        check(**given)
    assert said in caught.value.message
    assert caught.value.hint.startswith("report takes: day: date, region: str")


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert set(parameters.problems(SIGNATURE, {"share": "x", "z": 1})) == {"share", "z", "day"}


def test_a_job_without_a_signature_takes_anything() -> None:
    assert check((), x=1) == {"x": 1}


def test_what_people_type_is_read_by_the_signature() -> None:
    def job(
        code: str, n: int, flag: bool, ids: list[int], level: Literal[1, 2], d: date
    ) -> None: ...

    signature, _ = parameters.read(job)
    typed = {
        "code": "0123",
        "n": "4",
        "flag": "true",
        "ids": "[1]",
        "level": "2",
        "d": "2026-01-01",
    }
    assert parameters.from_text(signature, typed) == {
        "code": "0123", "n": 4, "flag": True, "ids": [1], "level": 2, "d": "2026-01-01"
    }  # fmt: skip
    assert parameters.from_text((), {"a": "1", "b": "x"}) == {"a": 1, "b": "x"}


def test_other_types() -> None:
    def job(at: time, when: datetime, path: Path, key: UUID, shape: Shape, many: dict[str, int],
            either: int | str, args: tuple[int, ...], bare) -> None: ...  # type: ignore[no-untyped-def]  # fmt: skip

    entries, problems = parameters.read(job)
    assert not problems
    assert [entry["type"] for entry in entries] == [
        "time", "datetime", "path", "uuid", "str", "dict", "json", "list", "json"
    ]  # fmt: skip
    assert entries[4]["choices"] == ["WIDE"]


def test_parameters_that_no_json_carries_are_named_with_the_way_out() -> None:
    def job(lock: threading.Thread, *rows: int, **more: int) -> None: ...

    entries, problems = parameters.read(job)
    assert entries == []
    assert [(item.name, item.asked) for item in problems] == [
        ("lock", "threading.Thread"),
        ("*rows", "parameter"),
        ("**more", "parameter"),
    ]


def test_a_form_tells_an_empty_field_from_one_that_says_nothing() -> None:
    def job(name: str = "a", n: int = 1, on: bool = True, maybe: int | None = 3) -> None: ...

    signature, _ = parameters.read(job)
    assert parameters.as_texts(signature, {"n": 5}) == {
        "name": "a",
        "n": "5",
        "on": "true",
        "maybe": "3",
    }
    assert parameters.from_form(signature, {"name": "", "n": "", "maybe": ""}) == {
        "name": "", "on": False, "maybe": None
    }  # fmt: skip
