"""Whether claims stay fast while a million runs come and go, and tables stay small.

    uv run python -m benchmarks.churn --on sqlite --cycles 1000000
    uv run python -m benchmarks.churn --on postgresql --cycles 1000000

Each cycle is a run that is made, claimed and finished. Claims of a single run are timed on the way;
printed are their percentiles at the start and at the end, and what the tables weigh.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from benchmarks.engine import BATCH, Bench
from benchmarks.stand import chosen, database, opened, percentiles

ROUND = 2000
TIMED = 20
SIZES = """
SELECT relname, pg_size_pretty(pg_relation_size(oid)) FROM pg_class
WHERE relname IN ('job_dispatch', 'ix_run_claim', 'ix_run_lease', 'ix_run_unfinished')
ORDER BY relname
"""


def claims_of_one(bench: Bench, rounds: int) -> Iterator[float]:
    """Yield the milliseconds of single claims, between rounds of many."""
    for _ in range(rounds):
        bench.fill(ROUND)
        for _ in range(TIMED):
            began = time.perf_counter()
            claimed = bench.claim(1)
            yield (time.perf_counter() - began) * 1000
            bench.finish(claimed)
        while claimed := bench.claim(BATCH):
            bench.finish(claimed)


def run(url: str, folder: Path, cycles: int) -> None:
    """Measure on one database."""
    with opened(url, folder) as kit:
        kit.add_job("any", "any.py", overlap="allow")
        bench = Bench(kit)
        list(claims_of_one(bench, 2))  # caches are warm from here on
        began = time.perf_counter()
        taken = list(claims_of_one(bench, cycles // ROUND))
        print(f"{cycles:,} cycles in {time.perf_counter() - began:,.0f} s")
        tenth = max(len(taken) // 10, 100)
        first, last = percentiles(taken[:tenth]), percentiles(taken[-tenth:])
        for name, (median, high) in (("first tenth", first), ("last tenth", last)):
            print(f"{name:12} p50 {median:.2f} ms, p99 {high:.2f} ms")
        print(f"p50 {last[0] / first[0]:.2f} and p99 {last[1] / first[1]:.2f} times the start")
        with kit.database.read() as connection:
            if kit.database.is_sqlite:
                print(f"file {(folder / 'jobkit.db').stat().st_size / 2**20:,.0f} MB")
                return
            print(", ".join(f"{name} {size}" for name, size in connection.execute(sa.text(SIZES))))


def main() -> None:
    """Measure."""
    given = chosen(__doc__, cycles=1_000_000)
    with database(given.on) as (url, folder):
        run(url, folder, given.cycles)


if __name__ == "__main__":
    main()
