"""Each sample script as the process that a worker would start."""

from __future__ import annotations

import ast
import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jobkit import demo
from jobkit.executors.process import child_environment
from tests.stage import at

SAMPLES = Path(__file__).parent.parent / "sample_scripts"
PYTHON = sorted(path.name for path in SAMPLES.glob("*.py"))
SALES = Path("demo_data/sales.csv")
YEAR = 365 * 4 * 3
"""One row for each day, region and product."""


@pytest.fixture(autouse=True)
def samples(workplace: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SAMPLES, workplace / "sample_scripts", ignore=ignored)


def start(
    name: str, *arguments: str, attempt: int = 1, python: tuple[str, ...] = (sys.executable,)
) -> subprocess.Popen[str]:
    environment = child_environment(
        os.environ,
        run_id=42,
        attempt=attempt,
        scheduled_for=at("06:30"),
        worker_id="w1",
        params={},
    )
    script = str(Path("sample_scripts", name).resolve())
    program = [*python, script] if name.endswith(".py") else [script]
    return subprocess.Popen(
        [*program, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    output, _ = process.communicate(timeout=60)
    return process.returncode, output


def run(name: str, *arguments: str) -> str:
    code, output = ended(start(name, *arguments))
    assert code == 0, output
    return output


def written() -> list[str]:
    """Return the files that appeared, apart from compiled ones."""
    files = (path for path in Path().rglob("*") if path.is_file())
    mine = {"sample_scripts", "__pycache__"}
    return sorted(str(path) for path in files if not mine & set(path.parts[:-1]))


def revenue_of(column: str, value: str) -> float:
    with SALES.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return sum(float(row["revenue"]) for row in rows if row[column].startswith(value))


def test_hello_says_which_run_it_is() -> None:
    assert run("hello.py") == "Hello from run 42.\nAttempt 1, slot 2026-03-02T06:30:00Z.\n"


def test_flaky_fetch_fails_first_and_recovers_on_the_retry() -> None:
    code, output = ended(start("flaky_fetch.py", attempt=1))
    assert (code, "503" in output) == (1, True)
    code, output = ended(start("flaky_fetch.py", attempt=2))
    assert (code, "attempt 2" in output) == (0, True)


def test_slow_progress_shows_each_step() -> None:
    lines = run("slow_progress.py", "4", "0").splitlines()
    assert [line.split("%")[0].split()[-1] for line in lines[:4]] == ["25", "50", "75", "100"]
    assert lines[4:] == ["Loaded."]


def test_disk_report_runs_by_its_first_line_and_names_file_systems() -> None:
    lines = run("disk_report.sh").splitlines()
    assert lines[0].startswith("Disks on ")
    assert " GB of " in lines[1]
    assert lines[-1] == "Files in this folder: 1"


def test_the_sales_are_the_same_each_time() -> None:
    assert run("make_sales.py") == f"Wrote {YEAR:,} rows to {SALES}.\n"
    first = SALES.read_bytes()
    run("make_sales.py")
    assert SALES.read_bytes() == first
    assert len(first.splitlines()) == YEAR + 1


def test_samples_that_start_together_do_not_disturb_each_other() -> None:
    names = ("make_sales.py", "daily_report.py", "sales_query.py", "make_sales.py")
    for _ in range(3):
        shutil.rmtree("demo_data", ignore_errors=True)
        outcomes = [ended(process) for process in [start(name) for name in names]]
        assert [code for code, _ in outcomes] == [0, 0, 0, 0], outcomes
        assert len(SALES.read_text("utf-8").splitlines()) == YEAR + 1
    assert written() == [str(SALES), "hello.py", "reports/2026-03-02.md"]


def test_sales_query_makes_its_data_and_names_the_best_region_of_each_quarter() -> None:
    header, *quarters = run("sales_query.py").splitlines()[1:]
    assert header.split() == ["quarter", "best", "region", "revenue"]
    assert [line.split()[0] for line in quarters] == ["Q1", "Q2", "Q3", "Q4"]
    best = sum(float(line.split()[2].replace(",", "")) for line in quarters)
    total = revenue_of("day", "2025")
    assert total / 4 < best < total / 3
    assert written() == [str(SALES), "hello.py"]


def test_sales_query_without_duckdb_says_what_to_install() -> None:
    no_packages = (sys.executable, "-S")
    code, output = ended(start("sales_query.py", python=no_packages))
    assert code == 1
    assert output == "This script needs DuckDB. Install it: pip install 'jobkit[analytics]'\n"


def test_the_daily_report_is_named_by_its_slot_and_a_rerun_agrees() -> None:
    run("daily_report.py")
    report = Path("reports/2026-03-02.md")
    first = report.read_text("utf-8")
    assert f"| north | {revenue_of('region', 'north'):,.2f} |" in first.splitlines()
    run("daily_report.py")
    assert report.read_text("utf-8") == first
    assert written() == [str(SALES), "hello.py", str(report)]


@pytest.mark.parametrize("name", PYTHON)
def test_samples_need_the_standard_library_only(name: str) -> None:
    tree = ast.parse((SAMPLES / name).read_text("utf-8"))
    assert ast.get_docstring(tree)
    imports = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    imports |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    others = {module.split(".")[0] for module in imports} - sys.stdlib_module_names
    allowed = {"make_sales", "duckdb"} if name == "sales_query.py" else {"make_sales"}
    assert others <= allowed


def test_the_demo_runs_every_sample() -> None:
    shown = {script for _, script, _, _ in demo.JOBS}
    assert shown == {path.name for path in SAMPLES.iterdir() if path.is_file()}
