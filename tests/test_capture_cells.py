"""Functions of a notebook, in a real kernel: cells out of order, run again, with magics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import jobkit

IMPORTS = """
import jobkit, json as j, enum
from dataclasses import dataclass
from datetime import date
kit = jobkit.connect("sqlite:///notebook.db")
"""
ROW = """
@dataclass
class Row:
    region: str
    amount: float = 1.0

class Level(enum.Enum):
    LOW = 1
    HIGH = 2
"""
ROW_AGAIN = """
@dataclass
class Row:
    region: str
    amount: float = 1.0
    currency: str = "EUR"
"""
HELPER = """
RATES = {"eu": 1.0, "us": 1.1}
def convert(row):
    return row.amount * RATES[row.region]
to_text = lambda value: f"{value:.2f}"
"""
JOB = """
@jobkit.job("*/15 8-18 * * 1-5", tz="Europe/Paris", retries=1, kit=kit)
def refresh(region: str = "eu", level: Level = Level.HIGH, day: date = date(2026, 3, 2)):
    row = Row(region, 2)
    print("working")
    return [to_text(convert(row)), repr(row), level.name, j.dumps({"day": str(day)})]
"""


def run(folder: Path, *cells: str, allow_errors: bool = False) -> list[Any]:
    """Execute cells in a kernel; returns what each printed, and the text of its value."""
    notebook = nbformat.v4.new_notebook(  # type: ignore[no-untyped-call]
        cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells]  # type: ignore[no-untyped-call]
    )
    client = NotebookClient(
        notebook,
        timeout=120,
        kernel_name="python3",
        allow_errors=allow_errors,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    said = []
    for cell in notebook.cells:
        texts = []
        for output in cell.outputs:
            if output.output_type == "stream":
                texts.append(output.text)
            elif output.output_type == "error":
                texts.append(f"{output.ename}: {output.evalue}")
            else:
                texts.append(output.data["text/plain"])
        said.append("".join(texts))
    return said


def test_definitions_of_several_cells_the_latest_of_each(workplace: Path) -> None:
    said = run(
        workplace,
        IMPORTS,
        JOB.replace("Level = Level.HIGH", "int = 1"),  # before what it reads
        ROW,
        HELPER,
        JOB,
        ROW_AGAIN,
        "print(repr(refresh.test(region='us')))",
        "refresh.deploy()",
        HELPER,
        JOB,
        "refresh.deploy()",
        "print(refresh.source)",
        "refresh.job.defined_in",
        "refresh",
    )
    row = "Row(region='us', amount=2, currency='EUR')"
    result = ["2.20", row, "HIGH", '{"day": "2026-03-02"}']
    assert said[6] == f"working\n::result {json.dumps(result)}\n{result!r}\n"
    assert said[7].startswith("refresh: created, version 1\n<Deployment of refresh: created")
    assert said[10].startswith("refresh: unchanged, version 1\n")
    source = said[11]
    assert "import json as j\n" in source
    assert "class Level(enum.Enum)" in source
    assert source.index("class Row") < source.index("def refresh")
    assert "currency" in source
    assert "jobkit.job" not in source
    assert said[12] == "'a notebook'"
    assert said[13].startswith("<job refresh>\n")


def test_what_only_a_notebook_has_is_refused(workplace: Path) -> None:
    said = run(
        workplace,
        IMPORTS + "import threading\nlock = threading.Lock()",
        """
@jobkit.job(kit=kit)
def job():
    files = !ls
    display(files)
    return In[0], lock
""",
        "job.deploy()",
        "len(kit.jobs)",
        "job",
        allow_errors=True,
    )
    assert said[2].startswith("CannotTravel: job cannot travel to a worker:")
    for name in ("get_ipython", "display", "In (list)", "lock (_thread.lock)"):
        assert f"  - {name}" in said[2]
    assert "subprocess.run" in said[2]
    assert said[3] == "0"
    assert "cannot travel: lock" in said[4]


def test_a_saved_notebook_and_its_cell_are_named(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(workplace / "sales.ipynb"))
    document = {"cells": [{"source": "1"}, {"source": ["@jobkit.job\n", "def one(): return 1"]}]}
    (workplace / "sales.ipynb").write_text(json.dumps(document), "utf-8")
    code = "@jobkit.job(kit=kit)\ndef one(): return 1"
    said = run(workplace, IMPORTS, code, "one.deploy()", "one.job.defined_in")
    assert said[3] == "'sales.ipynb, cell 2'"
    with jobkit.connect(f"sqlite:///{workplace / 'notebook.db'}") as kit:
        assert kit.job("one").defined_in == "sales.ipynb, cell 2"


def test_cells_under_annotations_of_the_future_and_async(workplace: Path) -> None:
    said = run(
        workplace,
        IMPORTS,
        "from __future__ import annotations",
        "@dataclass\nclass Node:\n    next: Node | None = None",
        "@jobkit.job(kit=kit)\nasync def job(n: int = 1):\n    return [repr(Node(Node())), n]",
        "print(job.test(n=3)); await job(2)",
    )
    assert "['Node(next=Node(next=None))', 3]" in said[4]
    assert said[4].endswith("['Node(next=Node(next=None))', 2]")
