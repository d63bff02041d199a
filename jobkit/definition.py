"""From what people write about a job to the columns of its row, each value checked."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from jobkit import alerting, execution, parameters, placeholders
from jobkit.errors import BadInput
from jobkit.schedule import MISFIRE_POLICIES, Schedule
from jobkit.settings import Settings
from jobkit.states import (
    EXTERNAL_DEADLINE,
    EXTERNAL_QUEUE,
    EXTERNAL_TIMEOUT,
    LOST_POLICIES,
    OVERLAP_POLICIES,
)
from jobkit.text import iso, parse_duration, parse_instant

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SCHEDULE_KEYWORDS = ("cron", "every", "hourly", "daily", "weekly", "monthly", "at")
BOUND_KEYWORDS = ("tz", "starts_at", "ends_at")
KEYWORDS = (
    *SCHEDULE_KEYWORDS,
    *BOUND_KEYWORDS,
    "params",
    "tags",
    "queue",
    "priority",
    "timeout",
    "retries",
    "retry_delay",
    "misfire",
    "misfire_window",
    "overlap",
    "start_deadline",
    "on_worker_lost",
    "signature",
    "defined_in",
    "alerts",
    *execution.KEYWORDS,
)
OF_EXECUTION = tuple(
    word
    for word in (
        *("queue", "retries", "retry_delay", "overlap", "on_worker_lost"),
        *execution.KEYWORDS,
    )
    if word != "kind"
)
"""What a job that runs elsewhere cannot be told: nothing here executes it."""
LONGEST_SECONDS = 10 * 366 * 86400


def name_column(name: str) -> str:
    """Check a job's name: it is part of addresses and commands."""
    if not name or len(name) > 200 or name != name.strip() or not name.isprintable() or "/" in name:
        raise BadInput(
            f"{name!r} cannot name a job.",
            "Use up to 200 printable characters, without / and without spaces at the ends.",
        )
    return name


def arguments_column(arguments: Sequence[str]) -> str | None:
    """Write a list of arguments so that it splits into the same list again."""
    for argument in arguments:
        if "\x00" in argument:
            raise BadInput(f"The argument {argument!r} holds a NUL.", "No program can take that.")
    return shlex.join(arguments) if arguments else None


def check_keywords(given: Mapping[str, Any]) -> None:
    """Refuse keywords that nothing reads."""
    for keyword in given:
        if keyword not in KEYWORDS:
            raise BadInput(f"A job has no {keyword!r}.", f"It has: {', '.join(KEYWORDS)}.")


def schedule_columns(
    given: Mapping[str, Any], settings: Settings, now: datetime, current: Any = None
) -> dict[str, Any]:
    """Return the columns of a schedule that starts now, and its first slot.

    `current` is the job's row when it is edited: what is not given is kept from it.
    """
    timing = [word for word in SCHEDULE_KEYWORDS if given.get(word) is not None]
    if len(timing) > 1:
        raise BadInput(f"A job has one schedule, not {' and '.join(timing)}.", "Give one of them.")
    zone = given.get("tz") or (current.timezone if current is not None else settings.timezone)
    if timing or current is None:
        columns = _timing(timing[0] if timing else "manual", given, zone, now)
    else:
        columns = {name: getattr(current, name) for name in _TIMING_COLUMNS}
    columns["timezone"] = zone
    for bound in ("starts_at", "ends_at"):
        kept = getattr(current, bound) if current is not None else None
        columns[bound] = _instant(given[bound], zone) if given.get(bound) is not None else kept
    schedule = as_schedule(columns)
    schedule.validate()
    first = schedule.next_after(now)
    if first is None and columns["schedule_type"] != "manual":
        raise BadInput(
            f"The schedule {schedule.describe()!r} has no slot after {now:%Y-%m-%d %H:%M} UTC.",
            "Give a time to come.",
        )
    return columns | {"slots_until": now, "next_run": first}


_TIMING_COLUMNS = (
    "schedule_type",
    "interval_seconds",
    "schedule_time",
    "schedule_day",
    "cron",
    "anchor_at",
)


