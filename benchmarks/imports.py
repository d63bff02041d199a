"""What it costs to begin: importing jobkit, the command line's help, connecting and listing.

    uv run python -m benchmarks.imports --on sqlite
    uv run python -m benchmarks.imports --on postgresql

Each is a process of its own, beside a bare interpreter in the same round: processor time of the
process, user and system, in milliseconds, so that what else the machine does counts little; for
connecting and listing also the wall, since a person waits for it. The database has 200 jobs and as
many runs. Bytecode is kept in a folder of the benchmark, as an installed package has it, whatever
the environment says; the round that writes it does not count.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence

from benchmarks.stand import chosen, database, opened
from jobkit.kit import Kit

ROUNDS = 15
JOBS = 200
LISTING = (
    "import os, jobkit\n"
    "with jobkit.connect(os.environ['JOBKIT_DB_URL']) as kit:\n"
    "    repr(kit), repr(kit.jobs), repr(kit.runs), kit.runs()[:20]\n"
)
COMMANDS: dict[str, tuple[str, ...]] = {
    "a bare interpreter": ("-c", "pass"),
    "import jobkit": ("-c", "import jobkit"),
    "jobkit --help": ("-m", "jobkit", "--help"),
    "connect and a first listing": ("-c", LISTING),
}
BARS = {"import jobkit": 100, "jobkit --help": 250, "connect and a first listing": 1200}


def fill(kit: Kit) -> None:
    """Make jobs, and a run of each."""
    for number in range(JOBS):
        kit.add_job(f"job {number:03d}", "any.py", every="1h")
        kit.submit(f"job {number:03d}")


def cost(arguments: Sequence[str], environment: dict[str, str]) -> tuple[float, float]:
    """Return processor time and wall of a Python process, in milliseconds."""
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - began
    if status:
        raise SystemExit(f"{arguments} ended with {os.waitstatus_to_exitcode(status)}")
    return (usage.ru_utime + usage.ru_stime) * 1000, took * 1000


def spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0f} ({min(values):.0f} to {max(values):.0f})"


def main() -> None:
    """Measure, and say which bars are missed."""
    with database(chosen(__doc__).on) as (url, folder), opened(url, folder) as kit:
        fill(kit)
        kept = {"JOBKIT_DB_URL": url, "PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
        environment = os.environ | kept
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        took: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
        for number in range(ROUNDS + 1):
            for name, arguments in COMMANDS.items():
                figures = cost(arguments, environment)
                if number:
                    took[name].append(figures)
        print(f"{'':30} {'CPU ms':>22} {'wall ms':>24}   bar")
        for name, figures in took.items():
            cpu, wall = ([pair[at] for pair in figures] for at in (0, 1))
            bar = BARS.get(name)
            said = "" if bar is None else f"{bar} {verdict(name, cpu, wall, bar)}"
            print(f"{name:30} {spread(cpu):>22} {spread(wall):>24}   {said}", flush=True)


def verdict(name: str, cpu: Sequence[float], wall: Sequence[float], bar: int) -> str:
    """Say whether a bar is kept: a listing's is of the wall, the others' of processor time."""
    figures = wall if name == "connect and a first listing" else cpu
    return "kept" if statistics.median(figures) < bar else "MISSED"


if __name__ == "__main__":
    main()
