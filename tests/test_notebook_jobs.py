"""Notebooks as jobs: how they end early, what is kept of them, how long their cells take."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jobkit import BadInput
from jobkit.cells import Cell
from jobkit.handles import Run
from jobkit.kit import Kit
from jobkit.scheduler import DUTIES
from jobkit.settings import load
from jobkit.worker import Worker


def work(kit: Kit) -> None:
    Worker(kit.database, load(db_url=kit.settings.db_url), until_idle=True).run()


def notebook(workplace: Path, *sources: str, name: str = "report.ipynb", **tags: list[str]) -> str:
    cells = [
        {
            "cell_type": "code",
            "id": f"c{number}",
            "metadata": {"tags": tags[f"c{number}"]} if f"c{number}" in tags else {},
            "source": source,
            "outputs": [],
            "execution_count": None,
        }
        for number, source in enumerate(sources)
    ]
    path = workplace / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells})
    )
    return name


def ran(kit: Kit, name: str, **params: Any) -> Run:
    run = kit.submit(name, **params)
    work(kit)
    return run.refresh()


def test_a_notebook_becomes_a_job_and_the_same_again_makes_no_version(
    kit: Kit, workplace: Path
) -> None:
    path = "reports/weekly.ipynb"
    notebook(workplace, "week = None", "print(week)", name=path, c0=["parameters"])
    given: dict[str, Any] = {
        "cron": "0 7 * * 1",
        "tz": "Europe/Berlin",
        "params": {"week": "{{ scheduled_for:%G-W%V }}"},
        "keep": 30,
        "cell_timeout": "2m",
    }
    job = kit.notebook(path, **given)
    assert (job.name, job.version, job.source) == ("weekly", 1, None)
    assert (job.keep_outputs, job.cell_timeout_seconds) == (30, 120.0)
    assert kit.notebook(path, **given).version == 1
    assert kit.notebook(path, **given | {"keep": 10}).version == 2
    slot = datetime.fromisoformat("2026-01-05T06:00:00+00:00")
    kit.backfill("weekly", slot, slot)
    work(kit)
    (run,) = kit.runs("weekly")
    assert run.status == "COMPLETED"
    assert "2026-W02" in run.output().text
    assert run.params == {"week": "{{ scheduled_for:%G-W%V }}"}


def test_a_linked_notebook_runs_as_it_is_and_a_pinned_one_as_it_was(
    kit: Kit, workplace: Path
) -> None:
    path = notebook(workplace, "print('first')")
    kit.notebook(path, name="linked")
    kit.notebook(path, name="pinned", pin=True)
    notebook(workplace, "print('second')")
    assert "second" in ran(kit, "linked").output().text
    pinned = ran(kit, "pinned")
    assert "first" in pinned.output().text
    assert [item.name for item in pinned.artifacts()] == ["report.ipynb"]
    hashes = [
        (run.attempts()[0].provenance or {})["sha256"] for run in kit.runs() if run.attempts()
    ]
    assert len(set(hashes)) == 2


def test_what_is_no_notebook_is_refused_and_nothing_is_written(kit: Kit, workplace: Path) -> None:
    (workplace / "notes.ipynb").write_text("{}")
    for path, given, says in (
        ("nothing.ipynb", {"pin": True}, "There is no notebook nothing.ipynb"),
        ("notes.ipynb", {"pin": True}, "is no notebook"),
        ("nothing.ipynb", {}, "nothing.ipynb"),
        ("notes.ipynb", {"kind": "python"}, "says itself what it is"),
        ("notes.ipynb", {"keep": 0}, "keep=0 is no number of runs"),
        ("notes.ipynb", {"cell_timeout": "0s"}, "cell_timeout=0:00:00 is out of bounds"),
        ("notes.ipynb", {"params": {"w": "{{ sheduled_for }}"}}, "is not known"),
    ):
        with pytest.raises(BadInput, match=says):
            kit.notebook(path, **given)
    assert list(kit.jobs) == []


def test_a_run_that_ends_itself_completes_and_says_why(kit: Kit, workplace: Path) -> None:
    notebook(workplace, "import jobkit\njobkit.stop('nothing new')", "1 / 0")
    kit.notebook("report.ipynb")
    (workplace / "script.py").write_text(
        "import jobkit\njobkit.stop('no rows')\nraise SystemExit(3)"
    )
    kit.add_job("script", "script.py")
    (workplace / "script.sh").write_text("echo '::stop too early'\nexit 0\n")
    kit.add_job("shell", "script.sh")
    (workplace / "failing.sh").write_text("echo '::stop too early'\nexit 4\n")
    kit.add_job("failing", "failing.sh", retries=0)
    ended = [ran(kit, name) for name in ("report", "script", "shell", "failing")]
    assert [(run.status, run.reason) for run in ended] == [
        ("COMPLETED", "nothing new"),
        ("COMPLETED", "no rows"),
        ("COMPLETED", "too early"),
        ("FAILED", None),
    ]


def test_a_cell_that_takes_too_long_fails_its_run_by_name(kit: Kit, workplace: Path) -> None:
    notebook(workplace, "import time", "time.sleep(60)")
    kit.notebook("report.ipynb", cell_timeout="1s", retries=0)
    run = ran(kit, "report")
    assert (run.status, run.error_message) == ("FAILED", "cell 2 took longer than 1 s")
    assert "cell 2 was interrupted: it took longer than 1 s" in run.output().text
    assert [cell.state for cell in run.cells()] == ["done", "failed"]


def test_a_cell_says_what_is_usual_for_its_code(kit: Kit, workplace: Path) -> None:
    notebook(workplace, "x = 1", "import time\ntime.sleep(0.2)")
    kit.notebook("report.ipynb")
    first = ran(kit, "report")
    assert [cell.usual for cell in first.cells()] == [None, None]
    notebook(workplace, "x = 2", "import time\ntime.sleep(0.2)")
    cells = ran(kit, "report").cells()
    assert cells[0].usual is None
    assert cells[1].usual == pytest.approx(first.cells()[1].seconds)


def test_124_of_a_script_says_nothing_of_cells(kit: Kit, workplace: Path) -> None:
    (workplace / "script.py").write_text("raise SystemExit(124)")
    kit.add_job("script", "script.py", cell_timeout="1s", retries=0)
    assert ran(kit, "script").error_message == "exit code 124"


def test_skipped_cells_are_shown_and_those_that_were_not_reached_are_not(
    kit: Kit, workplace: Path
) -> None:
    notebook(workplace, "1 / 0", "x = 1", "import jobkit; jobkit.stop()", "x", c0=["skip"])
    kit.notebook("report.ipynb")
    cells = ran(kit, "report").cells()
    assert [(cell.number, cell.state) for cell in cells] == [
        (1, "skipped"),
        (2, "done"),
        (3, "done"),
    ]
    assert (repr(cells[0]), cells[0].source) == ("<cell 1: skipped>", "1 / 0")


def test_a_cell_says_how_long_it_took_and_what_is_usual() -> None:
    at = datetime.fromisoformat("2026-03-02T06:00:00+00:00")
    cell = Cell(14, 20, "done", at, 190.0, "load(<b>)\nmore", "10 rows", usual=58.0)
    assert repr(cell) == "<cell 14: 3 min 10 s, usually 58 s: done>"
    html = cell._repr_html_()
    assert "cell 14: 3 min 10 s, usually 58 s" in html
    assert "load(&lt;b&gt;)" in html
    assert "10 rows" in html


def test_a_manual_run_says_the_same_instant_in_each_attempt(kit: Kit, workplace: Path) -> None:
    source = "print('at', at)\nimport os; assert os.environ['JOBKIT_ATTEMPT'] == '2'"
    notebook(workplace, source)
    kit.notebook("report.ipynb", params={"at": "{{ scheduled_for }}"}, retries=1, retry_delay=0)
    run = ran(kit, "report")
    assert run.status == "COMPLETED"
    said = [
        line
        for number in (1, 2)
        for line in run.output(number).text.splitlines()
        if line.startswith("at ")
    ]
    assert said == [f"at {run.created_at.isoformat()}"] * 2


def test_files_of_the_last_runs_are_kept_and_older_ones_go(kit: Kit, workplace: Path) -> None:
    notebook(workplace, "x = 1")
    kit.notebook("report.ipynb", keep=2)
    kit.notebook("report.ipynb", name="all")
    runs = [ran(kit, "report") for _ in range(4)]
    other = ran(kit, "all")
    urls = [run.artifacts()[0].url for run in runs]
    with kit.database.write() as connection:
        done = DUTIES["keep the last files"].work(connection, kit.clock.now(), kit.settings)
    assert sorted(done.cleaned.urls) == sorted(urls[:2])
    assert [len(run.artifacts()) for run in (*runs, other)] == [0, 0, 1, 1, 1]
    with kit.database.write() as connection:
        again = DUTIES["keep the last files"].work(
            connection, kit.clock.now() + timedelta(hours=1), kit.settings
        )
    assert again.cleaned.urls == ()
