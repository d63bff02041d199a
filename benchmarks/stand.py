"""The stand that measures are taken on: fresh databases, jobkit's programs, and how to print."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jobkit
from jobkit import migrations
from jobkit.kit import Kit

ROUNDS = 5
STARTED_SECONDS = 30


@contextmanager
def database(on: str) -> Iterator[tuple[str, Path]]:
    """Make a fresh database of a kind, as durable as in production; its URL and a folder."""
    with tempfile.TemporaryDirectory(prefix="jobkit-bench-") as name:
        folder = Path(name)
        if on == "sqlite":
            yield f"sqlite:///{folder}/jobkit.db", folder
            return
        from tests import postgres

        postgres.MEMORY = Path(os.devnull)  # on the disk
        for relaxed in ("fsync", "full_page_writes"):
            postgres.SETTINGS.pop(relaxed, None)
        server = postgres.start_server(always=True)
        assert server is not None
        try:
            yield server.url("postgres"), folder
        finally:
            server.stop()


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Kit]:
    """Make the tables and the script `any.py`, which does nothing, and open a kit."""
    os.chdir(folder)
    (folder / "any.py").write_text("", "utf-8")
    migrations.upgrade(url)
    with jobkit.connect(url) as kit:
        yield kit


@contextmanager
def running(command: Sequence[str | Path], folder: Path, **environment: str) -> Iterator[int]:
    """Run a program until the block ends; its process id."""
    with (folder / "programs.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=os.environ | environment, stdout=log, stderr=log
        )
    try:
        yield process.pid
        assert process.poll() is None, (folder / "programs.log").read_text()
    finally:
        process.terminate()
        process.wait()


@contextmanager
def served(kit: Kit, url: str, folder: Path) -> Iterator[list[int]]:
    """Run one scheduler and one worker of jobkit, ready to work; their process ids."""
    jobkit_ = [sys.executable, "-m", "jobkit"]
    with (
        running([*jobkit_, "scheduler"], folder, JOBKIT_DB_URL=url) as scheduler,
        running([*jobkit_, "worker"], folder, JOBKIT_DB_URL=url) as worker,
    ):
        until = time.monotonic() + STARTED_SECONDS
        while not kit.workers and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(3)
        yield [scheduler, worker]


def measure(name: str, unit: str, *takes: tuple[str, Callable[[], float]]) -> None:
    """Take each in turn, several times; print the medians, the spread and the first by the last."""
    values: dict[str, list[float]] = {label: [] for label, _ in takes}
    for _ in range(ROUNDS):
        for label, take in takes:
            values[label].append(take())
    shown = [
        f"{label} {statistics.median(taken):,.1f} ({min(taken):,.1f} to {max(taken):,.1f})"
        for label, taken in values.items()
    ]
    medians = [statistics.median(taken) for taken in values.values()]
    ratio = f"; {medians[0] / medians[-1]:.2f} of it" if len(medians) > 1 else ""
    print(f"{name:34} {unit:6} {', '.join(shown)}{ratio}", flush=True)


def percentiles(taken: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    return statistics.median(taken), statistics.quantiles(taken, n=100)[-1]


def show(name: str, unit: str, taken: Sequence[float]) -> None:
    """Print how many there are, their percentiles and their range."""
    cuts = statistics.quantiles(taken, n=100, method="inclusive")
    print(
        f"{name:34} {unit:6} p50 {cuts[49]:.2f}, p90 {cuts[89]:.2f}, p99 {cuts[98]:.2f} "
        f"({min(taken):.2f} to {max(taken):.2f}; {len(taken)})",
        flush=True,
    )


def chosen(words: str | None, **more: int) -> argparse.Namespace:
    """Read the command line: the database, and numbers with their defaults."""
    parser = argparse.ArgumentParser(
        description=words, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--on", choices=("sqlite", "postgresql"), default="sqlite")
    for name, default in more.items():
        parser.add_argument(f"--{name}", type=int, default=default, help=f"default {default:,}")
    return parser.parse_args()
