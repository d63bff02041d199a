"""Real schedulers, workers and scripts on a bad day; afterwards every law must hold.

    uv run python -m tests.chaos --seconds 60
    uv run python -m tests.chaos --seconds 3600 --on postgresql

Scripts write a ledger of their own, one line a write, so that the database does not testify about
itself. Faults, about one a second: schedulers and workers are killed with -9 or stopped past their
lease, the disk of the database and of results that wait is full for seconds (where a disk can be
mounted: as root on Linux), PostgreSQL is crashed and started again; through a proxy, its
connections are cut, lead into a black hole for seconds, or end just before or just after a commit.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import jobkit
from jobkit import migrations
from jobkit.executors.sweep import carriers
from jobkit.handles import Run
from jobkit.kit import Kit
from tests.disk import Disk, can_mount
from tests.postgres import Postgres, execute, give_to_nobody, start_server
from tests.proxy import FaultProxy

SETTINGS = {
    "WORKER_HEARTBEAT_INTERVAL": "0.5",
    "JOBKIT_LEASE_SECONDS": "4",
    "JOBKIT_RESCUE_GRACE_SECONDS": "1",
    "SCHEDULER_POLL_INTERVAL": "1",
    "WORKER_POLL_INTERVAL": "1",
    "WORKER_MAX_POLL_INTERVAL": "2",
    "JOBKIT_KILL_GRACE_SECONDS": "0.2",
    "JOBKIT_SLOTS": "4",
}
SCRIPT = """#!/bin/sh
say() {{ echo "$1 $JOBKIT_RUN_ID $JOBKIT_ATTEMPT $(date +%s.%N)" >> ledger; }}
say S
{body}
say E
exit {code}
"""
BODIES = {
    "quick": ("", 0),
    "steady": ("sleep 0.3", 0),
    "failing": ("", 3),
    "long": ("for i in 1 2 3 4 5 6 7 8; do sleep 1; say T; done", 0),
    "daemon": ("(setsid sleep 60 &) ; printf 'a\\000b\\377c\\n'", 0),
}
SETTLING_SECONDS = 300.0
FEWEST_FAULTS = 5
EPSILON = 0.1
DATABASE = "day"


@dataclass
class Result:
    """What was done, and what broke."""

    faults: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    attempts: Counter[str] = field(default_factory=Counter)
    breaches: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        faults = ", ".join(f"{count} {name}" for name, count in self.faults.items())
        return (
            f"faults: {faults}\nruns: {dict(self.runs)}\nattempts: {dict(self.attempts)}\n"
            f"breaches: {len(self.breaches)}" + "".join(f"\n  {it}" for it in self.breaches[:30])
        )


class Day:
    """A bad day on one database, in one folder; the database and the spool may have a disk."""

    def __init__(
        self,
        url: str,
        folder: Path,
        seed: int,
        server: Postgres | None = None,
        disk: Disk | None = None,
    ) -> None:
        self.url, self.folder, self.server, self.disk = url, folder, server, disk
        self.spool = (folder if disk is None else disk.folder) / "spool"
        self.proxy = None if server is None else FaultProxy(server.folder)
        self.rng = random.Random(seed)
        self.result = Result()
        self.programs: dict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)
        self.stopped: list[tuple[float, subprocess.Popen[bytes]]] = []
        self.full_until: float | None = None

    def live(self, seconds: float, workers: int) -> Result:
        """Start everything, break things for so long, let it settle, and look."""
        migrations.upgrade(self.url)
        os.chdir(self.folder)
        self._define()
        for kind, count in (("scheduler", 2), ("worker", workers)):
            for _ in range(count):
                self._start(kind)
        try:
            self._wait_for_the_first_script()
            self._break_things(seconds)
            self._settle()
            self._look()
        finally:
            self._end()
        return self.result

    def _define(self) -> None:
        with jobkit.connect(self.url) as kit:
            for name, (body, code) in BODIES.items():
                script = self.folder / f"{name}.sh"
                script.write_text(SCRIPT.format(body=body, code=code), "utf-8")
                script.chmod(0o755)
                for overlap in ("skip", "queue", "allow"):
                    every = "5s" if name == "long" else "2s"
                    kit.add_job(
                        f"{name} {overlap}", script.name, every=every, overlap=overlap,
                        misfire="all", retries=2, retry_delay="0.2s",
                    )  # fmt: skip

    def _start(self, kind: str) -> None:
        log = (self.folder / "log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "jobkit", kind],
            env=os.environ
            | SETTINGS
            | {"JOBKIT_DB_URL": self._programs_url, "JOBKIT_SPOOL_DIR": str(self.spool)},
            stdout=log,
            stderr=log,
            cwd=self.folder,
        )
        log.close()
        self.programs[kind].append(process)

    @property
    def _programs_url(self) -> str:
        return self.url if self.proxy is None else self.proxy.url(DATABASE)

    def _wait_for_the_first_script(self) -> None:
        until = time.monotonic() + SETTLING_SECONDS
        while not (self.folder / "ledger").exists():
            assert time.monotonic() < until, (self.folder / "log").read_text("utf-8", "replace")
            time.sleep(0.1)

    def _break_things(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        faults: list[Callable[[], None]] = [self._kill, self._kill, self._stop]
        if self.server is not None:
            faults += [self._cut, self._crash, self._swallow, self._lose_a_commit]
        if self.disk is not None:
            faults.append(self._fill)
        while time.monotonic() < until or sum(self.result.faults.values()) < FEWEST_FAULTS:
            self.rng.choice(faults)()
            self._wake_up()
            time.sleep(self.rng.uniform(0.3, 1.7))
        self._wake_up(everybody=True)

    def _victim(self) -> tuple[str, subprocess.Popen[bytes]]:
        kind = self.rng.choice(("scheduler", "worker", "worker"))
        return kind, self.rng.choice(self.programs[kind])

    def _kill(self) -> None:
        kind, victim = self._victim()
        victim.kill()
        victim.wait()
        self.programs[kind].remove(victim)
        self.stopped = [item for item in self.stopped if item[1] is not victim]
        self._start(kind)
        self.result.faults[f"{kind} killed"] += 1

    def _stop(self) -> None:
        kind, victim = self._victim()
        if all(item[1] is not victim for item in self.stopped):
            victim.send_signal(signal.SIGSTOP)
            self.stopped.append((time.monotonic() + self.rng.uniform(1, 9), victim))
            self.result.faults[f"{kind} stopped"] += 1

    def _wake_up(self, *, everybody: bool = False) -> None:
        for until, victim in list(self.stopped):
            if everybody or time.monotonic() >= until:
                victim.send_signal(signal.SIGCONT)
                self.stopped.remove((until, victim))
        if self.full_until is not None and (everybody or time.monotonic() >= self.full_until):
            self._free()

    def _fill(self) -> None:
        assert self.disk is not None
        if self.full_until is None:
            self.disk.fill()
            self.full_until = time.monotonic() + self.rng.uniform(0.5, 6)
            self.result.faults["disk full"] += 1

    def _free(self) -> None:
        assert self.disk is not None
        self.disk.free()
        self.full_until = None

    def _cut(self) -> None:
        if self.rng.random() < 0.5:
            assert self.proxy is not None
            self.proxy.cut()
        else:
            execute(
                self.url,
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'jobkit' AND random() < 0.5",
            )
        self.result.faults["connections cut"] += 1

    def _swallow(self) -> None:
        """Nothing comes through for a while, and nobody is told."""
        assert self.proxy is not None
        self.proxy.hold()
        time.sleep(self.rng.uniform(0.5, 6))
        self.proxy.release(cut=self.rng.random() < 0.7)
        self.result.faults["black hole"] += 1

    def _lose_a_commit(self) -> None:
        assert self.proxy is not None
        if self.rng.random() < 0.5:
            self.proxy.drop_commit()
        else:
            self.proxy.drop_answer()
        self.result.faults["commit or its answer lost"] += 1

    def _crash(self) -> None:
        assert self.server is not None
        if self.full_until is not None:
            self._free()  # it needs room to start again
        self.server.halt()
        time.sleep(self.rng.uniform(0, 2))
        self.server.start()
        self.result.faults["PostgreSQL crashed"] += 1

    def _settle(self) -> None:
        """No more slots; wait until nothing is unfinished."""
        with jobkit.connect(self.url) as kit:
            for job in kit.jobs:
                job.pause()
            until = time.monotonic() + SETTLING_SECONDS
            while kit.queue() and time.monotonic() < until:
                time.sleep(0.2)

    def _look(self) -> None:
        with jobkit.connect(self.url) as kit:
            runs = kit.runs(limit=1_000_000)
            self.result.runs.update(run.status for run in runs)
            found = [
                f"law {finding.law}: {breach}"
                for finding in kit.verify()
                for breach in finding.breaches
            ]
            found += ledger(self.folder / "ledger", kit, self.result)
        found += [f"run {run.id} is {run.status}" for run in runs if not run.is_final]
        for kind, programs in self.programs.items():
            codes = [program.poll() for program in programs]
            found += [f"a {kind} ended by itself with {code}" for code in codes if code is not None]
        left = [pid for pid, it in carriers() if it.get("PWD") == str(self.folder)]
        found += [f"process {pid} is left" for pid in left]
        found += [f"{path} was not delivered" for path in self.spool.glob("*/*.json")]
        self.result.breaches = found

    def _end(self) -> None:
        for process in (item for kind in self.programs.values() for item in kind):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in (item for kind in self.programs.values() for item in kind):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.proxy is not None:
            self.proxy.close()


Lines = dict[tuple[int, int], dict[str, list[float]]]


def _read(path: Path) -> Lines:
    lines: Lines = defaultdict(lambda: defaultdict(list))
    for line in path.read_text("utf-8").splitlines():
        kind, run, attempt, at = line.split()
        lines[int(run), int(attempt)][kind].append(float(at))
    return lines


def ledger(path: Path, kit: Kit, result: Result) -> list[str]:
    """Check what the scripts wrote against the rows, and against itself."""
    lines = _read(path)
    rows = {run.id: run for run in kit.runs(limit=1_000_000)}
    recorded = {(id_, item.attempt): item.status for id_ in rows for item in kit.attempts(id_)}
    result.attempts.update(recorded.values())
    found = [
        f"ledger: attempt {key[1]} of run {key[0]} is a SUCCESS and did not end"
        for key, status in recorded.items()
        if status == "SUCCESS" and not lines[key]["E"]
    ]
    spans: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    for (run, attempt), kinds in lines.items():
        if not kinds["S"]:
            continue
        words = f"attempt {attempt} of run {run}"
        found += _odd(rows.get(run), attempt, kinds["S"], words)
        span = (min(kinds["S"]), max(at for kind in kinds.values() for at in kind), words)
        spans[f"run {run}"].append(span)
        if run in rows and not rows[run].job_name.endswith("allow"):
            spans[rows[run].job_name].append(span)
    return found + [
        f"ledger: {other} began while {one} went on"
        for each in spans.values()
        for (_, ended, one), (began, _, other) in pairwise(sorted(each))
        if began < ended - EPSILON
    ]


def _odd(run: Run | None, attempt: int, begins: list[float], words: str) -> Iterator[str]:
    if len(begins) > 1:
        yield f"ledger: {words} began {len(begins)} times"
    if run is None or attempt > run.attempt:
        yield f"ledger: {words} was never claimed"
    elif run.scheduled_for and min(begins) < run.scheduled_for.timestamp() - EPSILON:
        yield f"ledger: {words} began before its slot"


def chaos(on: str, seconds: float, seed: int, workers: int = 4) -> Result:
    """Live a bad day on a fresh database."""
    here = Path.cwd()
    with ExitStack() as ends:
        folder = Path(ends.enter_context(TemporaryDirectory(prefix="jobkit-chaos-"))).resolve()
        ends.callback(os.chdir, here)
        disk = ends.enter_context(closing(Disk())) if can_mount() else None
        if on == "sqlite":
            url, server = f"sqlite:///{folder if disk is None else disk.folder}/jobkit.db", None
        else:
            server = start_server(always=True)
            assert server is not None
            ends.callback(server.stop)
            url = _make_database(server, disk)
        return Day(url, folder, seed, server, disk).live(seconds, workers)


def _make_database(server: Postgres, disk: Disk | None) -> str:
    """Make a database, on the disk if there is one; returns its URL."""
    base, place = server.url("postgres"), ""
    if disk is not None:
        tables = disk.folder / "tables"
        tables.mkdir()
        give_to_nobody(tables)
        execute(base, f"CREATE TABLESPACE small LOCATION '{tables}'")
        place = "TABLESPACE small"
    execute(base, f"CREATE DATABASE {DATABASE} {place}")
    return server.url(DATABASE)


def main() -> None:
    """Live bad days; end with 1 when a law was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things break")
    parser.add_argument("--on", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    broken = False
    for on in ("sqlite", "postgresql") if given.on == "both" else (given.on,):
        result = chaos(on, given.seconds, given.seed)
        print(f"{on}, {given.seconds:g} s, seed {given.seed}\n{result}", flush=True)
        broken |= bool(result.breaches)
    sys.exit(int(broken))


if __name__ == "__main__":
    main()
