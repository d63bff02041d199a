"""What runs left: rows, handles and commands."""

from __future__ import annotations

import hashlib
import io
import json
import random
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobkit import artifacts
from jobkit.cells import read_cells
from jobkit.errors import BadInput, NotFound
from jobkit.executors.packages import PackageSet
from jobkit.kit import connect
from jobkit.store import claims, keepsakes
from jobkit.store.claims import Claim, Result
from tests.stage import MONDAY, Stage
from tests.test_cli import Jobkit, jobkit

__all__ = ["jobkit"]

PROVENANCE = {
    "script": "/srv/scripts/hello.py",
    "sha256": "ab" * 32,
    "kind": "python",
    "isolation": "warm",
    "git": {"commit": "0123456789" * 4, "branch": "main", "dirty": True},
    "params": {"day": "monday"},
    "host": "laptop",
    "platform": "Linux-6.1",
    "variables": ["LANG", "PATH"],
    "python": {"version": "3.12.1", "implementation": "CPython", "path": "/usr/bin/python3"},
    "packages": "cd" * 32,
}
"""What an attempt of these tests ran on."""


def leave(stage: Stage, claim: Claim, files: dict[str, bytes], tmp: Path) -> None:
    """Keep files as an attempt's worker does."""
    folder = tmp / f"left-{claim.run_id}-{claim.attempt}"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    found = artifacts.collect(folder, 10**9).files
    kept = stage.kit.store.keep(claim.run_id, claim.attempt, found)
    with stage.kit.database.write() as connection:
        left = [((claim.run_id, claim.attempt), kept)]
        for _ in range(2):  # a repeat after an ambiguous commit
            keepsakes.add_artifacts(connection, left, stage.clock.now())


def end(stage: Stage, claim: Claim, exit_code: int = 0, **measures: Any) -> None:
    now = stage.clock.now()
    error = "" if exit_code == 0 else f"exit code {exit_code}"
    result = Result("exit", claim.claimed_at, now, exit_code, error, measures)
    with stage.kit.database.write() as connection:
        assert claims.finish(connection, [(claim, result)], now, random.Random(1))


@pytest.fixture(autouse=True)
def kept_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_ARTIFACTS_URL", str(tmp_path / "kept"))


@pytest.fixture
def parquet() -> bytes:
    import polars

    file = io.BytesIO()
    polars.DataFrame({"day": ["mon", "tue"], "rows": [1, 2]}).write_parquet(file)
    return file.getvalue()


@pytest.fixture
def done(stage: Stage, tmp_path: Path, parquet: bytes) -> Stage:
    """Run 1 failed once, leaving a note; its second attempt left three files and told facts."""
    stage.job("sales", retries=1, retry_delay="1s")
    stage.kit.submit("sales", day="monday")
    claim = stage.claim_one()
    leave(stage, claim, {"note.txt": b"one"}, tmp_path)
    end(stage, claim, 1)
    stage.clock.turn(timedelta(seconds=5))
    claim = stage.claim_one()
    files = {"rows.csv": b"a,b\n1,2\n", "sub/facts.json": b'{"n": 1}', "result.parquet": parquet}
    leave(stage, claim, {**files, "note.txt": b"two"}, tmp_path)
    stage.clock.turn(timedelta(seconds=2))
    end(stage, claim, metrics={"rows": 1200000, "share": 0.5}, provenance=PROVENANCE)
    return stage


def test_a_run_lists_what_its_attempts_left(done: Stage) -> None:
    run = done.kit.run(1)
    assert [(item.attempt, item.name) for item in run.artifacts()] == [
        (1, "note.txt"),
        (2, "note.txt"),
        (2, "result.parquet"),
        (2, "rows.csv"),
        (2, "sub/facts.json"),
    ]
    assert [item.name for item in run.artifacts(attempt=1)] == ["note.txt"]
    rows = done.kit.artifact(1, "rows.csv")
    assert (rows.size, rows.media_type, rows.run_id) == (8, "text/csv", 1)
    assert rows.sha256 == hashlib.sha256(rows.read()).hexdigest()
    assert rows.created_at == MONDAY + timedelta(seconds=5)


