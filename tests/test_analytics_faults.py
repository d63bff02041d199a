"""What reports say when rows leave, files are damaged, clocks disagree, and there is nothing."""

from __future__ import annotations

import shutil
import threading
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

import jobkit
from jobkit.analytics.log import Log
from jobkit.kit import Kit
from jobkit.models import attempts, history_marks, runs
from jobkit.store import history
from tests.archives import NOW, live
from tests.stage import MONDAY, Stage

COUNT = "SELECT count(*) AS n, sum(attempts)::BIGINT AS tries FROM runs"


def counted(kit: Kit) -> tuple[int, int]:
    """Return how many runs there are, and attempts, as a Log sees them."""
    log = kit.log(None)
    runs_, tries = (
        log.sql(f"SELECT count(*) FROM {view}").df.item() for view in ("runs", "attempts")
    )
    return runs_, tries


def truth(kit: Kit) -> tuple[int, int]:
    with kit.database.read() as connection:
        count = sa.func.count()
        return (
            connection.scalar(sa.select(count).select_from(runs)) or 0,
            connection.scalar(sa.select(count).select_from(attempts)) or 0,
        )


def reports(log: Log) -> list[object]:
    return [
        log.throughput(), log.durations(), log.failures(), log.failures(every="1d"),
        log.queue_wait(), log.utilisation(), log.utilisation(by="worker"), log.concurrency(),
        log.late(), log.retries(), log.slowest(), log.flakiest(),
    ]  # fmt: skip


def test_an_empty_history_has_every_report(kit: Kit) -> None:
    for log in (kit.log("2d"), kit.log(None)):
        for report in reports(log):
            assert report._repr_html_()
            assert report.chart.svg.startswith("<svg")
            assert report.missing == ()


def test_one_run_that_still_runs_is_busy(stage: Stage) -> None:
    stage.job("sales", every="1h")
    stage.register()
    stage.tick(MONDAY + timedelta(hours=1))
    stage.claim_one()
    stage.clock.turn(timedelta(minutes=30))
    log = stage.kit.log("2h")
    for report in reports(log):
        assert report._repr_html_()
    assert log.utilisation().df.get_column("busy_seconds").sum() == 1800
    assert log.concurrency().df.get_column("peak").max() == 1


def test_a_clock_that_went_back_makes_no_negative_time(stage: Stage) -> None:
    stage.job("sales", every="1h")
    stage.register()
    stage.tick(MONDAY + timedelta(hours=1))
    claim = stage.claim_one()
    stage.clock.turn(-timedelta(minutes=5))
    stage.finish(claim)
    stage.clock.turn(timedelta(hours=1))
    log = stage.kit.log("3h")
    assert log.utilisation().df.get_column("busy_seconds").sum() == 0
    assert log.concurrency().df.get_column("peak").max() == 0
    assert log.throughput().df.get_column("completed").sum() == 1


def test_open_runs_are_read_again_and_final_ones_only_once(stage: Stage) -> None:
    stage.job("sales", every="1h")
    stage.register()
    for hour in range(1, 6):
        stage.tick(MONDAY + timedelta(hours=hour))
        claim = stage.claim_one()
        assert counted(stage.kit) == truth(stage.kit)
        stage.finish(claim)
        assert counted(stage.kit) == truth(stage.kit) == (hour, hour)
    kept = stage.kit.log("1d").snapshot
    assert kept.runs.is_empty()
    assert sum(part.runs for part in kept.state.parts) == 5


def test_what_is_cleaned_up_is_gone(kit: Kit) -> None:
    live(kit, attempts=300)
    before = counted(kit)
    assert before == truth(kit)
    with kit.database.write() as connection:
        assert history.clean_up(connection, NOW, keep=timedelta(days=60)).run_ids
    assert counted(kit) == truth(kit) < before
    with jobkit.connect(kit.database.url.render_as_string(hide_password=False)) as other:
        other.clock = other.database.clock = kit.clock
        assert counted(other) == truth(kit)


