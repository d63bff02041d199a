"""The same trivial script by what a user would pick instead, two at once, in one run.

    uv run --group bench python -m benchmarks.rivals
    uv run --group bench python -m benchmarks.rivals --rounds 1 --count 20 --lines 10

Each is set up the way its documentation shows, runs the script by `subprocess.run` in a task, and
keeps every commit on the disk. What it is told to do is done when the task has added what the
script printed to a file; jobkit's runs count when their result is in the database. In each round
each has its turn with its worker just started and warmed up, the others stopped; the bare loop
comes last. Those on Redis need a `redis-server` on the PATH, and are left out without one.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.scripts import FIRST_LINE, TRIVIAL, Bench, worker
from benchmarks.stand import database, opened, percentiles, running

WARM_UP = 4
WAIT_SECONDS = 120
LOOK_SECONDS = 0.005
PAUSE_SECONDS = 0.03

TASK = """
import subprocess, sys

def run_script(path):
    said = subprocess.run([sys.executable, path], capture_output=True, check=True).stdout
    with open("said", "ab") as file:
        file.write(said)
    return said.decode()
"""
HUEY = """
from huey import SqliteHuey
from rival_task import run_script

huey = SqliteHuey(filename="huey.db", fsync=True)
submit = huey.task()(run_script)
"""
APSCHEDULER = """
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.schedulers.base import STATE_PAUSED
from rival_task import run_script

scheduler = BackgroundScheduler(
    jobstores={"default": SQLAlchemyJobStore(url="sqlite:///apscheduler.db")},
    executors={"default": ThreadPoolExecutor(2)},
    job_defaults={"misfire_grace_time": None},
)

def submit(path):
    if not scheduler.running:
        scheduler.start()
    if scheduler.state == STATE_PAUSED:
        scheduler.resume()
    scheduler.add_job(run_script, args=[path])

def stop():
    scheduler.pause()
"""
PROCRASTINATE = """
import os, sys
from procrastinate import App, PsycopgConnector, SyncPsycopgConnector
from rival_task import run_script

kind = PsycopgConnector if "worker" in sys.argv or "schema" in sys.argv else SyncPsycopgConnector
app = App(connector=kind(conninfo=os.environ["RIVAL_POSTGRES"]))
task = app.task(run_script, name="run_script")

def submit_many(path, count):
    app.open()
    task.batch_defer(*[{"path": path}] * count)

def submit(path):
    task.defer(path=path)
"""
RQ = """
import os
from redis import Redis
from rq import Queue

queue = Queue(connection=Redis(unix_socket_path=os.environ["RIVAL_REDIS"]))

def submit(path):
    queue.enqueue("rival_task.run_script", path)
"""
CELERY = """
import os
from celery import Celery
from rival_task import run_script

url = "redis+socket://" + os.environ["RIVAL_REDIS"]
app = Celery("rival_celery", broker=url, backend=url)
submit = app.task(name="run_script")(run_script).delay
"""


class Contender(Protocol):
    """What is measured."""

    name: str

    def serving(self) -> AbstractContextManager[Any]:
        """Have its worker run, with two scripts at once."""

    def runs(self, count: int) -> float:
        """Run the trivial script so many times; a second."""

    def first_lines(self, count: int) -> list[float]:
        """From the call that submits to the script's first line; milliseconds, one at a time."""


@dataclass
class Jobkit:
    """jobkit's worker on one database, with forked or fresh interpreters."""

    name: str
    bench: Bench
    url: str
    isolation: str

    def __post_init__(self) -> None:
        for job in ("trivial", "first"):
            self.bench.kit.add_job(
                f"{job} {self.isolation}",
                f"{job}.py",
                overlap="allow",
                isolation=self.isolation,
            )

    def serving(self) -> AbstractContextManager[int]:
        return worker(self.url, self.bench.folder)

    def runs(self, count: int) -> float:
        return self.bench.runs(f"trivial {self.isolation}", count)

    def first_lines(self, count: int) -> list[float]:
        return self.bench.first_lines(f"first {self.isolation}", count)


