"""How fast the history answers, beside bare DuckDB on the same files and SQL in the database.

    uv run python -m benchmarks.analytics
    uv run python -m benchmarks.analytics --attempts 10000000 --months 13 --rounds 3
    uv run python -m benchmarks.analytics --url postgresql://postgres@localhost/empty

Makes a history in an empty database, by default a SQLite file in a temporary folder, archives all
months but the last, and asks seven questions of all of it and of the last 7 days: by `kit.log`, by
bare DuckDB on the same list of Parquet files, and in the database as it was before archiving
(`--no-sql` leaves that out). Each way runs in a process of its own, in turn with the others; printed
are the medians of the second and later calls, the best in brackets, and the most memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

QUESTIONS = (
    "throughput",
    "durations",
    "failures",
    "queue_wait",
    "utilisation",
    "concurrency",
    "late",
)
HOUR = 3_600_000_000


def make(url: str, attempts: int, months: float, now: datetime) -> None:
    """Fill an empty database."""
    import jobkit
    from jobkit.testing.history import generate

    with jobkit.connect(url) as kit:
        generate(kit.database, attempts=attempts, months=months, now=now, seed=1)


def archive(url: str, folder: Path, now: datetime) -> None:
    """Archive all but the last 20 days."""
    from jobkit.testing import connect_at

    kit, _ = connect_at(url, now)
    kit.archive.run(now - timedelta(days=20), str(folder))
    kit.close()


def by_kit(url: str, cache: Path, now: datetime, days: int | None) -> dict[str, Callable[[], Any]]:
    """Return the questions as a notebook asks them, each with a look at the database before it."""
    import jobkit
    from jobkit.testing import ManualClock

    kit = jobkit.connect(url, cache_dir=cache)
    kit.clock = kit.database.clock = ManualClock(now)

    def log() -> Any:
        return kit.log(f"{days}d" if days else None)

    return {
        "look": lambda: log().snapshot,
        "throughput": lambda: log().throughput("1h").df,
        "durations": lambda: log().durations().df,
        "failures": lambda: log().failures(every="1d").df,
        "queue_wait": lambda: log().queue_wait(every="1d").df,
        "utilisation": lambda: log().utilisation("1h", by="worker").df,
        "concurrency": lambda: log().concurrency("1h").df,
        "late": lambda: log().late().df,
    }


def by_duckdb(
    url: str, cache: Path, now: datetime, days: int | None
) -> dict[str, Callable[[], Any]]:
    """Return the questions as bare DuckDB answers them from the same list of files."""
    import duckdb
    import jobkit
    import polars as pl
    from jobkit.testing import ManualClock

    with jobkit.connect(url, cache_dir=cache) as kit:
        kit.clock = kit.database.clock = ManualClock(now)
        sources = kit.log(f"{days}d" if days else None).sources
    engine = duckdb.connect()
    start = f"TIMESTAMP '{(now - timedelta(days=days or 0)).replace(tzinfo=None)}'"
    runs, attempts = (
        "read_parquet([" + ", ".join(f"'{file}'" for file in files[1:]) + "], union_by_name = true)"
        for files in (sources.runs, sources.attempts)
    )

    def since(column: str) -> str:
        return f"{column} >= {start}" if days else "TRUE"

    def ask(sql: str) -> Callable[[], Any]:
        return lambda: pl.DataFrame(engine.sql(sql))

    took = "epoch_us(finished_at) - epoch_us(started_at)"
    spans = f"""SELECT worker_id AS w, epoch_us(claimed_at) AS s, epoch_us(finished_at) AS e
        FROM {attempts} WHERE {since("finished_at")}"""
    cut = f"""SELECT w, s // {HOUR} AS h, s, e FROM ({spans}) WHERE e <= (s // {HOUR} + 1) * {HOUR}
        UNION ALL SELECT w, h, greatest(s, h * {HOUR}), least(e, (h + 1) * {HOUR}) FROM (
            SELECT w, s, e, unnest(range(s // {HOUR}, (e - 1) // {HOUR} + 1)) AS h
            FROM ({spans}) WHERE e > (s // {HOUR} + 1) * {HOUR})"""
    return {
        "throughput": ask(
            f"""SELECT date_trunc('hour', completed_at), count(*),
            count(*) FILTER (status = 'COMPLETED'),
            count(*) FILTER (status IN ('FAILED', 'TIMEOUT')),
            count(*) FILTER (status = 'CANCELLED'),
            count(*) FILTER (status IN ('MISSED', 'SKIPPED'))
            FROM {runs} WHERE {since("completed_at")} GROUP BY 1 ORDER BY 1"""
        ),
        "durations": ask(
            f"""SELECT job_id, count(*), avg({took}), quantile_cont({took}, [.5, .95, .99]),
            max({took}) FROM {attempts}
            WHERE status = 'SUCCESS' AND {since("finished_at")} GROUP BY 1 ORDER BY 1"""
        ),
        "failures": ask(
            f"""SELECT date_trunc('day', finished_at), count(*),
            count(*) FILTER (status IN ('FAILURE', 'ERROR', 'TIMEOUT', 'LOST')) FROM {attempts}
            WHERE status NOT IN ('RELEASED', 'CANCELLED') AND {since("finished_at")}
            GROUP BY 1 ORDER BY 1"""
        ),
        "queue_wait": ask(
            f"""SELECT date_trunc('day', claimed_at), count(*), avg(u),
            quantile_cont(u, [.5, .95, .99]), max(u) FROM (
                SELECT claimed_at, greatest(0, epoch_us(claimed_at) - epoch_us(queued_at)) AS u
                FROM {attempts} WHERE {since("claimed_at")}) GROUP BY 1 ORDER BY 1"""
        ),
        "utilisation": ask(
            f"""SELECT h, w, sum(greatest(0, e - greatest(s, coalesce(r, s)))), sum(e - s) FROM (
                SELECT *, max(e) OVER (PARTITION BY h, w ORDER BY s, e
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS r FROM ({cut}))
            GROUP BY 1, 2 ORDER BY 1, 2"""
        ),
        "concurrency": ask(
            f"""SELECT h, max(n) FROM (SELECT h, sum(d) OVER (PARTITION BY h ORDER BY t, d
                ROWS UNBOUNDED PRECEDING) AS n FROM (
                    SELECT h, s AS t, 1 AS d FROM ({cut}) UNION ALL SELECT h, e, -1 FROM ({cut})))
            GROUP BY 1 ORDER BY 1"""
        ),
        "late": ask(
            f"""SELECT r.job_id, count(*), count(*) FILTER (u > 60000000),
            count(*) FILTER (status = 'MISSED'), quantile_cont(u, [.5, .95]), max(u) FROM (
                SELECT r.job_id, r.status, epoch_us(CASE WHEN r.attempt <= 1 THEN r.claimed_at
                    ELSE f.claimed_at END) - epoch_us(r.scheduled_for) AS u
                FROM {runs} r LEFT JOIN (SELECT dispatch_id, claimed_at, 2 AS least FROM {attempts}
                    WHERE attempt = 1) f ON f.dispatch_id = r.id AND r.attempt >= f.least
                WHERE "trigger" = 'schedule' AND {since("scheduled_for")}) r GROUP BY 1 ORDER BY 1"""
        ),
    }


def by_sql(url: str, _cache: Path, now: datetime, days: int | None) -> dict[str, Callable[[], Any]]:
    """Return the questions as SQL in the database; SQLite has no percentiles but by sorting."""
    from jobkit.db import Database

    database = Database(url)
    start = (now - timedelta(days=days or 36_500)).replace(tzinfo=None)
    is_lite = database.is_sqlite
    given = start.isoformat(" ", "microseconds") if is_lite else start

    def hour(column: str) -> str:
        return f"substr({column}, 1, 13)" if is_lite else f"date_trunc('hour', {column})"

    def day(column: str) -> str:
        return f"substr({column}, 1, 10)" if is_lite else f"date_trunc('day', {column})"

    def seconds(later: str, earlier: str) -> str:
        if is_lite:
            return f"(julianday({later}) - julianday({earlier})) * 86400"
        return f"extract(epoch FROM {later} - {earlier})"

    def quantiles(value: str, group: str, source: str) -> str:
        if not is_lite:
            return f"""SELECT {group}, count(*), avg({value}),
                percentile_cont(ARRAY[.5, .95, .99]) WITHIN GROUP (ORDER BY {value})
                FROM {source} GROUP BY 1"""
        return f"""SELECT g, n, avg(v), max(CASE WHEN k <= .5 * n THEN v END),
            max(CASE WHEN k <= .95 * n THEN v END), max(CASE WHEN k <= .99 * n THEN v END) FROM (
                SELECT g, v, row_number() OVER (PARTITION BY g ORDER BY v) AS k,
                    count(*) OVER (PARTITION BY g) AS n
                FROM (SELECT {group} AS g, {value} AS v FROM {source})) GROUP BY g"""

    def ask(sql: str) -> Callable[[], Any]:
        def run() -> Any:
            with database.read(takes_long=True) as connection:
                return connection.execute(sa.text(sql), {"start": given}).all()

        return run

    ended = "job_execution_logs WHERE finished_at >= :start"
    events = """SELECT claimed_at AS t, 1 AS d FROM job_execution_logs WHERE finished_at >= :start
        UNION ALL SELECT finished_at, -1 FROM job_execution_logs WHERE finished_at >= :start"""
    return {
        "throughput": ask(
            f"""SELECT {hour("completed_at")}, status, count(*) FROM job_dispatch
            WHERE completed_at >= :start GROUP BY 1, 2"""
        ),
        "durations": ask(
            quantiles(
                seconds("finished_at", "started_at"), "job_id", f"{ended} AND status = 'SUCCESS'"
            )
        ),
        "failures": ask(
            f"SELECT {day('finished_at')}, status, count(*) FROM {ended} GROUP BY 1, 2"
        ),
        "queue_wait": ask(
            quantiles(
                seconds("claimed_at", "queued_at"),
                day("claimed_at"),
                "job_execution_logs WHERE claimed_at >= :start",
            )
        ),
        "utilisation": ask(
            f"""SELECT worker_id, {hour("claimed_at")}, count(*) FROM (
                SELECT worker_id, claimed_at, finished_at, max(finished_at) OVER (
                    PARTITION BY worker_id ORDER BY claimed_at
                    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS r FROM {ended}) q
            WHERE r IS NULL OR claimed_at > r GROUP BY 1, 2"""
        ),
        "concurrency": ask(
            f"""SELECT {hour("t")}, max(n) FROM (SELECT t, sum(d) OVER (ORDER BY t, d
            ROWS UNBOUNDED PRECEDING) AS n FROM ({events}) e) q GROUP BY 1"""
        ),
        "late": ask(
            f"""SELECT job_id, count(*), sum(CASE WHEN {seconds("claimed_at", "scheduled_for")} > 60
            THEN 1 ELSE 0 END), sum(CASE WHEN status = 'MISSED' THEN 1 ELSE 0 END)
            FROM job_dispatch WHERE trigger = 'schedule' AND scheduled_for >= :start GROUP BY 1"""
        ),
    }


WAYS = {"kit": by_kit, "duckdb": by_duckdb, "sql": by_sql}


def measure(way: str, url: str, cache: Path, now: datetime, days: int | None, rounds: int) -> None:
    """Print the seconds of each call of each question, and the most memory, as JSON."""
    began = time.perf_counter()
    questions = WAYS[way](url, cache, now, days)
    found: dict[str, Any] = {"first": {}, "later": {}}
    for name, ask in questions.items():
        times = []
        for _ in range(rounds + 1):
            began = time.perf_counter()
            ask()
            times.append((time.perf_counter() - began) * 1000)
        found["first"][name], found["later"][name] = times[0], times[1:]
    found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps(found))


def child(way: str, url: str, cache: Path, now: datetime, days: int | None, rounds: int) -> Any:
    """Measure one way in a process of its own."""
    command = [
        sys.executable, "-m", "benchmarks.analytics", "--measure", way, "--url", url,
        "--cache", str(cache), "--now", now.isoformat(), "--days", str(days or 0),
        "--rounds", str(rounds),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{way}: {done.stderr}")
    return json.loads(done.stdout)


def table(title: str, columns: dict[str, Any]) -> None:
    """Print medians and bests in ms."""
    print(f"\n{title}\n{'ms, median (best)':<18}" + "".join(f"{way:>22}" for way in columns))
    names = list(dict.fromkeys(name for found in columns.values() for name in found["later"]))
    sums = dict.fromkeys(columns, 0.0)
    for name in names:
        cells = []
        for way, found in columns.items():
            times = found["later"].get(name)
            if times is None:
                cells.append(f"{'':>22}")
                continue
            middle = statistics.median(times)
            sums[way] += middle if name in QUESTIONS else 0
            cells.append(f"{middle:>12.1f} ({min(times):.1f})".rjust(22))
        print(f"{name:<18}" + "".join(cells))
    print(f"{'sum of seven':<18}" + "".join(f"{total:>22.1f}" for total in sums.values()))
    peaks = "".join(f"{found['peak_mb']:>22.0f}" for found in columns.values())
    print(f"{'peak MB':<18}{peaks}")
    if sums.get("duckdb"):
        print(f"kit / bare DuckDB: {sums['kit'] / sums['duckdb']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--attempts", type=int, default=300_000)
    parser.add_argument("--months", type=float, default=13)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--url")
    parser.add_argument("--no-sql", action="store_true")
    parser.add_argument("--measure", choices=list(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--now", type=datetime.fromisoformat, help=argparse.SUPPRESS)
    parser.add_argument("--days", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        days = given.days or None
        measure(given.measure, given.url, given.cache, given.now, days, given.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        run(given, Path(folder))


def run(given: argparse.Namespace, folder: Path) -> None:
    url = given.url or f"sqlite:///{folder}/history.db"
    os.environ["JOBKIT_CACHE_DIR"] = str(folder / "cache")
    now = datetime.now(UTC).replace(microsecond=0)
    began = time.perf_counter()
    make(url, given.attempts, given.months, now)
    print(f"{given.attempts:,} attempts over {given.months:g} months made in {_since(began)}")
    hot: dict[int | None, Any] = {}
    if not given.no_sql:
        hot = {days: child("sql", url, folder / "c", now, days, 1) for days in (None, 7)}
    began = time.perf_counter()
    archive(url, folder / "archive", now)
    print(f"all but 20 days archived in {_since(began)}")
    first = child("kit", url, folder / "cache", now, 7, 0)["first"]["look"]
    print(f"first look, which fills the cache: {first:.0f} ms")
    for days in (None, 7):
        found = {
            way: child(way, url, folder / "cache", now, days, given.rounds)
            for way in ("kit", "duckdb")
        }
        if hot:
            found["sql"] = hot[days]
        table("all history" if days is None else f"last {days} days", found)


def _since(began: float) -> str:
    return f"{time.perf_counter() - began:.1f} s"


if __name__ == "__main__":
    main()