def as_schedule(columns: Mapping[str, Any]) -> Schedule:
    """Read the schedule from the columns of a definition."""
    return Schedule(
        type=columns["schedule_type"],
        timezone=columns["timezone"],
        interval_seconds=columns["interval_seconds"],
        anchor=columns["anchor_at"],
        cron=columns["cron"],
        time=columns["schedule_time"],
        day=columns["schedule_day"],
        starts_at=columns.get("starts_at"),
        ends_at=columns.get("ends_at"),
    )


def _timing(word: str, given: Mapping[str, Any], zone: str, now: datetime) -> dict[str, Any]:
    columns: dict[str, Any] = dict.fromkeys(_TIMING_COLUMNS)
    value: Any = given.get(word)
    match word:
        case "manual":
            return columns | {"schedule_type": "manual"}
        case "cron":
            return columns | {"schedule_type": "cron", "cron": str(value)}
        case "every":
            seconds = whole_seconds("every", value)
            anchor = now.replace(microsecond=0)
            timing = {"interval_seconds": seconds, "anchor_at": anchor}
            return columns | {"schedule_type": "interval"} | timing
        case "at":
            return columns | {"schedule_type": "once", "anchor_at": _instant(value, zone)}
        case "hourly":
            return columns | {"schedule_type": "hourly", "schedule_time": f"{_minute(value):02d}"}
        case "daily":
            return columns | {"schedule_type": "daily", "schedule_time": value}
        case "weekly":
            day, time = _pair(word, value)
            timing = {"schedule_day": _weekday(day), "schedule_time": time}
            return columns | {"schedule_type": "weekly"} | timing
    day, time = _pair(word, value)
    return columns | {"schedule_type": word, "schedule_day": day, "schedule_time": time}


def as_written(job: Any) -> tuple[str, str]:
    """Return a schedule as `add_job` takes it: the keyword and its value, from a job's row."""
    kind, time = job.schedule_type, job.schedule_time or ""
    match kind:
        case "interval":
            return "every", f"{job.interval_seconds}s"
        case "once":
            return "at", "" if job.anchor_at is None else iso(job.anchor_at)
        case "cron":
            return "cron", job.cron or ""
        case "weekly":
            return "weekly", f"{WEEKDAYS[(job.schedule_day or 0) % 7]} {time}"
        case "monthly":
            return "monthly", f"{job.schedule_day or 1} {time}"
    return kind, time


