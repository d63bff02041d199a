"""The programs as people start them, for walks in a browser: scheduler, worker and portal."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

from jobkit.clock import nap, stopwatch
from jobkit.settings import setting_names

TOKEN = "the-token-of-the-walk"
SOON = 60.0
"""How long a busy machine may take to start a program."""
SETTINGS = {
    "JOBKIT_TOKEN": TOKEN,
    "SCHEDULER_POLL_INTERVAL": "1",
    "WORKER_POLL_INTERVAL": "1",
    "WORKER_HEARTBEAT_INTERVAL": "1",
    "JOBKIT_KILL_GRACE_SECONDS": "0.2",
}


class Programs:
    """A scheduler, a worker and a portal, each a process of its own, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = f"sqlite:///{folder / 'jobkit.db'}"
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        """Start a program by the name of its command."""
        ours = {name for name in os.environ if name.startswith("JOBKIT_")}
        cleared = {*ours, *setting_names().values(), "REFLEX_DB_URL"}
        kept = {name: value for name, value in os.environ.items() if name not in cleared}
        places = {"JOBKIT_DB_URL": self.database, "JOBKIT_SPOOL_DIR": str(self.folder / "spool")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "jobkit", name, *arguments],
                env=kept | SETTINGS | places,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )

    def start_portal(self) -> None:
        """Start the portal, each time at the same address, and wait until it answers."""
        self.start("portal", "--port", str(self.port))
        deadline = stopwatch() + SOON
        while not _answers(f"{self.url}/login"):
            assert stopwatch() < deadline, (self.folder / "portal.log").read_text("utf-8")
            nap(0.05)

    def process_id(self, name: str) -> int:
        """Return the number of a program that runs."""
        return self._processes[name].pid

    def stop(self, name: str) -> None:
        """Ask a program to end, as Ctrl-C does, and wait for it."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGTERM)
        process.wait(SOON)

    def end(self) -> None:
        """End all that runs."""
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port
