"""The archive: what leaves the tables is in its files, once, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import jobkit
from jobkit import cli
from jobkit.archive import Passed
from jobkit.archive.places import open_place
from jobkit.errors import BadInput
from jobkit.kit import Kit
from jobkit.models import archives, attempts, output, runs
from jobkit.store import leaving
from tests.archives import NOW, contents, counted, live, run_until
from tests.stage import Stage
from tests.test_artifacts import bucket, s3

__all__ = ["bucket", "s3"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def aged(kit: Kit, place: Path) -> Kit:
    """Three months that ended in March, and settings that archive two of them."""
    live(kit)
    kit.settings = kit.settings.model_copy(
        update={"archive_url": str(place), "archive_keep_runs": 2, "archive_after_days": 20}
    )
    return kit


def keeping(kit: Kit, count: int, **more: Any) -> Kit:
    """Return a kit that keeps so many runs of each job in the tables."""
    changed = {"archive_keep_runs": count, **more}
    return Kit(kit.database, kit.settings.model_copy(update=changed))


def manifest_rows(kit: Kit) -> list[Any]:
    with kit.database.read() as connection:
        return list(connection.execute(sa.select(archives).order_by(archives.c.id)))


def months_of(passed: Passed) -> list[str]:
    return [part.month for part in passed.parts]


def test_months_that_are_over_for_long_enough_leave_and_come_back_as_they_were(
    aged: Kit, place: Path
) -> None:
    before = contents(aged.database)
    passed = aged.archive.run()
    assert months_of(passed) == ["2025-12", "2026-01"]
    after = contents(aged.database)
    gone = sum(part.runs for part in passed.parts)
    assert len(after["job_dispatch"]) == len(before["job_dispatch"]) - gone
    assert set(after["job_dispatch"]) < set(before["job_dispatch"])
    assert aged.archive.verify().faults == ()
    for month in months_of(passed):
        aged.archive.restore(month)
    assert contents(aged.database) == before
    assert manifest_rows(aged) == []


def test_the_files_are_where_the_manifest_says_with_what_it_says(aged: Kit, place: Path) -> None:
    aged.archive.run()
    rows = manifest_rows(aged)
    assert {row.kind for row in rows} == {"runs", "attempts", "ended", "busy", "peaks"}
    for row in rows:
        path = Path(row.url.removeprefix("file://"))
        assert path.is_relative_to(place)
        assert path.stat().st_size == row.bytes
        assert row.removed_at is not None
    first = next(row for row in rows if row.kind == "runs")
    assert Path(first.url).parent.name == f"month={first.month}"
    assert first.first_at >= datetime(2025, 12, 1, tzinfo=UTC)
    assert first.last_at < datetime(2026, 1, 1, tzinfo=UTC)


def test_files_hold_the_columns_of_the_tables_in_naive_utc_and_the_output(aged: Kit) -> None:
    import duckdb

    with aged.database.read() as connection:
        chosen = connection.execute(
            sa.select(attempts).where(attempts.c.status == "FAILURE").order_by(attempts.c.id)
        ).first()
        said = connection.execute(
            sa.select(output.c.text).where(output.c.dispatch_id == chosen.dispatch_id)
        ).scalars()
        texts = list(said)
    keeping(aged, 0).archive.run()
    for row in manifest_rows(aged):
        path = row.url.removeprefix("file://")
        if row.kind == "attempts":
            found = duckdb.sql(f"SELECT * FROM '{path}' WHERE id = {chosen.id}").fetchall()
            names = [item[0] for item in duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
            assert names == [*(column.name for column in attempts.c), "output"]
            if found:
                held = dict(zip(names, found[0], strict=True))
                assert held["claimed_at"] == chosen.claimed_at.replace(tzinfo=None)
                assert json.loads(held["provenance"]) == chosen.provenance
                assert [chunk["text"] for chunk in held["output"]] == texts
                return
    raise AssertionError("the attempt is in no file")
