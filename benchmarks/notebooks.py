"""A trivial notebook by a worker, beside papermill and nbclient, in one run.

    uv run --group bench python -m benchmarks.notebooks --on sqlite
    uv run --group bench python -m benchmarks.notebooks --on postgresql

One at a time, by a real worker that records everything: from the call that submits to the end that
its row tells, and of that the attempt itself. Beside it the same notebook by papermill's and
nbclient's command lines, as a cron job would call them, and by nbclient in a process that has
imported it already and only starts a kernel.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.scripts import worker
from benchmarks.stand import chosen, database, opened, show
from jobkit.kit import Kit

SOURCES = ("day = '2026-01-01'", "print(day)", "total = sum(range(10))\ntotal")
PAUSE_SECONDS = 0.05
WARM_UP = 3
CELL = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}


def document() -> dict[str, Any]:
    """Return a notebook of three cells, the first with the parameters."""
    cells = [CELL | {"id": f"c{number}", "source": text} for number, text in enumerate(SOURCES)]
    cells[0]["metadata"] = {"tags": ["parameters"]}
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": spec}, "cells": cells}


def milliseconds(start: datetime, end: datetime) -> float:
    """Return the milliseconds between two instants."""
    return (end - start) / timedelta(milliseconds=1)


def by_worker(kit: Kit, isolation: str, count: int) -> None:
    """Print how long submitted notebooks take to their end, and what of it is the attempt."""
    job = f"notebook {isolation}"
    kit.add_job(job, "trivial.ipynb", overlap="allow", isolation=isolation)
    for _ in range(WARM_UP):
        kit.submit(job).wait(60)
    whole, attempts, cpu = [], [], []
    for _ in range(count):
        time.sleep(PAUSE_SECONDS)
        began = kit.clock.now()
        run = kit.submit(job).wait(60)
        (attempt,) = run.attempts()
        assert (attempt.provenance or {})["isolation"] == isolation
        whole.append(milliseconds(began, run.completed_at))
        attempts.append(attempt.duration / timedelta(milliseconds=1))
        cpu.append(attempt.cpu_seconds * 1000)
    show(f"jobkit {isolation}, submit to end", "ms", whole)
    show("  of it the attempt", "ms", attempts)
    show("  its CPU", "ms", cpu)


def timed(call: Callable[[], object], count: int) -> list[float]:
    """Return the milliseconds that calls take, after one that does not count."""
    call()
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        call()
        taken.append((time.perf_counter() - began) * 1000)
    return taken


def command(*words: str) -> Callable[[], object]:
    """Return a call of a program that lies beside this interpreter."""
    line = [Path(sys.executable).with_name(words[0]), *words[1:]]
    return lambda: subprocess.run(line, check=True, capture_output=True)


def in_process() -> None:
    """Execute by nbclient, which is imported, with a kernel of its own."""
    import nbformat
    from nbclient import NotebookClient

    NotebookClient(nbformat.from_dict(document()), kernel_name="python3").execute(
        stderr=subprocess.DEVNULL
    )


def run(url: str, folder: Path, kit: Kit, count: int, few: int) -> None:
    """Measure on one database."""
    (folder / "trivial.ipynb").write_text(json.dumps(document()), "utf-8")
    with worker(url, folder):
        by_worker(kit, "warm", count)
        by_worker(kit, "fresh", few)
    papermill = ("papermill", "trivial.ipynb", "out.ipynb", "-p", "day", "2026-01-02")
    show("papermill, its command", "ms", timed(command(*papermill), few))
    nbclient = ("jupyter-execute", "trivial.ipynb", "--output", "out.ipynb")
    show("nbclient, its command", "ms", timed(command(*nbclient), few))
    show("nbclient, imported already", "ms", timed(in_process, few))


def main() -> None:
    """Measure."""
    given = chosen(__doc__, count=100, few=5)
    logging.disable(logging.WARNING)
    with database(given.on) as (url, folder), opened(url, folder) as kit:
        run(url, folder, kit, given.count, given.few)


if __name__ == "__main__":
    main()
