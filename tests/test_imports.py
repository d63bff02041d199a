"""What beginning loads: no library of analysis, notebooks or files in S3 before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("polars", "duckdb", "numpy", "altair", "IPython", "ipykernel", "nbformat", "obstore")
CODE = """\
import sys
from jobkit import cli

try:
    cli.main(sys.argv[1:])
except SystemExit as ended:
    assert not ended.code, ended.code
print(*sorted({heavy!r} & set(sys.modules)), sep=",", file=sys.stderr)
"""
ASKED = (["--help"], ["runs", "--help"], ["job", "add", "--help"], ["worker", "--help"])


def loaded(code: str, *arguments: str) -> str:
    """Return which of the heavy modules a fresh interpreter has loaded after some code."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    return done.stderr.strip()


@pytest.mark.parametrize("asked", ASKED, ids=" ".join)
def test_help_loads_nothing_heavy(asked: list[str]) -> None:
    assert loaded(CODE.format(heavy=set(HEAVY)), *asked) == ""


def test_what_is_loaded_is_seen() -> None:
    code = CODE.format(heavy=set(HEAVY)).replace("import sys\n", "import sys, nbformat\n", 1)
    assert loaded(code, "--help") == "nbformat"


def test_importing_loads_nothing_heavy() -> None:
    code = f"import sys, jobkit\nprint(*({set(HEAVY)!r} & set(sys.modules)), file=sys.stderr)"
    assert loaded(code) == ""
