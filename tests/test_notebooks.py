"""The repository's notebooks: each runs top to bottom in a real kernel, and tells its story."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = sorted(path.name for path in NOTEBOOKS.glob("*.ipynb"))

# What a reader sees somewhere in each, as text.
SAID = {
    "01_first_job.ipynb": (
        "hello, Grace",
        "revenue: created, version 1",
        "orders='many' is not a whole number.",
        "{'region': 'us', 'revenue': 55.0}",
        "KeyError: 'surname'",
        "script edited: hello.py",
        "3 runs: 1 FAILED, 2 COMPLETED",
    ),
    "02_schedules.ipynb": (
        "2026-03-29T01:00:00+00:00",
        "latest [('19:00', 'MISSED'), ('20:00', 'MISSED'), ('21:00', 'COMPLETED')]",
        "all [('19:00', 'COMPLETED'), ('20:00', 'COMPLETED'), ('21:00', 'COMPLETED')]",
        "skip [('19:00', 'MISSED'), ('20:00', 'MISSED'), ('21:00', 'MISSED')]",
        "would make 5 runs",
        "skip - 100 % of 3 slots, 3 filled",
    ),
    "03_analysis.ipynb": ("throughput", "<Simulation of", "usually", "report = log.throughput"),
    "04_notebooks_and_functions.ipynb": (
        "judge_daily: created, at 06:00",
        "today is low",
        "lock (_thread.lock), read by careful",
        "us 5",
        "('COMPLETED', 'nothing new')",
        "stopped on KeyError: 'mars'",
        "['today is low', 'today is high', 'today is high']",
    ),
    "05_team.ipynb": (
        "['COMPLETED', 'COMPLETED']",
        "no worker serves queue 'gpu'",
        "'max_retries': (3, 5)",
        "2 runs: 2 COMPLETED tagged sales",
        "ok 2 an attempt has one result",
    ),
}


def texts(notebook: Any) -> str:
    """Return what all cells show, as text."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            found.append(output.get("text") or data.get("text/plain", ""))
            found += output.get("traceback", ())
    return "\n".join(found)


def test_each_notebook_has_a_story_to_tell() -> None:
    assert set(SAID) == set(NAMES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_top_to_bottom_on_an_empty_machine(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / name, as_version=4)  # type: ignore[no-untyped-call]
    here = tmp_path / "here"
    here.mkdir()
    NotebookClient(
        notebook,
        timeout=180,
        kernel_name="python3",
        resources={"metadata": {"path": str(here)}},
    ).execute()
    seen = texts(notebook)
    for said in SAID[name]:
        assert said in seen
    assert list(here.iterdir()) == []  # what it makes is in a folder of its own
    if name.startswith("03"):
        drawn = [
            output.data["text/html"]
            for cell in notebook.cells
            for output in cell.get("outputs", ())
            if "text/html" in output.get("data", {})
        ]
        assert sum("<svg" in html for html in drawn) >= 6
        assert notebook.cells[-1].outputs[0].data["text/plain"] == "True"


@pytest.mark.parametrize("name", NAMES)
def test_the_repository_has_them_without_outputs_and_without_a_machine_s_paths(name: str) -> None:
    text = (NOTEBOOKS / name).read_text("utf-8")
    document = json.loads(text)
    assert len({cell["id"] for cell in document["cells"]}) == len(document["cells"])
    for cell in document["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
    assert not re.search(r"/(home|root|work|tmp|Users)/", text)
    assert document["metadata"]["kernelspec"]["name"] == "python3"
