"""The questions of the reports once more: as SQL for three engines, and as polars expressions.

Nothing here knows a view or a rule of jobkit: the SQL reads the plain tables (or frames of their
rows), the buckets of a zone come from walking its calendar, and hard parts are solved another
way: overlaps by sweeping over begins and ends, quantiles by weights of ranks, tracebacks line by
line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import polars as pl

from jobkit.analytics.log import Log
from jobkit.analytics.report import Report
from jobkit.analytics.window import micros
from jobkit.kit import Kit
from tests.referee_polars import (
    SECOND,
    Asked,
    Tables,
    compared,
    ended,
    flaky,
    kept,
    peaks,
    rates,
    retried,
    signatures,
    slow,
    took,
    utilised,
    waited,
)
from tests.referee_sql import (
    COMPARED,
    ENDED,
    FLAKY,
    LATE,
    LINES,
    PEAKS,
    RATE,
    RETRIED,
    SIGNATURES,
    SLOWEST,
    TOOK,
    UTILISED,
    WAITED,
    by_tag,
    measured,
    tables,
    without_digits,
)

__all__ = ["QUESTIONS", "Answer", "Asked", "Question", "Tables"]

# The questions


@dataclass(frozen=True)
class Question:
    """One report, the SQL that finds the same in plain tables, and the polars that does."""

    name: str
    ask: Callable[[Log, Asked], Report]
    sql: str
    polars: Callable[[Tables, Asked], pl.DataFrame]
    keys: tuple[str, ...]
    every: str | None = None
    """The buckets that the SQL takes; those that are asked for if None."""
    more: dict[str, Any] = field(default_factory=dict)

    def text(self, engine: str, at: Asked) -> str:
        """Return its SQL for an engine."""
        rows = ", ".join(f"({low}, {high}, {hour})" for low, high, hour in self._buckets(at))
        given = {
            "lo": micros(at.start), "hi": micros(at.end), "upto": micros(min(at.end, at.now)),
            "before": micros(at.start - at.before), "keys": ", ".join(self.keys),
            "strpos": "instr" if engine == "sqlite" else "strpos", "lines": LINES[engine],
            "no_digits": without_digits("error"), "worker": "", **self.more,
        }  # fmt: skip
        sql = self.sql
        for name, value in given.items():
            sql = sql.replace("{" + name + "}", str(value))
        begins = sql.lstrip().split("(")[0]
        joined = f"WITH RECURSIVE {tables(engine)}, b(low, high, hour) AS (VALUES {rows})"
        return f"{joined}{', ' if ' AS ' in begins else ' '}{sql}"

    def _buckets(self, at: Asked) -> list[tuple[int, int, int]]:
        return at.buckets(self.every or at.every)


AFTER = 60
MOST = 12


def questions() -> Iterable[Question]:
    for every, by in ((True, None), (False, "job"), (False, "queue"), (False, "worker"),
                      (False, "status"), (False, "hour"), (True, "job")):  # fmt: skip
        keys = (*(["bucket"] if every else []), *([by] if by else []))
        yield Question(
            f"throughput {keys}",
            lambda log, at, e=every, b=by: log.throughput(at.every if e else None, b),
            ENDED,
            lambda t, at, k=keys, b=by: ended(t, at, "1h" if b == "hour" else at.every, *k),
            keys,
            every="1h" if by == "hour" else None,
        )
    for every, by in (
        (False, "job"),
        (True, None),
        (True, "job"),
        (False, "worker"),
        (False, "queue"),
    ):
        keys = (*(["bucket"] if every else []), *([by] if by else []))
        yield Question(
            f"durations {keys}",
            lambda log, at, e=every, b=by: log.durations(b, at.every if e else None),
            measured(TOOK, *keys),
            lambda t, at, k=keys: took(t, at, *k),
            keys,
        )
    for every, by in (
        (True, None),
        (False, "job"),
        (False, "worker"),
        (False, "queue"),
        (False, "hour"),
        (True, "worker"),
    ):
        keys = (*(["bucket"] if every else []), *([by] if by else []))
        yield Question(
            f"queue_wait {keys}",
            lambda log, at, e=every, b=by: log.queue_wait(b, at.every if e else None),
            measured(WAITED, *keys),
            lambda t, at, k=keys, b=by: waited(t, at, "1h" if b == "hour" else at.every, *k),
            keys,
            every="1h" if by == "hour" else None,
        )
    yield from tag_questions()
    yield Question(
        "failures by signature", lambda log, _: log.failures(), SIGNATURES, signatures,
        ("job", "signature"),
    )  # fmt: skip
    for every, by in ((True, None), (False, "job"), (False, "worker"), (True, "job")):
        keys = (*(["bucket"] if every else []), *([by] if by else []))
        yield Question(
            f"failures {keys}",
            lambda log, at, e=every, b=by: log.failures(at.every if e else None, b),
            RATE,
            lambda t, at, k=keys: rates(t, at, *k),
            keys,
        )
    yield Question(
        "utilisation", lambda log, at: log.utilisation(at.every), UTILISED, utilised, ("bucket",)
    )
    yield Question(
        "utilisation of workers", lambda log, at: log.utilisation(at.every, "worker"), UTILISED,
        lambda t, at: utilised(t, at, "worker"), ("bucket", "worker"),
        more={"worker": ", x.worker"},
    )  # fmt: skip
    yield Question(
        "concurrency", lambda log, at: log.concurrency(at.every), PEAKS, peaks, ("bucket",)
    )
    yield Question(
        "late", lambda log, _: log.late(f"{AFTER}s"), LATE,
        lambda t, at: kept(t, at, AFTER * SECOND), ("job",), more={"after": AFTER * SECOND},
    )  # fmt: skip
    yield Question("retries", lambda log, _: log.retries(), RETRIED, retried, ("job",))
    yield Question("flakiest", lambda log, _: log.flakiest(1000), FLAKY, flaky, ("job",))
    yield Question(
        "slowest", lambda log, _: log.slowest(MOST), SLOWEST,
        lambda t, at: slow(t, at, MOST), ("job", "run_id", "attempt", "started_at"),
        more={"n": MOST},
    )  # fmt: skip
    yield Question("compare", lambda log, at: log.compare(at.before), COMPARED, compared, ("job",))


def tag_questions() -> Iterable[Question]:
    """Ask by tag: a row counts in the groups of all tags of its job."""
    yield Question(
        "throughput by tag", lambda log, at: log.throughput(None, "tag"), by_tag(ENDED),
        lambda t, at: ended(t.by_tag(), at, at.every, "tag"), ("tag",),
    )  # fmt: skip
    yield Question(
        "throughput by tag over time", lambda log, at: log.throughput(at.every, "tag"),
        by_tag(ENDED), lambda t, at: ended(t.by_tag(), at, at.every, "bucket", "tag"),
        ("bucket", "tag"),
    )  # fmt: skip
    yield Question(
        "durations by tag", lambda log, at: log.durations("tag"), by_tag(measured(TOOK, "tag")),
        lambda t, at: took(t.by_tag(), at, "tag"), ("tag",),
    )  # fmt: skip
    yield Question(
        "queue_wait by tag", lambda log, at: log.queue_wait("tag", None),
        by_tag(measured(WAITED, "tag")), lambda t, at: waited(t.by_tag(), at, at.every, "tag"),
        ("tag",),
    )  # fmt: skip
    yield Question(
        "failures by tag", lambda log, at: log.failures(None, "tag"), by_tag(RATE),
        lambda t, at: rates(t.by_tag(), at, "tag"), ("tag",),
    )  # fmt: skip


QUESTIONS = tuple(questions())

# Asking

Answer = dict[tuple[Any, ...], dict[str, Any]]
EMPTY = ("ended", "attempts", "workers", "peak")
"""Figures that are 0 in buckets in which nothing was; a question over time tells of them."""


def in_the_database(kit: Kit, question: Question, at: Asked) -> Answer:
    """Ask the database itself."""
    engine = "sqlite" if kit.database.is_sqlite else "postgresql"
    with kit.database.read(takes_long=True) as connection:
        found = connection.exec_driver_sql(question.text(engine, at))
        return _answer(question, [dict(row) for row in found.mappings()])


def in_duckdb(tables: Tables, question: Question, at: Asked) -> Answer:
    """Ask DuckDB over frames of the rows."""
    found = pl.DataFrame(tables.engine.sql(question.text("duckdb", at)))
    return _answer(question, found.to_dicts())


def in_polars(tables: Tables, question: Question, at: Asked) -> Answer:
    """Ask polars over frames of the rows."""
    return _answer(question, question.polars(tables, at).to_dicts())


def in_jobkit(log: Log, question: Question, at: Asked) -> Answer:
    """Ask the report; every bucket of time has a row, and empty ones are left out here."""
    df = question.ask(log, at).df
    if question.keys == ("bucket",):
        assert df.get_column("bucket").to_list() == at.edges(at.every)
    return _answer(question, df.to_dicts())


def _answer(question: Question, rows: list[dict[str, Any]]) -> Answer:
    answer: Answer = {}
    for row in rows:
        plain = {name: _number(value) for name, value in row.items()}
        if question.keys == ("bucket",) and not any(
            plain.get(name) for name in ("ended", "attempts", "workers", "peak", "mean")
        ):
            continue
        key = tuple(plain.pop(name) for name in question.keys)
        assert key not in answer, key
        answer[key] = plain
    return answer


def _number(value: Any) -> Any:
    if isinstance(value, datetime):
        return micros(value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC))
    return value if isinstance(value, str) or value is None else float(value)


def differences(found: Answer, wanted: Answer) -> list[str]:
    """Say in which figures that both have two answers differ."""
    said = [f"{key} is only here: {found[key]}" for key in found.keys() - wanted.keys()]
    said += [f"{key} is only there: {wanted[key]}" for key in wanted.keys() - found.keys()]
    for key in found.keys() & wanted.keys():
        both = found[key].keys() & wanted[key].keys()
        assert both, (found[key], wanted[key])
        said += [
            f"{key} {name}: {found[key][name]} and {wanted[key][name]}"
            for name in sorted(both)
            if not _same(found[key][name], wanted[key][name])
        ]
    return sorted(said)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other) <= 1e-9 * max(1.0, abs(one), abs(other))
    return bool(one == other)
