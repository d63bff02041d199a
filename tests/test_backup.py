"""Backups: a copy of one instant while programs write, and a way back that loses nothing."""

from __future__ import annotations

import json
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

import jobkit
from jobkit import backup, migrations
from jobkit.db import copies
from jobkit.errors import BackupFailed, BadInput, Conflict, DatabaseRefused
from jobkit.kit import Kit
from jobkit.settings import Settings, load
from jobkit.store import claims
from tests.disk import make_disk
from tests.stage import Stage, set_stage
from tests.test_processes import Processes, until


@pytest.fixture
def stage(sqlite_database: str) -> Iterator[Stage]:
    opened = set_stage(sqlite_database)
    yield opened
    opened.kit.close()


@pytest.fixture
def chosen(sqlite_database: str) -> Settings:
    return load(db_url=sqlite_database)


@pytest.fixture
def file(chosen: Settings) -> Path:
    """The database's file."""
    found = copies.file_of(backup.parse_url(chosen.db_url))
    assert found is not None
    return found


def some_runs(kit: Kit, count: int = 3) -> list[int]:
    if "sales" not in kit.jobs:
        kit.add_job("sales", "hello.py", overlap="allow")
    return [kit.submit("sales").id for _ in range(count)]


def ids(kit: Kit) -> list[int]:
    return sorted(run.id for run in kit.runs(limit=1000))


def damage(path: Path) -> None:
    """Overwrite pages in the middle, as a bad disk does."""
    content = bytearray(path.read_bytes())
    content[4096 * 3 : 4096 * 12] = b"\xa5" * (4096 * 9)
    path.write_bytes(content)


def make_large(url: str) -> None:
    """Make a copy take many steps."""
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as opened:
        opened.execute("CREATE TABLE ballast (block BLOB)")
        opened.executemany("INSERT INTO ballast VALUES (zeroblob(100000))", [()] * 300)
        opened.commit()


def test_a_backup_under_load_loses_no_run_and_is_sound_when_restored(
    sqlite_database: str, workplace: Path, tmp_path: Path
) -> None:
    make_large(sqlite_database)
    loaded = Processes(sqlite_database, JOBKIT_LEASE_SECONDS="2")
    with jobkit.connect(sqlite_database) as kit:
        for name in ("a", "b", "c"):
            kit.add_job(name, "hello.py", every="1s", overlap="allow")
        for _ in range(30):
            kit.submit("a")
        try:
            loaded.start("scheduler")
            loaded.start("worker", "--slots", "2")
            until(lambda: len(kit.runs(status="COMPLETED", limit=500)) > 5)
            before = {run.id: run.status for run in kit.runs(limit=1000)}
            told = backup.back_up(load(db_url=sqlite_database), tmp_path / "copy.db")
            until(lambda: len(kit.runs(status="COMPLETED", limit=500)) > 12)
        finally:
            loaded.end()
    assert sum(told.runs.values()) >= len(before)

    elsewhere = f"sqlite:///{tmp_path / 'restored.db'}"
    restored = Processes(elsewhere)
    restoring = restored.start("db", "restore", str(tmp_path / "copy.db"), "--json")
    assert restoring.wait(60) == 0, restored.said(restoring)
    back = json.loads(restored.said(restoring))["runs"]
    assert sum(back.values()) == sum(told.runs.values())
    assert "IN_PROGRESS" not in back, "who held them is of another time"
    with jobkit.connect(elsewhere) as kit:
        found = {run.id: run.status for run in kit.runs(limit=1000)}
        finals = {id_ for id_, status in before.items() if status == "COMPLETED"}
        assert set(before) <= set(found)
        assert {found[id_] for id_ in finals} == {"COMPLETED"}
        assert [finding for finding in kit.verify() if finding.broken] == []
        for job in kit.jobs:
            job.pause()
        try:
            restored.start("scheduler")
            restored.start("worker", "--slots", "4")
            until(lambda: not kit.queue())
        finally:
            restored.end()
        assert {run.status for run in kit.runs(limit=1000)} <= {"COMPLETED", "MISSED"}
        assert [finding for finding in kit.verify() if finding.broken] == []


