"""What pages ask of a history: each question of a kit, with its answer as JSON has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol

import jobkit
from jobkit.terminal import plain
from jobkit.text import clean, iso, parse_instant
from portal.answers import Answers

QUESTIONS: dict[str, tuple[str, Callable[[Any, str], Any]]] = {
    "throughput": ("Runs that ended", lambda log, every: log.throughput(every)),
    "failures": ("Failures", lambda log, every: log.failures()),
    "durations": ("How long attempts take", lambda log, every: log.durations()),
    "queue-wait": ("How long runs wait", lambda log, every: log.queue_wait(every=every)),
    "utilisation": ("How busy workers are", lambda log, every: log.utilisation(every)),
    "concurrency": ("Attempts at once", lambda log, every: log.concurrency(every)),
    "late": ("Late and missed slots", lambda log, every: log.late()),
    "retries": ("Retries", lambda log, every: log.retries()),
    "slowest": ("Slowest attempts", lambda log, every: log.slowest()),
    "flakiest": ("Flakiest jobs", lambda log, every: log.flakiest()),
}
MOST_ROWS = 100
MOST_JUDGED = 2
"""How many maps of slots are kept for their next pages: each may be of a million slots."""
LONGEST_LINE = LONGEST_VALUE = 200
TABLE_ROWS = 20
MOST_COLUMNS = 50


class Reports(Protocol):
    """Whoever answers questions: this process, or another."""

    def ask(self, name: str, state: tuple[int, str], /, **given: Any) -> Any:
        """Answer a question as JSON has it; `state`: what was changed here, and the pulse."""
        ...


class Desk:
    """Answers the questions of one kit, in this process."""

    def __init__(self, open_kit: Callable[[], jobkit.Kit]) -> None:
        self._open = open_kit
        self._judged = Answers(most_kept=MOST_JUDGED, stale_seconds=0)
        self._questions: Mapping[str, Callable[..., Any]] = {
            "coverage": self._coverage,
            "holes": self._holes,
            "charts": self._charts,
            "report": self._report,
            "table": self._table,
        }

    @cached_property
    def kit(self) -> jobkit.Kit:
        """The kit, opened when it is first needed."""
        return self._open()

    def ask(self, name: str, state: tuple[int, str], /, **given: Any) -> Any:
        """Answer a question as JSON has it; the errors are the kit's."""
        if name == "coverage":
            given["state"] = state
        return self._questions[name](**given)

    def _coverage(
        self, state: tuple[int, str], window: str, job: str | None, at: int, most: int
    ) -> dict[str, Any]:
        """Return `most` jobs' strips, the least covered first, and as many slots amiss."""
        edition, pulse = state
        found = self._judged.get(
            (edition, window, job), lambda: pulse, lambda: self.kit.log(window).coverage(job=job)
        )
        figures = found.worst_first
        strip = found.strip(figures[at : at + most])
        amiss, total = found.newest_amiss(most)
        return {
            "start": iso(found.start),
            "end": iso(found.window.end),
            "as_of": iso(found.as_of),
            "step_seconds": strip.step.total_seconds(),
            "words": found.total.words,
            "jobs": len(figures),
            "rows": [[row.name, row.words, strip.row_svg(row)] for row in strip.rows],
            "amiss": [slot | {"slot": iso(slot["slot"])} for slot in amiss],
            "hidden": total - len(amiss),
            "holes": found.hole_count,
        }

    def _holes(self, start: str, end: str, job: str | None) -> dict[str, list[str]]:
        """Return the slots to be filled, by the job's id."""
        found = self.kit.log((parse_instant(start), parse_instant(end))).coverage(job=job)
        return {str(job_id): list(map(iso, slots)) for job_id, slots in found.to_fill().items()}

    def _charts(self, window: str, every: str) -> dict[str, Any]:
        """Return the chart of each question, of one look at the history."""
        log = self.kit.log(window)
        charts = {name: _drawn(ask(log, every)) for name, (_, ask) in QUESTIONS.items()}
        return {"charts": charts, **_looked(log)}

    def _report(self, window: str, every: str, name: str) -> dict[str, Any]:
        """Return one question's chart, its numbers, its statement and its cell."""
        log = self.kit.log(window)
        report = QUESTIONS[name][1](log, every)
        return {
            "chart": _drawn(report),
            "columns": report.df.columns,
            "rows": [[_cell(value) for value in row] for row in report.df.head(MOST_ROWS).rows()],
            "hidden": max(0, report.df.height - MOST_ROWS),
            "cell": report.cell,
            "sql": report.sql,
            "caption": report.caption,
            **_looked(log),
        }

    def _table(self, run_id: int, attempt: int, artifact: str) -> dict[str, Any]:
        """Return the first rows of a table that a run left, and what is left out."""
        frame = self.kit.artifact(run_id, artifact, attempt).head(TABLE_ROWS + 1)
        said = []
        if frame.height > TABLE_ROWS:
            said.append(f"the first {TABLE_ROWS} rows")
        if frame.width > MOST_COLUMNS:
            said.append(f"the first {MOST_COLUMNS} of {frame.width} columns")
        columns = frame.columns[:MOST_COLUMNS]
        rows = frame.head(TABLE_ROWS).select(columns).iter_rows()
        return {
            "columns": columns,
            "rows": [list(map(_value, row)) for row in rows],
            "note": f"Shown: {', '.join(said)}." if said else "",
        }


def _looked(log: Any) -> dict[str, Any]:
    return {"as_of": iso(log.as_of), "missing": list(log.missing)}


def _drawn(report: Any) -> str | None:
    """Return a report's chart, which escapes what people typed; None where all is nought."""
    chart = report.chart if report.draw is not None and report.df.height else None
    if chart is None or not any(value for row in chart.rows for value in row[1:]):
        return None
    drawn: str = chart.unstyled
    return drawn


def _cell(value: object) -> list[Any]:
    """Write a value of a report, and say whether it is a number."""
    return [figure(value), isinstance(value, int | float)]


def figure(value: object) -> str:
    """Write a value of a report: instants to the minute, numbers as people read them."""
    if value is None:
        return "–"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return clean(str(value))[:LONGEST_LINE]


def _value(value: object) -> str:
    said = "" if value is None else plain(str(value))
    return said if len(said) <= LONGEST_VALUE else said[: LONGEST_VALUE - 1] + "…"
