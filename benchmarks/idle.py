"""What an idle scheduler and worker cost: memory, and their share of a core.

    uv run --group bench python -m benchmarks.idle --on sqlite
    uv run --group bench python -m benchmarks.idle --on postgresql

One after the other, each for a minute: jobkit's scheduler and worker, `jobkit up` (both and the
portal in one process), and a peer without a broker. Memory is PSS of all processes: what is shared
with others counts in part; `private` counts only what nobody else maps. Linux only.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.stand import chosen, database, opened, running, served
from jobkit.kit import Kit

SETTLE_SECONDS = 10
HUEY = """
from huey import SqliteHuey
huey = SqliteHuey(filename="huey.db", fsync=True)
@huey.task()
def nothing(): pass
"""
PROCRASTINATE = """
import os
from procrastinate import App, PsycopgConnector
app = App(connector=PsycopgConnector(conninfo=os.environ["PEER_URL"]))
@app.task
def nothing(): pass
"""


def family(ids: list[int]) -> list[psutil.Process]:
    """Return these processes and all that they started."""
    parents = [psutil.Process(id_) for id_ in ids]
    return parents + [child for parent in parents for child in parent.children(recursive=True)]


def megabytes(process: psutil.Process) -> tuple[float, float]:
    """Return the PSS and the private memory of a process."""
    sizes: dict[str, float] = {}
    for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, size, _ = line.split()
        sizes[name] = int(size) / 1024
    return sizes["Pss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def seconds(processes: list[psutil.Process]) -> float:
    """Return the CPU time that processes have taken, in the program and in the kernel."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def show_idle(name: str, ids: list[int], length: int) -> None:
    """Print what these processes cost while nothing happens."""
    time.sleep(SETTLE_SECONDS)
    processes = family(ids)
    before, began = seconds(processes), time.monotonic()
    time.sleep(length)
    share = (seconds(processes) - before) / (time.monotonic() - began)
    pss, private = (sum(each) for each in zip(*map(megabytes, processes), strict=True))
    print(
        f"{name:32} {pss:6.1f} MB PSS ({private:.1f} private), {share:6.2%} of a core, "
        f"{len(processes)} processes",
        flush=True,
    )


@contextmanager
def up(url: str, folder: Path) -> Iterator[int]:
    """Run `jobkit up`."""
    command = [sys.executable, "-m", "jobkit", "up", "--no-browser", "--port", "0"]
    with running(command, folder, JOBKIT_DB_URL=url) as started:
        yield started


@contextmanager
def huey(folder: Path) -> Iterator[int]:
    """Run Huey's consumer, which also schedules."""
    (folder / "peer_huey.py").write_text(HUEY, "utf-8")
    program = Path(sys.executable).with_name("huey_consumer")
    with running([program, "peer_huey.huey"], folder, PYTHONPATH=str(folder)) as started:
        yield started


@contextmanager
def procrastinate(url: str, folder: Path) -> Iterator[int]:
    """Run Procrastinate's worker, which also schedules."""
    (folder / "peer_procrastinate.py").write_text(PROCRASTINATE, "utf-8")
    program = Path(sys.executable).with_name("procrastinate")
    given = {"PYTHONPATH": str(folder), "PEER_URL": url.replace("+psycopg", "", 1)}
    command = [program, "--app", "peer_procrastinate.app"]
    subprocess.run([*command, "schema", "--apply"], cwd=folder, env=os.environ | given, check=True)
    with running([*command, "worker"], folder, **given) as started:
        yield started


def run(kit: Kit, url: str, folder: Path, length: int) -> None:
    """Measure on one database."""
    with served(kit, url, folder) as ids:
        show_idle("jobkit scheduler and worker", ids, length)
    with up(url, folder) as id_:
        show_idle("jobkit up, with the portal", [id_], length)
    if kit.database.is_sqlite:
        with huey(folder) as id_:
            show_idle("Huey", [id_], length)
    else:
        with procrastinate(url, folder) as id_:
            show_idle("Procrastinate", [id_], length)


def main() -> None:
    """Measure."""
    given = chosen(__doc__, seconds=60)
    with database(given.on) as (url, folder), opened(url, folder) as kit:
        run(kit, url, folder, given.seconds)


if __name__ == "__main__":
    main()
