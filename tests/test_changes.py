"""What changed since a job last worked: planted causes are named first, secrets never."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient

from jobkit.analytics.changes import Ran, differences
from jobkit.analytics.comparison import Changes
from jobkit.errors import BadInput
from jobkit.executors import packages
from jobkit.kit import Kit
from jobkit.models import attempts, script_texts
from jobkit.settings import load
from jobkit.worker import Worker
from tests.stage import Stage
from tests.test_cli import Jobkit, jobkit
from tests.test_portal import body, open_portal, words

__all__ = ["jobkit"]

PROVENANCE: dict[str, Any] = {
    "script": "/srv/scripts/load.py",
    "sha256": "ab" * 32,
    "kind": "python",
    "isolation": "warm",
    "git": {"commit": "0123456789" * 4, "branch": "main", "dirty": False},
    "params": {"region": "eu", "token": "***"},
    "host": "laptop",
    "platform": "Linux-6.1",
    "variables": ["API_URL", "PATH"],
    "python": {"version": "3.11.7", "implementation": "CPython", "path": "/usr/bin/python3"},
    "packages": "cd" * 32,
}
WORKED = Ran(
    provenance=PROVENANCE,
    definition={"timeout_seconds": 600, "variables": {"LEVEL": "one"}, "secrets": ["DB"]},
    packages={"polars": "1.31", "rich": "15.0", "my-tool": "1"},
    metrics={"rows": 1_200_000, "seconds": 12.5},
    text="import polars\nprint(1)\n",
)


def told(**provenance: Any) -> list[str]:
    """Say what differs when these facts of the provenance do."""
    return said(replace(WORKED, provenance=PROVENANCE | provenance))


def said(after: Ran) -> list[str]:
    return [change.words for change in differences(WORKED, after)]


def test_nothing_differs_of_itself() -> None:
    assert differences(WORKED, WORKED) == []


def test_an_edited_script_is_told_with_its_diff() -> None:
    after = replace(
        WORKED,
        provenance=PROVENANCE | {"sha256": "ef" * 32},
        text="import polars\nprint(2)\nprint(3)\n",
    )
    (change,) = differences(WORKED, after)
    assert change.words == "script edited: load.py, 2 lines added, 1 removed"
    assert change.diff.splitlines()[-4:] == [
        " import polars",
        "-print(1)",
        "+print(2)",
        "+print(3)",
    ]
    assert said(replace(after, text=None)) == ["script edited: load.py"]


def test_of_notebooks_the_cells_are_compared_and_not_their_outputs() -> None:
    def notebook(*sources: str, output: str = "") -> str:
        cells = [
            {"cell_type": "code", "source": source.splitlines(True), "outputs": [output]}
            for source in sources
        ]
        return json.dumps({"cells": cells})

    facts = PROVENANCE | {"script": "report.ipynb"}
    before = replace(WORKED, provenance=facts, text=notebook("a = 1", "b = 2"))
    after = replace(
        WORKED,
        provenance=facts | {"sha256": "ef" * 32},
        text=notebook("a = 1", "b = 3", output="new"),
    )
    (change,) = differences(before, after)
    assert change.words == "notebook edited: report.ipynb, 1 line added, 1 removed"
    assert "new" not in change.diff
    assert "+b = 3" in change.diff
    again = replace(after, text=notebook("a = 1", "b = 2", output="new"))
    assert [found.words for found in differences(before, again)] == [
        "notebook edited: report.ipynb"
    ]


def test_each_fact_is_told_in_words() -> None:
    moved = {"commit": "89abcdef01" * 4, "branch": "dev", "dirty": True}
    assert told(git=moved) == [
        "commit 012345678 to 89abcdef0",
        "branch main to dev",
        "the repository has uncommitted changes",
    ]
    assert told(params={"region": "us", "day": 3, "token": "***"}) == [
        "parameter day is new: 3",
        'parameter region: "eu" to "us"',
    ]
    assert told(params={"token": "***"}) == ['parameter region gone, it was "eu"']
    assert told(host="server", platform="Linux-6.8") == [
        "host laptop to server",
        "platform Linux-6.1 to Linux-6.8",
    ]
    python = {"version": "3.12.1", "implementation": "CPython", "path": "/opt/python"}
    assert told(python=python) == [
        "Python 3.11.7 to 3.12.1",
        "interpreter /usr/bin/python3 to /opt/python",
    ]
    assert told(variables=["PATH", "LANG"]) == ["variables: API_URL gone, LANG is new"]
    newer = {"polars": "1.32", "rich": "15.0", "six": "1"}
    assert said(replace(WORKED, packages=newer)) == [
        "my-tool 1 removed, polars 1.31 to 1.32, six 1 installed"
    ]
    assert said(replace(WORKED, definition=WORKED.definition | {"timeout_seconds": 60})) == [
        "job edited: timeout 10 min to 1 min"
    ]


def test_metrics_are_told_when_they_became_nothing_or_half_or_double() -> None:
    assert said(replace(WORKED, metrics={"rows": 0, "seconds": 12.5})) == [
        "metric rows: 1.2 M to 0"
    ]
    assert said(replace(WORKED, metrics={"rows": 1_300_000, "seconds": 6})) == [
        "metric seconds: 12.5 to 6"
    ]
    assert said(replace(WORKED, metrics={"rows": 900_000})) == ["no seconds this time, it was 12.5"]


def test_the_most_telling_comes_first_and_what_the_failure_names_before_it() -> None:
    after = Ran(
        provenance=PROVENANCE
        | {
            "sha256": "ef" * 32,
            "host": "server",
            "git": {"commit": "89" * 20, "branch": "main", "dirty": False},
            "params": {"region": "us", "token": "***"},
            "python": {
                "version": "3.12.1",
                "implementation": "CPython",
                "path": "/usr/bin/python3",
            },
            "variables": ["PATH"],
        },
        packages={"polars": "1.32", "rich": "16.0", "my-tool": "2"},
        metrics={"rows": 0, "seconds": 12.5},
    )
    assert [change.kind for change in differences(WORKED, after)] == [
        "script", "commit", "packages", "parameter", "metric", "host", "python", "variables",
    ]  # fmt: skip
    named = replace(after, said="KeyError: 'API_URL'")
    assert said(named)[0] == "variables: API_URL gone"
    named = replace(after, said='File ".../site-packages/my_tool/__init__.py", line 3')
    assert said(named)[0] == "my-tool 1 to 2, polars 1.31 to 1.32, rich 15.0 to 16.0"


def test_no_value_of_a_secret_is_told() -> None:
    bare = replace(
        WORKED,
        provenance=PROVENANCE | {"params": {"region": "eu", "token": "hunter2"}},
        definition={
            "timeout_seconds": 600,
            "variables": {"LEVEL": "hunter2"},
            "secrets": ["API_KEY"],
            "script_args": "--password hunter2",
        },
    )
    found = differences(WORKED, bare)
    assert "hunter2" not in repr(found)
    assert sorted(change.words for change in found) == [
        "job edited: another value of LEVEL",
        "job edited: arguments changed",
        "job edited: secrets API_KEY is new, DB gone",
        "parameter token has another value",
    ]


def test_records_that_know_little_are_compared_as_far_as_they_go() -> None:
    assert differences(Ran(), WORKED) == []
    assert differences(WORKED, Ran()) == [] or said(Ran()) == [
        "no rows this time, it was 1.2 M",
        "no seconds this time, it was 12.5",
    ]


# Planted causes, with real runs


def work(kit: Kit) -> None:
    Worker(kit.database, load(db_url=kit.settings.db_url), until_idle=True).run()


def run(kit: Kit, status: str, **params: Any) -> Changes:
    """Run the job once and say what changed since it last worked."""
    made = kit.submit("load", **params)
    work(kit)
    made = made.refresh()
    assert made.status == status, made.output().text
    return made.changes()


SCRIPT = """
import json, os, pathlib
params = json.loads(os.environ["JOBKIT_PARAMS"])
lines = pathlib.Path("input.csv").read_text().splitlines()
print("::metric rows", len(lines))
assert lines, "nothing to load"
assert params["region"] in ("eu", "asia"), "no such region"
os.environ["API_URL"]
"""


@pytest.fixture
def loads(kit: Kit, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """A job that worked once, on a real worker, and is about to fail."""
    monkeypatch.setenv("JOBKIT_ENV_ALLOW", "API_URL")
    monkeypatch.setenv("API_URL", "http://localhost")
    (workplace / "load.py").write_text(SCRIPT, "utf-8")
    (workplace / "input.csv").write_text("a,b\n" * 12_000, "utf-8")
    kit.add_job("load", "load.py", retries=0, params={"region": "eu"})
    assert run(kit, "COMPLETED").worked_at is None
    return kit


def test_edited_code_is_named(loads: Kit, workplace: Path) -> None:
    broken = SCRIPT.replace("read_text()", "read_txt()")
    (workplace / "load.py").write_text(broken, "utf-8")
    changed = run(loads, "FAILED")
    assert changed.lines[0] == "script edited: load.py, 1 line added, 1 removed"
    assert '+lines = pathlib.Path("input.csv").read_txt().splitlines()' in changed[0].diff
    assert changed.worked_run_id == 1


def test_a_changed_package_is_named(loads: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    really = packages.installed

    def installed(folders: Any) -> packages.PackageSet:
        found = dict(really(folders).packages) | {"polars": "99.0"}
        return packages.PackageSet("99" * 32, found)

    monkeypatch.setattr(packages, "installed", installed)
    monkeypatch.delenv("API_URL")
    changed = run(loads, "FAILED")
    assert any(line.startswith("polars ") and "to 99.0" in line for line in changed.lines[:2])


def test_a_changed_parameter_is_named(loads: Kit) -> None:
    assert run(loads, "FAILED", region="us").lines == ['parameter region: "eu" to "us"']


def test_an_empty_input_is_named(loads: Kit, workplace: Path) -> None:
    (workplace / "input.csv").write_text("", "utf-8")
    assert run(loads, "FAILED").lines == ["metric rows: 12 k to 0"]


def test_another_host_is_named(loads: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "other-host")
    changed = run(loads, "FAILED", region="mars")
    assert any(line.endswith(" to other-host") for line in changed.lines[:2])


def test_a_variable_that_is_gone_is_named(loads: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("API_URL")
    assert run(loads, "FAILED").lines[0] == "variables: API_URL gone"


def test_source_that_travels_has_a_diff_too(kit: Kit) -> None:
    kit.add_job("load", "load.py", source="print(1)\n", retries=0)
    run(kit, "COMPLETED")
    kit.edit("load", source="print(1/0)\n")
    changed = run(kit, "FAILED")
    assert changed.lines[0] == "script edited: load.py, 1 line added, 1 removed"
    assert "+print(1/0)" in changed[0].diff


# What is kept of scripts


def texts(kit: Kit) -> list[str]:
    with kit.database.read() as connection:
        return list(connection.scalars(sa.select(script_texts.c.text)))


def test_a_text_is_kept_once_without_secrets(
    kit: Kit, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_SECRET_KEY", "hunter2")
    (workplace / "load.py").write_text("key = 'hunter2'\n", "utf-8")
    kit.add_job("load", "load.py", secrets=["KEY"])
    for _ in range(2):
        run(kit, "COMPLETED")
    assert texts(kit) == ["key = '***'\n"]


@pytest.mark.parametrize(
    ("content", "limit"),
    [(b"true one\n", "0"), (b"true one\n", "8"), (b"true \xff\n", "256000")],
    ids=["nothing is kept", "too long", "no text"],
)
def test_what_is_no_short_text_is_not_kept(
    kit: Kit, workplace: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, limit: str
) -> None:
    monkeypatch.setenv("JOBKIT_SCRIPT_TEXT_LIMIT", limit)
    (workplace / "load.sh").write_bytes(content)
    kit.add_job("load", "load.sh")
    run(kit, "COMPLETED")
    assert texts(kit) == []


# Faces


def write(stage: Stage, exit_code: int, provenance: dict[str, Any], **measures: Any) -> int:
    """End a run with these facts."""
    claim_id = stage.kit.submit("sales").id
    claim = stage.claim_one()
    stage.finish(claim, exit_code=exit_code)
    with stage.kit.database.write() as connection:
        connection.execute(
            attempts.update()
            .where(attempts.c.dispatch_id == claim_id)
            .values(provenance=provenance, **measures)
        )
    stage.clock.turn(timedelta(hours=2))
    return claim_id


@pytest.fixture
def failed(stage: Stage) -> Stage:
    """Run 1 worked, run 2 failed on another host, its script edited."""
    stage.job(retries=0)
    write(stage, 0, PROVENANCE)
    write(stage, 1, PROVENANCE | {"host": "<b>server</b>", "sha256": "ef" * 32})
    with stage.kit.database.write() as connection:
        for sha256, text in (("ab" * 32, "print(1)\n"), ("ef" * 32, "print('<i>')\n")):
            row = {"sha256": sha256, "text": text, "seen_at": stage.clock.now()}
            connection.execute(script_texts.insert().values(row))
    return stage


def test_a_run_says_it(failed: Stage) -> None:
    changed = failed.kit.run(2).changes()
    assert repr(changed).splitlines() == [
        "Changed since run 1, which worked 2 h before:",
        "  script edited: load.py, 1 line added, 1 removed",
        "  host laptop to <b>server</b>",
    ]
    assert "&lt;b&gt;server" in changed._repr_html_()
    assert "<b>" not in changed._repr_html_()
    assert repr(failed.kit.run(1).changes()) == "Run 1: it has not worked before"
    with pytest.raises(BadInput, match="Attempt 7 of run 2 has ended"):
        failed.kit.changes(2, 7)


def test_the_command_shows_it(failed: Stage, jobkit: Jobkit) -> None:
    said = jobkit("show", 2).out
    assert "Changed since run 1, which worked 2 h before:" in said
    assert "-print(1)" in said
    document = jobkit("show", 2, "--json").document
    assert document["changes"]["found"][1]["words"] == "host laptop to <b>server</b>"
    assert jobkit("show", 1, "--json").document["changes"] is None


def test_the_page_of_a_failed_run_shows_it(failed: Stage) -> None:
    client: FlaskClient = open_portal(failed.kit)
    page = words(body(client, "/runs/2"))
    assert "What changed since it last worked Compared with 1" in page
    assert "host laptop to <b>server</b>" in page
    assert "+print('<i>')" in page
    assert "What changed" not in body(client, "/runs/1")
