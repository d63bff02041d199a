"""Alerting: what a job is watched for, and when something fires. Pure: state in, finding out.

A rule takes what is known at an instant and returns a `Finding`, or None while all is well. Who
asks keeps the state: a finding without an open alert opens one, an open alert without a finding is
over. So a rule that is asked twice says the same, and nothing is told twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from operator import itemgetter
from typing import Any

from jobkit.errors import BadInput
from jobkit.schedule import Schedule
from jobkit.text import duration, instant, parse_duration, size

RULES = {
    "late": "not started so long after its slot",
    "done-by": "no success of its last slot by this time of day, in its zone",
    "running": "an attempt runs longer than this, or than usual: auto",
    "no-success": "no success for so long",
    "failed": "a run failed, and when it is over",
    "recovered": "a run succeeded after one that failed",
    "failures": "so many runs failed in a row",
    "short": "a run succeeded unusually fast",
}
"""What a job can be watched for."""
TIMED = ("late", "done-by")
"""What needs a schedule."""
CLOCKS = ("done-by", "no-success")
"""What is looked at when its time has come, because nothing happened."""
FAILURES = ("FAILED", "TIMEOUT")
DECIDED = ("COMPLETED", *FAILURES)
MOST_FAILURES = 100
LONGEST = timedelta(days=3660)
CRITICAL = ("done-by", "no-success", "failures", "no-worker", "no-scheduler", "disk", "database")
_CALM = 0.8
"""A rate, or a share, has to fall to so much of its bound before it is over: no flapping."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    kind: str
    text: str
    value: float | None = None
    """The number that is compared: seconds, a share, a count."""
    run_id: int | None = None
    about_at: datetime | None = None
    """The slot, or the end of a run, that it is about."""
    is_over: bool = False
    """It was so and is no more: told once, and nothing stays open."""

    @property
    def severity(self) -> str:
        """Say `critical` of what nobody should sleep over, else `warning`."""
        return "critical" if self.kind in CRITICAL else "warning"


@dataclass(frozen=True)
class Run:
    """What a rule reads of a run."""

    id: int
    status: str
    trigger: str = "schedule"
    attempt: int = 0
    scheduled_for: datetime | None = None
    created_at: datetime | None = None
    claimed_at: datetime | None = None
    completed_at: datetime | None = None
    why: str = ""

    @property
    def has_failed(self) -> bool:
        """Whether it ended without success by its own doing."""
        return self.status in FAILURES

    @property
    def delay(self) -> timedelta | None:
        """How long after its slot it was first claimed; None of one that was retried."""
        if self.attempt != 1 or self.claimed_at is None or self.scheduled_for is None:
            return None
        return self.claimed_at - self.scheduled_for


# What people write


def rules_column(given: str | Sequence[str] | Mapping[str, Any]) -> dict[str, Any] | None:
    """Read what a job is watched for; BadInput names what is wrong.

    `"late=15m failed"`, `["late=15m", "failed"]` or `{"late": "15m", "failed": True}`; seconds are
    numbers. Empty, or `none`: nothing.
    """
    pairs = _pairs(given)
    if pairs == {"none": True}:
        return None
    rules = {}
    for name, value in pairs.items():
        if name not in RULES:
            raise BadInput(f"{name!r} is no alert.", f"Use: {', '.join(RULES)}.")
        if value is not None and value is not False:
            rules[name] = _READERS[name](name, value)
    return {name: rules[name] for name in RULES if name in rules} or None


def words(rules: Mapping[str, Any] | None) -> list[str]:
    """Say what a job is watched for, as it is written: `["late=15m", "failed"]`."""
    return [
        name if value is True else f"{name}={_as_duration(value)}"
        for name, value in (rules or {}).items()
    ]


def check(rules: Mapping[str, Any] | None, schedule_type: str) -> None:
    """Refuse clocks of slots for a job that has none."""
    for name in TIMED:
        if schedule_type == "manual" and name in (rules or {}):
            raise BadInput(
                f"The alert {name!r} goes by slots, and the job has no schedule.",
                "Give it one, or use no-success.",
            )


