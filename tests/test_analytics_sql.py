"""A statement that a person types reads the views and nothing else."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from jobkit.analytics.log import Log
from jobkit.analytics.views import VIEWS
from jobkit.analytics.window import Window
from jobkit.errors import BadInput
from tests.archives import NOW, live


@pytest.fixture
def log(sqlite_database: str) -> Log:
    import jobkit

    kit = jobkit.connect(sqlite_database)
    live(kit, attempts=300)
    return kit.log("90d", tz="Europe/Paris")


def test_a_select_over_the_views_is_answered_in_its_order(log: Log) -> None:
    report = log.sql(
        "WITH most AS (SELECT job, count(*) AS n FROM runs GROUP BY 1) "
        "SELECT * FROM most ORDER BY n DESC, job"
    )
    counts = report.df.get_column("n").to_list()
    assert counts == sorted(counts, reverse=True)
    assert report.rows_read > 0
    assert "n" in report._repr_html_()


def test_every_view_has_the_columns_that_are_documented(log: Log) -> None:
    documented = Path(__file__).parents[1].joinpath("docs/analytics.md").read_text("utf-8")
    for view, columns in VIEWS.items():
        assert log.sql(f"SELECT * FROM {view}").df.columns == list(columns)
        for name, (_, meaning) in columns.items():
            assert f"| `{name}` | {meaning} |" in documented, (view, name)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM read_parquet('{cache}/**/*.parquet')",
        "SELECT * FROM parquet_metadata('{cache}/runs-columns.parquet')",
        "SELECT * FROM '{cache}/runs-columns.parquet'",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/**')",
        "SELECT * FROM read_csv('https://example.com/x.csv')",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM duckdb_settings()",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM fresh_runs",
        "SELECT (SELECT count(*) FROM read_blob('/etc/passwd'))",
        "SELECT count(*) FROM runs WHERE job IN (SELECT content FROM read_text('/etc/passwd'))",
        "WITH x AS (FROM read_text('/etc/passwd')) SELECT * FROM x",
        "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT count(*) FROM glob('/*')) FROM x",
        "COPY (SELECT 1) TO '{cache}/x.csv'",
        "COPY runs TO '/tmp/x.csv'",
        "ATTACH '/tmp/x.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA version",
        "PRAGMA database_list",
        "SET memory_limit = '64GB'",
        "SET enable_external_access = true",
        "RESET enable_external_access",
        "CREATE TABLE t AS SELECT 1",
        "DROP VIEW runs",
        "DELETE FROM runs",
        "INSERT INTO runs VALUES (1)",
        "EXPORT DATABASE '/tmp/x'",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP VIEW runs",
        "SELECT current_setting('temp_directory')",
        "SELECT getvariable('x')",
        "",
        "no sql at all",
    ],
)
def test_anything_else_is_refused(log: Log, statement: str) -> None:
    written = statement.replace("{cache}", os.environ["JOBKIT_CACHE_DIR"])
    log.snapshot  # noqa: B018 - the cache is filled
    with pytest.raises(BadInput):
        log.sql(written)
    assert not Path(os.environ["JOBKIT_CACHE_DIR"], "x.csv").exists()
    assert log.sql("SELECT 1 AS one").df.item() == 1


def test_variables_of_the_program_are_not_read(log: Log) -> None:
    import polars as pl

    hidden = pl.DataFrame({"secret": [1]})
    with pytest.raises(BadInput, match="no view 'hidden'"):
        log.sql("SELECT * FROM hidden")
    assert hidden.height == 1


def test_the_engine_itself_reaches_nothing_outside_of_the_cache(log: Log, tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "x.csv").write_text("a\n1\n", "utf-8")
    log.snapshot  # noqa: B018
    with log.shelf.cursor() as cursor:
        for statement in (
            f"SELECT * FROM read_csv('{tmp_path}/x.csv')",
            f"COPY (SELECT 1) TO '{tmp_path}/y.csv'",
            f"ATTACH '{tmp_path}/z.db'",
            "INSTALL httpfs",
            "SET enable_external_access = true",
            "SET threads = 1",
        ):
            with pytest.raises(duckdb.Error):
                cursor.execute(statement)


def test_too_many_rows_are_a_message(log: Log) -> None:
    with pytest.raises(BadInput, match=r"more than 10 rows.*LIMIT"):
        log.sql("SELECT * FROM runs", limit=10)
    assert log.sql("SELECT * FROM runs LIMIT 10", limit=10).df.height == 10


def test_a_statement_that_takes_too_long_is_ended(log: Log) -> None:
    began = time.monotonic()
    with pytest.raises(BadInput, match="took longer than 200 ms"):
        log.sql(
            "SELECT sum(a.range * b.range) FROM range(1000000) a, range(1000000) b", timeout=0.2
        )
    assert time.monotonic() - began < 10
    assert log.sql("SELECT count(*) AS n FROM jobs").df.item() > 0


def test_an_error_of_the_statement_says_what_is_wrong(log: Log) -> None:
    with pytest.raises(BadInput, match="jobb"):
        log.sql("SELECT jobb FROM runs")
    with pytest.raises(BadInput, match=r"no view 'tasks'.*attempts"):
        log.sql("SELECT * FROM tasks")


def test_what_cannot_be_grouped_or_cut_is_a_message(log: Log) -> None:
    with pytest.raises(BadInput, match="nothing to group by"):
        log.durations(by="colour")
    with pytest.raises(BadInput, match="divide a day"):
        log.throughput(every="7h")
    with pytest.raises(BadInput, match="not by 'job'"):
        log.utilisation(by="job")


def test_windows_are_durations_pairs_or_all() -> None:
    pair = Window.read(("2026-01-01", "2026-02-01T12:00"), NOW, "Europe/Paris")
    assert pair.start is not None
    assert pair.start.isoformat() == "2025-12-31T23:00:00+00:00"
    assert Window.read("7d", NOW).length == timedelta(days=7)
    assert Window.read(None, NOW).start is None
    for wrong in ("soon", ("2026-02-01", "2026-01-01"), ("2026-02-01",)):
        with pytest.raises(BadInput):
            Window.read(wrong, NOW)
    with pytest.raises(BadInput, match="no time zone"):
        Window.read("1d", NOW, "Mars/Base")
