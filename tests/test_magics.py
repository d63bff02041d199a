"""`%load_ext jobkit` in a real kernel: a cell becomes a job, and the job's history is at hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import jobkit
from jobkit import definition
from jobkit.capture.cell import as_function
from jobkit.errors import BadInput
from jobkit.magics import _job_parser
from jobkit.settings import load
from jobkit.worker import Worker
from tests.test_capture_cells import run

LOAD = "%load_ext jobkit"
HELPER = 'RATES = {"eu": 2}\ndef convert(amount, region):\n    return amount * RATES[region]'
GIVEN = '--cron "0 2 * * *" --tz Europe/Paris --retries 2 --param region=eu --tag x'
NIGHTLY = f'''%%job nightly {GIVEN}
# the nightly load
text = """two
  lines"""
print(text)
print(convert(21, region))'''


@pytest.fixture
def folder(database: str, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the notebooks, whose kernels find the database by the environment."""
    monkeypatch.setenv("JOBKIT_DB_URL", database)
    return workplace


def work() -> None:
    chosen = load()
    with jobkit.connect(chosen.db_url) as kit:
        Worker(kit.database, chosen, until_idle=True).run()


def test_a_cell_becomes_a_job_and_the_notebook_again_changes_nothing(folder: Path) -> None:
    said = run(folder, LOAD, HELPER, NIGHTLY, NIGHTLY)
    assert "nightly: created, at 02:00" in said[2].lower()
    assert "nightly: unchanged" in said[3].lower()
    with jobkit.connect() as kit:
        job = kit.job("nightly")
        assert (job.version, job.timezone, job.max_retries) == (1, "Europe/Paris", 2)
        assert (job.params, job.tags) == ({"region": "eu"}, ["x"])
        assert "# the nightly load" in (job.source or "")
        kit.submit("nightly")
        work()
        (made,) = kit.runs("nightly")
        assert (made.status, made.output().text) == ("COMPLETED", "two\n  lines\n42\n")


def test_an_edited_cell_makes_a_version_and_shows_what_changed(folder: Path) -> None:
    said = run(folder, LOAD, HELPER, NIGHTLY, NIGHTLY.replace("21", "42"))
    assert "-    print(convert(21, region))" in said[3]
    assert "+    print(convert(42, region))" in said[3]
    with jobkit.connect() as kit:
        assert kit.job("nightly").version == 2


def test_what_cannot_be_a_job_is_one_clear_error_and_nothing_is_written(folder: Path) -> None:
    said = run(
        folder,
        LOAD,
        "import threading\nlock = threading.Lock()",
        "%%job a\nwith lock:\n    pass",
        '%%job b --cron "every day"\nprint(1)',
        "%%job c --tz Mars/Phobos --daily 06:00\nprint(1)",
        "%%job d\n%time x = 1",
        "%%job e --colour red\nprint(1)",
        "%%job f\n",
        "%%job g --param 1x=3\nprint(1)",
        "%logs nothing",
        "%jobs --failed yesterday",
        allow_errors=True,
    )
    for text, expected in zip(
        said[2:],
        (
            "lock (_thread.lock)",
            "every day",
            "Mars/Phobos",
            "Line 1 of the cell is no Python: '%time x = 1'",
            "unrecognized arguments: --colour red",
            "the cell body is empty",
            "'1x' cannot name a parameter",
            "nothing",
            "'yesterday' is not a duration",
        ),
        strict=True,
    ):
        assert expected in text
        assert "site-packages" not in text
        assert "magics.py" not in text
    with jobkit.connect() as kit:
        assert list(kit.jobs) == []


def test_a_dry_run_shows_the_script_and_writes_nothing(folder: Path) -> None:
    said = run(folder, LOAD, HELPER, NIGHTLY.replace("--tag x", "--dry-run"))
    assert "# /// script" in said[2]
    assert "def convert(amount, region):" in said[2]
    with jobkit.connect() as kit:
        assert list(kit.jobs) == []


def test_a_cell_takes_all_that_a_job_takes() -> None:
    given_by_others = {"params", "env_vars", "signature", "defined_in", "kind", "source"}
    of_notebooks = {"keep_kernel"}  # a cell becomes a script
    many = {"tags", "secrets"}
    known = {action.dest for action in _job_parser()._actions}
    assert set(definition.KEYWORDS) - given_by_others - of_notebooks <= known
    assert many <= known


def test_the_job_remembers_its_notebook_and_cell_and_its_card_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "sales.ipynb"))
    cell = '%%job weekly --cron "0 7 * * 1" --param "week={{ scheduled_for:%G }}"\nprint(week)'
    document = {"cells": [{"source": LOAD}, {"source": "1"}, {"source": cell.splitlines(True)}]}
    (folder / "sales.ipynb").write_text(json.dumps(document), "utf-8")
    said = run(folder, LOAD, cell)
    assert "sales.ipynb, cell 3" in said[1]
    for word in ("Job weekly", "next", "last runs", "none yet"):
        assert word in said[1]
    with jobkit.connect() as kit:
        job = kit.job("weekly")
        assert (job.defined_in, job.params) == (
            "sales.ipynb, cell 3",
            {"week": "{{ scheduled_for:%G }}"},
        )
        made = kit.submit("weekly")
        assert "1 waiting" in job._repr_html_()
        work()
        assert made.refresh().output().text == f"{made.created_at.year}\n"


def test_history_is_at_hand_by_magics(folder: Path) -> None:
    run(folder, LOAD, HELPER, NIGHTLY, "%%job broken\n1 / 0")
    with jobkit.connect() as kit:
        kit.edit("broken", retries=0)
        kit.submit("nightly")
        kit.submit("broken")
    work()
    said = run(
        folder,
        LOAD,
        "%jobs",
        "%jobs --failed 24h",
        "%runs --status failed",
        "%runs nightly --limit 1",
        "%logs nightly",
        "%logs -f 1",
        "%%runs 7d\nSELECT job, status FROM runs ORDER BY job",
    )
    assert "nightly" in said[1]
    assert "broken" in said[1]
    assert "broken" in said[2]
    assert "nightly" not in said[2]
    assert "broken" in said[3]
    assert "nightly" not in said[3]
    assert "nightly" in said[4]
    assert said[5] == said[6] == "two\n  lines\n42\n"
    assert "broken" in said[7]
    assert "FAILED" in said[7]


def test_a_cell_stands_in_a_function_as_it_was_written() -> None:
    text = (
        'x = """a\n b"""\ny = f"""{x}\n  c"""\nz = (\n1,\n)\n\n\ndef inner(): return x, y, z, n\n'
    )
    function = as_function(
        text + "assert inner() == ('a\\n b', 'a\\n b\\n  c', (1,), 3)", {}, "my job", {"n": 3}
    )
    assert function.__name__ == "my_job"
    assert function() is None
    waiting = as_function("import asyncio\nawait asyncio.sleep(0)", {}, "2nd", {})
    assert waiting.__name__ == "job_2nd"
    assert waiting.__code__.co_flags & 0x80


def test_a_cell_that_cannot_stand_in_a_function_is_refused() -> None:
    for text, says in (
        ("from os import *", "import *"),
        ("x = = 1", "Line 1 of the cell is no Python"),
        ("x = !ls", "Line 1 of the cell is no Python"),
        ("  \n", "is empty"),
    ):
        with pytest.raises(BadInput, match=says.replace("*", r"\*")):
            as_function(text, {}, "job", {})