def _pairs(given: str | Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return {str(name).replace("_", "-"): value for name, value in given.items()}
    items = given.replace(",", " ").split() if isinstance(given, str) else list(given)
    found: dict[str, Any] = {}
    for item in items:
        name, equals, value = str(item).strip().partition("=")
        name = name.replace("_", "-")
        if name in found:
            raise BadInput(f"The alert {name!r} is given twice.", "Give it once.")
        found[name] = value if equals else True
    return found


def _seconds(name: str, value: Any) -> float:
    if value is True or value == "":
        raise BadInput(f"The alert {name!r} needs a duration.", f"Write it like {name}=15m.")
    if isinstance(value, str):
        value = parse_duration(value)
    try:
        length = value if isinstance(value, timedelta) else timedelta(seconds=float(value))
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f"{name}={value!r} is no duration.", f"Write it like {name}=15m.") from None
    if not timedelta(seconds=1) <= length <= LONGEST:
        raise BadInput(f"{name}={value} is out of bounds.", "Use a second to ten years.")
    return length.total_seconds()


def _seconds_or_auto(name: str, value: Any) -> float | str:
    return "auto" if value is True or value == "auto" else _seconds(name, value)


def _time_of_day(name: str, value: Any) -> str:
    try:
        return f"{time.fromisoformat(str(value)):%H:%M}"
    except ValueError:
        raise BadInput(f"{name}={value!r} is no time of day.", "Write it like 07:30.") from None


def _count(name: str, value: Any) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = 0
    if not 2 <= number <= MOST_FAILURES:
        raise BadInput(
            f"{name}={value!r} is no number of runs.",
            f"Use 2 to {MOST_FAILURES}; failed tells of each outage.",
        )
    return number


def _flag(name: str, value: Any) -> bool:
    if value not in (True, "on"):
        raise BadInput(f"{name}={value!r}: this alert takes no value.", f"Write {name} alone.")
    return True


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "late": _seconds,
    "done-by": _time_of_day,
    "running": _seconds_or_auto,
    "no-success": _seconds,
    "failed": _flag,
    "recovered": _flag,
    "failures": _count,
    "short": _flag,
}