@dataclass
class Bare:
    """A loop of subprocess.run, which records nothing."""

    name: str
    bench: Bench

    def serving(self) -> AbstractContextManager[None]:
        return nullcontext()

    def runs(self, count: int) -> float:
        return self.bench.bare("trivial.py", count)

    def first_lines(self, count: int) -> list[float]:
        return self.bench.bare_first_lines(count)


@dataclass
class Rival:
    """Another program: `module` has its task, and `submit`; `command` is its worker's, if any."""

    name: str
    folder: Path
    module: str
    source: str
    command: Sequence[str] = ()
    before: Sequence[str] = ()
    """What is to be run once before the worker."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        (self.folder / "rival_task.py").write_text(TASK, "utf-8")
        (self.folder / f"{self.module}.py").write_text(self.source, "utf-8")

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Have its worker run; its process id."""
        given = {"PYTHONPATH": str(self.folder), **self.environment}
        if self.before:
            command, self.before = program(self.before), ()
            subprocess.run(
                command, cwd=self.folder, env=os.environ | given, check=True, capture_output=True
            )
        if not self.command:
            try:
                yield os.getpid()
            finally:
                self._program().stop()
            return
        with running(program(self.command), self.folder, **given) as started:
            yield started

    def runs(self, count: int) -> float:
        submit, before = self._program(), self._said()
        began = time.perf_counter()
        if hasattr(submit, "submit_many"):
            submit.submit_many("trivial.py", count)
        else:
            for _ in range(count):
                submit.submit("trivial.py")
        self._wait(before + count)
        return count / (time.perf_counter() - began)

    def first_lines(self, count: int) -> list[float]:
        submit, taken = self._program().submit, []
        for _ in range(count):
            before, began = self._said(), time.time()
            submit("first.py")
            self._wait(before + 1)
            taken.append((float(self._lines()[-1]) - began) * 1000)
            time.sleep(PAUSE_SECONDS)
        return taken

    def _program(self) -> Any:
        os.environ.update(self.environment)
        if str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))
        return importlib.import_module(self.module)

    def _lines(self) -> list[bytes]:
        said = self.folder / "said"
        return said.read_bytes().splitlines() if said.exists() else []

    def _said(self) -> int:
        return len(self._lines())

    def _wait(self, count: int) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while self._said() < count:
            assert time.monotonic() < until, (self.folder / "programs.log").read_text()[-4000:]
            time.sleep(LOOK_SECONDS)


def program(command: Sequence[str]) -> list[str]:
    """Return a command of a program that lies beside this interpreter."""
    return [str(Path(sys.executable).with_name(command[0])), *command[1:]]


def huey(folder: Path, *options: str) -> Rival:
    """Huey on SQLite, with threads, which is its default."""
    command = ("huey_consumer", "rival_huey.huey", "-w", "2", *options)
    said = f", {' '.join(options)}" if options else ""
    return Rival(f"Huey, SQLite{said}", folder, "rival_huey", HUEY, command)


def apscheduler(folder: Path) -> Rival:
    """APScheduler with its jobs in SQLite; it runs them in the program that adds them."""
    return Rival("APScheduler, SQLite", folder, "rival_apscheduler", APSCHEDULER)


def procrastinate(folder: Path, url: str) -> Rival:
    """Procrastinate on PostgreSQL."""
    start = ("procrastinate", "--app", "rival_procrastinate.app")
    return Rival(
        "Procrastinate, PostgreSQL",
        folder,
        "rival_procrastinate",
        PROCRASTINATE,
        (*start, "worker", "--concurrency", "2"),
        (*start, "schema", "--apply"),
        {"RIVAL_POSTGRES": url.replace("+psycopg", "", 1)},
    )


