"""A real PgBouncer in transaction mode, before a server of the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.postgres import STARTED_SECONDS, Postgres, as_nobody

CONFIGURATION = """
[databases]
* = host={server} port=5432
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 4
"""


class Bouncer:
    """PgBouncer on a port of this machine, with few connections to the server."""

    def __init__(self, program: str, server: Postgres) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="jobkit-bouncer-"))
        self._folder.chmod(0o755)
        self._port = _free_port()
        (self._folder / "users").write_text('"jobkit" ""\n', "utf-8")
        (self._folder / "ini").write_text(
            CONFIGURATION.format(server=server.folder, port=self._port, folder=self._folder),
            "utf-8",
        )
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, self._folder / "ini"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                **as_nobody(),  # it refuses to run as root
            )
        self._wait()

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://jobkit@127.0.0.1:{self._port}/{name}?sslmode=disable"

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder)

    def _wait(self) -> None:
        until = time.monotonic() + STARTED_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > until:
                self._process.kill()
                raise RuntimeError(f"PgBouncer did not start: {(self._folder / 'log').read_text()}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port)).close()
        except OSError:
            return False
        return True


def start_bouncer(server: Postgres) -> Bouncer:
    """Start one before a server; without the program skip loudly, or fail in CI."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        missing = "no PgBouncer: install your system's package pgbouncer"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    return Bouncer(program, server)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port
