"""Coverage and what changed, when what happened lies in the archive; and other ways to ask."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobkit.errors import BadInput
from jobkit.kit import Kit
from tests.archives import live as live_for_months
from tests.stage import MONDAY, Stage, at
from tests.test_changes import PROVENANCE, write
from tests.test_coverage import covered, live, work

FOREVER = {"archive_keep_runs": 0, "archive_after_days": 0}


def archive(kit: Kit, to: Path, before: Any = None) -> int:
    """Archive all that ended before; returns how many runs left the tables."""
    kit.settings = kit.settings.model_copy(update=FOREVER)
    kit.__dict__.pop("archive", None)
    return sum(part.runs for part in kit.archive.run(before, str(to)).parts)


def rows(kit: Kit, window: Any) -> list[dict[str, Any]]:
    return kit.log(window).coverage().df.to_dicts()


def test_slots_are_the_same_hot_archived_or_half_of_each(kit: Kit, tmp_path: Path) -> None:
    live_for_months(kit)
    hot = rows(kit, "80d")
    assert len(hot) > 300
    halfway = MONDAY - timedelta(days=40)
    assert archive(kit, tmp_path / "archive", halfway)
    assert rows(kit, "80d") == hot
    assert archive(kit, tmp_path / "archive")
    assert rows(kit, "80d") == hot
    assert kit.archive.restore("2026-01").runs
    assert rows(kit, "80d") == hot


def test_missed_slots_that_one_archived_row_stands_for_are_cells(
    stage: Stage, tmp_path: Path
) -> None:
    stage.job(every="1m", misfire="latest")
    stage.tick(MONDAY + timedelta(days=2))
    work(stage)
    stage.clock.turn_to(at("00:00", 31) + timedelta(days=2))
    stage.kit.pause("sales")
    window = (at("12:00"), at("13:00"))
    before = rows(stage.kit, window)
    assert {row["mark"] for row in before} == {"missed"}
    assert archive(stage.kit, tmp_path / "archive") > 1000
    assert rows(stage.kit, window) == before
    assert len(before) == 60


def test_a_file_that_cannot_be_read_is_named_and_nothing_is_filled(
    stage: Stage, tmp_path: Path
) -> None:
    stage.job(every="1h")
    live(stage, at("12:00"), timedelta(hours=1))
    stage.kit.pause("sales")
    stage.clock.turn(timedelta(days=40))
    assert archive(stage.kit, tmp_path / "archive") == 6
    for file in (tmp_path / "archive").rglob("*.parquet"):
        file.write_bytes(b"damaged")
    found = covered(stage)
    assert found.missing
    assert "NOT READ" in repr(found)
    with pytest.raises(BadInput, match="would be run again"):
        found.fill()


def test_the_last_success_may_be_archived(stage: Stage, tmp_path: Path) -> None:
    stage.job(retries=0)
    write(stage, 0, PROVENANCE, metrics={"rows": 5})
    stage.clock.turn(timedelta(days=60))
    assert archive(stage.kit, tmp_path / "archive") == 1
    write(stage, 1, PROVENANCE | {"host": "server"}, metrics={"rows": 0})
    changed = stage.kit.run(2).changes()
    assert changed.lines == ["metric rows: 5 to 0", "host laptop to server"]
    assert (changed.worked_run_id, changed.worked_attempt) == (1, 1)
    assert changed.since == "since run 1, which worked 60 d 2 h before"


# Other ways to ask


def test_free_sql_sees_the_slots(stage: Stage) -> None:
    stage.job(every="10m")
    stage.tick(at("06:25"))
    work(stage)
    stage.clock.turn(timedelta(minutes=1))
    log = stage.kit.log("1d")
    answer = log.sql("SELECT job, mark, count(*) AS n FROM slots GROUP BY ALL ORDER BY ALL")
    assert answer.df.rows() == [("sales", "late", 1), ("sales", "missed", 1)]
    joined = log.sql("SELECT s.mark, r.status FROM slots s JOIN runs r USING (run_id) ORDER BY ALL")
    assert joined.df.rows() == [("late", "COMPLETED"), ("missed", "MISSED")]


def test_its_cell_gives_the_same_figures(stage: Stage) -> None:
    stage.job(every="10m")
    stage.tick(at("06:25"))
    work(stage)
    stage.clock.turn(timedelta(minutes=1))
    found = stage.kit.log("1d").coverage(job="sales")
    space: dict[str, Any] = {}
    exec(found.cell, space)
    again = space["report"]
    assert again.df.equals(found.df)
    assert again.total.words == found.total.words
    space["kit"].close()


def test_instants_are_in_the_zone_that_is_asked_for(stage: Stage) -> None:
    stage.job(every="1h")
    stage.tick(at("07:00"))
    stage.clock.turn(timedelta(minutes=1))
    found = stage.kit.log("1d", tz="Asia/Tokyo").coverage()
    (slot,) = found.df["slot"].to_list()
    assert slot.isoformat() == "2026-03-02T16:00:00+09:00"
    assert found.holes(["waiting"]) == {1: [at("07:00")]}
    assert json.dumps([str(row["slot"]) for row in found.amiss]) == '["2026-03-02 07:00:00+00:00"]'


def test_the_whole_history_begins_with_the_first_job(stage: Stage) -> None:
    stage.job(every="1h")
    live(stage, at("09:00"))
    stage.clock.turn(timedelta(minutes=1))
    found = stage.kit.log(None).coverage()
    assert found.start == MONDAY
    assert found.total.words == "100 % of 3 slots"