def on_redis(folder: Path, socket: Path) -> list[Rival]:
    """RQ and Celery."""
    given = {"RIVAL_REDIS": str(socket)}
    pool = ("rq", "worker-pool", "--num-workers", "2", "--url", f"unix://{socket}", "--quiet")
    app = ("celery", "--app", "rival_celery", "worker", "--concurrency", "2", "--loglevel", "ERROR")
    return [
        Rival("RQ, Redis", folder, "rival_rq", RQ, pool, environment=given),
        Rival("Celery, Redis", folder, "rival_celery", CELERY, app, environment=given),
    ]


@contextmanager
def redis(folder: Path) -> Iterator[Path | None]:
    """Run a Redis that keeps every write on the disk; its socket, None where there is no Redis."""
    found = shutil.which("redis-server")
    if found is None:
        print("RQ and Celery are left out: there is no redis-server on the PATH.", flush=True)
        yield None
        return
    socket = folder / "redis.sock"
    durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
    place = ["--port", "0", "--unixsocket", str(socket), "--dir", str(folder)]
    with running([found, *place, *durable], folder):
        until = time.monotonic() + 10
        while not socket.exists() and time.monotonic() < until:
            time.sleep(0.05)
        yield socket


def take_turns(
    contenders: Sequence[Contender], rounds: int, count: int, lines: int
) -> dict[str, tuple[list[float], list[float]]]:
    """Measure each in each round: scripts a second of each, and all first lines."""
    taken: dict[str, tuple[list[float], list[float]]] = {it.name: ([], []) for it in contenders}
    for _ in range(rounds):
        for contender in contenders:
            speeds, firsts = taken[contender.name]
            with contender.serving():
                contender.runs(WARM_UP)
                speeds.append(contender.runs(count))
                firsts += contender.first_lines(lines)
    return taken


def show(taken: Mapping[str, tuple[list[float], list[float]]]) -> None:
    """Print a row for each; speeds also as multiples of the last, which is the bare loop."""
    bare = statistics.median(list(taken.values())[-1][0])
    print(f"{'':38} {'1/s':>6} {'from':>6} {'to':>6} {'x bare':>6} {'p50 ms':>8} {'p99 ms':>8}")
    for name, (speeds, firsts) in taken.items():
        median, (middle, late) = statistics.median(speeds), percentiles(firsts)
        print(
            f"{name:38} {median:6.1f} {min(speeds):6.1f} {max(speeds):6.1f} {median / bare:6.2f}"
            f" {middle:8.1f} {late:8.1f}",
            flush=True,
        )


def gather(stack: ExitStack) -> Iterator[Contender]:
    """Yield all that are measured, the bare loop as the last."""
    folder = Path()
    benches: dict[str, tuple[Bench, str]] = {}
    for on in ("sqlite", "postgresql"):
        url, place = stack.enter_context(database(on))
        folder = folder if benches else place
        benches[on] = Bench(stack.enter_context(opened(url, folder)), folder), url
    (folder / "trivial.py").write_text(TRIVIAL, "utf-8")
    (folder / "first.py").write_text(FIRST_LINE, "utf-8")
    for on, name in (("sqlite", "SQLite"), ("postgresql", "PostgreSQL")):
        for isolation in ("warm", "fresh"):
            yield Jobkit(f"jobkit {isolation}, {name}", *benches[on], isolation)
    yield huey(folder)
    yield huey(folder, "--delay", "0.01", "--max-delay", "0.01")
    yield apscheduler(folder)
    yield procrastinate(folder, benches["postgresql"][1])
    if socket := stack.enter_context(redis(folder)):
        yield from on_redis(folder, socket)
    yield Bare("bare loop", benches["sqlite"][0])


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=200, help="scripts a round")
    parser.add_argument("--lines", type=int, default=60, help="first lines a round")
    given = parser.parse_args()
    logging.disable(logging.WARNING)
    with ExitStack() as stack:
        contenders = list(gather(stack))
        show(take_turns(contenders, given.rounds, given.count, given.lines))


if __name__ == "__main__":
    main()