def test_commits_do_not_begin_a_copy_anew(
    stage: Stage, file: Path, chosen: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_large(chosen.db_url)
    first, steps = some_runs(stage.kit), []

    def commit(_status: int, left: int, _of: int) -> None:
        steps.append(left)
        assert len(steps) < 100
        some_runs(stage.kit, 1)

    monkeypatch.setattr(copies, "_patience", lambda: commit)
    copies.take(file, tmp_path / "copy.db")
    assert len(steps) > 20
    with jobkit.connect(f"sqlite:///{tmp_path / 'copy.db'}") as kit:
        assert ids(kit) == first


def test_a_backup_is_one_file_that_only_its_owner_reads(
    chosen: Settings, stage: Stage, tmp_path: Path
) -> None:
    some_runs(stage.kit)
    folder = tmp_path / "backups"
    folder.mkdir()
    made = backup.back_up(chosen, folder / "monday.db")
    assert [path.name for path in folder.iterdir()] == ["monday.db"]
    assert stat.S_IMODE((folder / "monday.db").stat().st_mode) == 0o600
    assert made.runs == {"PENDING": 3}
    assert made.revision == migrations.REVISIONS[-1]
    assert any(words.startswith("files that runs left") for words in made.beside)


def test_a_file_that_exists_is_not_written_over_unless_forced(
    chosen: Settings, stage: Stage, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.db"
    taken.write_text("mine", "utf-8")
    with pytest.raises(Conflict, match="--force"):
        backup.back_up(chosen, taken)
    assert taken.read_text("utf-8") == "mine"
    backup.back_up(chosen, taken, force=True)
    assert copies.fault_of(taken) is None


def test_the_database_itself_is_no_place_for_its_backup(
    chosen: Settings, stage: Stage, file: Path
) -> None:
    with pytest.raises(BadInput, match="no place"):
        backup.back_up(chosen, file, force=True)
    with pytest.raises(BadInput, match="the database itself"):
        backup.restore(chosen, file, force=True)


def test_a_damaged_database_gives_no_backup(chosen: Settings, file: Path, tmp_path: Path) -> None:
    damage(file)
    with pytest.raises(BadInput, match="damaged"):
        backup.back_up(chosen, tmp_path / "copy.db")
    assert not list(tmp_path.glob("*copy.db*"))


def test_a_full_disk_leaves_no_half_of_a_backup(chosen: Settings, stage: Stage) -> None:
    with closing(make_disk()) as disk:
        disk.fill()
        with pytest.raises(BackupFailed, match=r"full|No space"):
            backup.back_up(chosen, disk.folder / "copy.db")
        assert [path.name for path in disk.folder.iterdir()] == ["block"]


def test_a_restored_database_is_that_of_the_backup_and_the_former_is_kept(
    chosen: Settings, sqlite_database: str, tmp_path: Path
) -> None:
    with jobkit.connect(sqlite_database) as kit:
        first = some_runs(kit)
        backup.back_up(chosen, tmp_path / "copy.db")
        later = some_runs(kit, 4)
    done = backup.restore(chosen, tmp_path / "copy.db", by="ann@laptop")
    assert done.former is not None
    with jobkit.connect(sqlite_database) as kit:
        assert ids(kit) == first
        (deed, *_) = kit.audit()
        assert (deed.who, deed.what) == ("ann@laptop", backup.DEED)
        assert done.former in deed.about
        assert kit.submit("sales").id > later[-1], "files of runs bear the ids of lost ones"
    with jobkit.connect(f"sqlite:///{done.former}") as former:
        assert ids(former) == first + later
    assert not list(tmp_path.glob(".*"))


def test_a_restore_waits_for_the_programs_that_were_seen_lately(
    chosen: Settings, stage: Stage, tmp_path: Path
) -> None:
    stage.register("ann-1")
    backup.back_up(chosen, tmp_path / "copy.db")
    stage.kit.close()
    with pytest.raises(Conflict, match="the worker ann beat a moment ago"):
        backup.restore(chosen, tmp_path / "copy.db", clock=stage.clock)
    stage.clock.turn(chosen.worker_offline_threshold + timedelta(seconds=1))
    assert backup.restore(chosen, tmp_path / "copy.db", clock=stage.clock).former


def test_a_restore_is_refused_while_a_program_has_the_database_open(
    chosen: Settings, stage: Stage, tmp_path: Path
) -> None:
    first = some_runs(stage.kit)
    backup.back_up(chosen, tmp_path / "copy.db")
    later = some_runs(stage.kit)
    with pytest.raises(Conflict, match="has it open"):
        backup.restore(chosen, tmp_path / "copy.db", clock=stage.clock)
    assert ids(stage.kit) == first + later
    backup.restore(chosen, tmp_path / "copy.db", force=True, clock=stage.clock)
    assert ids(stage.kit) == first, "who has it open sees what was restored"
    assert stage.kit.submit("sales").id > later[-1]


def test_a_worker_that_goes_on_is_fenced_off_from_what_was_restored(
    chosen: Settings, stage: Stage, tmp_path: Path
) -> None:
    stage.job(retry_delay="1s")
    run = stage.kit.submit("sales")
    held = stage.claim_one()
    backup.back_up(chosen, tmp_path / "copy.db")

    def write(number: int) -> bool:
        chunk = number, stage.clock.now(), "more\n", "output"
        with stage.kit.database.write() as connection:
            return claims.write_output(connection, held, [chunk], None)

    assert write(0)
    stage.clock.turn(timedelta(seconds=2))
    backup.restore(chosen, tmp_path / "copy.db", force=True, clock=stage.clock)
    assert not write(1), "chunk 0 is not there any more"
    assert not stage.finish(held)
    assert [attempt.status for attempt in run.attempts()] == ["LOST"]
    stage.clock.turn(stage.kit.settings.lease - timedelta(seconds=1))
    assert stage.claim("w1") == [], "it may not have noticed yet"
    stage.clock.turn(timedelta(seconds=2))
    assert stage.finish(stage.claim_one("w2"))
    assert run.refresh().status == "COMPLETED"
    assert [finding for finding in stage.kit.verify() if finding.broken] == []


def test_caches_of_what_was_taken_back_are_not_read(
    chosen: Settings, stage: Stage, tmp_path: Path
) -> None:
    some_runs(stage.kit)
    backup.back_up(chosen, tmp_path / "copy.db")
    some_runs(stage.kit)
    assert stage.kit.log(None).sql("SELECT count(*) FROM runs").df.item() == 6
    backup.restore(chosen, tmp_path / "copy.db", force=True, clock=stage.clock)
    with jobkit.connect(chosen.db_url) as kit:
        assert kit.log(None).sql("SELECT count(*) FROM runs").df.item() == 3


def test_a_damaged_database_is_replaced_and_its_files_are_kept(
    chosen: Settings, sqlite_database: str, file: Path, tmp_path: Path
) -> None:
    with jobkit.connect(sqlite_database) as kit:
        first = some_runs(kit)
        backup.back_up(chosen, tmp_path / "copy.db")
    damage(file)
    with pytest.raises(Conflict, match="damaged"):
        backup.restore(chosen, tmp_path / "copy.db")
    done = backup.restore(chosen, tmp_path / "copy.db", force=True)
    assert done.former is not None
    assert b"\xa5" * 4096 in Path(done.former).read_bytes()
    with jobkit.connect(sqlite_database) as kit:
        assert ids(kit) == first


def test_what_is_no_whole_backup_is_refused_and_changes_nothing(
    chosen: Settings, sqlite_database: str, tmp_path: Path
) -> None:
    with jobkit.connect(sqlite_database) as kit:
        first = some_runs(kit)
    copy = tmp_path / "copy.db"
    backup.back_up(chosen, copy)
    (tmp_path / "text").write_text("no database\n" * 999, "utf-8")
    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE recipes (name TEXT)")
    with closing(sqlite3.connect(copy)) as newer:
        table = migrations.VERSION_TABLE
        newer.execute(f"UPDATE {table} SET version_num = '9999', works_from = '9998'")
        newer.commit()
    for named, why in (("text", "no whole database"), ("other.db", "no tables of jobkit")):
        with pytest.raises(BadInput, match=why):
            backup.restore(chosen, tmp_path / named)
    with pytest.raises(DatabaseRefused, match="newer jobkit"):
        backup.restore(chosen, copy)
    backup.back_up(chosen, copy, force=True)
    damage(copy)
    with pytest.raises(BadInput, match="no whole database"):
        backup.restore(chosen, copy)
    with jobkit.connect(sqlite_database) as kit:
        assert ids(kit) == first


def test_an_older_schema_is_not_put_under_programs_that_run(
    empty_sqlite: str, stage: Stage, chosen: Settings, tmp_path: Path
) -> None:
    migrations.upgrade(empty_sqlite, to="0010")
    backup.back_up(load(db_url=empty_sqlite), tmp_path / "old.db")
    stage.kit.check()
    with pytest.raises(Conflict, match="earlier schema"):
        backup.restore(chosen, tmp_path / "old.db", force=True, clock=stage.clock)
    stage.kit.close()
    assert backup.restore(chosen, tmp_path / "old.db", clock=stage.clock).needs_upgrade
    migrations.upgrade(chosen.db_url)
    with jobkit.connect(chosen.db_url) as kit:
        assert ids(kit) == []


def test_postgresql_is_told_its_own_command_without_a_password() -> None:
    chosen = load(db_url="postgresql://ann:secret@db.example/jobs")
    for act, program in ((backup.back_up, "pg_dump"), (backup.restore, "pg_restore")):
        with pytest.raises(BadInput, match=program) as told:
            act(chosen, "jobs.dump")
        assert "postgresql://ann@db.example/jobs" in str(told.value)
        assert "secret" not in str(told.value)