def _as_duration(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    for unit, name in ((86400, "d"), (3600, "h"), (60, "m")):
        if value % unit == 0:
            return f"{value / unit:g}{name}"
    return f"{value:g}s"


# The clocks of a job


def late(
    now: datetime,
    after: timedelta,
    runs: Sequence[Run],
    *,
    zone: str = "UTC",
    told_until: datetime | None = None,
) -> Finding | None:
    """Find the slot that did not start in time; of several the oldest that waits.

    `runs`: those that are unfinished, and those that ended lately. A slot up to `told_until` is
    known: only while it waits it counts.
    """
    slots = [
        (run.scheduled_for, run)
        for run in runs
        if run.trigger == "schedule" and run.scheduled_for is not None
    ]
    slots.sort(key=itemgetter(0))
    for slot, run in slots:
        if run.status == "PENDING" and run.attempt == 0 and now - slot >= after:
            since = now - slot
            said = f"has not started, {duration(_whole(since))} after its slot {_at(run, zone)}"
            return Finding("late", said, since.total_seconds(), run.id, run.scheduled_for)
    fresh = [run for slot, run in slots if _is_later(slot, told_until)]
    for run in reversed(fresh):
        if run.status == "MISSED":
            said = f"missed its slot {_at(run, zone)}" + (f": {run.why}" if run.why else "")
            return Finding("late", said, None, run.id, run.scheduled_for)
        if run.delay is not None and run.delay >= after:
            said = f"started {duration(_whole(run.delay))} after its slot {_at(run, zone)}"
            seconds = run.delay.total_seconds()
            return Finding("late", said, seconds, run.id, run.scheduled_for, is_over=True)
    return None


def is_still_late(run: Run | None, *, has_started_since: bool) -> bool:
    """Whether a slot that was late is so still: it waits, or it was missed and none came after."""
    if run is None or run.attempt > 0:
        return False
    return run.status == "PENDING" or (run.status == "MISSED" and not has_started_since)


def deadlines(wall: str, zone: str, now: datetime) -> tuple[datetime, datetime, datetime]:
    """Return the last two instants up to now at which a zone's clocks show a time, and the next."""
    daily = Schedule("daily", zone, time=wall)
    before, last = daily.newest(now - timedelta(days=4), now, 2)
    return before, last, daily.next_after(now) or now + timedelta(days=1)


def slot_before(
    schedule: Schedule, since: datetime, before: datetime, deadline: datetime
) -> datetime | None:
    """Return the last slot of the day that ends at a deadline, and later than `since`."""
    start = max(since, before - timedelta(microseconds=1))
    found = schedule.newest(start, deadline - timedelta(microseconds=1), 1)
    return found[0] if found else None


def is_done(slot: datetime, runs: Sequence[Run]) -> bool:
    """Whether a slot, or one that came after it, was run with success: by itself, or by hand."""
    return any(
        run.status == "COMPLETED"
        and run.created_at is not None
        and run.created_at >= slot
        and (run.scheduled_for or run.created_at) >= slot
        for run in runs
    )


def done_by(slot: datetime, wall: str, zone: str, runs: Sequence[Run]) -> Finding | None:
    """Find that a slot whose time of day has passed has no success."""
    if is_done(slot, runs):
        return None
    own = next((run for run in runs if run.scheduled_for == slot), None)
    state = "no run of it" if own is None else f"run {own.id} is {own.status}"
    said = f"was not done by {wall} {zone}: its slot {instant(slot, zone)} has no success, {state}"
    return Finding("done-by", said, None, own.id if own else None, slot)


def running(
    now: datetime, runs: Sequence[Run], bound: Callable[[Run], timedelta | None], *, is_usual: bool
) -> Finding | None:
    """Find the attempt that runs longest of those that run too long."""
    for run in sorted(runs, key=lambda run: run.claimed_at or now):
        if run.status != "IN_PROGRESS" or run.claimed_at is None:
            continue
        longest = bound(run)
        if longest is not None and now - run.claimed_at >= longest:
            took = now - run.claimed_at
            than = "unusually long after" if is_usual else "longer than"
            said = f"has been running for {duration(_whole(took))}, {than} {duration(longest)}"
            return Finding("running", said, took.total_seconds(), run.id, run.claimed_at)
    return None


def no_success(
    now: datetime, after: timedelta, last: datetime, *, has_succeeded: bool
) -> Finding | None:
    """Find that the last success, or since when one is waited for, is long ago."""
    if now - last < after:
        return None
    since = "the last one ended" if has_succeeded else "it is watched since"
    said = f"has had no success for {duration(_whole(now - last))}: {since} {instant(last)}"
    return Finding("no-success", said, (now - last).total_seconds(), about_at=last)


# What runs came to


def failed(
    decided: Sequence[Run],
    ended: Sequence[Run],
    told_until: datetime | None,
    *,
    is_open: bool,
) -> Finding | None:
    """Find that the last run of a job failed, or that one failed since it was told last.

    `decided`: the newest runs that succeeded or failed, the newest first; `ended`: those that
    ended lately.
    """
    if decided and decided[0].has_failed:
        is_new = is_open or _is_later(decided[0].completed_at, told_until)
        return _failure(decided[0], decided, is_over=False) if is_new else None
    fresh = [run for run in ended if run.has_failed and _is_later(run.completed_at, told_until)]
    return _failure(fresh[-1], (), is_over=True) if fresh and not is_open else None


def _failure(run: Run, decided: Sequence[Run], *, is_over: bool) -> Finding:
    count = streak(decided) or 1
    row = f", {_counted(count)} in a row" if count > 1 else ""
    over = "; it has succeeded since" if is_over else ""
    why = f": {_line(run.why)}" if run.why else ""
    word = "timed out" if run.status == "TIMEOUT" else "failed"
    said = f"{word} in run {run.id}{row}{over}{why}"
    return Finding("failed", said, float(count), run.id, run.completed_at, is_over=is_over)


def failures(
    decided: Sequence[Run], least: int, told_until: datetime | None, *, is_open: bool
) -> Finding | None:
    """Find that the newest runs, so many at least, all failed."""
    count = streak(decided)
    if count < least or not (is_open or _is_later(decided[0].completed_at, told_until)):
        return None
    newest = decided[0]
    why = f": {_line(newest.why)}" if newest.why else ""
    said = f"failed {_counted(count)} times in a row, last in run {newest.id}{why}"
    return Finding("failures", said, float(count), newest.id, newest.completed_at)


def _counted(count: int) -> str:
    return f"{count} or more" if count >= MOST_FAILURES else str(count)


def streak(decided: Sequence[Run]) -> int:
    """Return how many of the newest runs failed before one that did not."""
    for count, run in enumerate(decided):
        if not run.has_failed:
            return count
    return len(decided)


def short(
    ended: Sequence[Run],
    bound: Callable[[Run], timedelta | None],
    told_until: datetime | None,
) -> Finding | None:
    """Find the newest success, not told yet, that took less than is usual."""
    for run in reversed(ended):
        took = _took(run)
        if took is None or not _is_later(run.completed_at, told_until):
            continue
        least = bound(run)
        if least is not None and took < least:
            said = (
                f"succeeded unusually fast in run {run.id}: {duration(took)}, usually more than "
                f"{duration(least)}; did it read anything?"
            )
            return Finding("short", said, took.total_seconds(), run.id, run.completed_at)
    return None


def is_short(run: Run, bound: Callable[[Run], timedelta | None]) -> bool:
    """Whether a run succeeded unusually fast."""
    took, least = _took(run), bound(run)
    return took is not None and least is not None and took < least


def _took(run: Run) -> timedelta | None:
    if run.status != "COMPLETED" or run.completed_at is None or run.claimed_at is None:
        return None
    return run.completed_at - run.claimed_at


# The installation


def no_worker(
    now: datetime, after: timedelta, seen_at: datetime | None, jobs_since: datetime | None
) -> Finding | None:
    """Find that no worker is there; before the first job, and before that is too old, none need.

    `seen_at`: the last heartbeat of any; `jobs_since`: when the oldest job that is active was made.
    """
    since = seen_at if seen_at is not None else jobs_since
    if not after or since is None or now - since < after:
        return None
    age = now - since
    heard = "none was ever there" if seen_at is None else f"the last was heard {instant(since)}"
    said = f"no worker has been online for {duration(_whole(age))}: {heard}"
    return Finding("no-worker", said, age.total_seconds(), about_at=since)


def no_scheduler(now: datetime, after: timedelta, seen_at: datetime | None) -> Finding | None:
    """Find that no scheduler was seen for long; without one that was ever seen, nothing is said."""
    if not after or seen_at is None or now - seen_at < after:
        return None
    age = now - seen_at
    said = f"no scheduler has been seen for {duration(_whole(age))}: no job is started any more"
    return Finding("no-scheduler", said, age.total_seconds(), about_at=seen_at)


def pending(
    now: datetime, after: timedelta, count: int, oldest: Run | None, due_at: datetime | None
) -> Finding | None:
    """Find that runs have been due for long and no worker took them."""
    if not after or oldest is None or due_at is None or now - due_at < after:
        return None
    waits = now - due_at
    many = "a run has" if count == 1 else f"{count:,} runs have"
    said = (
        f"{many} been due for {duration(after)} or longer and not been started; "
        f"run {oldest.id} for {duration(_whole(waits))}"
    )
    return Finding("pending", said, waits.total_seconds(), oldest.id, due_at)


def failed_rate(
    ended: int, failed: int, most: float, least: int, *, is_open: bool
) -> Finding | None:
    """Find that too many of the runs that succeeded or failed lately failed.

    Fewer than `least` say nothing.
    """
    if ended < least or not ended:
        return None
    rate = failed / ended
    if rate <= most * (_CALM if is_open else 1):
        return None
    said = f"{rate:.0%} of the last {ended:,} runs of an hour failed, {failed:,} of them"
    return Finding("failed-rate", said, rate)


def disk(
    path: str, host: str, used: int, total: int, most: float, *, is_open: bool
) -> Finding | None:
    """Find that a disk is nearly full."""
    share = used / total if total else 0.0
    # What is freed by chance is no room: half of what is missing has to come back.
    bound = most - (1 - most) / 2 if is_open else most
    if share < bound:
        return None
    said = f"the disk of {path} on {host} is {share:.0%} full, {size(total - used)} are left"
    return Finding("disk", said, share)


def database(stored: int, full: int | None, most: float, *, is_open: bool) -> Finding | None:
    """Find that the database nears the size that people gave it."""
    if not full or stored < full * most * (0.95 if is_open else 1):
        return None
    said = f"the database holds {size(stored)} of the {size(full)} that it may have"
    return Finding("database", said, stored / full)


# When people are told


OVER = {
    "late": "no slot waits any more",
    "done-by": "is done",
    "running": "no longer runs too long",
    "no-success": "has succeeded",
    "failed": "has succeeded again",
    "failures": "has succeeded again",
    "short": "took as long as usual again",
    "no-worker": "a worker is online again",
    "no-scheduler": "a scheduler is there again",
    "pending": "no run has been due for that long any more",
    "failed-rate": "fewer runs fail",
    "disk": "the disk has room again",
    "database": "the database has room again",
}
"""What is said when it is over."""


def is_urgent(kind: str, *, of_job: bool) -> bool:
    """Whether people are told in quiet hours too."""
    return kind in CRITICAL and not of_job


def _whole(value: timedelta) -> timedelta:
    return timedelta(seconds=int(value.total_seconds()))


def _at(run: Run, zone: str) -> str:
    return instant(run.scheduled_for, zone)


def _is_later(value: datetime | None, than: datetime | None) -> bool:
    return value is not None and (than is None or value > than)


def _line(said: str) -> str:
    lines = said.strip().splitlines()
    return lines[-1][:300] if lines else ""
