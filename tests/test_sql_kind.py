"""SQL: DuckDB and named connections, parameters as values, the last result kept and shown."""

from __future__ import annotations

import datetime
import json
import os
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

from jobkit.errors import CannotStart
from jobkit.executors.kinds import Task, kind_of
from jobkit.executors.runners.sql import _POSTGRES_TOKEN, _SQLITE_TOKEN, _numbered, split
from jobkit.executors.target import resolve


class Ran:
    """A file of SQL that was executed."""

    def __init__(
        self, folder: Path, text: str, secrets: dict[str, str] | None = None, /, **params: Any
    ) -> None:
        (folder / "query.sql").write_text(text)
        (folder / "artifacts").mkdir(exist_ok=True)
        (folder / "secrets").mkdir(exist_ok=True)
        for name, value in (secrets or {}).items():
            (folder / "secrets" / name).write_text(value + "\n")
        task = Task(resolve("query.sql", [folder]), (), params, Path(sys.executable))
        told = {
            "JOBKIT_PARAMS": json.dumps(params),
            "JOBKIT_ARTIFACTS": str(folder / "artifacts"),
            "JOBKIT_SECRETS": str(folder / "secrets"),
        }
        done = subprocess.run(
            kind_of("query.sql", None, None).launch(task).argv,
            env=os.environ | told,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        self.code, self.output, self.errors = done.returncode, done.stdout, done.stderr
        self._folder = folder / "artifacts"

    @property
    def kept(self) -> pl.DataFrame:
        assert [item.name for item in self._folder.iterdir()] == ["result.parquet"], self.errors
        return pl.read_parquet(self._folder / "result.parquet")


def test_the_last_result_is_kept_and_shown_as_a_table(tmp_path: Path) -> None:
    ran = Ran(
        tmp_path,
        "CREATE TABLE t AS SELECT range AS n, 'row ' || range AS name FROM range(25);\n"
        "SELECT 1 AS other;\n-- the last one\nSELECT * FROM t ORDER BY n;\nDROP TABLE t;",
    )
    assert ran.code == 0
    lines = ran.output.splitlines()
    assert lines[0].split() == ["n", "name"]
    assert lines[2].split() == ["0", "row", "0"]
    assert len(lines) == 2 + 20 + 1 + 1 + 1
    assert lines[-3:] == ["…", "25 rows, 2 columns", "::metric rows 25"]
    assert ran.kept.height == 25
    assert ran.kept.columns == ["n", "name"]


def test_parameters_are_values_and_never_sql(tmp_path: Path) -> None:
    ran = Ran(
        tmp_path,
        "CREATE TABLE t AS SELECT $region AS region;\n"
        "SELECT region, $n + 1 AS n, '$n' AS text, $list AS list FROM t -- $comment",
        region="'; DROP TABLE t; --",
        n=41,
        list=[1, 2],
        unused=True,
    )
    assert ran.kept.rows() == [("'; DROP TABLE t; --", 42, "$n", [1, 2])]


def test_a_missing_parameter_is_named_with_its_line(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "SELECT 1;\n\nSELECT $day")
    assert (ran.code, ran.output) == (1, "")
    assert ran.errors.startswith("query.sql, line 3: The parameter $day is not given.")


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("SELECT 1;\nSELECT *\nFORM t", 3, "Parser Error: syntax error"),
        ("SELECT 1;\n\n-- why\nSELECT *\nFROM nothing", 5, "Table with name nothing"),
        ("SELECT 1;\nSELECT\n  1,\n  missing", 4, 'column "missing"'),
        ("SELECT 1;\nSELECT 'a'::INT", 2, "Conversion Error"),
        ("CREATE TABLE t (a INT);\nINSERT INTO t VALUES ('x');\nSELECT 1", 2, "Conversion Error"),
    ],
)
def test_an_error_names_the_line_and_shows_no_traceback(
    tmp_path: Path, text: str, line: int, message: str
) -> None:
    ran = Ran(tmp_path, text)
    assert ran.code == 1
    assert ran.errors.startswith(f"query.sql, line {line}: ")
    assert message in ran.errors
    assert "Traceback" not in ran.errors
    assert "jobkit_result" not in ran.errors


