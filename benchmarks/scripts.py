"""How fast a worker runs scripts, beside a bare loop of subprocess.run, in one run.

    uv run python -m benchmarks.scripts --on sqlite
    uv run python -m benchmarks.scripts --on postgresql --preload polars

A real worker process with two slots; all it does is recorded as in production. The bare loop keeps
two interpreters going and records nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import jobkit
from benchmarks.engine import database, measure
from jobkit import migrations
from jobkit.kit import Kit

TRIVIAL = "print('hello')\n"
FIRST_LINE = """import time
print(time.clock_gettime(time.CLOCK_REALTIME))
"""


class Bench:
    """One database with a worker on it."""

    def __init__(self, kit: Kit, folder: Path) -> None:
        self.kit = kit
        self.folder = folder

    def runs(self, job: str, count: int) -> float:
        """Submit so many runs at once and wait for the last; runs a second."""
        began = time.perf_counter()
        last = self.kit.submit_many(job, [{}] * count)[-1]
        ids = range(last - count + 1, last + 1)
        while self._unfinished(ids):
            time.sleep(0.02)
        taken = time.perf_counter() - began
        assert {run.status for run in self.kit.runs(job=job, limit=count)} == {"COMPLETED"}
        return count / taken

    def _unfinished(self, ids: range) -> int:
        with self.kit.database.read() as connection:
            row = connection.exec_driver_sql(
                "SELECT count(*) FROM job_dispatch WHERE status IN ('PENDING', 'IN_PROGRESS')"
            )
            return int(row.scalar_one())

    def bare(self, script: str, count: int) -> float:
        """Run the script so many times, two at once; runs a second."""

        def loop() -> None:
            for _ in range(count // 2):
                subprocess.run(
                    [sys.executable, str(self.folder / script)], capture_output=True, check=True
                )

        began = time.perf_counter()
        threads = [threading.Thread(target=loop) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return count / (time.perf_counter() - began)

    def first_lines(self, job: str, count: int = 100) -> list[float]:
        """From the call that enqueues to the script's first line; milliseconds, one at a time."""
        taken = []
        for _ in range(count):
            began = time.time()
            run = self.kit.submit(job).wait(30)
            taken.append((float(run.output().text) - began) * 1000)
            time.sleep(0.03)
        return taken

    def bare_first_lines(self, count: int = 30) -> list[float]:
        """The same of an interpreter that is started here."""
        taken = []
        for _ in range(count):
            began = time.time()
            command = [sys.executable, str(self.folder / "first.py")]
            said = subprocess.run(command, capture_output=True, check=True, text=True).stdout
            taken.append((float(said) - began) * 1000)
        return taken


def tell(name: str, values: list[float]) -> None:
    """Print the percentiles of milliseconds."""
    cuts = statistics.quantiles(values, n=100)
    print(
        f"{name:34} ms     p50 {cuts[49]:.1f}, p90 {cuts[89]:.1f}, p99 {cuts[98]:.1f}", flush=True
    )


@contextmanager
def worker(url: str, folder: Path, **settings: str) -> Iterator[int]:
    """Keep a worker process of two slots; its process id."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jobkit", "worker", "--slots", "2"],
        env=os.environ
        | {"JOBKIT_DB_URL": url, "JOBKIT_SPOOL_DIR": str(folder / "spool")}
        | settings,
        cwd=folder,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def run(url: str, folder: Path, preload: str, count: int) -> None:
    """Measure on one database."""
    os.chdir(folder)
    sources = {"trivial": TRIVIAL, "first": FIRST_LINE}
    if preload:
        sources["loaded"] = f"import {preload}\nprint({preload}.__version__)\n"
    migrations.upgrade(url)
    with jobkit.connect(url) as kit, worker(url, folder, JOBKIT_PRELOAD=preload):
        bench = Bench(kit, folder)
        for name, text in sources.items():
            (folder / f"{name}.py").write_text(text, "utf-8")
            kit.add_job(name, f"{name}.py", overlap="allow", isolation="warm")
            kit.add_job(f"{name} fresh", f"{name}.py", overlap="allow", isolation="fresh")
        for name in ("trivial", "trivial fresh"):
            bench.runs(name, 20)
        bare: tuple[str, Callable[[], float]] = (
            "bare",
            lambda: bench.bare("trivial.py", count // 2),
        )
        measure("trivial scripts", "1/s", ("warm", lambda: bench.runs("trivial", count)), bare)
        measure(
            "trivial scripts",
            "1/s",
            ("fresh", lambda: bench.runs("trivial fresh", count // 2)),
            bare,
        )
        if preload:
            measure(
                f"scripts that import {preload}",
                "1/s",
                ("warm", lambda: bench.runs("loaded", count)),
                ("bare", lambda: bench.bare("loaded.py", 10)),
            )
        tell("submit to the first line, warm", bench.first_lines("first"))
        tell("submit to the first line, fresh", bench.first_lines("first fresh"))
        tell("bare start to the first line", bench.bare_first_lines())


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--preload", default="", help="a module to measure as preloaded")
    parser.add_argument("--count", type=int, default=200, help="scripts a round")
    given = parser.parse_args()
    with database(given.on) as (url, folder):
        run(url, folder, given.preload, given.count)


if __name__ == "__main__":
    main()
