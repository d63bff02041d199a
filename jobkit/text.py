"""Words for people: durations, ages, sizes, instants in a zone; and back from what they type."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from jobkit.errors import BadInput

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|[smhdw])")
_UNPRINTABLE = re.compile("[\x00\ud800-\udfff]")


def parse_duration(text: str) -> timedelta:
    """Read `90s`, `15m`, `1h30m`, `7d` or a plain number of seconds; BadInput for anything else."""
    if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text):
        return _as_timedelta(float(text), text)
    seconds, end = 0.0, 0
    while part := _DURATION.match(text, end):
        seconds += float(part[1]) * _UNITS[part[2]]
        end = part.end()
    if end == 0 or text[end:].strip():
        raise BadInput(f"{text!r} is not a duration.", "Write it like 90s, 15m, 2h, 1h30m or 7d.")
    return _as_timedelta(seconds, text)


def _as_timedelta(seconds: float, text: str) -> timedelta:
    try:
        return timedelta(seconds=seconds)
    except OverflowError:
        raise BadInput(f"{text!r} is too long.", "The longest is a few million years.") from None


def parse_instant(text: str, zone: str = "UTC") -> datetime:
    """Read an ISO 8601 instant as aware UTC; one without an offset is in `zone`."""
    try:
        value = datetime.fromisoformat(text.strip())
    except ValueError:
        raise BadInput(
            f"{text!r} is not an instant.",
            "Write it as ISO 8601, like 2026-03-01, 2026-03-01T06:30 or 2026-03-01T06:30:00Z.",
        ) from None
    if value.tzinfo is None:
        value = value.replace(tzinfo=ZoneInfo(zone))
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise BadInput(f"{text!r} is outside the calendar.", "Use a year from 2 to 9998.") from None


def parse_since(since: timedelta | datetime | str | None, now: datetime) -> datetime | None:
    """Return the instant that an age (`7d`, a timedelta) or an instant names; None stays None."""
    if isinstance(since, str):
        since = parse_duration(since)
    if isinstance(since, timedelta):
        try:
            return now - since
        except OverflowError:
            raise BadInput(f"{since} ago is outside the calendar.", "Give a shorter age.") from None
    return since


def duration(value: timedelta | float | None) -> str:
    """Say a duration with its two largest units: `1 h 30 min`, `2.5 s`, `80 ms`."""
    if value is None:
        return ""
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if seconds < 0:
        return "−" + duration(-seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds else "0 s"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    parts = []
    rest = round(seconds)
    for size, name in ((86400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def age(instant_: datetime | None, now: datetime) -> str:
    """Say how far an instant is from now: `3 min ago`, `in 5 min`, `just now`."""
    if instant_ is None:
        return "never"
    seconds = (now - instant_).total_seconds()
    if abs(seconds) < 1:
        return "just now"
    words = duration(float(int(abs(seconds)))).split(" ")
    short = " ".join(words[:2])
    return f"{short} ago" if seconds > 0 else f"in {short}"


def instant(value: datetime | None, zone: str = "UTC") -> str:
    """Say an instant in a zone: `2026-11-24 09:00:00 CET`."""
    if value is None:
        return ""
    return value.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S %Z")


def iso(value: datetime) -> str:
    """Write an instant for machines: `2026-11-24T08:00:00Z`."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat() + "Z"


def size(count: int | None) -> str:
    """Say a number of bytes: `812 B`, `3.2 MB`."""
    if count is None:
        return ""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1000
        if amount < 999.95 or unit == "TB":
            break
    return f"{amount:.1f} {unit}"


def parse_size(text: str) -> int:
    """Read `512MB`, `2GB`, `1.5GiB` or a plain number of bytes; BadInput for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text.lower())
    if found is None:
        raise BadInput(f"{text!r} is not a size.", "Write it like 512MB or 2GB.")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))


def clean(text: str) -> str:
    """Replace what PostgreSQL's text refuses: NUL becomes U+2400, a lone surrogate U+FFFD."""
    return _UNPRINTABLE.sub(lambda found: "␀" if found[0] == "\x00" else "�", text)


def parse_pairs(what: str, pairs: Sequence[str] | None) -> dict[str, str]:
    """Read `key=value` pairs; BadInput names one that is none. `what`: what they are given as."""
    found = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise BadInput(f"{what} {pair!r} is no pair.", "Write it like day=2026-03-01.")
        found[key] = value
    return found