def other_columns(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of what is given besides the schedule, each checked."""
    readers: dict[str, tuple[str, Callable[[Any], Any]]] = {
        "params": ("params", params_column),
        "tags": ("tags", _tags),
        "queue": ("queue", _queue),
        "priority": ("priority", lambda value: _whole("priority", value, -10_000, 10_000)),
        "retries": ("max_retries", lambda value: _whole("retries", value, 0, 1000)),
        "retry_delay": ("retry_delay_seconds", lambda value: seconds("retry_delay", value, 0)),
        "misfire": ("misfire_policy", lambda value: _word("misfire", value, MISFIRE_POLICIES)),
        "misfire_window": (
            "misfire_window_seconds",
            lambda value: seconds("misfire_window", value),
        ),
        "overlap": ("overlap_policy", lambda value: _word("overlap", value, OVERLAP_POLICIES)),
        "start_deadline": (
            "start_deadline_seconds",
            lambda value: seconds("start_deadline", value),
        ),
        "on_worker_lost": (
            "on_worker_lost",
            lambda value: _word("on_worker_lost", value, LOST_POLICIES),
        ),
        "signature": ("signature", parameters.column),
        "defined_in": ("defined_in", str),
        "alerts": ("alerts", alerting.rules_column),
    }
    columns = {
        column: read(given[keyword])
        for keyword, (column, read) in readers.items()
        if given.get(keyword) is not None
    }
    return columns | _timeout_columns(given.get("timeout")) | execution.columns(given)


def external_columns(given: Mapping[str, Any], arguments: Sequence[str] | None) -> dict[str, Any]:
    """Check what is given for a job that runs elsewhere; return what it is besides."""
    told = [word for word in OF_EXECUTION if given.get(word) is not None]
    if told or arguments:
        raise BadInput(
            f"A job that runs elsewhere cannot be given {', '.join(told) or 'arguments'}.",
            "Leave it out: nothing here executes the job; it reports itself by jobkit ping.",
        )
    if given.get("timeout") == "auto":
        raise BadInput("timeout='auto' is for jobs that run here.", "Write it like 2h.")
    return {
        "queue": EXTERNAL_QUEUE,
        "overlap_policy": "allow",
        "max_retries": 0,
        "on_worker_lost": "fail",
        "start_deadline_seconds": EXTERNAL_DEADLINE,
        "timeout_seconds": EXTERNAL_TIMEOUT,
    }


def _timeout_columns(value: timedelta | str | float | None) -> dict[str, Any]:
    if value is None:
        return {}
    if value == "auto":
        return {"timeout_seconds": None, "timeout_policy": "auto"}
    return {"timeout_seconds": seconds("timeout", value), "timeout_policy": None}


def params_column(params: Mapping[str, Any]) -> dict[str, Any]:
    """Check that parameters are a JSON object."""
    try:
        document: dict[str, Any] = json.loads(json.dumps(dict(params), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise BadInput(
            f"The parameters are no JSON: {error}.", "Use text, numbers, lists and dicts of them."
        ) from None
    placeholders.check(document)
    return document


def seconds(name: str, value: timedelta | str | float, least: float = 0.001) -> float:
    """Read a duration of at most ten years."""
    if isinstance(value, str):
        value = parse_duration(value)
    amount = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not least <= amount <= LONGEST_SECONDS:
        raise BadInput(f"{name}={value} is out of bounds.", "Use a duration up to ten years.")
    return amount


def whole_seconds(name: str, value: timedelta | str | float) -> int:
    """Read a duration of whole seconds, one at least."""
    amount = seconds(name, value, 1)
    if amount != int(amount):
        raise BadInput(f"{name}={value} is no number of whole seconds.", "Write it like 90s.")
    return int(amount)


def _whole(name: str, value: Any, least: int, most: int) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        raise BadInput(f"{name}={value!r} is no number.", f"Use {least} to {most}.") from None
    if not least <= number <= most:
        raise BadInput(f"{name}={number} is out of bounds.", f"Use {least} to {most}.")
    return number


def _word(name: str, value: str, allowed: Sequence[str]) -> str:
    if value not in allowed:
        raise BadInput(f"{name}={value!r} is not known.", f"Use one of: {', '.join(allowed)}.")
    return value


def _tags(value: Sequence[str]) -> list[str] | None:
    tags = [value] if isinstance(value, str) else list(dict.fromkeys(value))
    for tag in tags:
        if not re.fullmatch(r"[\w.:-]{1,64}", tag):
            raise BadInput(f"{tag!r} is no tag.", "Use letters, digits, '.', ':', '_' and '-'.")
    return tags or None


def _queue(value: str) -> str:
    if not re.fullmatch(r"[\w.-]{1,64}", value):
        raise BadInput(f"{value!r} cannot name a queue.", "Use letters, digits, '.', '_' and '-'.")
    return value


def _instant(value: datetime | str, zone: str) -> datetime:
    if isinstance(value, str):
        return parse_instant(value, zone)
    if value.tzinfo is None:
        raise BadInput(f"{value!r} names no time zone.", "Give an aware datetime.")
    return value


def _minute(value: Any) -> int:
    return _whole("hourly", value, 0, 59)


def _weekday(value: Any) -> int:
    word = str(value).lower()[:3]
    return WEEKDAYS.index(word) if word in WEEKDAYS else _whole("weekly day", value, 0, 6)


def _pair(word: str, value: Any) -> tuple[Any, str]:
    parts = value.split() if isinstance(value, str) else list(value)
    if len(parts) != 2:
        raise BadInput(f"{word}={value!r} is not a day and a time.", "Write it like 'mon 09:00'.")
    day = parts[0]
    return (_whole("monthly day", day, 1, 31) if word == "monthly" else day), str(parts[1])
