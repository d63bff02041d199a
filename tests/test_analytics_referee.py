"""Every report against independent SQL in the database itself and in DuckDB, and against polars."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobkit.kit import Kit
from jobkit.testing import ManualClock
from jobkit.testing.history import generate
from tests import referee
from tests.referee import QUESTIONS, Answer, Asked, Question, Tables

NOW = datetime(2026, 4, 9, 6, 20, tzinfo=UTC)
"""The clocks of Europe went forward on 29 March, those of New York on 8 March."""
ASKED = (
    Asked(NOW - timedelta(days=40), NOW, NOW, "1d", "Europe/Paris"),
    Asked(NOW - timedelta(days=13, minutes=7), NOW - timedelta(hours=9), NOW, "1h", "Europe/Paris"),
    Asked(NOW - timedelta(days=33), NOW - timedelta(minutes=1), NOW, "6h", "America/New_York"),
)


def by_all(kit: Kit, tables: Tables, question: Question, at: Asked) -> dict[str, Answer]:
    """Return what each engine finds."""
    return {
        kit.database.name: referee.in_the_database(kit, question, at),
        "duckdb": referee.in_duckdb(tables, question, at),
        "polars": referee.in_polars(tables, question, at),
    }


def disagreements(kit: Kit, wanted: dict[tuple[str, Asked], dict[str, Answer]]) -> list[str]:
    """Say where a report differs from an engine."""
    said, logs = [], {}
    for question in QUESTIONS:
        for at in ASKED:
            log = logs.setdefault(at, kit.log((at.start, at.end), tz=at.zone))
            found = referee.in_jobkit(log, question, at)
            assert log.missing == ()
            for engine, answer in wanted[question.name, at].items():
                told = referee.differences(found, answer)[:3]
                said += [f"{question.name}, {at.every}, {engine}: {line}" for line in told]
    return said


def test_reports_are_those_of_every_engine_wherever_the_rows_are(kit: Kit, tmp_path: Path) -> None:
    kit.clock = kit.database.clock = ManualClock(NOW)
    generate(kit.database, attempts=3000, months=3, now=NOW, seed=11, output_bytes=200)
    tables = Tables(kit)
    assert set(tables.r.get_column("status")) >= {"IN_PROGRESS", "MISSED", "FAILED"}
    wanted = {
        (question.name, at): by_all(kit, tables, question, at)
        for question in QUESTIONS
        for at in ASKED
    }
    assert all(answer for answers in wanted.values() for answer in answers.values())
    assert disagreements(kit, wanted) == []
    for before in (NOW - timedelta(days=20), NOW):
        kit.archive.run(before, str(tmp_path / "archive"))
        assert disagreements(kit, wanted) == []
