"""Axes: round numbers, round times, and how both are written."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from jobkit import text

_STEPS = [
    *(timedelta(minutes=count) for count in (1, 5, 15, 30)),
    *(timedelta(hours=count) for count in (1, 3, 6, 12)),
    *(timedelta(days=count) for count in (1, 2, 7, 14)),
]


_SECONDS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400)


def ticks(top: float, count: int = 4, unit: str = "") -> list[float]:
    """Return round numbers from 0 to the first that is at least `top`; of seconds round times."""
    if top <= 0 or not math.isfinite(top):
        return [0.0, 1.0]
    rough = top / count
    if unit == "seconds" and _SECONDS[0] / 2 < rough <= _SECONDS[-1]:
        every = next(seconds for seconds in _SECONDS if seconds >= rough * 0.999999)
        return [float(number * every) for number in range(math.ceil(top / every) + 1)]
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999999)
    return [number * step * magnitude for number in range(math.ceil(top / step / magnitude) + 1)]


def written(value: float, unit: str = "") -> str:
    """Write a number of an axis: `1.2k`, `90 s` as a duration, `40 %`."""
    if unit == "seconds":
        return text.duration(value)
    if unit == "share":
        return f"{value * 100:.3g} %"
    if unit == "bytes":
        return text.size(int(value))
    for limit, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{letter}"
    return f"{value:.3g}"


def time_ticks(start: datetime, end: datetime, zone: str) -> list[tuple[datetime, str]]:
    """Return up to about eight round instants of a zone's calendar, and how they are written."""
    local, length = start.astimezone(ZoneInfo(zone)), end - start
    if length > timedelta(days=112):
        return _months(local, end, math.ceil(length / timedelta(days=31 * 8)))
    step = next((step for step in _STEPS if length / step <= 8), _STEPS[-1])
    style = "%H:%M" if step < timedelta(days=1) else "%d %b"
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    number = math.ceil((local.replace(tzinfo=None) - midnight.replace(tzinfo=None)) / step)
    found = []
    while (at := midnight + number * step) <= end:
        if at >= start:
            is_day = style == "%H:%M" and at.hour == at.minute == 0
            found.append((at, at.strftime("%d %b" if is_day else style)))
        number += 1
    return found


def _months(local: datetime, end: datetime, step: int) -> list[tuple[datetime, str]]:
    at = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = []
    while at <= end:
        if at >= local and (at.month - 1) % step == 0:
            found.append((at, at.strftime("%b %Y")))
        at = (at + timedelta(days=32)).replace(day=1)
    return found
