"""What beginning loads: no library before it is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Set
from pathlib import Path

import pytest

import jobkit

ANALYSIS = {"polars", "duckdb", "numpy", "altair", "IPython", "ipykernel", "nbformat", "obstore"}
DATABASE = {"sqlalchemy", "sqlmodel", "alembic", "psycopg", "sqlite3"}
OTHERS = {"flask", "waitress", "croniter", "psutil", "pydantic_settings", "asyncio"}
HEAVY = ANALYSIS | DATABASE | OTHERS
CODE = """\
import sys
from jobkit import cli

try:
    cli.main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(*sorted({heavy!r} & set(sys.modules)), sep=",", file=sys.stderr)
"""
ASKED = (["runs", "--help"], ["job", "add", "--help"], ["worker", "--help"], ["archive", "--help"])
LISTING = """\
import sys, jobkit
with jobkit.connect(sys.argv[1]) as kit:
    repr(kit), repr(kit.jobs), repr(kit.runs), kit.runs()[:20]
print(*sorted({heavy!r} & set(sys.modules)), sep=",", file=sys.stderr)
"""


def loaded(code: str, heavy: Set[str], *arguments: str) -> str:
    """Return which of the heavy modules a fresh interpreter has loaded after some code."""
    done = subprocess.run(
        [sys.executable, "-c", code.format(heavy=set(heavy)), *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stderr.strip()


def test_the_first_help_loads_nothing_that_a_command_needs() -> None:
    assert loaded(CODE, HEAVY | {"pydantic"}, "--help") == ""


@pytest.mark.parametrize("asked", ASKED, ids=" ".join)
def test_the_help_of_a_command_loads_no_database(asked: list[str]) -> None:
    assert loaded(CODE, HEAVY, *asked) == ""


def test_a_first_listing_loads_what_it_lists_from_and_nothing_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'jobkit.db'}"
    assert loaded(LISTING, ANALYSIS | {"alembic"}, url) == "alembic", "it makes the tables"
    heavy = HEAVY - {
        "sqlalchemy",
        "sqlmodel",
        "sqlite3",
        "croniter",
        "pydantic_settings",
        "asyncio",
    }
    assert loaded(LISTING, heavy, url) == ""


def test_what_is_loaded_is_seen() -> None:
    code = CODE.replace("import sys\n", "import sys, nbformat\n", 1)
    assert "nbformat" in loaded(code, ANALYSIS, "--help").split(",")


def test_importing_loads_next_to_nothing() -> None:
    code = "import sys, jobkit\nprint(*({heavy!r} & set(sys.modules)), file=sys.stderr)"
    assert loaded(code, HEAVY | {"pydantic", "typer", "rich", "importlib.metadata"}) == ""


def test_every_public_name_is_found() -> None:
    assert [name for name in dir(jobkit) if not hasattr(jobkit, name)] == []