@pytest.mark.parametrize("text", ["", "-- only words\n", ";;"])
def test_a_file_without_a_statement_is_an_error(tmp_path: Path, text: str) -> None:
    assert Ran(tmp_path, text).errors == "query.sql: The file has no statement.\n"


def test_statements_without_a_result_say_so(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "CREATE TABLE t (a INT); INSERT INTO t VALUES (1);")
    assert (ran.code, ran.output) == (0, "No statement had a result.\n")


@pytest.mark.parametrize(
    ("query", "rows"),
    [
        ("FROM range(2)", 2),
        ("DESCRIBE t", 1),
        ("SHOW TABLES", 1),
        ("PRAGMA table_info('t')", 1),
        ("VALUES (1), (2)", 2),
        ("WITH q AS (SELECT 1 AS b) SELECT * FROM q;", 1),
        ("SELECT 1 AS a, 2 AS a", 1),
        ("SELECT NULL AS n, [] AS l WHERE false", 0),
        ("SUMMARIZE t", 1),
        ("PIVOT (VALUES (1, 'x')) v(a, b) ON b", 1),
        ("INSERT INTO t VALUES (2), (3) RETURNING a", 2),
        ("EXPLAIN SELECT 1", 1),
    ],
)
def test_whatever_has_rows_is_a_result(tmp_path: Path, query: str, rows: int) -> None:
    ran = Ran(tmp_path, f"CREATE TABLE t AS SELECT 1 AS a;\n{query}")
    assert ran.code == 0, ran.errors
    assert ran.kept.height == rows


def test_files_of_the_folder_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("a,b\n1,x\n")
    assert Ran(tmp_path, "SELECT a, b FROM 'data.csv'").kept.rows() == [(1, "x")]


def test_arguments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "query.sql").touch()
    task = Task(resolve("query.sql", [tmp_path]), ("x",), {}, Path(sys.executable))
    with pytest.raises(CannotStart, match="parameters, not arguments"):
        kind_of("query.sql", None, None).launch(task)


def test_a_cell_shows_control_characters_as_such_and_is_cut(tmp_path: Path) -> None:
    ran = Ran(tmp_path, "SELECT chr(27) || '[31m' AS a, repeat('x', 500) AS b, NULL AS c")
    assert "\x1b" not in ran.output
    assert "…" in ran.output.splitlines()[2]
    assert max(map(len, ran.output.splitlines())) < 100


# Connections


def test_a_connection_is_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "shop.db"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, region TEXT, note TEXT)")
        connection.execute("INSERT INTO orders VALUES (1, 'north', NULL), (2, 'south', NULL)")
    connection.close()
    text = "-- connection: shop\nSELECT * FROM orders WHERE region = $region"
    ran = Ran(tmp_path, text, {"shop": f"sqlite:///{file}"}, region="south")
    assert ran.kept.rows() == [(2, "south", None)]
    assert ran.kept.schema["note"] == pl.String
    missing = Ran(tmp_path, text.replace("shop", "none"), {}, region="south")
    assert missing.errors.startswith("query.sql, line 1: The job has no secret 'none'.")
    away = Ran(tmp_path, text.replace("shop", "../shop.db"), {}, region="south")
    assert "is no name of a secret" in away.errors
    other = Ran(tmp_path, text, {"shop": "mysql://ada:pw@host/db"}, region="south")
    assert "must be postgresql, sqlite or duckdb" in other.errors
    assert "pw" not in other.errors


def test_a_duckdb_file_is_a_connection(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "w.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT 5 AS n")
    url = {"w": f"duckdb:///{tmp_path / 'w.duckdb'}"}
    assert Ran(tmp_path, "-- connection: w\nFROM t", url).kept.rows() == [(5,)]


