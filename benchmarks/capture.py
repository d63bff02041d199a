"""How fast output is captured, and in how much memory, beside a bare loop of reads.

    uv run python -m benchmarks.capture
    uv run python -m benchmarks.capture --megabytes 1024 --rounds 3

A program writes so many megabytes into a pipe: log lines of 100 bytes, in blocks of 64 KiB. Each
way of reading them runs in a process of its own, in turn with the others; printed are the median
and the spread of its megabytes a second, the processor time of the reader for a gigabyte, and the
most memory that it took, of which an empty interpreter is the first row. The last rows are small
reads: programs that write one line at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from jobkit.executors.capture import Capture

READ_BYTES = 64 << 10
SECRETS = ("Zk3vQ9xTf1Lm", "https://ada:mGq7RfW2@host/", "eyJhbGciOiJIUzI1NiJ9.tb7sYp1Kc4")
LINE = (
    b"2026-03-02 06:30:00,123 INFO orders.load: 1200 rows of region north, 0.42 s, /var/data/%06d\n"
)
WRITER = """
import os, sys
line, size, total = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
block = b"".join(line.replace(b"%06d", b"%06d" % n) + b"\\n" for n in range(99))
block = (block * (size // len(block) + 1))[:size]
while total > 0:
    total -= os.write(1, block[:total])
"""


def bare(read: int) -> None:
    """Read and forget."""
    while os.read(read, READ_BYTES):
        pass


def ring(read: int) -> None:
    """Keep head and tail as bytes: no text, no facts, no secrets."""
    head, tail, kept = bytearray(), bytearray(), 10 << 20
    while data := os.read(read, READ_BYTES):
        if len(head) < kept // 2:
            head += data
        else:
            tail += data
            del tail[: max(0, len(tail) - kept // 2)]


def captured(secrets: tuple[str, ...]) -> Callable[[int], None]:
    """Return a reader that does what a worker does."""

    def reader(read: int) -> None:
        capture = Capture(lambda *_: None, secrets=secrets)
        while data := os.read(read, READ_BYTES):
            capture.feed(data)
        capture.close()

    return reader


WAYS: dict[str, tuple[Callable[[int], None], int]] = {
    "nothing to read": (bare, 0),
    "bare os.read": (bare, READ_BYTES),
    "head and tail as bytes": (ring, READ_BYTES),
    "capture": (captured(()), READ_BYTES),
    "capture, 1 secret": (captured(SECRETS[:1]), READ_BYTES),
    "capture, 3 secrets": (captured(SECRETS), READ_BYTES),
    "bare os.read, line by line": (bare, len(LINE)),
    "capture, line by line": (captured(()), len(LINE)),
    "capture, 3 secrets, line by line": (captured(SECRETS), len(LINE)),
}


def measure(way: str, megabytes: int) -> None:
    """Read once, in this process, and print the figures as JSON."""
    reader, size = WAYS[way]
    total = megabytes << 20 if size >= READ_BYTES else (megabytes << 20) // 64
    total = total if size else 0
    arguments = [LINE.decode().strip(), str(max(size, 1)), str(total)]
    with subprocess.Popen(
        [sys.executable, "-S", "-c", WRITER, *arguments], stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        began, used = time.perf_counter(), time.process_time()
        reader(writer.stdout.fileno())
        seconds, cpu = time.perf_counter() - began, time.process_time() - used
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    mb = total / 1e6
    print(json.dumps([mb / seconds, cpu / mb * 1000 if mb else 0.0, memory]))


def run(megabytes: int, rounds: int) -> None:
    """Measure every way in turn, and print a table."""
    figures: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, taken in figures.items():
            command = [sys.executable, "-m", "benchmarks.capture", "--way", way]
            done = subprocess.run(
                [*command, "--megabytes", str(megabytes)], capture_output=True, check=True
            )
            taken.append(json.loads(done.stdout))
    print(f"{'':34} {'MB/s':>6} {'from':>6} {'to':>6} {'CPU s/GB':>9} {'MB memory':>10}")
    for way, taken in figures.items():
        speeds, cpu, memory = zip(*taken, strict=True)
        print(
            f"{way:34} {statistics.median(speeds):6.0f} {min(speeds):6.0f} {max(speeds):6.0f}"
            f" {statistics.median(cpu):9.2f} {max(memory):10.1f}"
        )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", choices=WAYS, help="measure one way once, in this process")
    chosen = parser.parse_args()
    if chosen.way:
        measure(chosen.way, chosen.megabytes)
    else:
        run(chosen.megabytes, chosen.rounds)


if __name__ == "__main__":
    main()
