"""The file that a job names: inside the roots, opened once, and the same when it starts."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobkit.errors import CannotStart
from jobkit.executors import source
from jobkit.executors.target import (
    resolve,
    split_arguments,
    split_function,
    windows_problem,
)


def test_a_script_is_found_in_a_root_and_runs_there(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    script = tmp_path / "jobs" / "a b.py"
    script.write_bytes(b"print(1)\n")
    found = resolve("jobs/a b.py", [tmp_path])
    assert (found.path, found.root, found.cwd, found.name) == (script, tmp_path, tmp_path, "a b.py")
    assert found.sha256 == sha256(b"print(1)\n").hexdigest()
    assert resolve(str(script), [tmp_path]).path == script


def test_the_first_root_that_has_the_script_wins(tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("a", "b", "c")]
    for root in roots:
        root.mkdir()
    for root in roots[1:]:
        (root / "x.py").touch()
    assert resolve("x.py", roots).root == roots[1]


def test_a_script_outside_the_roots_is_refused_even_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root2").mkdir()
    (tmp_path / "root2" / "x.py").touch()
    (tmp_path / "secret.py").touch()
    (tmp_path / "root" / "link.py").symlink_to(tmp_path / "secret.py")
    (tmp_path / "root" / "folder").symlink_to(tmp_path / "root2")
    for name in (
        "../secret.py",
        str(tmp_path / "secret.py"),
        "link.py",
        "folder/x.py",
        "../root2/x.py",
    ):
        with pytest.raises(CannotStart, match="outside the script roots"):
            resolve(name, [tmp_path / "root"])


def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "v2").mkdir()
    (tmp_path / "v2" / "x.py").touch()
    (tmp_path / "current").symlink_to("v2")
    assert resolve("current/x.py", [tmp_path]).path == tmp_path / "v2" / "x.py"


def test_a_missing_script_is_named(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match=r"nothing\.py does not exist"):
        resolve("nothing.py", [tmp_path])


def test_a_folder_a_pipe_and_no_name_are_no_scripts(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.py")
    for name in ("folder", ".", "pipe.py"):
        with pytest.raises(CannotStart, match="not a regular file"):
            resolve(name, [tmp_path])
    for name in ("", "a\x00b"):
        with pytest.raises(CannotStart, match="names no script"):
            resolve(name, [tmp_path])


def test_a_script_that_was_edited_replaced_or_deleted_is_not_started(tmp_path: Path) -> None:
    script = tmp_path / "x.py"
    for change in (
        lambda: script.write_text("import evil"),
        lambda: (tmp_path / "new").write_text("same") and (tmp_path / "new").replace(script),
        script.unlink,
    ):
        script.write_text("same")
        found = resolve("x.py", [tmp_path])
        found.check()
        change()
        assert not found.is_unchanged()
        with pytest.raises(CannotStart, match="changed while it was being started"):
            found.check()


def test_a_link_that_is_swapped_in_after_the_look_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "root" / "jobs").mkdir(parents=True)
    (tmp_path / "foreign").mkdir()
    for folder in ("root/jobs", "foreign"):
        (tmp_path / folder / "x.py").write_text("text")
    found = resolve("jobs/x.py", [tmp_path / "root"])
    (tmp_path / "root" / "jobs").rename(tmp_path / "root" / "old")
    (tmp_path / "root" / "jobs").symlink_to(tmp_path / "foreign")
    assert not found.is_unchanged()


def test_a_path_that_is_swapped_all_the_time_never_leads_outside(tmp_path: Path) -> None:
    """What is read is the root's file, whatever its path leads to before and after."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "good.py").write_text("good")
    (tmp_path / "bad.py").write_text("bad")
    good = sha256(b"good").hexdigest()
    stop = tmp_path / "stop"
    swapper = os.fork()
    if swapper == 0:
        while not stop.exists():
            for aim in (root / "good.py", tmp_path / "bad.py"):
                (tmp_path / "next").symlink_to(aim)
                (tmp_path / "next").replace(root / "x.py")
        os._exit(0)
    try:
        seen = 0
        for _ in range(2000):
            try:
                assert resolve("x.py", [root]).sha256 == good
                seen += 1
            except CannotStart:
                pass
    finally:
        stop.touch()
        os.waitpid(swapper, 0)
    assert seen > 0


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("jobs/x.py", None),
        (r"jobs\x.py", None),
        (r"C:\jobs\x.py", None),
        ("C:/jobs/../x.py", None),
        ("console.py", None),
        ("com.py", None),
        (r"\\server\share\x.py", "another machine"),
        ("//server/share/x.py", "another machine"),
        (r"\\?\C:\x.py", "another machine"),
        (r"\\.\pipe\x", "another machine"),
        ("C:x.py", "relative to a drive"),
        ("x.py:hidden", "hidden stream"),
        (r"C:\x.py:hidden", "hidden stream"),
        ("x.py.", "ends with a dot"),
        ("x.py ", "ends with a dot or a space"),
        ("jobs./x.py", "ends with a dot"),
        ("nul", "device"),
        ("jobs/NUL.py", "device"),
        ("aux .py", "device"),
        ("COM1.py", "device"),
        ("com¹", "device"),
        ("CONIN$", "device"),
        ("a?.py", "no file may have"),
    ],
)
def test_windows_reads_nothing_else_than_a_file_from_a_path(path: str, problem: str | None) -> None:
    found = windows_problem(path)
    assert found is None if problem is None else problem in (found or "")


