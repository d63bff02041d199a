"""What a gigabyte of output costs, and how soon a printed line is shown.

    uv run python -m benchmarks.output --on sqlite
    uv run python -m benchmarks.output --on postgresql

By a real worker of two slots. First other runs are submitted and claimed, one after the other,
without and then with a run beside them that prints so many megabytes, again and again until they
are done; the worker's memory is its most beyond what it had before. The baseline of the speed is
the same script read by a bare loop. Then a script prints lines with the time in them: from there to
the line out of `jobkit logs --follow`, to the line in what the portal's run page asks for, and out
of a bare pipe. Linux only.
"""

from __future__ import annotations

import os
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.latency import waits
from benchmarks.scripts import worker
from benchmarks.stand import chosen, database, opened, running, show
from jobkit.kit import Kit

FLOOD = """
import os, sys
line = b"2026-03-02 06:30:00,123 INFO orders.load: %06d rows of region north, 0.42 s, /var/data\\n"
block = b"".join(line % number for number in range(700))
left = int(sys.argv[1]) * 1_000_000
while left > 0:
    left -= os.write(1, block[:left])
"""
LINES = """
import random, sys, time
count, least, most = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
time.sleep(3)  # who looks has started by then
for _ in range(count):
    time.sleep(random.uniform(least, most))
    print(f"at {time.time():.6f}", flush=True)
"""
PACES = {"now and then": (1, 0.3, 0.7), "20 a second": (4, 0.025, 0.075)}
"""How many times as many lines, and the seconds between them: least and most."""
WARM_UP = 5
TOKEN = "bench"
LINE = re.compile(r"at (\d+\.\d+)")
MORE = re.compile(r'id="more" hx-get="([^"]+)"')
POLL_SECONDS = 0.1
"""How often the portal's run page asks, as its template says."""


class Floods:
    """Runs of a script that prints, one after the other until the block ends."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on)
        self.speeds: list[float] = []
        """Megabytes a second."""

    def __enter__(self) -> Floods:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._over.is_set():
            run = self._kit.submit("flood").wait(600)
            (attempt,) = run.attempts()
            assert attempt.duration is not None
            self.speeds.append(attempt.output_bytes / 1e6 / attempt.duration.total_seconds())


def resident(process: int, name: str) -> float:
    """Return the resident memory of a process: `VmRSS` now, `VmHWM` the most; megabytes."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) / 1024


def bare_flood(megabytes: int) -> float:
    """Read the same script's output and forget it; megabytes a second."""
    began = time.perf_counter()
    command = [sys.executable, "flood.py", str(megabytes)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        while os.read(process.stdout.fileno(), 64 << 10):
            pass
    return megabytes / (time.perf_counter() - began)


def flood(kit: Kit, process: int, count: int, megabytes: int) -> None:
    """Measure claims without and with a gigabyte beside them, and the worker's memory."""
    kit.add_job("flood", "flood.py", str(megabytes), overlap="allow")
    kit.add_job("any", "any.py", overlap="allow")
    waits(kit, WARM_UP)
    show("submit to claim", "ms", waits(kit, count)[0])
    before = resident(process, "VmRSS")
    Path(f"/proc/{process}/clear_refs").write_text("5")  # the most begins anew
    with Floods(kit) as floods:
        beside = waits(kit, count)[0]
    show(f"the same beside {megabytes} MB of output", "ms", beside)
    most = resident(process, "VmHWM") - before
    print(f"{'the worker beyond what it had':34} MB     {most:.1f} of {before:.1f}", flush=True)
    speeds = floods.speeds
    print(
        f"{'output taken':34} MB/s   {statistics.median(speeds):.0f}"
        f" ({min(speeds):.0f} to {max(speeds):.0f}; {len(speeds)}),"
        f" bare reads {bare_flood(megabytes):.0f}",
        flush=True,
    )


def lateness(lines: Iterator[tuple[float, str]]) -> list[float]:
    """From what lines say themselves to when they were seen; milliseconds.

    Of lines that were printed when somebody looked: not before the first was seen.
    """
    pairs = [(seen, float(found[1])) for seen, text in lines for found in LINE.finditer(text)]
    return [(seen - printed) * 1000 for seen, printed in pairs if printed > pairs[0][0]]


def followed(command: list[str]) -> Iterator[tuple[float, str]]:
    """Yield lines as a program prints them."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            yield time.time(), line


def polled(address: str, run_id: int) -> Iterator[tuple[float, str]]:
    """Yield what a run's page shows, as a browser asks for it."""
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    browser.open(f"{address}/?token={TOKEN}").close()
    onward = f"/runs/{run_id}"
    while onward:
        with browser.open(address + onward) as answer:
            page = answer.read().decode()
            yield time.time(), page
            # Nothing new is an answer without content: the page goes on asking the same.
            found = MORE.search(page)
            onward = (found[1].replace("&amp;", "&") if found else "") if page else onward
        time.sleep(POLL_SECONDS)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(address: str) -> None:
    """Wait until the portal answers."""
    until = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{address}/healthz").close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.1)
        else:
            return


def lines(kit: Kit, url: str, folder: Path, count: int) -> None:
    """Measure how soon a line is shown, at each pace and by each face."""
    jobkit_, port = [sys.executable, "-m", "jobkit"], free_port()
    address = f"http://127.0.0.1:{port}"
    os.environ["JOBKIT_DB_URL"] = url
    with running([*jobkit_, "portal", "--port", str(port)], folder, JOBKIT_TOKEN=TOKEN):
        wait_for(address)
        for number, (pace, (times, *pauses)) in enumerate(PACES.items()):
            given = [str(count * times), *map(str, pauses)]
            kit.add_job(f"lines {number}", "lines.py", *given, overlap="allow")
            faces: dict[str, Callable[[int], Iterator[tuple[float, str]]]] = {
                "logs --follow": lambda id_: followed([*jobkit_, "logs", str(id_), "--follow"]),
                "the run page": lambda id_: polled(address, id_),
            }
            for face, look in faces.items():
                run = kit.submit(f"lines {number}")
                while not kit.run(run.id).is_running:
                    time.sleep(0.02)
                show_lines(f"{face}, {pace}", lateness(look(run.id)))
            bare = followed([sys.executable, "lines.py", *given])
            show_lines(f"bare pipe, {pace}", lateness(bare))


def show_lines(name: str, late: list[float]) -> None:
    """Print the percentiles of a face."""
    cuts = statistics.quantiles(late, n=100, method="inclusive")
    print(
        f"{name:34} ms     p50 {cuts[49]:.1f}, p95 {cuts[94]:.1f}, p99 {cuts[98]:.1f}"
        f" ({min(late):.1f} to {max(late):.1f}; {len(late)})",
        flush=True,
    )


def main() -> None:
    """Measure."""
    given = chosen(__doc__, count=200, megabytes=1000, lines=200)
    random.seed(1)
    with database(given.on) as (url, folder), opened(url, folder) as kit:
        (folder / "flood.py").write_text(FLOOD, "utf-8")
        (folder / "lines.py").write_text(LINES, "utf-8")
        with worker(url, folder) as process:
            flood(kit, process, given.count, given.megabytes)
            lines(kit, url, folder, given.lines)


if __name__ == "__main__":
    main()
