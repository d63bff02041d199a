"""Cron expressions: five fields or a name, read by croniter, matched by a calendar.

croniter also takes six fields, random minutes and expressions that never come; those are refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter

from jobkit.errors import BadInput
from jobkit.schedule.calendar import DAYS_AHEAD, Calendar, Days

LONGEST = 256
NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_WORDS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|sun|mon|tue|wed|thu|fri|sat"
_FIELD = re.compile(rf"(?:[0-9*,/\-]|{_WORDS})+", re.IGNORECASE)
_EXAMPLE = "Write minute, hour, day of month, month and day of week, like '*/15 8-18 * * 1-5'."
SOME_YEARS_FROM = date(2024, 1, 1)


@lru_cache(maxsize=4096)
def parse(expression: str, zone: ZoneInfo) -> Calendar:
    """Read an expression; BadInput says what is wrong with it."""
    fields = _fields(expression)
    try:
        minutes, hours, *days = croniter.expand(" ".join(fields))[0]
    except (CroniterError, ValueError, KeyError) as error:
        raise BadInput(f"The cron expression {expression!r} is wrong: {error}.", _EXAMPLE) from None
    calendar = Calendar(
        days=_days(fields, *days),
        times=tuple(
            sorted(time(hour, minute) for hour in _all(hours, 24) for minute in _all(minutes, 60))
        ),
        zone=zone,
        is_wildcard=fields[0].startswith("*") or fields[1].startswith("*"),
    )
    if not _ever(calendar.days):
        raise BadInput(
            f"The cron expression {expression!r} has no slot within 8 years.",
            "Check its day of month and its month.",
        )
    return calendar


def _fields(expression: str) -> list[str]:
    if len(expression) > LONGEST:
        raise BadInput(f"A cron expression of {len(expression)} characters is too long.", _EXAMPLE)
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in NAMES:
            known = ", ".join(NAMES)
            raise BadInput(f"{expression!r} is no name of a schedule.", f"Known are {known}.")
        text = NAMES[text.lower()]
    fields = text.split()
    if len(fields) != 5:
        raise BadInput(
            f"The cron expression {expression!r} has {len(fields)} fields, not 5.", _EXAMPLE
        )
    for field in fields:
        if not _FIELD.fullmatch(field):
            raise BadInput(
                f"The cron expression {expression!r} holds {field!r}, which is not understood.",
                _EXAMPLE,
            )
    return fields


def _days(
    fields: list[str],
    of_month: Sequence[int | str],
    months: Sequence[int | str],
    of_week: Sequence[int | str],
) -> Days:
    # cronie: a field that begins with a star restricts, but leaves the choice to the other one.
    named = not fields[2].startswith("*") and not fields[4].startswith("*")
    return Days(
        months=frozenset(_all(months, 13, 1)),
        of_month=frozenset(_all(of_month, 32, 1)),
        of_week=frozenset(_all(of_week, 7)),
        either=named,
    )


def _all(values: Sequence[int | str], end: int, start: int = 0) -> list[int]:
    return list(range(start, end)) if "*" in values else [int(value) for value in values]


def _ever(days: Days) -> bool:
    return any(days.match(SOME_YEARS_FROM + timedelta(days=n)) for n in range(DAYS_AHEAD))
