"""Reports equal what plain Python finds in the rows, be they in the tables, archived, or both."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from polars.testing import assert_frame_equal

from jobkit import models
from jobkit.analytics.hot import SEALED_ROWS
from jobkit.analytics.hours import Tally
from jobkit.analytics.log import Log
from jobkit.analytics.report import Report
from jobkit.analytics.shelf import Shelf
from jobkit.kit import Kit
from jobkit.testing import ManualClock
from tests import figures
from tests.archives import NOW, live
from tests.figures import Facts

PLACES = ("hot", "mixed", "cold")
ZONE = "Europe/Paris"
DAYS = timedelta(days=45)


@pytest.fixture(params=PLACES)
def story(kit: Kit, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Log, Facts]:
    """A log of 45 days of a generated history, which is archived in part, and its rows."""
    live(kit, attempts=900)
    facts = figures.read(kit, NOW - DAYS, NOW)
    if request.param != "hot":
        kit.log("1d").snapshot  # noqa: B018 - what is archived was in the cache before
        before = NOW - timedelta(days=20) if request.param == "mixed" else NOW
        kit.archive.run(before, str(tmp_path / "archive"))
    return kit.log((NOW - DAYS, NOW), tz=ZONE), facts


def rows(report: Report, *keys: str) -> dict[Any, dict[str, Any]]:
    assert report.missing == ()
    return {
        tuple(row[key] for key in keys) if len(keys) > 1 else row[keys[0]]: row
        for row in report.df.to_dicts()
    }


def close(found: dict[Any, dict[str, Any]], wanted: dict[Any, dict[str, Any]]) -> None:
    assert set(found) == set(wanted)
    for key, figures_ in wanted.items():
        for name, value in figures_.items():
            assert found[key][name] == pytest.approx(value, rel=1e-9, abs=1e-9), (key, name)


def test_a_job_with_two_tags_counts_in_the_groups_of_both(kit: Kit) -> None:
    kit.clock = kit.database.clock = ManualClock(NOW)
    for name, tags in (("both", ["a", "b"]), ("one", ["a"]), ("none", [])):
        kit.add_job(name, "hello.py", tags=tags)
        run = kit.submit(name)
        run.cancel()
    log = kit.log((NOW - timedelta(hours=1), NOW + timedelta(hours=1)))
    report = log.throughput(every=None, by="tag")
    assert list(report.df.select("tag", "ended").iter_rows()) == [("a", 2), ("b", 1), (None, 1)]
    assert "none" in report.chart.svg
    asked = log.sql("SELECT job, tags FROM jobs ORDER BY job").df
    assert list(asked.iter_rows()) == [("both", ["a", "b"]), ("none", None), ("one", ["a"])]


@pytest.mark.parametrize("every", ["1h", "6h", "1d"])
def test_throughput_over_time(story: tuple[Log, Facts], every: str) -> None:
    log, facts = story
    starts = figures.edges(facts, every, ZONE)
    found = rows(log.throughput(every=every), "bucket")
    assert list(found) == starts
    wanted = figures.throughput(facts, lambda run: figures.in_bucket(run.completed_at, starts))
    close({at: row for at, row in found.items() if row["ended"]}, wanted)


def test_throughput_by_job_and_hour_of_the_day(story: tuple[Log, Facts]) -> None:
    log, facts = story
    by_job = figures.throughput(facts, lambda run: facts.jobs[run.job_id])
    close(rows(log.throughput(every=None, by="job"), "job"), by_job)
    hours = figures.throughput(facts, lambda run: log.as_local(run.completed_at).hour)
    close(rows(log.throughput(every=None, by="hour"), "hour"), hours)
    queues = figures.throughput(facts, lambda run: run.queue)
    close(rows(log.throughput(every=None, by="queue"), "queue"), queues)


def test_durations_by_job_and_by_day(story: tuple[Log, Facts]) -> None:
    log, facts = story
    close(rows(log.durations(), "job"), figures.durations(facts, lambda a: facts.jobs[a.job_id]))
    starts = figures.edges(facts, "1d", ZONE)
    found = rows(log.durations(by=None, every="1d"), "bucket")
    wanted = figures.durations(facts, lambda a: figures.in_bucket(a.finished_at, starts))
    close({at: row for at, row in found.items() if row["attempts"]}, wanted)


def test_queue_wait_by_queue_worker_and_day(story: tuple[Log, Facts]) -> None:
    log, facts = story
    queues = {run.id: run.queue for run in facts.runs}
    close(
        rows(log.queue_wait(by="queue", every=None), "queue"),
        figures.queue_wait(facts, lambda a: queues[a.dispatch_id]),
    )
    by_worker = figures.queue_wait(facts, lambda a: a.worker_id)
    close(rows(log.queue_wait(by="worker", every=None), "worker"), by_worker)
    starts = figures.edges(facts, "1d", ZONE)
    found = rows(log.queue_wait(by="worker", every="1d"), "bucket", "worker")
    wanted = figures.queue_wait(
        facts, lambda a: (figures.in_bucket(a.claimed_at, starts), a.worker_id)
    )
    close(found, wanted)


def test_the_share_of_failures(story: tuple[Log, Facts]) -> None:
    log, facts = story
    starts = figures.edges(facts, "1d", ZONE)

    def day(row: Any) -> datetime:
        return figures.in_bucket(row.finished_at or row.claimed_at, starts)

    found = rows(log.failures(every="1d"), "bucket")
    got = {at: (row["attempts"], row["failures"]) for at, row in found.items() if row["attempts"]}
    assert got == figures.failure_rate(facts, day)
    total = sum(failed for _, failed in got.values())
    assert log.failures().df.get_column("failures").sum() == total > 0


def test_utilisation_counts_overlaps_once_and_slots_each(story: tuple[Log, Facts]) -> None:
    log, facts = story
    starts = [*figures.edges(facts, "6h", ZONE), facts.end]
    spans = figures.spans(facts, log.as_of)
    fleet = rows(log.utilisation(every="6h"), "bucket")
    single = rows(log.utilisation(every="6h", by="worker"), "bucket", "worker")
    peaks = rows(log.concurrency(every="6h"), "bucket")
    seen = 0
    for low, high in pairwise(starts):
        workers, peak = figures.busy(spans, low, high)
        seconds = (high - max(low, facts.start)).total_seconds()
        work = sum(item[1] for item in workers.values())
        assert peaks[low]["peak"] == peak, low
        assert peaks[low]["mean"] == pytest.approx(work / seconds)
        assert fleet[low]["busy_seconds"] == pytest.approx(sum(i[0] for i in workers.values()))
        assert fleet[low]["work_seconds"] == pytest.approx(work)
        for worker, (union, total) in workers.items():
            row = single[low, worker]
            assert row["busy"] == pytest.approx(union / seconds)
            assert row["utilisation"] == pytest.approx(total / seconds / facts.slots.get(worker, 1))
            seen += 1
    assert seen > 50


def test_lateness_retries_and_flaky_jobs(story: tuple[Log, Facts]) -> None:
    log, facts = story
    names = ("slots", "on_time", "late", "missed", "skipped", "waiting")
    got = {row["job"]: tuple(row[n] for n in names) for row in log.late().df.to_dicts()}
    assert got == figures.late(facts, 60)
    names = ("runs", "attempts", "retried", "recovered", "gave_up", "lost")
    got = {row["job"]: tuple(row[n] for n in names) for row in log.retries().df.to_dicts()}
    assert got == figures.retries(facts)
    got = {row["job"]: (row["runs"], row["flaky"]) for row in log.flakiest(1000).df.to_dicts()}
    assert got == figures.flaky(facts)


def test_the_slowest_attempts_and_what_changed(story: tuple[Log, Facts]) -> None:
    log, facts = story
    found = [(row["run_id"], row["seconds"]) for row in log.slowest(15).df.to_dicts()]
    assert found == figures.slowest(facts, 15)
    before = Facts(
        facts.jobs, facts.runs, facts.attempts, facts.slots, NOW - DAYS - timedelta(7), NOW - DAYS
    )
    compared = rows(log.compare("7d"), "job")
    then = figures.durations(before, lambda a: facts.jobs[a.job_id])
    now = figures.durations(facts, lambda a: facts.jobs[a.job_id])
    for job, row in compared.items():
        assert row["p50"] == (pytest.approx(now[job]["p50"]) if job in now else None)
        assert row["p50_before"] == (pytest.approx(then[job]["p50"]) if job in then else None)


def test_views_hold_the_rows_that_touch_the_window(story: tuple[Log, Facts]) -> None:
    log, facts = story
    counted = log.sql("SELECT count(*) AS n FROM runs").df.item()
    assert counted == sum(
        min(r.created_at, r.scheduled_for or r.created_at) < facts.end
        and (r.completed_at is None or r.completed_at >= facts.start)
        for r in facts.runs
    )
    found = log.sql("SELECT attempt_id, job, queue FROM attempts ORDER BY 1").df
    assert found.get_column("attempt_id").to_list() == sorted(
        a.id
        for a in facts.attempts
        if a.claimed_at < facts.end and max(a.claimed_at, a.finished_at) >= facts.start
    )
    assert found.null_count().sum_horizontal().item() == 0


def test_a_lazy_frame_holds_the_same_as_a_view(story: tuple[Log, Facts]) -> None:
    log, _ = story
    for view, key in (("attempts", "attempt_id"), ("runs", "run_id")):
        lazy = log.scan(view).collect().sort(key)
        asked = log.sql(f"SELECT * FROM {view} ORDER BY {key}").df
        assert_frame_equal(lazy.select(asked.columns), asked, rel_tol=1e-12)


def test_a_whole_history_begins_with_its_first_slot_making_or_claim(
    kit: Kit, tmp_path: Path
) -> None:
    live(kit, attempts=300)
    table = models.runs.c
    done = sa.select(table.id, table.created_at).where(table.status == "COMPLETED")
    with kit.database.write() as connection:  # clocks that were behind
        first, second = connection.execute(done.order_by(table.created_at).limit(2)).all()
        early = first.created_at - timedelta(hours=3)
        its = models.attempts.c.dispatch_id == first.id
        connection.execute(models.attempts.update().where(its).values(claimed_at=early))
        late = {"scheduled_for": early + timedelta(hours=1)}
        connection.execute(models.runs.update().where(table.id == second.id).values(**late))
    asked = (
        "SELECT least((SELECT min(least(created_at, scheduled_for)) FROM runs), "
        "(SELECT min(claimed_at) FROM attempts)) AS first"
    )
    assert kit.log(None).span.start == early
    for before in (NOW - timedelta(days=30), NOW):
        kit.archive.run(before, str(tmp_path / "archive"))
        log = kit.log(None)
        assert log.span.start == log.sql(asked).df.item() == early
    for month in kit.archive.months():
        kit.archive.restore(month.month)
        log = kit.log(None)
        assert log.span.start == log.sql(asked).df.item() == early


def test_roll_ups_count_what_the_rows_count(kit: Kit, tmp_path: Path) -> None:
    live(kit, attempts=600)
    windows = [None, (NOW - timedelta(days=75, minutes=17), NOW - timedelta(minutes=3)), "40d"]
    asked = [
        (window, zone, every, by)
        for window in windows
        for zone in ("UTC", "Europe/Paris", "Asia/Kolkata")
        for every in ("1h", "1d", "15m", None)
        for by in (None, "job", "worker", "queue", "trigger", "status", "hour")
    ]

    def counted() -> list[Any]:
        logs = {(w, z): kit.log(w, tz=z) for w, z, _, _ in asked}
        return [logs[w, z].throughput(every, by).df for w, z, every, by in asked]

    def used() -> int:
        log = kit.log(None)
        return len(log.shelf.rolled("outcomes", log.snapshot, log.sources, log.window)[1])

    wanted = counted()
    assert used() == 0
    for days in (50, 45, 10, 0):  # several parts a month
        kit.archive.run(NOW - timedelta(days=days), str(tmp_path / "archive"))
        assert used() > 0
        for before, now in zip(wanted, counted(), strict=True):
            assert_frame_equal(now, before, check_row_order=False)
    kit.archive.restore(kit.archive.months()[1].month)
    assert used() > 0
    for before, now in zip(wanted, counted(), strict=True):
        assert_frame_equal(now, before, check_row_order=False)


def test_busy_time_and_peaks_are_those_of_rows_wherever_these_are(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(kit, attempts=900)
    worker = kit.workers()[0].worker_id
    borders = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3)]
    across = [(at - timedelta(hours=3), at + timedelta(hours=2)) for at in borders]
    across += [(at, at + timedelta(hours=1)) for at in borders]  # beside, and exactly an hour
    write_attempts(kit, worker, across)
    windows = [None, (NOW - timedelta(days=75, minutes=17), NOW - timedelta(minutes=3)), "40d"]
    zones = ("UTC", "America/New_York", "Asia/Kolkata")

    def measured() -> list[Any]:
        logs = [kit.log(window, tz=zone) for window in windows for zone in zones]
        return [
            frame
            for log in logs
            for every in ("1h", "1d")
            for frame in (
                log.utilisation(every).df,
                log.utilisation(every, by="worker").df,
                log.concurrency(every).df,
            )
        ]

    with monkeypatch.context() as patch:
        patch.setattr(Shelf, "tally", lambda *_: None)
        wanted = measured()

    def compare() -> None:
        for sealed in (0, SEALED_ROWS):  # the last part is rolled up, or counted from its rows
            monkeypatch.setattr("jobkit.analytics.hours.SEALED_ROWS", sealed)
            for rows, rolled in zip(wanted, measured(), strict=True):
                assert_frame_equal(rolled, rows, check_row_order=False, check_exact=True)

    def tally() -> Tally | None:
        log = kit.log(None)
        return log.shelf.tally(log.snapshot, log.sources)

    compare()
    for days in (50, 45, 10, 0):  # several parts a month
        kit.archive.run(NOW - timedelta(days=days), str(tmp_path / "archive"))
        assert tally() is not None
        compare()
    kit.archive.restore(kit.archive.months()[1].month)
    compare()


def write_attempts(kit: Kit, worker: str, spans: list[tuple[datetime, datetime]]) -> None:
    """Add finished runs of the first job that were executed in these spans."""
    with kit.database.write() as connection:
        first = connection.scalar(sa.select(sa.func.max(models.runs.c.id))) + 1
        job, version = connection.execute(
            sa.select(models.jobs.c.id, models.jobs.c.version).limit(1)
        ).one()
        common = {"job_id": job, "worker_id": worker, "attempt": 1}
        connection.execute(models.runs.insert(), [
            {**common, "id": first + n, "status": "COMPLETED", "trigger": "manual",
             "queue": "default", "priority": 0, "created_at": s, "available_at": s,
             "claimed_at": s, "completed_at": e, "job_version": version}
            for n, (s, e) in enumerate(spans)
        ])  # fmt: skip
        connection.execute(models.attempts.insert(), [
            {**common, "dispatch_id": first + n, "status": "SUCCESS", "run_time": s,
             "queued_at": s, "claimed_at": s, "started_at": s, "finished_at": e}
            for n, (s, e) in enumerate(spans)
        ])  # fmt: skip
