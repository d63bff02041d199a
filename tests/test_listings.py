"""Jobs, runs and workers as lists: taken by name and number, sliced, filtered, as a table."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from jobkit import Kit, frames
from jobkit.errors import BadInput, NotFound
from jobkit.handles import Run
from tests.stage import Stage


@pytest.fixture
def filled(stage: Stage) -> Stage:
    """Two jobs: runs 1 and 4 failed, 2 completed, 3 waits."""
    stage.job("sales", tags=["daily"], overlap="allow")
    stage.job("stock", queue="gpu", overlap="allow", retries=0)
    stage.register("box-1-abc")
    for name, queue, code in (("stock", "gpu", 1), ("sales", "default", 0)):
        stage.kit.submit(name)
        (claim,) = stage.claim("box-1-abc", queue=queue)
        stage.clock.turn(timedelta(minutes=1))
        stage.finish(claim, exit_code=code)
    stage.clock.turn(timedelta(days=2))
    stage.kit.submit("sales")
    stage.kit.submit("stock")
    (claim,) = stage.claim("box-1-abc", queue="gpu")
    stage.finish(claim, exit_code=1)
    return stage


def ids(runs: list[Run]) -> list[int]:
    return [run.id for run in runs]


def test_jobs_are_attributes_and_items(filled: Stage) -> None:
    jobs = filled.kit.jobs
    assert jobs.sales == jobs["sales"] == filled.kit.job("sales")
    assert {"sales", "stock", "add"} <= set(dir(jobs))
    assert jobs._ipython_key_completions_() == ["sales", "stock"]
    assert [job.name for job in jobs[:1]] == ["sales"]
    assert [job.name for job in jobs(tag="daily")] == ["sales"]
    assert [job.name for job in jobs(queue="gpu")] == ["stock"]
    filled.kit.pause("stock")
    assert [job.name for job in jobs(active=False)] == ["stock"]
    assert (len(jobs), "sales" in jobs, "nope" in jobs) == (2, True, False)


def test_a_name_that_is_nearly_right_is_suggested(filled: Stage) -> None:
    for ask in (lambda kit: kit.jobs["sale"], lambda kit: kit.runs["sale"]):
        with pytest.raises(NotFound, match="Did you mean 'sales'"):
            ask(filled.kit)
    with pytest.raises(AttributeError, match="Did you mean 'sales'"):
        _ = filled.kit.jobs.sale
    with pytest.raises(NotFound, match="See them all"):
        filled.kit.job("zzz")


def test_what_python_asks_of_everything_is_no_job(filled: Stage) -> None:
    assert not hasattr(filled.kit.jobs, "_ipython_display_")
    assert not hasattr(filled.kit.jobs, "__array__")


def test_runs_are_taken_by_number_by_job_and_by_slice(filled: Stage) -> None:
    runs = filled.kit.runs
    assert runs[2].status == "COMPLETED"
    assert ids(runs["sales"]) == [3, 2]
    assert ids(runs[:3]) == [4, 3, 2]
    assert ids(runs[1:4:2]) == [3, 1]
    assert ids(list(runs)) == [4, 3, 2, 1]
    for wrong in (slice(-3, None), slice(None), slice(0, 4, -1)):
        with pytest.raises(BadInput, match=r"kit\.runs"):
            _ = runs[wrong]
    with pytest.raises(NotFound, match="no run 99"):
        _ = runs[99]


def test_runs_are_filtered(filled: Stage) -> None:
    runs = filled.kit.runs
    assert ids(runs(status="failed")) == [4, 1]
    assert ids(runs(status=["FAILED", "completed"], since="1d")) == [4]
    assert ids(runs(tag="daily")) == [3, 2]
    assert ids(runs(job="stock", tag="daily")) == []
    assert ids(runs("sales", limit=1)) == [3]
    assert runs(job="stock")[-1].id == 1
    assert runs(job="sales", status="TIMEOUT") == []
    assert ids(runs()[1:3]) == [3, 2]
    with pytest.raises(BadInput, match=r"'fail' is no status\. Did you mean FAILED"):
        runs(status="fail")
    with pytest.raises(BadInput, match="negative"):
        runs(limit=-1)


def test_runs_of_a_deleted_job_are_still_found_by_its_tag(filled: Stage) -> None:
    filled.kit.delete("sales")
    assert ids(filled.kit.runs(tag="daily")) == [3, 2]
    assert ids([filled.kit.runs(tag="daily").last_success]) == [2]


def test_the_last_is_found_beyond_what_is_listed(filled: Stage) -> None:
    listed = filled.kit.runs(job="sales", limit=1)
    assert ids(listed) == [3]
    assert listed.last is not None
    assert listed.last.id == 3
    assert listed.last_success is not None
    assert listed.last_success.id == 2
    assert listed.last_failure is None
    every = filled.kit.runs
    assert [run and run.id for run in (every.last, every.last_success, every.last_failure)] == [
        4, 2, 4,
    ]  # fmt: skip
    assert filled.kit.runs(status="failed").last_success is None
    assert filled.kit.jobs.stock.runs().last_failure == every[4]


def test_pages_of_a_long_history_follow_each_other(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.listings.runs.PAGE", 3)
    stage.job()
    made = stage.kit.submit_many("sales", [{} for _ in range(7)])
    assert ids(list(stage.kit.runs)) == made[::-1]


def test_workers_are_taken_by_name(filled: Stage) -> None:
    workers = filled.kit.workers
    assert workers["box-1"] == workers["box-1-abc"] == workers()[0]
    assert workers["box-1"].name == "box-1"
    assert workers(queue="default") == list(workers)
    assert workers(queue="gpu") == []
    assert len(workers(status="idle")) == len(workers) == 1
    with pytest.raises(NotFound, match="Did you mean 'box-1'"):
        _ = workers["box"]
    with pytest.raises(BadInput, match="IDLE, BUSY"):
        workers(status="asleep")


def test_tables_have_the_same_columns_with_rows_and_without(filled: Stage) -> None:
    kit = filled.kit
    for full, empty in (
        (kit.runs.df, kit.runs(status="TIMEOUT").df),
        (kit.jobs.df, kit.jobs(tag="none").df),
        (kit.workers.df, kit.workers(queue="none").df),
    ):
        assert full.schema == empty.schema
        assert full.height
        assert not empty.height
    frame = kit.runs.df
    assert frame["id"].to_list() == [4, 3, 2, 1]
    assert frame.schema["created_at"] == pl.Datetime("us", "UTC")
    assert frame.filter(pl.col("id") == 2)["duration"].item() == timedelta(minutes=1)
    assert kit.jobs.df["tags"].to_list() == [["daily"], []]


def test_a_run_names_the_version_that_it_executes(filled: Stage) -> None:
    run = filled.kit.runs[2]
    filled.kit.edit("sales", priority=3)
    assert run.version is not None
    assert (run.version.version, run.version.change) == (1, "created")
    assert filled.kit.submit("sales").version.version == 2  # type: ignore[union-attr]


def test_documents_are_text_in_tables(kit: Kit, workplace: Path) -> None:
    kit.add_job("sales", "hello.py", params={"region": "eu"})
    kit.submit("sales", day="€")
    assert kit.runs.df["params"].item() == '{"region": "eu", "day": "€"}'
    assert frames.of(Run, []).height == 0
