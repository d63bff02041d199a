"""The same questions as SQL in both databases and in polars; made-up cases of the hard parts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from jobkit.analytics.buckets import Buckets
from jobkit.analytics.rollups import BUSY, PEAKS, PIECES, ROLLUPS
from jobkit.analytics.window import EPOCH, Window, micros
from jobkit.kit import Kit
from tests import figures
from tests.archives import NOW, live

START = NOW - timedelta(days=40)
ZONES = (
    "UTC", "Europe/Paris", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe",
    "Africa/Cairo", "America/Sao_Paulo",
)  # fmt: skip
BASE = micros(datetime(2026, 3, 1, tzinfo=UTC))
HOUR = 3_600_000_000


def ask(kit: Kit, sql: str) -> list[tuple[object, ...]]:
    start, end = (at.replace(tzinfo=None) for at in (START, NOW))
    given_: dict[str, object] = {"start": start, "end": end}
    if kit.database.is_sqlite:
        given_ = {k: v.isoformat(" ", "microseconds") for k, v in (("start", start), ("end", end))}
    with kit.database.read() as connection:
        return [tuple(row) for row in connection.execute(sa.text(sql), given_)]


def test_the_databases_and_polars_count_the_same(kit: Kit) -> None:
    live(kit, attempts=700)
    log = kit.log((START, NOW))
    by_status = ask(
        kit,
        "SELECT status, count(*) FROM job_dispatch WHERE completed_at >= :start "
        "AND completed_at < :end GROUP BY status",
    )
    ended = log.throughput(every=None, by="status").df
    assert dict(ended.select("status", "ended").iter_rows()) == dict(by_status)
    failed = ask(
        kit,
        "SELECT j.name, count(*), sum(CASE WHEN a.status IN "
        "('FAILURE', 'ERROR', 'TIMEOUT', 'LOST') THEN 1 ELSE 0 END) FROM job_execution_logs a "
        "JOIN scheduled_jobs j ON j.id = a.job_id WHERE a.finished_at >= :start AND "
        "a.finished_at < :end AND a.status NOT IN ('RELEASED', 'CANCELLED') GROUP BY j.name",
    )
    found = log.failures(by="job").df.select("job", "attempts", "failures")
    assert sorted(found.iter_rows()) == sorted((job, n, int(bad)) for job, n, bad in failed)
    scanned = (
        log.scan("attempts")
        .filter(pl.col("claimed_at") >= START, pl.col("claimed_at") < NOW)
        .filter(pl.col("wait_seconds").is_not_null())
        .group_by("worker")
        .agg(p95=pl.col("wait_seconds").clip(0).quantile(0.95, "linear"), n=pl.len())
        .collect()
        .sort("worker")
    )
    waited = log.queue_wait(by="worker", every=None).df
    assert waited.get_column("attempts").to_list() == scanned.get_column("n").to_list()
    for ours, theirs in zip(waited.get_column("p95"), scanned.get_column("p95"), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)


def test_the_databases_find_the_same_busiest_instant(kit: Kit) -> None:
    live(kit, attempts=700)
    peak = ask(
        kit,
        "SELECT max(level) FROM (SELECT sum(step) OVER (ORDER BY moment, step ROWS UNBOUNDED "
        "PRECEDING) AS level FROM (SELECT claimed_at AS moment, 1 AS step FROM job_execution_logs "
        "WHERE finished_at >= claimed_at UNION ALL SELECT finished_at, -1 FROM job_execution_logs "
        "WHERE finished_at >= claimed_at UNION ALL SELECT claimed_at, 1 FROM job_dispatch "
        "WHERE status = 'IN_PROGRESS') events) levels",
    )
    found = kit.log(None).concurrency(every="1d").df.get_column("peak").max()
    assert found == peak[0][0]


spans = st.lists(
    st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 5 * HOUR), st.integers(-HOUR, 3 * HOUR)),
    max_size=12,
)


@given(spans)
def test_overlaps_count_once_whatever_they_look_like(made: list[tuple[str, int, int]]) -> None:
    rows = [(worker, BASE + low, BASE + low + max(0, long)) for worker, low, long in made]
    instants = [(w, *(EPOCH + timedelta(microseconds=at) for at in (s, e))) for w, s, e in rows]
    with duckdb.connect() as engine:
        engine.execute("CREATE TABLE spans (worker_id TEXT, s BIGINT, e BIGINT)")
        for row in rows:
            engine.execute("INSERT INTO spans VALUES (?, ?, ?)", row)
        cut = f"WITH pieces AS ({PIECES.replace('{unit}', str(HOUR))})"
        busy = {
            (unit, worker): (union / 1e6, total / 1e6)
            for unit, worker, _, total, union in engine.execute(f"{cut} {BUSY}").fetchall()
        }
        peaks = dict(engine.execute(f"{cut} {PEAKS}").fetchall())
    for hour in range(9):
        unit = BASE + hour * HOUR
        low = EPOCH + timedelta(microseconds=unit)
        wanted, peak = figures.busy(instants, low, low + timedelta(hours=1))
        for worker, (union, total) in wanted.items():
            assert busy[unit, worker] == pytest.approx((union, total))
        assert peaks.get(unit, 0) == peak


@given(
    st.sampled_from(ZONES),
    st.sampled_from(["15m", "1h", "6h", "1d", "1w", "1mo"]),
    st.integers(0, 700 * 86_400),
    st.integers(1, 120 * 24),
    st.lists(st.floats(0, 0.999999), min_size=1, max_size=5),
)
def test_buckets_follow_the_calendar_of_every_zone(
    zone: str, every: str, seconds: int, hours: int, places: list[float]
) -> None:
    begin = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    window = Window(begin, begin + timedelta(hours=hours), zone)
    buckets = Buckets.read(every, window)
    edges = buckets.edges()
    assert edges[0] <= window.start < edges[1]  # type: ignore[operator]
    assert edges[-2] < window.end <= edges[-1]
    assert all(low < high for low, high in pairwise(edges))
    if every == "1d":
        local = [edge.astimezone(ZoneInfo(zone)) for edge in edges]
        assert all(at.minute == 0 and at.hour in (0, 1) for at in local)
        assert len({at.date() for at in local}) == len(local)
    length = micros(window.end) - micros(begin)
    instants = [micros(begin) + int(place * length) for place in places]
    with duckdb.connect() as engine:
        sql = f"SELECT {buckets.sql('us')} FROM (SELECT unnest(?) AS us)"
        found = [row[0] for row in engine.execute(sql, [instants]).fetchall()]
    starts = [micros(edge) for edge in edges]
    assert found == [max(edge for edge in starts if edge <= us) for us in instants]


def test_roll_ups_add_up_to_the_rows(kit: Kit) -> None:
    live(kit, attempts=500)
    log = kit.log(None)
    sources = log.sources
    with duckdb.connect() as engine:
        files = "', '".join(sources.attempts)
        engine.execute(f"CREATE VIEW a AS FROM read_parquet(['{files}'])")
        files = "', '".join(sources.runs)
        engine.execute(f"CREATE VIEW r AS FROM read_parquet(['{files}'])")
        made = {
            name: pl.DataFrame(engine.sql(sql.replace("{attempts}", "a").replace("{runs}", "r")))
            for name, sql in ROLLUPS.items()
        }
    ended = log.throughput(every=None).df.get_column("ended").sum()
    assert made["ended"].get_column("runs").sum() == ended
    with kit.database.read() as connection:
        running = connection.scalar(
            sa.text("SELECT count(*) FROM job_dispatch WHERE status = 'IN_PROGRESS'")
        )
    if not running:
        peak = log.concurrency(every="1h").df.get_column("peak").max()
        assert made["peaks"].get_column("peak").max() == peak