def test_a_windows_path_is_checked_there_only(tmp_path: Path) -> None:
    (tmp_path / "nul.py").touch()
    assert resolve("nul.py", [tmp_path]).name == "nul.py"
    with pytest.raises(CannotStart, match="device"):
        resolve("nul.py", [tmp_path], platform="win32")


def test_arguments_are_split_as_a_shell_would_and_never_run_by_one() -> None:
    assert split_arguments("--name 'north east' \"$(reboot)\"") == [
        "--name",
        "north east",
        "$(reboot)",
    ]
    assert split_arguments(None) == []
    with pytest.raises(CannotStart, match="quotes"):
        split_arguments("it's")


def test_a_function_is_told_from_a_file() -> None:
    assert split_function("jobs/a.py:main") == ("jobs/a.py", "main")
    assert split_function("a.py:Class.method") == ("a.py", "Class.method")
    for path in ("a.py", r"C:\a.py", "a.sh:x", "a.py:", "a.py:1x", "a.py:x y"):
        assert split_function(path) == (path, None)


# Source that travels


def test_source_is_kept_under_its_hash_once(tmp_path: Path) -> None:
    folder = tmp_path / "sources"
    path = source.keep("print('ä')\n", ".py", folder)
    assert path.name == sha256("print('ä')\n".encode()).hexdigest() + ".py"
    assert path.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    before = path.stat().st_mtime_ns
    assert source.keep("print('ä')\n", ".py", folder) == path
    assert path.stat().st_mtime_ns == before
    assert [item.name for item in folder.iterdir()] == [path.name]


def test_kept_source_that_was_tampered_with_is_replaced(tmp_path: Path) -> None:
    path = source.keep("good", ".py", tmp_path)
    path.write_text("evil")
    assert source.keep("good", ".py", tmp_path).read_text() == "good"
    path.unlink()
    (tmp_path / "evil").write_text("good")
    path.symlink_to(tmp_path / "evil")
    assert not source.keep("good", ".py", tmp_path).is_symlink()


def test_source_runs_in_the_script_root_under_its_own_name(tmp_path: Path) -> None:
    found = source.target("select 1", "reports/inline.sql", tmp_path / "sources", tmp_path)
    assert (found.name, found.cwd, found.root) == ("inline.sql", tmp_path, tmp_path / "sources")
    assert found.path.suffix == ".sql"
    found.path.write_text("select 2")
    assert not found.is_unchanged()


def test_source_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="cannot be written"):
        source.keep("x", ".py", tmp_path / "file")


@given(text=st.text())
def test_any_text_is_kept_as_it_is(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = source.keep(text, ".py", tmp_path_factory.getbasetemp() / "texts")
    assert path.read_bytes() == text.encode("utf-8", "surrogatepass")


def test_a_text_that_two_keep_at_once_stays_the_file_that_the_first_starts(tmp_path: Path) -> None:
    data = b"print('done')"
    path = source.keep(data.decode(), ".py", tmp_path / "sources")
    first = path.stat()
    source._write(path, data)  # by one who looked before the first had written
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert list(path.parent.iterdir()) == [path]
