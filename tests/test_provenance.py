"""Provenance: what an attempt ran on, without waiting, without values that are secret."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from jobkit.executors import git, packages, provenance
from jobkit.executors.git import Head, find_checkout, read_head
from jobkit.executors.packages import Interpreters, installed
from jobkit.executors.provenance import Provenance, Recorder, Subject, hide

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def run_git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    asked = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"},
    )
    return asked.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A working tree on the branch main with one commit of `job.py`."""
    root = tmp_path / "repository"
    (root / "reports").mkdir(parents=True)
    run_git(root, "init", "-q", "-b", "main")
    (root / "job.py").write_text("print(1)\n")
    run_git(root, "add", "job.py")
    run_git(root, "commit", "-q", "-m", "first")
    return root


def head(folder: Path) -> Head:
    checkout = find_checkout(folder)
    assert checkout is not None
    return read_head(checkout)


@needs_git
def test_commit_and_branch_are_read_as_git_tells_them(repository: Path) -> None:
    commit = run_git(repository, "rev-parse", "HEAD")
    assert head(repository) == Head(commit, "main")
    assert head(repository / "reports") == Head(commit, "main")
    run_git(repository, "checkout", "-q", "-b", "team/some-feature")
    assert head(repository) == Head(commit, "team/some-feature")
    run_git(repository, "checkout", "-q", "--detach")
    assert head(repository) == Head(commit, None)


@needs_git
def test_packed_refs_are_read(repository: Path) -> None:
    commit = run_git(repository, "rev-parse", "HEAD")
    run_git(repository, "tag", "-a", "v1", "-m", "v1")
    run_git(repository, "pack-refs", "--all")
    assert not (repository / ".git" / "refs" / "heads" / "main").exists()
    assert head(repository) == Head(commit, "main")


@needs_git
@pytest.mark.parametrize("packed", [False, True])
def test_a_linked_worktree_has_its_own_head(repository: Path, tmp_path: Path, packed: bool) -> None:
    linked = tmp_path / "linked"
    run_git(repository, "worktree", "add", "-q", "-b", "side", str(linked))
    (linked / "more.py").write_text("print(2)\n")
    run_git(linked, "add", "more.py")
    run_git(linked, "commit", "-q", "-m", "second")
    if packed:
        run_git(linked, "pack-refs", "--all")
    assert head(linked) == Head(run_git(linked, "rev-parse", "HEAD"), "side")
    assert head(repository) == Head(run_git(repository, "rev-parse", "HEAD"), "main")


@needs_git
def test_a_repository_without_a_commit_has_a_branch_only(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q", "-b", "main")
    assert head(tmp_path) == Head(None, "main")


@pytest.mark.parametrize(
    "said",
    ["", "garbage", "ref: ../../secret", "ref: refs/../../secret", "0123", "ref: refs/heads/\x00"],
)
def test_a_broken_head_is_unknown_and_no_error(tmp_path: Path, said: str) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "HEAD").write_text(said)
    (tmp_path / "secret").write_text("a" * 40)
    assert head(tmp_path).commit is None


def test_a_folder_without_git_has_none(tmp_path: Path) -> None:
    assert find_checkout(tmp_path) is None
    (tmp_path / ".git").write_text("not a gitdir")
    assert find_checkout(tmp_path) is None


@needs_git
def test_changes_are_told_of_tracked_files_only(repository: Path) -> None:
    assert git.has_changes(repository, os.environ) is False
    (repository / "new.py").write_text("")
    assert git.has_changes(repository, os.environ) is False
    (repository / "job.py").write_text("print(3)\n")
    assert git.has_changes(repository, os.environ) is True
    assert git.has_changes(repository / "gone", os.environ) is None
    assert git.has_changes(repository, {"PATH": "/nowhere"}) is None


