"""The folder that an attempt starts with is its own, empty, and goes when it was used."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from jobkit.errors import CannotStart
from jobkit.worker.desk import Desk, Desks


def leave_a_file(desk: Desk) -> None:
    (desk.artifacts / "report.csv").write_text("a,b\n", "utf-8")


def leave_and_remove(desk: Desk) -> None:
    os.utime(desk.artifacts, ns=(0, 0))  # the change of a folder's time, without waiting for it
    leave_a_file(desk)
    (desk.artifacts / "report.csv").unlink()


def leave_a_secret(desk: Desk) -> None:
    (desk.secrets / "KEY").write_text("value", "utf-8")


def replace_by_a_link(desk: Desk) -> None:
    desk.artifacts.rmdir()
    desk.artifacts.symlink_to("/")


def open_to_all(desk: Desk) -> None:
    desk.artifacts.chmod(0o777)


def remove_all(desk: Desk) -> None:
    for place in (desk.artifacts, desk.secrets, desk.folder):
        place.rmdir()


def test_one_that_nobody_touched_serves_the_next_attempt(tmp_path: Path) -> None:
    desks = Desks(tmp_path / "spool")
    with desks.take() as first:
        assert not list(first.artifacts.iterdir())
    with desks.take() as second, desks.take() as third:
        assert second.folder == first.folder
        assert third.folder != first.folder


@pytest.mark.parametrize(
    "touch",
    [leave_a_file, leave_and_remove, leave_a_secret, replace_by_a_link, open_to_all, remove_all],
)
def test_one_that_was_touched_is_removed(tmp_path: Path, touch: Callable[[Desk], None]) -> None:
    desks = Desks(tmp_path / "spool")
    with desks.take() as first:
        touch(first)
    assert not first.folder.exists()
    with desks.take() as second:
        assert not list(second.artifacts.iterdir())
        assert not second.artifacts.is_symlink()
        assert second.artifacts.stat().st_mode & 0o777 == 0o700


def test_none_is_left_when_a_worker_ends(tmp_path: Path) -> None:
    desks = Desks(tmp_path / "spool")
    with desks.take(), desks.take():
        pass
    desks.close()
    assert not list((tmp_path / "spool").iterdir())


def test_what_a_killed_worker_left_is_removed(tmp_path: Path) -> None:
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    left = tmp_path / "spool" / f"{int(gone.stdout)}-abc" / "artifacts"
    mine = tmp_path / "spool" / f"{os.getpid()}-abc"
    for folder in (left, mine):
        folder.mkdir(parents=True)
    Desks(tmp_path / "spool").tidy()
    assert list((tmp_path / "spool").iterdir()) == [mine]


def test_where_none_can_be_made_the_attempt_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with (
        pytest.raises(CannotStart, match="No folder for the attempt"),
        Desks(tmp_path / "file" / "below").take(),
    ):
        pass
