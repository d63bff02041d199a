"""Settings: where they come from, and what is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from jobkit import settings
from jobkit.db import Database, refuse_shared_folder
from jobkit.errors import BadInput, DatabaseRefused, DatabaseUnavailable
from jobkit.kit import connect

README = Path(__file__).parent.parent / "README.md"


def test_the_defaults_are_those_that_people_know() -> None:
    chosen = settings.load()
    assert chosen.db_url == "sqlite:///jobkit.db"
    assert chosen.scheduler_poll_interval == timedelta(seconds=10)
    assert chosen.worker_heartbeat_interval == timedelta(seconds=10)
    assert chosen.lease == timedelta(seconds=60)
    assert (chosen.max_retry_attempts, chosen.cleanup_retention_days) == (3, 30)
    assert chosen.timezone == "UTC"


def test_the_command_line_wins_over_the_environment_over_dotenv_over_toml(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "jobkit.toml").write_text("JOBKIT_SLOTS = 5\nJOBKIT_PORT = 5000\n", "utf-8")
    assert settings.load().slots == 5
    (workplace / ".env").write_text("JOBKIT_SLOTS=6\n", "utf-8")
    assert settings.load().slots == 6
    monkeypatch.setenv("JOBKIT_SLOTS", "7")
    assert settings.load().slots == 7
    assert settings.load(slots=8).slots == 8
    assert settings.load().port == 5000


def test_durations_are_read_as_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_POLL_INTERVAL", "90s")
    monkeypatch.setenv("WORKER_JOB_TIMEOUT", "1h30m")
    chosen = settings.load()
    assert chosen.worker_poll_interval == timedelta(seconds=90)
    assert chosen.worker_job_timeout == timedelta(minutes=90)


def test_the_lease_follows_a_longer_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKER_HEARTBEAT_INTERVAL", "30")
    assert settings.load().lease == timedelta(seconds=120)


def test_the_older_systems_url_is_read_where_ours_is_unset(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFLEX_DB_URL", "sqlite:///reflex.db")
    assert settings.load().db_url == "sqlite:///reflex.db"
    (workplace / ".env").write_text("JOBKIT_DB_URL=sqlite:///mine.db\n", "utf-8")
    assert settings.load().db_url == "sqlite:///mine.db"
    assert settings.load(db_url="sqlite:///given.db").db_url == "sqlite:///given.db"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("JOBKIT_LEASE_SECONDS", "20s", "shorter than three heartbeats of 10 s"),
        ("MAX_RETRY_ATTEMPTS", "many", "MAX_RETRY_ATTEMPTS='many'"),
        ("WORKER_POLL_INTERVAL", "soon", "WORKER_POLL_INTERVAL='soon'"),
        ("WORKER_POLL_INTERVAL", "0", "WORKER_POLL_INTERVAL='0'"),
        ("JOBKIT_TIMEZONE", "Mars/Base", "no time zone"),
        ("JOBKIT_SLOTS", "0", "JOBKIT_SLOTS='0'"),
        ("JOBKIT_QUEUES", " , ", "at least one queue"),
    ],
)
def test_what_is_wrong_names_the_setting_and_the_value(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=said):
        settings.load()


def test_a_key_of_the_file_that_is_no_setting_is_refused_with_the_nearest(workplace: Path) -> None:
    (workplace / "jobkit.toml").write_text("WORKER_POLL_INTERVALL = 3\n", "utf-8")
    with pytest.raises(BadInput, match="Did you mean WORKER_POLL_INTERVAL"):
        settings.load()


def test_the_readme_lists_every_setting_as_it_is_declared() -> None:
    assert settings.table() in README.read_text("utf-8")


def test_no_setting_of_the_old_lock_does_anything_but_warn(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobkit", "worker", "--drain"],
        env=os.environ | {"JOBKIT_DB_URL": database, "DISPATCH_LOCK_DURATION": "300"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stderr.count("DISPATCH_LOCK_DURATION does nothing") == 1


# Databases that are refused


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_sqlite_on_a_network_file_system_is_refused(kind: str) -> None:
    mounts = f"/dev/sda / ext4 rw 0 0\nserver:/x /data\\040set {kind} rw 0 0\n"
    refuse_shared_folder(Path("/home/ada/jobkit.db"), mounts)
    with pytest.raises(DatabaseRefused, match=rf"network file system \({kind}\).*postgresql://"):
        refuse_shared_folder(Path("/data set/jobkit.db"), mounts)


@pytest.mark.parametrize("folder", ["Dropbox", "OneDrive - Work", "Google Drive", "Nextcloud"])
def test_sqlite_in_a_synced_folder_is_refused(folder: str) -> None:
    with pytest.raises(DatabaseRefused, match="cloud-sync folder"):
        refuse_shared_folder(Path("/home/ada") / folder / "jobkit.db", "")


def test_a_database_that_cannot_be_reached_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable) as error:
        connect("postgresql://ada:s3cret@127.0.0.1:1/jobs")
    assert "127.0.0.1:1/jobs" in str(error.value)
    assert "s3cret" not in str(error.value)
    assert error.value.hint


@pytest.mark.parametrize(
    "url", ["mysql://host/db", "nonsense", "sqlite:////nowhere/at/all/jobkit.db"]
)
def test_a_url_that_cannot_be_used_says_what_to_write(url: str) -> None:
    with pytest.raises(BadInput) as error:
        Database(url)
    assert error.value.hint


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("postgresql://ada:secret@a:1,b:2/jobs", "a,b", "1,2"),
        ("postgres://a,b:2/jobs?target_session_attrs=read-write", "a,b", ",2"),
        ("postgresql://ada:s,t@a/jobs", "a", None),
        ("postgresql://ada@/jobs?host=a:1&host=b:2", "a,b", "1,2"),
    ],
)
def test_a_url_may_name_a_server_and_its_standbys(url: str, host: str, port: str | None) -> None:
    opened = Database(url)
    arguments = opened.driver_arguments()
    assert (arguments["host"], arguments.get("port")) == (host, port)
    assert arguments["dbname"] == "jobs"
    assert "secret" not in opened.name