@needs_git
def test_a_look_writes_nothing_and_runs_no_program_of_the_repository(repository: Path) -> None:
    (repository / "spy").write_text(f"#!/bin/sh\ntouch {repository}/was-run\n")
    (repository / "spy").chmod(0o755)
    run_git(repository, "config", "core.fsmonitor", str(repository / "spy"))
    os.utime(repository / "job.py", (1, 1))
    before = (repository / ".git" / "index").read_bytes()
    assert git.has_changes(repository, os.environ) is False
    assert (repository / ".git" / "index").read_bytes() == before
    assert not (repository / "was-run").exists()


def test_git_is_asked_once_in_ten_seconds_by_all_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Path] = []
    now = [1000.0]
    monkeypatch.setattr(git, "stopwatch", lambda: now[0])
    monkeypatch.setattr(git, "has_changes", lambda root, _: asked.append(root) or True)
    repositories = git.Repositories({})
    for seconds in (0, 3, 6.9, 0.2):
        now[0] += seconds
        threads = [threading.Thread(target=repositories.look, args=(tmp_path,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert repositories.look(tmp_path).done.wait(5)
    assert asked == [tmp_path, tmp_path]


def test_installed_packages_are_those_that_importlib_finds() -> None:
    found = installed([path for path in sys.path if path]).packages
    told = {
        distribution.metadata["Name"].replace("_", "-").replace(".", "-").lower(): distribution
        for distribution in importlib.metadata.distributions()
    }
    assert set(found) == set(told)
    assert found["flask"] == importlib.metadata.version("flask")
    assert found["jobkit"] == importlib.metadata.version("jobkit")


def test_the_hash_names_the_set_and_not_its_order(tmp_path: Path) -> None:
    for folder, names in {
        "a": ("Zope.Interface-7.0.dist-info", "six-1.17.0.dist-info"),
        "b": ("six-1.16.0.dist-info", "old_egg-2.0-py3.11.egg-info", "dev.egg-info", "x.py"),
    }.items():
        for name in names:
            (tmp_path / folder / name).mkdir(parents=True)
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    both = installed([a, str(tmp_path / "gone"), b])
    assert both.packages == {
        "dev": "",
        "old-egg": "2.0",
        "six": "1.17.0",
        "zope-interface": "7.0",
    }
    assert both.sha256 != installed([b, a]).sha256
    assert both.sha256 == installed([a, b]).sha256


def test_a_changed_folder_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "LOOK_SECONDS", 0)
    interpreters = Interpreters({})
    python = packages.Interpreter("python", "3", "CPython", (str(tmp_path),))
    (tmp_path / "six-1.16.0.dist-info").mkdir()
    first = interpreters.packages(python)
    assert interpreters.packages(python) is first
    (tmp_path / "six-1.16.0.dist-info").rename(tmp_path / "six-1.17.0.dist-info")
    os.utime(tmp_path, ns=(0, 10**18))
    assert interpreters.packages(python).packages == {"six": "1.17.0"}


def test_another_interpreter_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "venv" / "bin" / "python"
    other.parent.mkdir(parents=True)
    other.symlink_to(Path(sys.executable).resolve())
    home = Path(sys.executable).resolve().parent
    settings = f"home = {home}\ninclude-system-site-packages = false\n"
    (tmp_path / "venv" / "pyvenv.cfg").write_text(settings)
    asked: list[str] = []
    really = packages.ask_interpreter
    monkeypatch.setattr(
        packages, "ask_interpreter", lambda path, env: asked.append(path) or really(path, env)
    )
    interpreters = Interpreters(os.environ)
    told = [interpreters.interpreter(str(other)) for _ in range(3)]
    assert told[0] is not None
    assert (told[0].version, told[0].path) == (platform.python_version(), str(other))
    assert "flask" not in interpreters.packages(told[0]).packages
    assert asked == [str(other)]


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho no json\n", "junk"])
def test_an_interpreter_that_says_nothing_is_unknown(tmp_path: Path, script: str) -> None:
    path = tmp_path / "python"
    path.write_text(script)
    path.chmod(0o755)
    assert packages.ask_interpreter(str(path), {}) is None
    assert packages.ask_interpreter(str(tmp_path / "gone"), {}) is None


def test_secrets_are_hidden_wherever_they_stand() -> None:
    params = {
        "password": "hunter2",
        "pin": 1234,
        "url": "postgres://ann:hunter2@db/x",
        "list": ["hunter2", {"deep": "hunter2", "hunter2": 1}],
        "day": "monday",
        "yes": True,
        "ratio": 0.5,
        "none": None,
        "a": "a",
    }
    hidden = hide(params, ["hunter2", "1234", "a", ""])
    assert hidden == {
        "password": "***",
        "pin": "***",
        "url": "postgres://ann:***@db/x",
        "list": ["***", {"deep": "***", "***": 1}],
        "day": "monday",
        "yes": True,
        "ratio": 0.5,
        "none": None,
        "***": "***",
    }


def subject(script: Path, **more: Any) -> Subject:
    return Subject(
        **{
            "file": script,
            "script": script,
            "sha256": "ab" * 32,
            "kind": "python",
            "isolation": "warm",
            "interpreter": sys.executable,
            "params": {"day": "monday", "token": "s3cret"},
            "variables": {"PATH": "/bin", "LANG": "C"},
            **more,
        }
    )


def record(recorder: Recorder, about: Subject) -> Provenance:
    return recorder.finish(recorder.begin(about, secrets=["s3cret"]))


@needs_git
def test_a_record_says_what_an_attempt_ran_on(repository: Path) -> None:
    recorder = Recorder(os.environ)
    (repository / "job.py").write_text("print(3)\n")
    begun = recorder.begin(subject(repository / "job.py"), secrets=["s3cret"])
    assert begun.look is not None
    assert begun.look.done.wait(10)
    said = recorder.finish(begun)
    assert said.packages is not None
    assert said.packages.packages["flask"] == importlib.metadata.version("flask")
    assert said.document == {
        "script": str(repository / "job.py"),
        "sha256": "ab" * 32,
        "kind": "python",
        "isolation": "warm",
        "git": {
            "commit": run_git(repository, "rev-parse", "HEAD"),
            "branch": "main",
            "dirty": True,
        },
        "params": {"day": "monday", "token": "***"},
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "variables": ["LANG", "PATH"],
        "python": {
            "version": platform.python_version(),
            "implementation": "CPython",
            "path": sys.executable,
        },
        "packages": said.packages.sha256,
    }
    assert json.loads(json.dumps(said.document)) == said.document


def test_packages_are_handed_out_until_they_are_kept(tmp_path: Path) -> None:
    recorder = Recorder({})
    first, second = (record(recorder, subject(tmp_path / "job.py")) for _ in range(2))
    assert first.packages is not None
    assert second.packages is not None
    recorder.stored(first.packages)
    third = record(recorder, subject(tmp_path / "job.py"))
    assert third.packages is None
    assert third.document["packages"] == first.packages.sha256


def test_what_no_python_runs_has_no_packages(tmp_path: Path) -> None:
    said = record(Recorder({}), subject(tmp_path / "job.sh", kind="shell", interpreter=None))
    assert said.packages is None
    assert (said.document["python"], said.document["packages"]) == (None, None)


def test_source_that_travels_has_no_repository() -> None:
    said = record(Recorder({}), subject(Path("inline.py")))
    assert said.document["git"] is None


def test_git_that_hangs_holds_up_neither_start_nor_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    release = threading.Event()
    monkeypatch.setattr(git, "has_changes", lambda *_: release.wait(30))
    recorder = Recorder({})
    record(recorder, subject(Path("inline.py")))  # the packages are read once
    began = time.monotonic()
    begun = recorder.begin(subject(tmp_path / "job.py"))
    started = time.monotonic() - began
    ended = [recorder.finish(begun) for _ in range(3)]
    took = time.monotonic() - began
    release.set()
    assert started < 0.2
    assert took < provenance.LOOK_WAIT_SECONDS + 0.3
    assert [said.document["git"]["dirty"] for said in ended] == [None] * 3
