"""What people write about a change of a workload, read and checked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from jobkit import definition
from jobkit.analytics.adjustment import Change
from jobkit.errors import BadInput
from jobkit.schedule import Schedule
from jobkit.settings import load as settings
from jobkit.states import OVERLAP_POLICIES
from jobkit.text import parse_duration

KEYWORDS = (
    "shift",
    *definition.SCHEDULE_KEYWORDS,
    "tz",
    "duration_factor",
    "duration",
    "priority",
    "queue",
    "overlap",
    "off",
)


def read_changes(
    given: Mapping[str, Mapping[str, Any]], start: datetime, zone: str
) -> dict[str, Change]:
    """Read `{"sales": {"shift": "12m"}}`; BadInput names the job and what is wrong.

    Of a job: `shift` (a duration, also negative), a schedule as for `Kit.add_job`, `duration`,
    `duration_factor`, `priority`, `queue`, `overlap`, or `off=True` to leave it out. `zone`: of
    schedules that name none.
    """
    return {name: _change(name, {"tz": zone, **words}, start) for name, words in given.items()}


def read_seconds(name: str, value: Any) -> float:
    """Read a duration, which may be 0."""
    return definition.seconds(name, value, 0)


def _change(name: str, words: Mapping[str, Any], start: datetime) -> Change:
    for word in words:
        if word not in KEYWORDS:
            raise BadInput(
                f"{word!r} is no change of {name!r}.", f"There are: {', '.join(KEYWORDS)}."
            )
    factor = float(words.get("duration_factor", 1))
    if not 0 <= factor <= 1e6:
        raise BadInput(
            f"duration_factor={factor:g} of {name!r} is out of bounds.", "Use 0 or more."
        )
    took, overlap = words.get("duration"), words.get("overlap")
    if overlap is not None and overlap not in OVERLAP_POLICIES:
        raise BadInput(
            f"overlap={overlap!r} of {name!r} is not known.",
            f"Use one of: {', '.join(OVERLAP_POLICIES)}.",
        )
    return Change(
        shift=_shift(words.get("shift", 0)),
        schedule=_schedule(words, start),
        duration_factor=factor,
        duration=None if took is None else read_seconds("duration", took),
        priority=words.get("priority"),
        queue=words.get("queue"),
        overlap=overlap,
        is_off=bool(words.get("off", False)),
    )


def _shift(given: timedelta | str | float) -> float:
    if isinstance(given, timedelta):
        return given.total_seconds()
    if isinstance(given, str):
        sign = -1 if given.strip().startswith(("-", "−")) else 1
        return sign * parse_duration(given.strip().lstrip("-−+")).total_seconds()
    return float(given)


def _schedule(words: Mapping[str, Any], start: datetime) -> Schedule | None:
    if not any(word in words for word in definition.SCHEDULE_KEYWORDS):
        return None
    return definition.as_schedule(definition.schedule_columns(words, settings(), start))
