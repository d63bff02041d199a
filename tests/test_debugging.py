"""A failed run, run here: its source, parameters and artifacts, and where it stops."""

from __future__ import annotations

import json
import os
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from jobkit.debugging import Debugged
from jobkit.errors import BadInput
from jobkit.handles import Run
from jobkit.kit import Kit
from tests.test_execution import execute, worker, write
from tests.test_kept_kernels import notebook

FAILING = """
import json, os, sys
from pathlib import Path

def deep(row):
    total = row["price"] * 2
    return total / row["count"]

def main():
    rows = [{"price": 3, "count": 1}, {"price": 5, "count": PARAMS["count"]}]
    Path(os.environ["JOBKIT_ARTIFACTS"], "half.txt").write_text("half")
    return [deep(row) for row in rows]

if __name__ == "__main__":
    PARAMS = json.loads(os.environ["JOBKIT_PARAMS"])
    main()
"""


def failed(kit: Kit, target: str, **given: Any) -> Run:
    run, attempt = execute(kit, target, **given)
    assert (run.status, attempt.status) == ("FAILED", "FAILURE")
    return run


def test_a_script_stops_where_it_stopped(kit: Kit, workplace: Path) -> None:
    script = write(workplace, "jobs/load.py", FAILING)
    run = failed(kit, script, params={"count": 0})
    before = dict(os.environ), sys.argv[:], sys.path[:], sys.modules["__main__"], Path.cwd()
    history = run.attempts(), kit.runs(), kit.jobs.versions("job")
    found = run.debug(interactive=False)
    assert isinstance(found.exception, ZeroDivisionError)
    assert found.locals == {"row": {"price": 5, "count": 0}, "total": 10}
    assert [frame.function for frame in found.frames][:2] == ["<module>", "main"]
    assert found.frame is not None
    assert found.frame.code == 'return total / row["count"]'
    assert found.frames[1].locals["rows"][0] == {"price": 3, "count": 1}
    assert found.namespace["PARAMS"] == {"count": 0}
    assert (found.artifacts / "half.txt").read_text() == "half"
    assert "ZeroDivisionError" in found.traceback
    after = dict(os.environ), sys.argv[:], sys.path[:], sys.modules["__main__"], Path.cwd()
    assert after == before
    assert (run.attempts(), kit.runs(), kit.jobs.versions("job")) == history


def test_it_runs_the_text_that_ran_and_not_what_became_of_the_file(
    kit: Kit, workplace: Path
) -> None:
    script = write(workplace, "load.py", "rows = 1\n1 / 0\n")
    run = failed(kit, script)
    write(workplace, "load.py", "rows = 2\n")
    found = run.debug(interactive=False)
    assert found.namespace["rows"] == 1
    assert [frame.code for frame in found.frames] == ["1 / 0"]


def test_a_file_that_differs_is_refused_where_no_text_was_kept(kit: Kit, workplace: Path) -> None:
    script = write(workplace, "load.py", "1 / 0\n")
    run = failed(kit, script, settings={"script_text_limit": 0})
    assert isinstance(run.debug(interactive=False).exception, ZeroDivisionError)
    write(workplace, "load.py", "2 / 0\n")
    with pytest.raises(BadInput, match=r"load.py differs from what run 1 ran: its hash is"):
        run.debug(interactive=False)
    (workplace / "load.py").unlink()
    with pytest.raises(BadInput, match=r"is not kept, and .*load.py cannot be read"):
        run.debug(interactive=False)


def test_a_job_that_carries_its_source_is_debugged_by_its_version(
    kit: Kit, workplace: Path
) -> None:
    run = failed(kit, "made.py", source="value = 'old'\nraise KeyError(value)\n")
    kit.edit("job", source="value = 'new'\n")
    found = run.debug(interactive=False)
    assert found.namespace["value"] == "old"
    assert isinstance(found.exception, KeyError)


