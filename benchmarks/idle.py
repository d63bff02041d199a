"""What an idle scheduler and worker cost: memory, and their share of a core.

    uv run --group bench python -m benchmarks.idle --on sqlite
    uv run --group bench python -m benchmarks.idle --on postgresql

One after the other, each for a minute: jobkit's scheduler and worker, with the processes that
scripts are forked from; the same a good minute after the worker has run some of each kind; `jobkit
up` (both and the portal in one process); and peers, on Redis too where a `redis-server` is on the
PATH. Memory is PSS of all processes: what is shared with others counts in part; `private` counts
only what nobody else maps. Redis and PostgreSQL themselves do not count. Linux only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil

from benchmarks import rivals
from benchmarks.notebooks import document
from benchmarks.stand import chosen, database, opened, running, served
from jobkit.executors.nursery import HOST_IDLE_SECONDS
from jobkit.kit import Kit

SETTLE_SECONDS = 10
OF_EACH = 8
"""Runs of each kind: more than a worker has slots."""
KINDS = {
    "a.py": "print('hello')\n",
    "b.py:hello": "def hello():\n    return 1\n",
    "c.ipynb": json.dumps(document()),
    "d.sql": "SELECT 1 AS one;\n",
    "e.sh": "echo hello\n",
}


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


def by_kind(processes: list[psutil.Process]) -> dict[str, tuple[int, float]]:
    """Return how many processes of each kind there are, and the PSS of them together."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for process in processes:
        counts[kind := kind_of(process)] += 1
        sizes[kind] += megabytes(process)[0]
    return {kind: (count, sizes[kind]) for kind, count in counts.items()}


def kind_of(process: psutil.Process) -> str:
    """Say what a process is, by its command line: a host has that of its zygote."""
    line, parent = process.cmdline(), process.parent()
    if not any(word.endswith("zygote.py") for word in line):
        return " ".join(Path(word).name for word in line[1:5] if word[0] != "-")
    modules = line[3:]
    name = "zygote" if parent is None or line != parent.cmdline() else "host"
    return f"{name} of {modules[0].partition('.')[0]}" if modules else name


def show_idle(name: str, ids: list[int], length: int, settle: float = SETTLE_SECONDS) -> None:
    """Print what these processes cost while nothing happens."""
    time.sleep(settle)
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
    for kind, (count, size) in by_kind(processes).items():
        print(f"    {count} {kind:26} {size:6.1f} MB PSS", flush=True)


@contextmanager
def up(url: str, folder: Path) -> Iterator[int]:
    """Run `jobkit up`."""
    command = [sys.executable, "-m", "jobkit", "up", "--no-browser", "--port", "0"]
    with running(command, folder, JOBKIT_DB_URL=url) as started:
        yield started


def use_all_kinds(kit: Kit, folder: Path) -> None:
    """Run some of each kind, as many at once as there are slots."""
    made = []
    for script, text in KINDS.items():
        (folder / script.partition(":")[0]).write_text(text, "utf-8")
        kit.add_job(script, script, overlap="allow")
        made += [kit.submit(script) for _ in range(OF_EACH)]
    for run_ in made:
        run_.wait(120)


def peers(stack: ExitStack, url: str, folder: Path, is_sqlite: bool) -> Iterator[rivals.Rival]:
    """Yield what else has a worker that waits."""
    if not is_sqlite:
        yield rivals.procrastinate(folder, url)
        return
    yield rivals.huey(folder)
    if socket := stack.enter_context(rivals.redis(folder)):
        yield from rivals.on_redis(folder, socket)


def run(kit: Kit, url: str, folder: Path, length: int) -> None:
    """Measure on one database."""
    kit.add_job("any", "any.py")
    with served(kit, url, folder) as ids:
        kit.submit("any").wait(120)  # its processes are there, and warm
        show_idle("jobkit scheduler and worker", ids, length)
        use_all_kinds(kit, folder)
        show_idle("the same, each kind was run", ids, length, HOST_IDLE_SECONDS + SETTLE_SECONDS)
    with up(url, folder) as id_:
        show_idle("jobkit up, with the portal", [id_], length)
    with ExitStack() as stack:
        for peer in peers(stack, url, folder, kit.database.is_sqlite):
            with peer.serving() as id_:
                show_idle(peer.name, [id_], length)


def main() -> None:
    """Measure."""
    given = chosen(__doc__, seconds=60)
    with database(given.on) as (url, folder), opened(url, folder) as kit:
        run(kit, url, folder, given.seconds)


if __name__ == "__main__":
    main()