def test_an_error_of_sqlite_names_its_statement(tmp_path: Path) -> None:
    url = {"s": f"sqlite:///{tmp_path / 's.db'}"}
    ran = Ran(tmp_path, "-- connection: s\nSELECT 1;\nSELECT\n* FROM absent;", url)
    assert ran.errors == "query.sql, line 3: no such table: absent\n"


def test_postgres_runs_with_bound_values_and_keeps_types(
    tmp_path: Path, empty_postgres: str
) -> None:
    url = {"pg": empty_postgres}
    text = """-- connection: pg
CREATE TEMP TABLE orders (id int, at timestamptz, price numeric(8, 2), doc jsonb, empty date);
INSERT INTO orders VALUES (1, '2026-03-01T06:30:00+02:00', 9.50, $doc, NULL);
SELECT *, $text::text AS text, 'a;b' AS semi, E'it\\'s $text' AS escaped, $q$;$text$q$ AS dollar
FROM orders WHERE id = ANY($ids) AND 100 % 3 = 1;
"""
    ran = Ran(tmp_path, text, url, doc={"k": [1]}, text="'; DROP", ids=[1, 2])
    row = ran.kept.row(0, named=True)
    assert row["id"] == 1
    assert row["at"] == datetime.datetime(2026, 3, 1, 4, 30, tzinfo=datetime.UTC)
    assert row["price"] == Decimal("9.50")
    assert row["doc"] == '{"k": [1]}'
    assert row["text"] == "'; DROP"
    assert (row["semi"], row["escaped"], row["dollar"]) == ("a;b", "it's $text", ";$text")
    assert ran.kept.schema["empty"] == pl.Date
    empty = Ran(tmp_path, "-- connection: pg\nSELECT 1::bigint AS n WHERE false", url)
    assert empty.kept.schema == {"n": pl.Int64}


def test_an_error_of_postgres_names_the_line_and_no_password(
    tmp_path: Path, empty_postgres: str
) -> None:
    text = "-- connection: pg\nSELECT 1;\n\nSELECT $n::int,\n  missing\nFROM pg_class"
    ran = Ran(tmp_path, text, {"pg": empty_postgres}, n=1)
    assert ran.errors == 'query.sql, line 5: column "missing" does not exist\n'
    away = {"pg": "postgresql://ada:hidden@127.0.0.1:1/nothing"}
    ran = Ran(tmp_path, "-- connection: pg\nSELECT 1", away)
    assert ran.code == 1
    assert "refused" in ran.errors
    assert "hidden" not in ran.errors
    assert "Traceback" not in ran.errors


# Splitting


def test_statements_are_split_at_their_own_semicolons() -> None:
    text = "SELECT ';' AS \";\"; -- ; no\n/* ; no */ SELECT $a, $b, $a, x$y;;\n\nSELECT 2"
    for token in (_SQLITE_TOKEN, _POSTGRES_TOKEN):
        found = list(split(text, token))
        assert [(item.line, item.names) for item in found] == [(1, ()), (2, ("a", "b")), (4, ())]


def test_the_body_of_a_trigger_is_one_statement() -> None:
    text = "CREATE TRIGGER t AFTER INSERT ON a BEGIN\nDELETE FROM b; DELETE FROM c;\nEND;\nSELECT 1"
    assert [item.line for item in split(text, _SQLITE_TOKEN)] == [1, 4]
    body = "CREATE FUNCTION f() RETURNS int AS $$ SELECT 1; SELECT 2; $$ LANGUAGE sql; SELECT $x"
    assert [item.names for item in split(body, _POSTGRES_TOKEN)] == [(), ("x",)]


def test_parameters_of_postgres_are_numbered() -> None:
    (statement,) = split("SELECT $b, '$a', E'\\'$a', $a, $b, $$ $a $$, 5 % 2", _POSTGRES_TOKEN)
    assert statement.names == ("b", "a")
    assert _numbered(statement) == "SELECT $1, '$a', E'\\'$a', $2, $1, $$ $a $$, 5 % 2"