def test_another_history_in_the_same_place_is_not_mixed_up(kit: Kit) -> None:
    live(kit, attempts=300)
    assert counted(kit) == truth(kit)
    with kit.database.write() as connection:
        connection.execute(attempts.delete())
        connection.execute(runs.delete())
    live_again = truth(kit)
    assert live_again == (0, 0)
    with kit.database.write() as connection:
        connection.execute(history_marks.update().values(identity="another"))
    fresh = jobkit.connect(kit.database.url.render_as_string(hide_password=False))
    fresh.clock = fresh.database.clock = kit.clock
    assert counted(fresh) == (0, 0)
    fresh.close()


def test_archiving_and_restoring_change_no_figure(kit: Kit, tmp_path: Path) -> None:
    live(kit, attempts=400)
    wanted = counted(kit)
    kit.archive.run(NOW - timedelta(days=30), str(tmp_path / "archive"))
    assert counted(kit) == wanted
    kit.archive.run(NOW, str(tmp_path / "archive"))
    assert counted(kit) == wanted
    for month in kit.archive.months():
        kit.archive.restore(month.month)
        assert counted(kit) == wanted
    assert truth(kit) == wanted


@pytest.mark.parametrize("harm", ["gone", "damaged"])
def test_a_file_that_cannot_be_read_is_named_and_the_rest_answers(
    kit: Kit, tmp_path: Path, harm: str
) -> None:
    live(kit, attempts=400)
    kit.archive.run(NOW, str(tmp_path / "archive"))
    total = counted(kit)
    shutil.rmtree(tmp_path / "cache")
    file = min((tmp_path / "archive" / "attempts").rglob("*.parquet"))
    if harm == "gone":
        file.unlink()
    else:
        file.write_bytes(b"PAR1" + file.read_bytes()[4:-3] + b"xxx")
    with jobkit.connect(kit.database.url.render_as_string(hide_password=False)) as fresh:
        fresh.clock = fresh.database.clock = kit.clock
        report = fresh.log(None).durations()
        assert [Path(name).name for name in report.missing] == [file.name]
        assert file.name in report.caption
        assert report.df.height > 0
        runs_, tries = counted(fresh)
        assert runs_ == total[0]
        assert 0 < tries < total[1]


def test_threads_and_programs_share_the_cache(kit: Kit) -> None:
    live(kit, attempts=300)
    wanted, found = truth(kit), []
    url = kit.database.url.render_as_string(hide_password=False)

    def ask() -> None:
        with jobkit.connect(url) as own:
            own.clock = own.database.clock = kit.clock
            found.append(counted(own))
            found.append(counted(kit))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [wanted] * 8


def test_failures_are_grouped_by_exception_and_own_frame(stage: Stage) -> None:
    stage.job("sales", every="1h", retries=0)
    stage.register()
    trace = (
        'Traceback (most recent call last):\n  File "/x/hello.py", line {0}, in load\n    parse\n'
        '  File "/usr/lib/python3.11/json/decoder.py", line 355, in raw_decode\n    raise E\n'
        "json.decoder.JSONDecodeError: Expecting value: line {0}\n"
    )
    outputs = [trace.format(3), trace.format(9), "no space left\n"]
    for hour, said in enumerate(outputs, 1):
        stage.tick(MONDAY + timedelta(hours=hour))
        for claim in stage.claim(limit=5):
            stage.finish(claim, exit_code=2)
        with stage.kit.database.write() as connection:
            fresh = attempts.c.log_output == "out"
            connection.execute(attempts.update().where(fresh).values(log_output=said))
    stage.clock.turn(timedelta(minutes=1))
    found = stage.kit.log("1d").failures().df
    signatures = dict(found.select("signature", "failures").iter_rows())
    assert signatures == {"json.decoder.JSONDecodeError in hello.py, load": 2, "exit code 2": 1}