def test_the_environment_is_that_of_the_attempt(kit: Kit, workplace: Path) -> None:
    script = write(
        workplace,
        "show.py",
        "import os, sys\nseen = dict(os.environ)\narguments = sys.argv[1:]\nraise OSError('no')\n",
    )
    kit.add_job("job", script, "a", "b c", retries=0, env_vars={"MINE": "x"}, params={"day": 3})

    run = kit.submit("job")
    worker(kit).run()
    found = run.refresh().debug(interactive=False)
    seen = found.namespace["seen"]
    names = ("JOBKIT_RUN_ID", "JOBKIT_ATTEMPT", "JOBKIT_PARAMS", "JOBKIT_SCHEDULED_FOR", "MINE")
    assert [seen[name] for name in names] == [str(run.id), "1", '{"day": 3}', "", "x"]
    assert found.namespace["arguments"] == ["a", "b c"]
    assert "MINE" not in os.environ


def test_secrets_stay_masked(kit: Kit, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBKIT_SECRET_TOKEN", "s3cret-value")
    script = write(
        workplace,
        "show.py",
        "import os, pathlib\nfolder = pathlib.Path(os.environ['JOBKIT_SECRETS'])\n"
        "token = (folder / 'TOKEN').read_text()\n"
        "variable = os.environ['TOKEN']\nraise OSError('no')\n",
    )
    run = failed(kit, script, secrets=["env:TOKEN"], params={"key": "s3cret-value"})
    monkeypatch.delenv("JOBKIT_SECRET_TOKEN")
    found = run.debug(interactive=False)
    assert (found.namespace["token"], found.namespace["variable"]) == ("***", "***")
    assert found.params == {"key": "***"}
    assert found.masked == ("TOKEN",)
    assert "its secrets are *** here: TOKEN" in found.notes
    assert "s3cret-value" not in repr(found) + found._repr_html_()


def test_modules_beside_the_script_are_found_and_read_anew(kit: Kit, workplace: Path) -> None:
    write(workplace, "beside.py", "def half(x):\n    return x / 0\n")
    run = failed(kit, write(workplace, "use.py", "import beside\nbeside.half(2)\n"))
    found = run.debug(interactive=False)
    assert [frame.function for frame in found.frames] == ["<module>", "half"]
    assert found.locals == {"x": 2}
    write(workplace, "beside.py", "def half(x):\n    return x / 2  # mended\n")
    assert run.debug(interactive=False).exception is None


def test_a_function_is_called_with_its_parameters(kit: Kit, workplace: Path) -> None:
    write(
        workplace,
        "functions.py",
        "async def load(region, limit=3):\n    wanted = region.upper()\n"
        "    return wanted[limit + 1]\n",
    )
    run = failed(kit, "functions.py:load", params={"region": "eu"})
    found = run.debug(interactive=False)
    assert isinstance(found.exception, IndexError)
    assert found.locals == {"region": "eu", "limit": 3, "wanted": "EU"}
    assert "functions" not in sys.modules


def test_a_notebook_is_executed_up_to_the_cell_that_fails(kit: Kit, workplace: Path) -> None:
    target = notebook(
        workplace,
        "import asyncio\nawait asyncio.sleep(0)\nrows = [1, 2]",
        "def pick(index):\n    return rows[index]",
        "value = pick(limit)\nvalue",
        "never = True",
    )
    run = failed(kit, target, params={"limit": 5})
    found = run.debug(interactive=False)
    assert isinstance(found.exception, IndexError)
    assert found.cell == 4  # with the parameters, as in the notebook that was kept
    assert (found.namespace["rows"], found.namespace["limit"]) == ([1, 2], 5)
    assert found.locals == {"index": 5}
    assert [frame.code for frame in found.frames] == ["value = pick(limit)", "return rows[index]"]
    assert "never" not in found.namespace


def test_what_does_not_fail_here_says_so(kit: Kit, workplace: Path) -> None:
    gate = workplace / "gate"
    text = f"import pathlib\nvalue = pathlib.Path({str(gate)!r}).read_text()\n"
    run = failed(kit, write(workplace, "load.py", text))
    gate.write_text("open")
    found = run.debug(interactive=False)
    assert (found.exception, found.frame, found.namespace["value"]) == (None, None, "open")
    assert repr(found) == f"run {run.id} of job, attempt 1: load.py did not fail here"


def test_an_exit_code_counts_as_failure(kit: Kit, workplace: Path) -> None:
    run = failed(kit, write(workplace, "load.py", "import sys\nsys.exit(3)\n"))
    found = run.debug(interactive=False)
    assert isinstance(found.exception, SystemExit)
    assert found.exception.code == 3


def test_what_cannot_be_debugged_says_why(kit: Kit, workplace: Path) -> None:
    run, _ = execute(kit, "hello.py")
    with pytest.raises(BadInput, match="No attempt of run 1 has failed: it is COMPLETED"):
        run.debug(interactive=False)
    kit.add_job("shell", write(workplace, "load.sh", "exit 1\n"), retries=0)

    run = kit.submit("shell")
    worker(kit).run()
    with pytest.raises(BadInput, match="of the kind shell, which is not debugged here"):
        run.refresh().debug(interactive=False)


class Parsed(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_it_shows_itself_in_text_and_in_html(kit: Kit, workplace: Path) -> None:
    script = write(
        workplace,
        "load.py",
        "class Bad:\n    def __repr__(self): raise ValueError('no')\n"
        "long, bad, tag = 'x' * 100_000, Bad(), '<b>'\nraise RuntimeError(tag)\n",
    )
    found = failed(kit, script).debug(interactive=False)
    assert repr(found).splitlines()[0] == (
        "run 1 of job, attempt 1: load.py stopped on RuntimeError: <b>"
    )
    assert "  load.py:4 in <module>: raise RuntimeError(tag)" in repr(found)
    assert "bad = <Bad: its repr raised ValueError>" in repr(found)
    html = found._repr_html_()
    parsed = Parsed()
    parsed.feed(html)
    assert parsed.open == []
    assert len(html) < 20_000
    assert "<b>'" not in html


def test_post_mortem_opens_the_debugger_in_the_failing_frame(
    kit: Kit, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = failed(kit, write(workplace, "load.py", "def f(x):\n    return x / 0\nf(7)\n"))
    seen: list[Any] = []

    def interaction(self: Any, frame: Any, trace: Any) -> None:
        while trace.tb_next:
            trace = trace.tb_next
        seen.append((dict(trace.tb_frame.f_locals), os.environ["JOBKIT_RUN_ID"]))

    monkeypatch.setattr("IPython.core.debugger.Pdb.interaction", interaction)
    found = run.debug(interactive=True)
    assert seen == [({"x": 7}, str(run.id))]
    assert isinstance(found, Debugged)


def test_in_a_notebook_that_nobody_types_into_it_returns(kit: Kit, workplace: Path) -> None:
    target = notebook(workplace, "rows = [1]", "rows[1]")
    run = failed(kit, target)
    cells = (
        f"import jobkit\nfound = jobkit.connect({kit.settings.db_url!r}).run({run.id}).debug()",
        "found",
        "[type(found.exception).__name__, found.cell, found.namespace['rows'], 'rows' in vars()]",
        "__name__ + get_ipython().__class__.__name__",
    )
    document = nbformat.read(workplace / notebook(workplace, *cells, name="mine.ipynb"), 4)
    NotebookClient(document, timeout=120).execute(cwd=str(workplace))
    shown = [cell["outputs"] for cell in document["cells"]]
    assert "note.ipynb, cell 2 stopped on IndexError" in json.dumps(shown[1])
    assert shown[2][0]["data"]["text/plain"] == "['IndexError', 2, [1], False]"
    assert shown[3][0]["data"]["text/plain"] == "'__main__ZMQInteractiveShell'"