def test_an_artifact_is_read_as_what_it_is(done: Stage) -> None:
    kit = done.kit
    assert kit.artifact(1, "note.txt").text() == "two"
    assert kit.artifact(1, "note.txt", attempt=1).text() == "one"
    assert kit.artifact(1, "sub/facts.json").json() == {"n": 1}
    assert kit.artifact(1, "rows.csv").df().rows() == [(1, 2)]
    assert kit.artifact(1, "result.parquet").df().rows() == [("mon", 1), ("tue", 2)]
    assert kit.artifact(1, "result.parquet").head(1).rows() == [("mon", 1)]
    with kit.artifact(1, "rows.csv").open() as file:
        assert file.read(3) == b"a,b"


def test_what_cannot_be_read_says_why(done: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    kit = done.kit
    with pytest.raises(BadInput, match="is not JSON"):
        kit.artifact(1, "rows.csv").json()
    with pytest.raises(BadInput, match="no table"):
        kit.artifact(1, "note.txt").df()
    broken = replace(kit.artifact(1, "rows.csv"), name="rows.parquet")
    with pytest.raises(BadInput, match="cannot be read as a table"):
        broken.df()
    with pytest.raises(NotFound, match="left no 'other'"):
        kit.artifact(1, "other")
    with pytest.raises(NotFound, match="no run 9"):
        kit.artifacts(9)
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(BadInput, match="extra analytics"):
        kit.artifact(1, "rows.csv").df()


def test_the_result_is_what_was_told_or_else_the_table_that_was_left(
    done: Stage, tmp_path: Path
) -> None:
    assert done.kit.run(1).result().rows() == [("mon", 1), ("tue", 2)]
    run = done.kit.submit("sales")
    with pytest.raises(BadInput, match="has no result"):
        run.result()
    claim = done.claim_one()
    end(done, claim, result={"ok": [1, None, "ü"]})
    assert run.result() == {"ok": [1, None, "ü"]}
    run = done.kit.submit("sales")
    end(done, done.claim_one(), result=False)
    assert run.result() is False


def test_facts_come_with_attempts_and_runs(done: Stage) -> None:
    run = done.kit.run(1)
    last = run.attempts()[-1]
    assert last.metrics == {"rows": 1200000, "share": 0.5}
    assert last.provenance == PROVENANCE
    assert (last.signal, last.result) == (None, None)
    done.kit.submit("sales")
    claim = done.claim_one()
    with done.kit.database.write() as connection:
        assert claims.write_output(connection, claim, [], (0.25, "north"))
    run = done.kit.run(claim.run_id)
    assert (run.progress, run.progress_text) == (0.25, "north")


def test_packages_are_stored_once_for_each_hash(stage: Stage) -> None:
    sets = [PackageSet("ab", {"six": "1.17.0"}), PackageSet("cd", {}), PackageSet("ab", {})]
    for _ in range(2):
        with stage.kit.database.write() as connection:
            keepsakes.add_packages(connection, sets[:2], stage.clock.now())
    assert stage.kit.packages("ab") == {"six": "1.17.0"}
    assert stage.kit.packages("cd") == {}
    with stage.kit.database.write() as connection:
        keepsakes.add_packages(connection, [], stage.clock.now())
    with pytest.raises(NotFound, match="No packages are known as ef"):
        stage.kit.packages("ef")


def test_rows_of_cleaned_runs_are_forgotten_and_their_places_returned(done: Stage) -> None:
    urls = {item.url for item in done.kit.artifacts(1)}
    with done.kit.database.write() as connection:
        assert keepsakes.forget(connection, []) == []
        assert keepsakes.forget(connection, [2, 3]) == []
        assert set(keepsakes.forget(connection, [1, 2])) == urls
    assert done.kit.artifacts(1) == []
    artifacts.sweep(done.kit.store, [1, 2], urls)
    with pytest.raises(NotFound):
        done.kit.store.read(urls.pop())


def test_without_a_setting_artifacts_lie_beside_the_file(
    sqlite_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JOBKIT_ARTIFACTS_URL")
    with connect(sqlite_database) as kit:
        path = Path(sqlite_database.removeprefix("sqlite:///"))
        assert kit.store.url == Path(f"{path}.artifacts").as_uri()
        assert not Path(f"{path}.artifacts").exists()


# Notebooks that fill in


def events(*documents: Any) -> list[tuple[Any, str]]:
    return [
        (MONDAY + timedelta(seconds=number), json.dumps(document, ensure_ascii=False) + "\n")
        for number, document in enumerate(documents)
    ]


def test_cells_are_put_together_from_their_events() -> None:
    told = events(
        {"id": "a", "index": 1, "of": 4, "kind": "start", "text": "load()"},
        {"id": "a", "index": 1, "of": 4, "kind": "output", "output": "stdout", "text": "one\n"},
        {"id": "a", "kind": "output", "output": "result", "text": "two\u2028three"},
        {"id": "a", "kind": "end", "ok": True, "seconds": 2.5},
        {"id": "b", "index": 2, "of": 4, "kind": "start", "text": "1 / 0"},
        {"id": "b", "kind": "output", "output": "error", "text": "ZeroDivisionError"},
        {"id": "b", "kind": "end", "ok": False},
        {"id": "c", "index": 3, "of": 4, "kind": "start"},
    )
    cells = read_cells(told, has_ended=False)
    found = [(it.number, it.of, it.state, it.seconds, it.source, it.text, it.error) for it in cells]
    assert found == [
        (2, 4, "done", 2.5, "load()", "one\ntwo\u2028three", ""),
        (3, 4, "failed", 2.0, "1 / 0", "", "ZeroDivisionError"),
        (4, 4, "running", None, "", "", ""),
    ]
    assert [cell.state for cell in read_cells(told, has_ended=True)] == ["done", "failed", "failed"]


def test_what_only_looks_like_an_event_is_left_out() -> None:
    odd = '{"kind": "end", "text": 3, "index": "x", "of": true, "seconds": NaN}'
    chunks = [(MONDAY, f'no json\n[1]\n"x"\n{odd}\n' + "[" * 100_000)]
    (cell,) = read_cells(chunks, has_ended=True)
    assert (cell.number, cell.of, cell.state, cell.seconds, cell.text) == (1, 0, "done", 0.0, "")


def test_events_are_no_output_and_output_is_no_event(stage: Stage) -> None:
    stage.job("sales")
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    with stage.kit.database.write() as connection:
        chunks = [
            (0, MONDAY, "hello\n", "output"),
            (1, MONDAY, '{"id": "a", "kind": "start"}\n', "cell"),
            (2, MONDAY, "bye\n", "output"),
        ]
        assert claims.write_output(connection, claim, chunks)
    assert run.output().text == "hello\nbye\n"
    assert run.output(after=0).text == "bye\n"
    assert [cell.state for cell in run.cells()] == ["running"]


# Commands


@pytest.fixture
def shown(done: Stage, jobkit: Jobkit) -> Jobkit:
    return jobkit


def test_show_says_what_a_run_told_left_and_ran_on(shown: Jobkit) -> None:
    said = shown("show", 1).out
    for words in (
        "rows 1200000, share 0.5",
        "0123456789012345678901234567890123456789 on main, with changes",
        "laptop, Linux-6.1",
        "3.12.1 CPython /usr/bin/python3",
        "python warm",
        "LANG, PATH",
        "sub/facts.json",
    ):
        assert words in said
    document = shown("show", 1, "--json").document
    assert document["attempts"][1]["metrics"] == {"rows": 1200000, "share": 0.5}
    assert document["attempts"][1]["provenance"] == PROVENANCE
    assert document["progress"] is None
    assert [item["name"] for item in document["artifacts"]][:2] == ["note.txt", "note.txt"]


def test_artifacts_are_listed_and_written(
    shown: Jobkit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "sub/facts.json" in shown("artifacts", 1).out
    listed = shown("artifacts", 1, "--json").document
    assert {"run_id", "attempt", "name", "size", "sha256", "media_type", "url"} <= set(listed[0])
    said = shown("artifacts", 1, "result.parquet", "--out", tmp_path / "got.parquet")
    assert (said.code, said.out) == (0, "")
    assert (tmp_path / "got.parquet").read_bytes().startswith(b"PAR1")
    assert shown("artifacts", 1, "note.txt").out == "two"
    assert shown("artifacts", 1, "note.txt", "--attempt", 1).out == "one"
    for arguments, why in {
        ("gone.csv",): "left no 'gone.csv'",
        ("note.txt", "--out", tmp_path): "cannot be written",
        ("--out", "x"): "--out names no artifact",
    }.items():
        said = shown("artifacts", 1, *arguments)
        assert (said.code, why in said.err) == (2, True), said


def test_bytes_are_never_written_to_a_terminal(
    shown: Jobkit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobkit.cli.artifacts.is_terminal", lambda: True)
    said = shown("artifacts", 1, "result.parquet")
    assert (said.code, said.out) == (2, "")
    assert "--out result.parquet" in said.err
    assert shown("artifacts", 1, "note.txt").out == "two"
