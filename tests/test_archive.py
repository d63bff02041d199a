"""The archive: what leaves the tables is in its files, once, whatever happens meanwhile."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Sequence
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
    assert {row.kind for row in rows} == {"runs", "attempts", "ended", "outcomes", "busy", "peaks"}
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
            sa.select(output.c.text).where(
                output.c.dispatch_id == chosen.dispatch_id, output.c.attempt == chosen.attempt
            )
        ).scalars()
        texts = list(said)
    keeping(aged, 0).archive.run()
    for row in manifest_rows(aged):
        path = row.url.removeprefix("file://")
        if row.kind == "attempts":
            rows = duckdb.read_parquet(path, hive_partitioning=False)
            names = rows.columns
            found = rows.filter(f"id = {chosen.id}").fetchall()
            assert names == [*(column.name for column in attempts.c), "output"]
            if found:
                held = dict(zip(names, found[0], strict=True))
                assert held["claimed_at"] == chosen.claimed_at.replace(tzinfo=None)
                assert json.loads(held["provenance"]) == chosen.provenance
                assert [chunk["text"] for chunk in held["output"]] == texts
                return
    raise AssertionError("the attempt is in no file")


def test_files_are_sorted_and_two_engines_read_them_and_can_leave_parts_out(aged: Kit) -> None:
    import duckdb
    import polars

    keeping(aged, 0).archive.run()
    for row in manifest_rows(aged):
        path = row.url.removeprefix("file://")
        asked = f"SELECT format_version FROM parquet_file_metadata('{path}')"
        assert duckdb.sql(asked).fetchall() == [(2,)]
        by = {"runs": "completed_at", "attempts": "claimed_at"}.get(row.kind)
        if by is None:
            continue
        frame = polars.read_parquet(path, hive_partitioning=False)
        assert len(frame) == row.rows
        assert frame.select(by, "id").rows() == sorted(frame.select(by, "id").rows())
        assert frame.rows() == duckdb.read_parquet(path, hive_partitioning=False).fetchall()
        of_groups = duckdb.sql(
            "SELECT DISTINCT compression, stats_min_value IS NOT NULL, stats_max_value IS NOT NULL "
            f"FROM parquet_metadata('{path}') WHERE path_in_schema = '{by}'"
        ).fetchall()
        assert of_groups == [("ZSTD", True, True)]


@pytest.mark.parametrize("days", [-400, 40])
def test_an_attempt_that_a_wrong_clock_claimed_leaves_with_its_run(aged: Kit, days: int) -> None:
    with aged.database.write() as connection:
        odd = connection.execute(
            sa.select(attempts.c.id, attempts.c.dispatch_id, attempts.c.attempt)
            .join(runs, runs.c.id == attempts.c.dispatch_id)
            .where(runs.c.completed_at < datetime(2026, 1, 1, tzinfo=UTC))
            .order_by(attempts.c.id)
            .limit(1)
        ).one()
        at = {"claimed_at": datetime(2025, 12, 15, tzinfo=UTC) + timedelta(days=days)}
        connection.execute(attempts.update().where(attempts.c.id == odd.id).values(at))
        its = (output.c.dispatch_id == odd.dispatch_id) & (output.c.attempt == odd.attempt)
        connection.execute(output.update().where(its).values(at))
    before = contents(aged.database)
    for month in months_of(keeping(aged, 0).archive.run()):
        aged.archive.restore(month)
    assert contents(aged.database) == before


def test_attempts_that_printed_megabytes_are_written_in_little_memory(tmp_path: Path) -> None:
    from jobkit.archive.frames import ATTEMPT_COLUMNS, OUTPUT_COLUMNS
    from jobkit.archive.staging import MEMORY, Staging

    at = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)
    count, chunks, size = 30, 32, 262_144

    def attempt(number: int) -> tuple[Any, ...]:
        known = {"id": number, "job_id": 1, "run_time": at, "status": "SUCCESS", "attempt": 1}
        known |= {"dispatch_id": number, "claimed_at": at, "output_bytes": chunks * size}
        return tuple(known.get(column.name) for column in ATTEMPT_COLUMNS)

    def said(run_ids: Sequence[int]) -> list[tuple[Any, ...]]:
        names = [column.name for column in OUTPUT_COLUMNS]
        assert names == ["dispatch_id", "attempt", "seq", "at", "stream", "text"]
        return [
            (run, 1, seq, at, "output", f"{run}-{seq} " + "x" * size)
            for run in run_ids
            for seq in range(chunks)
        ]

    staging = Staging(tmp_path, [])
    staging.load_runs([])
    staging.load_attempts([[attempt(number) for number in range(count)]], said)
    assert count * chunks * size > int(MEMORY.removesuffix("MB")) << 20
    (file,) = [file for file in staging.write("2026-01", "x", {}) if file.kind == "attempts"]
    assert file.facts.rows == count


def test_odd_text_comes_back_byte_by_byte(stage: Stage, place: Path) -> None:
    odd = "a\u2400b 😀 \r\n\t'\"\\ {json: [1]} \u2028 ünï \x1b[31m" + "x" * 300_000
    stage.job(params={"q": 'it\'s "so"', "n": [1, None, 1.5, "😀"]})
    run = stage.kit.submit("sales", day="2026-03-01\\n")
    claim = stage.claim_one()
    chunks = [(seq, stage.clock.now(), odd[i : i + 200_000], "output")
              for seq, i in enumerate(range(0, len(odd), 200_000))]  # fmt: skip
    from jobkit.store import claims

    with stage.kit.database.write() as connection:
        claims.write_output(connection, claim, chunks)
    stage.clock.turn(timedelta(seconds=2))
    stage.finish(claim, exit_code=3)
    stage.clock.turn(timedelta(days=200))
    kit = keeping(stage.kit, 0, archive_url=str(place))
    kit.cancel(run.id)  # it waits for its retry
    stage.clock.turn(timedelta(seconds=1))
    before = contents(stage.kit.database)
    assert sum(part.runs for part in kit.archive.run("0s").parts) == 1
    assert contents(kit.database)["job_output"] == []
    kit.archive.restore("2026-09")
    assert contents(kit.database) == before


def test_the_last_runs_of_a_job_stay(aged: Kit) -> None:
    keeping(aged, 5).archive.run("0s")
    with aged.database.read() as connection:
        newest = leaving.newest(connection, 5)
        left = set(connection.scalars(sa.select(runs.c.id).where(runs.c.completed_at.is_not(None))))
    assert left <= newest
    assert keeping(aged, 5).archive.run("0s").parts == ()


def test_late_runs_become_another_part(aged: Kit) -> None:
    keeping(aged, 30).archive.run()
    first = {row.part for row in manifest_rows(aged)}
    passed = keeping(aged, 0).archive.run()
    assert passed.parts
    assert {part.part for part in passed.parts}.isdisjoint(first)
    assert aged.archive.verify().faults == ()
    assert set(counted(aged).values()) == {1}


def test_a_dry_run_says_what_would_leave_and_writes_nothing(aged: Kit, place: Path) -> None:
    before = contents(aged.database)
    planned = aged.archive.run(dry_run=True)
    assert contents(aged.database) == before
    assert not place.exists()
    assert [(part.month, part.runs) for part in planned.parts] == [
        (part.month, part.runs) for part in aged.archive.run().parts
    ]


def test_what_an_older_system_left_stays(aged: Kit) -> None:
    with aged.database.write() as connection:
        first = connection.scalar(sa.select(sa.func.min(runs.c.id)))
        connection.execute(runs.update().where(runs.c.id == first).values(job_version=None))
    aged.archive.run()
    with aged.database.read() as connection:
        assert connection.scalar(sa.select(runs.c.id).where(runs.c.id == first)) == first


def test_the_laws_hold_before_during_and_after(aged: Kit) -> None:
    def broken() -> list[Any]:
        return [finding for finding in aged.verify() if finding.broken]

    aged.settings = aged.settings.model_copy(update={"cleanup_retention_days": 0})
    assert broken() == []
    steps: list[str] = []

    def look(step: str) -> None:
        if step in ("listed", "dropped", "removed", "begun") or step not in steps:
            assert broken() == [], step
        steps.append(step)

    aged.archive.run(reached=look)
    assert broken() == []
    aged.archive.restore("2026-01", reached=look)
    assert broken() == []
    assert {"staged", "written", "put runs", "listed", "removing", "restoring"} <= set(steps)


STEPS = (
    ("staged", 1),
    ("written", 1),
    ("half put runs", 1),
    ("put runs", 1),
    ("half put attempts", 1),
    ("put peaks", 1),
    ("listed", 1),
    ("removing", 1),
    ("removing", 2),
    ("removed", 1),
    ("listed", 2),
    ("removing", 4),
)


@pytest.mark.parametrize(("step", "times"), STEPS)
def test_a_crash_at_any_step_loses_and_doubles_nothing(
    aged: Kit, database: str, place: Path, step: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_ARCHIVE_KEEP_RUNS", "2")
    monkeypatch.setenv("JOBKIT_ARCHIVE_AFTER_DAYS", "20")
    before = contents(aged.database)
    assert run_until(database, place, step, times=times) == -signal.SIGKILL
    everything = dict.fromkeys(range(1, len(before["job_dispatch"]) + 1), 1)
    assert counted(aged) == everything
    aged.archive.run()
    assert counted(aged) == everything
    assert all(row.removed_at is not None for row in manifest_rows(aged))
    assert aged.archive.verify().faults == ()
    for month in ("2025-12", "2026-01"):
        aged.archive.restore(month)
    assert contents(aged.database) == before


@pytest.mark.parametrize(("step", "times"), [("begun", 1), ("restoring", 1), ("restoring", 2)])
def test_a_crash_while_a_month_comes_back_loses_and_doubles_nothing(
    aged: Kit, database: str, place: Path, step: str, times: int
) -> None:
    before = contents(aged.database)
    aged.archive.run()
    everything = dict.fromkeys(range(1, len(before["job_dispatch"]) + 1), 1)
    assert run_until(database, place, step, times=times, what="2026-01") == -signal.SIGKILL
    assert counted(aged) == everything
    aged.archive.run()  # does not remove what somebody may be restoring
    assert counted(aged) == everything
    for month in ("2025-12", "2026-01"):
        aged.archive.restore(month)
    assert contents(aged.database) == before


def test_a_restore_that_was_given_up_leaves_again(aged: Kit, database: str, place: Path) -> None:
    aged.archive.run()
    after = contents(aged.database)
    run_until(database, place, "restoring", what="2026-01")
    aged.clock.turn(timedelta(days=2))  # type: ignore[attr-defined]
    assert len(aged.archive.run().removed) == 1
    assert contents(aged.database) == after


def test_two_archivers_at_once_make_each_part_once(aged: Kit, database: str) -> None:
    before = contents(aged.database)
    barrier = threading.Barrier(2)
    done: list[Passed] = []

    def archive() -> None:
        with jobkit.connect(database) as kit:
            kit.clock = kit.database.clock = aged.clock
            kit.settings = aged.settings
            barrier.wait()
            done.append(kit.archive.run())

    threads = [threading.Thread(target=archive) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
    aged.archive.run()
    assert set(counted(aged).values()) == {1}
    assert len(counted(aged)) == len(before["job_dispatch"])
    assert aged.archive.verify().faults == ()
    assert sorted(month for passed in done for month in months_of(passed)) == ["2025-12", "2026-01"]


def test_while_runs_are_made_and_ended_an_archiver_takes_only_what_is_over(
    aged: Kit, database: str
) -> None:
    stop = threading.Event()
    made: list[int] = []

    def write() -> None:
        with jobkit.connect(database) as kit:
            name = next(iter(kit.jobs)).name
            while not stop.is_set():
                made.append(kit.submit(name).id)
                kit.cancel(made[-1])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        aged.archive.run()
    finally:
        stop.set()
        thread.join()
    seen = counted(aged)
    assert set(seen.values()) == {1}
    assert set(made) <= set(seen)
    assert aged.archive.verify().faults == ()


def test_readers_see_every_run_once_at_every_instant(aged: Kit) -> None:
    before = len(contents(aged.database)["job_dispatch"])
    looks = 0

    def look(step: str) -> None:
        nonlocal looks
        looks += 1
        seen = counted(aged)
        assert len(seen) == before, step
        assert set(seen.values()) == {1}, step

    aged.archive.run(reached=look)
    for month in ("2025-12", "2026-01"):
        aged.archive.restore(month, reached=look)
    assert looks > 20


def damage(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 0xFF
    path.write_bytes(held)


@pytest.mark.parametrize(("harm", "words"), [(damage, "damaged"), (Path.unlink, "is not there")])
def test_a_file_that_is_damaged_or_missing_is_named(
    aged: Kit,
    harm: Callable[[Path], Any],
    words: str,
    database: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    aged.archive.run()
    row = next(row for row in manifest_rows(aged) if row.kind == "attempts")
    harm(Path(row.url.removeprefix("file://")))
    checked = aged.archive.verify()
    assert [(fault.url, fault.month) for fault in checked.faults] == [(row.url, row.month)]
    assert words in checked.faults[0].words
    with pytest.raises(SystemExit) as ended:
        cli.main(["--db", database, "archive", "verify", "--json"])
    assert ended.value.code == 1
    assert json.loads(capsys.readouterr().out)["faults"][0]["url"] == row.url
    after = contents(aged.database)
    with pytest.raises(jobkit.JobkitError, match=words):
        aged.archive.restore(row.month)
    assert contents(aged.database) == after


def test_rows_whose_file_is_damaged_before_they_left_stay(
    aged: Kit, database: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_ARCHIVE_KEEP_RUNS", "2")
    monkeypatch.setenv("JOBKIT_ARCHIVE_AFTER_DAYS", "20")
    run_until(database, place, "removing")
    (row,) = [row for row in manifest_rows(aged) if row.kind == "runs"]
    damage(Path(row.url.removeprefix("file://")))
    left = contents(aged.database)
    passed = aged.archive.run("62d")
    assert row.month in passed.faults[0]
    assert contents(aged.database) == left


def test_files_that_no_manifest_names_are_swept_when_they_are_a_day_old(
    aged: Kit, place: Path
) -> None:
    aged.archive.run()
    known = [path for path in place.glob("**/*.parquet")]
    month = place / "runs" / "month=2025-12"
    stray = month / "part-00000000-0000-0000-0000-000000000000.parquet"
    fresh = month / "part-00000000-0000-0000-0000-000000000001.parquet"
    foreign = place / "notes.parquet"
    for path in (stray, fresh, foreign):
        path.write_bytes(b"x")
    now = aged.clock.now().timestamp()
    for path in [stray, foreign, *known]:
        os.utime(path, (now - 90_000, now - 90_000))
    os.utime(fresh, (now - 3600, now - 3600))
    assert aged.archive.run().swept == 1
    assert not stray.exists()
    assert all(path.exists() for path in [fresh, foreign, *known])


def test_a_bucket_holds_an_archive(aged: Kit, bucket: str) -> None:
    before = contents(aged.database)
    passed = aged.archive.run(to=bucket)
    assert passed.parts
    assert all(row.url.startswith(f"{bucket}/") for row in manifest_rows(aged))
    checked = aged.archive.verify()
    assert checked.faults == ()
    assert checked.runs == sum(part.runs for part in passed.parts)
    place = open_place(bucket)
    things = place.things()
    assert len(things) == len(manifest_rows(aged))
    gone = next(row for row in manifest_rows(aged) if row.kind == "busy")
    place.delete(gone.url.removeprefix(f"{bucket}/"))
    assert [fault.url for fault in aged.archive.verify().faults] == [gone.url]
    for month in months_of(passed):
        aged.archive.restore(month)
    assert contents(aged.database) == before


@pytest.fixture(params=["folder", "s3"])
def where(request: pytest.FixtureRequest, place: Path) -> str:
    """A folder, or a bucket that speaks S3."""
    return str(place) if request.param == "folder" else request.getfixturevalue("bucket")


def test_a_key_that_is_taken_is_not_written_over(where: str, tmp_path: Path) -> None:
    key = "runs/month=2026-01/part-00000000-0000-0000-0000-000000000000.parquet"
    one, two, back = tmp_path / "one", tmp_path / "two", tmp_path / "back"
    one.write_bytes(b"one")
    two.write_bytes(b"two")
    opened = open_place(where)
    opened.put(key, one)
    with pytest.raises(jobkit.JobkitError, match="cannot be written"):
        opened.put(key, two)
    opened.fetch(key, back)
    assert back.read_bytes() == b"one"


def test_postgresql_drops_the_partition_of_a_month(postgres_database: str, place: Path) -> None:
    with jobkit.connect(postgres_database) as kit:
        live(kit)
        before = contents(kit.database)
        steps: list[str] = []
        archived = keeping(kit, 2, archive_url=str(place), archive_after_days=20)
        archived.archive.run(reached=steps.append)
        names = set(sa.inspect(kit.database.engine).get_table_names())
        assert "job_output_202512" not in names
        assert "job_execution_logs_202601" not in names
        assert "job_execution_logs_202602" in names
        assert set(counted(kit).values()) == {1}
        archived.archive.restore("2025-12")
        archived.archive.restore("2026-01")
        assert contents(kit.database) == before


def test_a_partition_that_somebody_reads_is_emptied_row_by_row(
    postgres_database: str, place: Path
) -> None:
    with jobkit.connect(postgres_database) as kit:
        live(kit)
        archived = keeping(kit, 2, archive_url=str(place), archive_after_days=20)
        with kit.database.read(takes_long=True) as connection:
            connection.execute(sa.select(attempts.c.id).limit(1)).all()
            archived.archive.run()
        names = set(sa.inspect(kit.database.engine).get_table_names())
        assert "job_execution_logs_202512" in names
        assert all(row.removed_at is not None for row in manifest_rows(kit))
        assert set(counted(kit).values()) == {1}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"before": "soon"}, "instant"),
        ({"before": NOW + timedelta(days=1)}, "in the future"),
        ({"to": "ftp://x"}, "no place for an archive"),
    ],
)
def test_what_cannot_be_done_is_said(aged: Kit, given: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        aged.archive.run(**given)


def test_an_archive_without_a_place_and_a_month_that_is_not_there_are_said(kit: Kit) -> None:
    with pytest.raises(BadInput, match="JOBKIT_ARCHIVE_URL"):
        kit.archive.run()
    with pytest.raises(BadInput, match="nothing of 2026-01"):
        kit.archive.restore("2026-01")
    with pytest.raises(BadInput, match="no month"):
        kit.archive.restore("January")


def test_the_commands_archive_check_and_restore(
    aged: Kit, database: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(*words: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            cli.main(["--db", database, "archive", *words, "--json"])
        assert ended.value.code == 0
        return json.loads(capsys.readouterr().out)

    given = ["--before", "2026-01-01", "--to", str(place)]
    planned = ask(*given, "--dry-run")
    assert [part["month"] for part in planned["parts"]] == ["2025-12"]
    assert ask(*given)["parts"][0]["runs"] == planned["parts"][0]["runs"]
    assert ask("verify")["faults"] == []
    assert ask("restore", "2025-12")["runs"] == planned["parts"][0]["runs"]


def test_an_empty_database_has_nothing_to_archive(kit: Kit, place: Path) -> None:
    passed = kit.archive.run(to=str(place))
    assert passed == Passed()
    assert kit.archive.verify().files == 0
    assert kit.archive.months() == []
    assert repr(kit.archive) == "<Archive of 0 runs in 0 months>"
