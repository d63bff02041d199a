"""Services: what is written for systemd, launchd and Windows, and whom it belongs to."""

from __future__ import annotations

import os
import plistlib
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from datetime import timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest
from dotenv import dotenv_values

from jobkit import cli
from jobkit.errors import BadInput
from jobkit.kit import Kit, connect
from jobkit.service import Installation, make_plan, systemd
from jobkit.service.environment import quoted
from jobkit.settings import Settings, load
from tests.test_processes import alive, script, until

SCOPES = [pytest.param(False, id="of a person"), pytest.param(True, id="of the machine")]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return folder


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with a systemd that notes what it is told; returns its notes."""
    notes = tmp_path / "told"
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text(
        f'#!/bin/sh\necho "$@" >> {notes}\ncase "$*" in *is-active*worker*) exit 3;; esac\n'
    )
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    monkeypatch.setattr(systemd, "RUNS", programs)
    return notes


def jobkit(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


def told(notes: Path) -> list[str]:
    lines = notes.read_text().splitlines()
    notes.unlink()
    return lines


def unit(home: Path, name: str) -> Path:
    return home / ".config" / "systemd" / "user" / name


def installation(system: str = "systemd", **given: object) -> Installation:
    return Installation(make_plan(load(), system=system, **given))  # type: ignore[arg-type]


@pytest.mark.parametrize("is_of_machine", SCOPES)
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path, is_of_machine: bool) -> None:
    verify = shutil.which("systemd-analyze")
    if verify is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no systemd-analyze here")
    folder = tmp_path / 'a 100 % "odd" folder'
    folder.mkdir()
    user = "daemon" if is_of_machine else None
    made = installation(is_of_machine=is_of_machine, user=user, folder=folder)
    units = [tmp_path / file.path.name for file in made.files if not file.is_settings]
    for path, file in zip(units, made.files[1:], strict=True):
        path.write_text(file.marked)
    said = subprocess.run([verify, "verify", *units], capture_output=True, text=True)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.parametrize("is_of_machine", SCOPES)
def test_a_unit_ends_its_programs_with_care(is_of_machine: bool) -> None:
    made = installation(is_of_machine=is_of_machine, user="jobs" if is_of_machine else None)
    units = {file.path.name: file.text.splitlines() for file in made.files}
    assert set(units) == {
        "service.env", "jobkit-scheduler.service", "jobkit-portal.service", "job-worker@.service",
    }  # fmt: skip
    for name in set(units) - {"service.env"}:
        lines = units[name]
        assert {"KillMode=mixed", "Restart=always", "NoNewPrivileges=yes"} <= set(lines)
        assert ("User=jobs" in lines) == is_of_machine
        assert ("ProtectSystem=full" in lines) == is_of_machine
    assert f"TimeoutStopSec={20 + 5 + 30}" in units["job-worker@.service"]


def test_the_time_to_stop_follows_the_grace() -> None:
    chosen = Settings(shutdown_grace=timedelta(hours=2), kill_grace=timedelta(seconds=1.5))
    stops = {it.name: it.stop_seconds for it in make_plan(chosen).programs}
    assert stops == {"scheduler": 30, "portal": 30, "worker": 7200 + 2 + 30}


def test_an_install_writes_starts_and_goes_again_without_a_trace(
    home: Path, commands: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert jobkit("service", "install", "--workers", "2") == 0
    names = "jobkit-scheduler.service jobkit-portal.service job-worker@1.service job-worker@2"
    assert told(commands) == [
        "--user daemon-reload", f"--user enable {names}.service", f"--user restart {names}.service",
    ]  # fmt: skip
    assert "loginctl enable-linger" in capsys.readouterr().err
    wants = unit(home, "default.target.wants")
    wants.mkdir()
    for number in (1, 2):
        (wants / f"job-worker@{number}.service").symlink_to(unit(home, "job-worker@.service"))
    assert jobkit("service", "install", "--workers", "1") == 0
    assert "--user disable --now job-worker@2.service" in told(commands)
    assert jobkit("service", "status") == 1  # by what systemctl says of the workers
    said = capsys.readouterr().out
    assert "runs       jobkit-portal.service" in said
    assert "stopped    job-worker@2.service" in said
    commands.unlink()
    assert jobkit("service", "uninstall") == 0
    stopped = "job-worker@1.service job-worker@2.service jobkit-portal.service"
    assert told(commands) == [
        f"--user disable --now {stopped} jobkit-scheduler.service", "--user daemon-reload",
    ]  # fmt: skip
    assert [path for path in home.rglob("*") if path.is_file() and not path.is_symlink()] == []


def test_a_dry_run_writes_nothing_and_shows_no_password(
    home: Path, commands: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_DB_URL", "postgresql://jobs:hunter2@db/jobs")
    assert jobkit("service", "install", "--dry-run") == 0
    said = capsys.readouterr().out
    assert "ExecStart=" in said
    assert "JOBKIT_DB_URL=***" in said
    assert "hunter2" not in said
    assert list(home.iterdir()) == []
    assert not commands.exists()


def test_settings_are_for_nobody_else_and_stay_as_somebody_edited_them(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORKER_POLL_INTERVAL", "7")
    old = os.umask(0)
    try:
        assert jobkit("--db", "postgresql://u:p@h/d", "service", "install", "--no-start") == 0
    finally:
        os.umask(old)
    path = home / ".config" / "jobkit" / "service.env"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    values = {"JOBKIT_DB_URL": "postgresql://u:p@h/d", "WORKER_POLL_INTERVAL": "7"}
    assert dotenv_values(path).items() >= values.items()
    path.write_text("JOBKIT_SLOTS=9\n")
    path.chmod(0o644)
    capsys.readouterr()
    assert jobkit("service", "install", "--no-start", "--force") == 0
    assert f"kept; others may read it: chmod 600  {path}" in capsys.readouterr().out
    assert jobkit("service", "uninstall", "--force") == 0
    assert path.read_text() == "JOBKIT_SLOTS=9\n"


@pytest.mark.parametrize("system", ["systemd", "launchd", "windows"])
def test_what_somebody_edited_is_left_alone_unless_forced(
    system: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = ("--for", system)
    made = installation(system)
    edited, other = made.files[1], made.files[2]
    assert jobkit("service", "install", "--no-start", *target) == 0
    capsys.readouterr()
    text = edited.path.read_text(edited.encoding).replace("scheduler", "Scheduler", 1)
    edited.path.write_text(text, edited.encoding)
    other.path.unlink()
    assert jobkit("service", "install", "--no-start", *target) == 2
    assert f"{edited.path} was edited; nothing was changed." in capsys.readouterr().err
    assert not other.path.exists()
    assert jobkit("service", "uninstall", *target) == 0
    assert edited.path.read_text(edited.encoding) == text
    assert jobkit("service", "install", "--no-start", "--force", *target) == 0
    assert edited.standing() == "current"
    other.path.write_text("[Unit]\n", other.encoding)
    assert jobkit("service", "install", "--no-start", *target) == 2
    assert "was not written by jobkit" in capsys.readouterr().err


@pytest.mark.parametrize("system", ["launchd", "windows"])
def test_workers_that_are_one_too_many_go(system: str) -> None:
    three, one = installation(system, workers=3), installation(system)
    three.install()
    one.start()
    assert [it.did for it in one.install()].count("removed") == 2
    assert {it.path for it in one.status()} == {it.path for it in one.files}


def test_macos_reads_the_lists(tmp_path: Path) -> None:
    folder = tmp_path / "R&D <1>"
    folder.mkdir()
    made = installation("launchd", workers=2, folder=folder)
    made.install()
    lists = [plistlib.loads(file.path.read_bytes()) for file in made.files[1:]]
    assert [it["Label"] for it in lists] == [
        "jobkit.scheduler", "jobkit.portal", "jobkit.worker.1", "jobkit.worker.2",
    ]  # fmt: skip
    first = [sys.executable, "-m", "jobkit", "worker", "--name", "jobkit.worker.1"]
    assert lists[2]["ProgramArguments"] == first
    assert lists[2]["ExitTimeOut"] == 55
    assert all(it["KeepAlive"] and it["WorkingDirectory"] == str(folder) for it in lists)
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    of_machine = installation("launchd", is_of_machine=True, user="jobs").files[1]
    assert of_machine.path == Path("/Library/LaunchDaemons/jobkit.scheduler.plist")
    assert plistlib.loads(of_machine.marked.encode())["UserName"] == "jobs"


def test_windows_reads_the_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "R&D <1>"
    folder.mkdir()
    made = installation("windows", folder=folder)
    made.install()
    space = "{http://schemas.microsoft.com/windows/2004/02/mit/task}"
    for file in made.files[1:]:
        assert file.path.read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff")
        task = ElementTree.parse(file.path).getroot()
        # The scheme's own order, without which schtasks refuses the task.
        parts = ["RegistrationInfo", "Triggers", "Principals", "Settings", "Actions"]
        assert [part.tag for part in task] == [space + part for part in parts]
        command = task.find(f"{space}Actions/{space}Exec")
        assert command is not None
        assert command.findtext(f"{space}Command") == sys.executable
        assert command.findtext(f"{space}WorkingDirectory") == str(folder)
        assert task.findtext(f"{space}Settings/{space}ExecutionTimeLimit") == "PT0S"
    told = [str(command) for command in made.start()]
    assert f"schtasks /Create /TN jobkit\\worker-1 /XML {made.files[3].path} /F" in told


def test_services_of_the_machine_do_not_run_as_root_by_mistake(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert jobkit("service", "install", "--system", "--dry-run") == 2
    assert "--run-as NAME" in capsys.readouterr().err
    for wrong in (["--run-as", "jobs"], ["--workers", "101"], ["--folder", "gone"], ["--for", "x"]):
        assert jobkit("service", "install", "--dry-run", *wrong) == 2


@pytest.mark.parametrize("value", ["a b#c", 'say "x"', "it's", "$HOME", "a=b;c&d|e", "é"])
def test_shell_and_dotenv_read_the_same_settings(tmp_path: Path, value: str) -> None:
    path = tmp_path / "settings"
    path.write_text(f"JOBKIT_TOKEN={quoted('JOBKIT_TOKEN', value)}\n", "utf-8")
    read = subprocess.run(
        ["sh", "-c", f'. {path}; printf %s "$JOBKIT_TOKEN"'], capture_output=True, text=True
    )
    assert read.stdout == value == dotenv_values(path)["JOBKIT_TOKEN"]


@pytest.mark.parametrize("value", ["two\nlines", "back\\slash", 'it\'s "both"', "it's $5"])
def test_a_setting_that_they_would_read_differently_is_refused(value: str) -> None:
    with pytest.raises(BadInput, match="JOBKIT_TOKEN cannot be written down"):
        quoted("JOBKIT_TOKEN", value)


STUBBORN = "#!/bin/sh\ntrap '' TERM\necho $$ > pid\nwhile :; do sleep 1; done\n"


def test_each_program_ends_within_the_limit_of_its_unit(
    sqlite_database: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    given = {
        "JOBKIT_DB_URL": sqlite_database, "JOBKIT_PORT": str(port),
        "JOBKIT_SHUTDOWN_GRACE_SECONDS": "1", "JOBKIT_KILL_GRACE_SECONDS": "0.5",
    }  # fmt: skip
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    made = installation(settings=given)
    made.install()
    for name in given:  # the units' own settings must do
        monkeypatch.delenv(name)
    with connect(sqlite_database) as kit:
        kit.add_job("stubborn", script(workplace, "stubborn.sh", STUBBORN), retries=0)
        run = kit.submit("stubborn")
        programs = {
            file.path.name: (_start(file.path), file) for file in made.files if not file.is_settings
        }
        try:
            until(lambda: _is_up(kit, workplace, port))
            pid = int((workplace / "pid").read_text())
            for process, file in programs.values():
                process.send_signal(signal.SIGTERM)
                began = time.monotonic()
                assert process.wait(2 * _stops_within(file.text)) == 0
                assert time.monotonic() - began < _stops_within(file.text)
        finally:
            for process, _ in programs.values():
                process.kill()
                process.wait()
        assert not alive(pid)
        assert run.refresh().status == "PENDING"
        assert [it.status for it in run.attempts()] == ["RELEASED"]
        assert {it.status for it in kit.workers()} == {"OFFLINE"}


def _start(path: Path) -> subprocess.Popen[bytes]:
    """Start what a unit says as systemd would."""
    lines = dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
    words = shlex.split(lines["ExecStart"].replace("%H-%i", "here-1"))
    settings = {k: v or "" for k, v in dotenv_values(lines["EnvironmentFile"]).items()}
    return subprocess.Popen(words, cwd=lines["WorkingDirectory"], env=os.environ | settings)


def _is_up(kit: Kit, workplace: Path, port: int) -> bool:
    pid = workplace / "pid"
    if not (pid.exists() and pid.read_text().strip()):
        return False
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz") as answer:
            return bool(answer.status == 200)
    except OSError:  # not yet, or no scheduler yet
        return False


def _stops_within(text: str) -> int:
    return next(
        int(line.partition("=")[2])
        for line in text.splitlines()
        if line.startswith("TimeoutStopSec=")
    )
