"""Notebooks: in process as a kernel would run them, by a kernel, and kept whatever happens."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from jobkit.errors import CannotStart
from jobkit.executors.kinds import Launch, Task, kind_of
from jobkit.executors.runners.document import BadNotebook, inject, literal, load
from jobkit.executors.runners.limit import Limit
from jobkit.executors.target import resolve

Cell = dict[str, Any]


def cell(source: str, *tags: str, kind: str = "code") -> Cell:
    made: Cell = {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}}
    made["source"] = source
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def write(folder: Path, *cells: str | Cell, **metadata: Any) -> Path:
    made = [cell(item) if isinstance(item, str) else item for item in cells]
    for index, item in enumerate(made):
        item["id"] = f"c{index}"
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": made}
    path = folder / "note.ipynb"
    path.write_text(json.dumps(document))
    return path


def launch(path: Path, *arguments: str) -> Launch:
    task = Task(resolve(path.name, [path.parent]), arguments, {}, Path(sys.executable))
    return kind_of(path.name, None, None).launch(task)


class Ran:
    """A notebook that was executed: its output, its events and the kept file."""

    def __init__(self, path: Path, *arguments: str, **params: Any) -> None:
        self._kept_at = path.parent / "artifacts" / path.name
        self.process = start(path, *arguments, **params)
        self.output, self.errors = self.process.communicate(timeout=120)
        self.code = self.process.returncode
        self.events = [
            json.loads(line.removeprefix("::cell "))
            for line in self.output.splitlines()
            if line.startswith("::cell ")
        ]
        self.text = "".join(
            line for line in self.output.splitlines(keepends=True) if not line.startswith("::cell ")
        )

    @property
    def notebook(self) -> Any:
        found = nbformat.read(self._kept_at, as_version=4)
        nbformat.validate(found)
        return found

    def told(self, kind: str) -> list[tuple[Any, ...]]:
        names = {"start": ("text",), "output": ("output", "text"), "end": ("ok",)}[kind]
        return [
            (event["id"], *(event[name] for name in names))
            for event in self.events
            if event["kind"] == kind
        ]


def start(path: Path, *arguments: str, **params: Any) -> subprocess.Popen[str]:
    artifacts = path.parent / "artifacts"
    artifacts.mkdir(exist_ok=True)
    command = launch(path, *arguments)
    told = {"JOBKIT_PARAMS": json.dumps(params), "JOBKIT_ARTIFACTS": str(artifacts)}
    return subprocess.Popen(
        command.argv,
        env=os.environ | dict(command.env) | told,
        cwd=path.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# In process, beside a kernel

SAME = [
    "import sys\nprint('to stdout')\nprint('to stderr', file=sys.stderr)\nprint('again', end='')",
    "x = 2\nx * 21",
    "'quiet';",
    "import polars\npolars.DataFrame({'a': [1, 2], 'b': ['x', None]})",
    (
        "class Pandas:\n    def _repr_html_(self): return '<table></table>'\n"
        "    def __repr__(self): return 'frame'\nPandas()"
    ),
    (
        "from IPython.display import HTML, Image, JSON, Markdown, clear_output, display\n"
        "display(HTML('<b>b</b>'), Markdown('*m*'), metadata={'a': 1})\ndisplay(JSON({'k': [1]}))"
    ),
    "display(Image(data=b'\\x89PNG\\r\\n\\x1a\\n' + bytes(20)))",
    "handle = display('before', display_id='one')",
    "handle.update('after')",
    "print('gone')\nclear_output()\nprint('stays')",
    "print('gone later')\nclear_output(wait=True)\nprint('instead')",
    "import asyncio\nasync def soon():\n    await asyncio.sleep(0)\n    return 'd'\nawait soon()",
    "seen = []\nasync def aside():\n    seen.append(1)\ntask = asyncio.create_task(aside())",
    "seen",
    "%%capture taken\nprint('captured')",
    "taken.stdout",
    "%env JOBKIT_NOTHING=1",
    "!echo to a shell; echo and its stderr >&2",
    "found = !echo words\nfound",
    "%%bash\necho from bash",
    "print?",
    "_ , In[2], Out[2]",
    "__name__, get_ipython() is not None",
    "# only a comment",
    "   ",
    "for i in range(3): display(i)",
    (
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n"
        "import pickle\npickle.loads(pickle.dumps(Point(1)))"
    ),
    "def deep():\n    return 1 / 0\ndeep()",
    "print('never')",
]


def by_nbclient(path: Path, **options: Any) -> Any:
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=60, allow_errors=True, **options).execute()
    return notebook


def normal(outputs: list[Any]) -> list[Any]:
    """Put aside what two executions do not share: addresses, names of cells as files, colours, line
    ends of a terminal, and the order of the two streams, which a kernel loses.
    """
    streams: dict[str, str] = {}
    rest = []
    for output in outputs:
        if output["output_type"] == "stream":
            streams[output["name"]] = streams.get(output["name"], "") + output["text"]
        else:
            rest.append(output)
    text = json.dumps([streams, rest], sort_keys=True).replace("\\r\\n", "\\n")
    text = re.sub(r"<ipython-input-[^>]+>|\b\d+\.py\b", "CELL", text)
    text = re.sub(r"\\u001b\[[0-9;]*m", "", text)
    return list(json.loads(re.sub(r"0x[0-9a-f]+", "0x", text)))


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, Any]:
    folder = tmp_path_factory.mktemp("same")
    path = write(folder, *SAME)
    expected = by_nbclient(write(folder, *SAME[:-1]), resources={"metadata": {"path": str(folder)}})
    return Ran(write(path.parent, *SAME)), expected


@pytest.mark.parametrize("index", range(len(SAME) - 1))
def test_a_cell_leaves_the_outputs_that_a_kernel_leaves(
    beside: tuple[Ran, Any], index: int
) -> None:
    ours, theirs = beside[0].notebook.cells[index], beside[1].cells[index]
    assert normal(ours.outputs) == normal(theirs.outputs)
    assert ours.execution_count == theirs.execution_count


def test_a_notebook_stops_at_the_first_cell_that_fails_and_marks_it(
    beside: tuple[Ran, Any],
) -> None:
    ran = beside[0]
    failed, last = ran.notebook.cells[-2:]
    assert ran.code == 1
    assert failed.metadata.tags == ["jobkit.failed"]
    assert failed.outputs[0].ename == "ZeroDivisionError"
    assert (last.outputs, last.execution_count) == ([], None)
    assert "ZeroDivisionError" in ran.errors
    assert "\x1b[" in ran.errors
    assert "runners" not in ran.errors


def test_syntax_errors_and_bad_magics_are_told_as_by_a_kernel(tmp_path: Path) -> None:
    for source in ("x = (", "%nothing", "raise SystemExit(0)", "raise ValueError('two\\nlines')"):
        expected = by_nbclient(write(tmp_path, source)).cells[0]
        ran = Ran(write(tmp_path, source))
        assert ran.code == 1
        assert normal(ran.notebook.cells[0].outputs) == normal(expected.outputs)


def test_a_cell_that_may_raise_does_not_end_the_notebook(tmp_path: Path) -> None:
    ran = Ran(write(tmp_path, cell("1 / 0", "raises-exception"), "print('on')"))
    assert ran.code == 0
    assert ran.notebook.cells[1].outputs[0].text == "on\n"


def test_a_skipped_cell_does_not_run(tmp_path: Path) -> None:
    ran = Ran(write(tmp_path, cell("1 / 0", "skip"), cell("# words", kind="markdown"), "1"))
    assert ran.code == 0
    assert [cell.get("execution_count") for cell in ran.notebook.cells] == [None, None, 1]


# Parameters


def test_parameters_are_quoted_literals_after_the_tagged_cell(tmp_path: Path) -> None:
    given = {
        "day": "2026-03-01",
        "evil": "'; import os #\n\"",
        "n": 3,
        "all": [None, True, {"a": 1.5}],
    }
    path = write(
        tmp_path, "1", cell("n = 1; day = ''", "parameters"), "print(repr([day, evil, n, all]))"
    )
    ran = Ran(path, **given)
    cells = ran.notebook.cells
    assert [cell.id for cell in cells] == ["c0", "c1", "injected-parameters", "c2"]
    assert cells[2].metadata.tags == ["injected-parameters"]
    assert "day = '2026-03-01'" in cells[2].source
    assert ran.text == f"1\n{list(given.values())!r}\n"


def test_parameters_come_first_without_a_tagged_cell_and_replace_earlier_ones(
    tmp_path: Path,
) -> None:
    ran = Ran(write(tmp_path, "print(n)", cell("n = 'old'", "injected-parameters")), n=7)
    assert ran.text == "7\n"
    assert len(ran.notebook.cells) == 2


@pytest.mark.parametrize("name", ["a b", "1x", "class", "x = 1; y", ""])
def test_a_parameter_that_is_no_name_is_refused(tmp_path: Path, name: str) -> None:
    document = load(write(tmp_path, "1"))
    with pytest.raises(BadNotebook, match="is no name"):
        inject(document, {name: 1})


@pytest.mark.parametrize(
    "value", [float("inf"), -float("inf"), {"a": [1, "x\x00\ud800", None]}, 2**70]
)
def test_a_literal_evaluates_to_its_value(value: Any) -> None:
    assert eval(literal(value)) == value
    assert str(eval(literal(float("nan")))) == "nan"


# Events


def test_each_cell_tells_its_start_its_outputs_and_its_end(tmp_path: Path) -> None:
    ran = Ran(write(tmp_path, "print('no end', end='')\n'value'", "1 / 0"))
    assert ran.told("start") == [("c0", "print('no end', end='')\n'value'"), ("c1", "1 / 0")]
    assert ran.told("end") == [("c0", True), ("c1", False)]
    assert ran.told("output")[:2] == [("c0", "stdout", "no end"), ("c0", "result", "'value'")]
    assert ran.told("output")[2][:2] == ("c1", "error")
    first, last = ran.events[0], ran.events[-1]
    assert (first["index"], first["of"], last["index"]) == (0, 2, 1)
    assert first["at"].endswith("Z")
    assert last["seconds"] >= 0
    assert "no end" in ran.text


def test_output_is_told_while_the_cell_runs(tmp_path: Path) -> None:
    process = start(write(tmp_path, "print('first')\nimport time; time.sleep(60)"))
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        process.kill()
    assert lines[1] == "first\n"
    assert json.loads(lines[2].removeprefix("::cell "))["text"] == "first\n"


def test_a_cell_that_prints_without_end_is_told_and_kept_in_part(tmp_path: Path) -> None:
    ran = Ran(write(tmp_path, "for _ in range(30000): print('x' * 99)", "print('y' * 9000)"))
    assert ran.text.count("x") == 30000 * 99
    told = [event for event in ran.events if event["kind"] == "output" and event["id"] == "c0"]
    assert len(told) < 100
    assert all(len(event["text"]) <= 4096 for event in ran.events if "text" in event)
    first, last = ran.notebook.cells[0].outputs
    assert len(first.text) == 1 << 20
    assert last.text == f"\n… {3_000_000 - (1 << 20)} characters left out …\n"


# The kept notebook


def test_a_notebook_that_is_asked_to_end_keeps_what_had_run(tmp_path: Path) -> None:
    for kernel in (False, True):
        path = write(
            tmp_path,
            "print('one')",
            "import time\nprint('two', flush=True)\ntime.sleep(60)",
            "3",
            jobkit={"kernel": kernel},
        )
        process = start(path)
        with process:
            assert process.stdout is not None
            while process.stdout.readline() != "two\n":
                pass
            process.send_signal(signal.SIGTERM)
            process.stdout.read()
        assert process.returncode == -signal.SIGTERM
        kept = nbformat.read(tmp_path / "artifacts" / "note.ipynb", as_version=4)
        nbformat.validate(kept)
        assert kept.cells[0].outputs[0].text == "one\n"
        assert kept.cells[1].outputs[0].text.startswith("two")
        assert kept.cells[1].metadata.tags == ["jobkit.failed"]
        assert kept.cells[2].execution_count is None
        (tmp_path / "artifacts" / "note.ipynb").unlink()


def test_a_cell_that_awaits_is_interrupted_too(tmp_path: Path) -> None:
    process = start(write(tmp_path, "import asyncio\nprint('up')\nawait asyncio.sleep(60)"))
    with process:
        assert process.stdout is not None
        while process.stdout.readline() != "up\n":
            pass
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
    assert process.returncode == -signal.SIGTERM
    kept = nbformat.read(tmp_path / "artifacts" / "note.ipynb", as_version=4)
    assert kept.cells[0].outputs[-1].ename == "Ended"


def test_a_process_that_is_killed_leaves_the_cells_before(tmp_path: Path) -> None:
    ran = Ran(write(tmp_path, "print('kept')", "import os\nos.kill(os.getpid(), 9)"))
    assert ran.code == -9
    assert ran.notebook.cells[0].outputs[0].text == "kept\n"


def test_marks_and_outputs_of_an_earlier_execution_are_gone(tmp_path: Path) -> None:
    old = cell("print('new')", "jobkit.failed", "mine")
    old["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["old\n"]}]
    again = Ran(write(tmp_path, old, cell("1", "skip") | {"execution_count": 9})).notebook
    assert again.cells[0].outputs[0].text == "new\n"
    assert again.cells[0].metadata.tags == ["mine"]
    assert again.cells[1].execution_count is None


def test_notebooks_of_older_formats_run_too(tmp_path: Path) -> None:
    old = nbformat.v3.new_notebook(
        worksheets=[nbformat.v3.new_worksheet(cells=[nbformat.v3.new_code_cell("print('three')")])]
    )
    path = tmp_path / "note.ipynb"
    path.write_text(nbformat.v3.writes_json(old))
    assert Ran(path).text == "three\n"


@pytest.mark.parametrize("text", ["", "{}", "[]", "not json"])
def test_what_is_no_notebook_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "note.ipynb"
    path.write_text(text)
    ran = Ran(path)
    assert (ran.code, ran.errors) == (
        1,
        "note.ipynb is not a notebook: it must be JSON with `nbformat`.\n",
    )


def test_a_notebook_imports_what_lies_beside_it_and_sees_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "notebook.py").write_text("answer = 42")
    ran = Ran(write(tmp_path, "import notebook, sys\nprint(notebook.answer, sys.argv[1:])"), "--x")
    assert ran.text == "42 ['--x']\n"


def test_threads_may_print(tmp_path: Path) -> None:
    ran = Ran(
        write(
            tmp_path,
            "import threading\nthreads = [threading.Thread(target=print, args=('t',)) "
            "for _ in range(20)]\nfor t in threads: t.start()\nfor t in threads: t.join()",
        )
    )
    assert ran.text.count("t") == 20
    assert ran.notebook.cells[0].outputs[0].text.count("t") == 20


# By a kernel


def test_a_kernel_runs_a_notebook_that_asks_for_it(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        cell("n = 1", "parameters"),
        "print('by', get_ipython().__class__.__name__, n)",
        "n + 1",
        "1 / 0",
        "print('never')",
        jobkit={"kernel": True},
    )
    ran = Ran(path, n=5)
    cells = ran.notebook.cells
    assert ran.code == 1
    assert cells[2].outputs[0].text == "by ZMQInteractiveShell 5\n"
    assert cells[3].outputs[0].data["text/plain"] == "6"
    assert cells[4].metadata.tags == ["jobkit.failed"]
    assert cells[5].execution_count is None
    assert "ZeroDivisionError" in ran.errors
    assert [event[1] for event in ran.told("end")] == [True, True, True, True, False]
    assert ("c2", "result", "6") in ran.told("output")


def test_a_kernel_that_is_killed_is_told_at_once_and_the_notebook_kept(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "print('before')",
        "import os, time\nprint('dying', time.time(), flush=True)\ntime.sleep(.3)\n"
        "os.kill(os.getpid(), 9)",
        "print('never')",
        jobkit={"kernel": True},
    )
    ran = Ran(path)
    ended = time.time()
    assert ran.code == 137
    assert ran.errors.splitlines()[-1] == "the kernel was killed, probably out of memory"
    died_at = float(re.findall(r"^dying (\S+)$", ran.text, re.MULTILINE)[0]) + 0.3
    assert ended - died_at < 5
    cells = ran.notebook.cells
    assert cells[0].outputs[0].text == "before\n"
    assert cells[1].metadata.tags == ["jobkit.failed"]
    assert cells[2].execution_count is None


def test_a_kernel_that_is_missing_is_named(tmp_path: Path) -> None:
    spec = {"name": "ir", "language": "R", "display_name": "R"}
    ran = Ran(write(tmp_path, "1", kernelspec=spec))
    assert (ran.code, ran.errors.splitlines()[-1][:28]) == (1, "There is no kernel 'ir' here")
    ran = Ran(write(tmp_path, "1", kernelspec=spec), n=1)
    assert "written in r, and parameters can be put into Python ones only" in ran.errors


# How it starts


def test_a_notebook_may_be_forked_and_what_it_preloads_starts_no_thread(tmp_path: Path) -> None:
    command = launch(write(tmp_path, "1"))
    assert command.warm is not None
    code = (
        "import importlib, os, sys\n"
        f"for name in {command.warm.preload!r}: importlib.import_module(name)\n"
        "heavy = {'polars', 'numpy', 'zmq', 'nbformat'} & set(sys.modules)\n"
        "print(len(os.listdir('/proc/self/task')), heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "1 set()\n"


def test_a_worker_without_jupyter_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "1")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(CannotStart, match=r"pip install 'jobkit\[notebook\]'"):
        launch(path)


def test_an_interpreter_without_ipython_uses_a_kernel_or_says_what_to_install(
    tmp_path: Path,
) -> None:
    path = write(tmp_path, "1")
    runner = launch(path).argv[1]
    bare = subprocess.run(
        [sys.executable, "-S", runner, str(path), path.name], capture_output=True, text=True
    )
    assert bare.returncode == 1
    assert "pip install 'jobkit[notebook]'" in bare.stderr


# Ending early, and cells that take too long

ENDED = {"jobkit": {"kernel": True}}


@pytest.mark.parametrize("metadata", [{}, ENDED], ids=["in process", "by a kernel"])
def test_a_notebook_ends_early_and_well(tmp_path: Path, metadata: dict[str, Any]) -> None:
    ran = Ran(
        write(
            tmp_path,
            "import jobkit\nprint('before')",
            "jobkit.stop('nothing  new')\nprint('after')",
            "1 / 0",
            **metadata,
        )
    )
    assert ran.code == 0, ran.errors
    assert "before\n::stop nothing new\n" in ran.text
    assert "after" not in ran.text
    assert ran.told("end") == [("c0", True), ("c1", True)]
    assert "Traceback" not in ran.errors
    assert [len(item["outputs"]) for item in ran.notebook["cells"]] == [1, 1, 0]


@pytest.mark.parametrize("metadata", [{}, ENDED], ids=["in process", "by a kernel"])
@pytest.mark.parametrize(
    "source", ["import time\ntime.sleep(60)", "import asyncio\nawait asyncio.sleep(60)"]
)
def test_a_cell_that_takes_too_long_is_interrupted_and_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, metadata: dict[str, Any], source: str
) -> None:
    monkeypatch.setenv("JOBKIT_CELL_TIMEOUT", "1.5")
    ran = Ran(write(tmp_path, "x = 1", source, "x = 2", **metadata))
    assert ran.code == 124
    assert "cell 2 was interrupted: it took longer than 1.5 s" in ran.errors
    assert ran.told("end") == [("c0", True), ("c1", False)]
    assert ran.notebook["cells"][1]["metadata"]["tags"] == ["jobkit.failed"]


@pytest.mark.parametrize(
    "source",
    [
        (
            "import time\nwhile True:\n    try:\n        time.sleep(60)\n"
            "    except KeyboardInterrupt:\n        print('no')"
        ),
        "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)",
    ],
    ids=["swallows", "ignores"],
)
def test_a_cell_that_goes_on_all_the_same_ends_the_process_and_leaves_its_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("JOBKIT_CELL_TIMEOUT", "1")
    ran = Ran(write(tmp_path, "print('kept')", source, "x = 2"))
    assert ran.code == 124
    assert "cell 2 was interrupted: it took longer than 1 s" in ran.errors
    assert ran.told("end") == [("c0", True), ("c1", False)]
    first, second, _ = ran.notebook["cells"]
    assert first["outputs"][0]["text"] == "kept\n"
    assert second["metadata"]["tags"] == ["jobkit.failed"]
    assert ran.text.count("no\n") in (0, 5)


def test_an_interrupt_that_comes_when_the_limit_has_ended_raises_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    limit = Limit(60, lambda: None)
    try:
        limit.begin()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        limit.end()
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert limit.is_late


@pytest.mark.parametrize("metadata", [{}, ENDED], ids=["in process", "by a kernel"])
def test_a_cell_that_may_raise_ends_the_run_too_and_skipped_cells_are_told(
    tmp_path: Path, metadata: dict[str, Any]
) -> None:
    stop = cell("import jobkit\njobkit.stop('enough')", "raises-exception")
    ran = Ran(write(tmp_path, cell("1 / 0", "skip"), stop, "print('never')", **metadata))
    assert ran.code == 0, ran.errors
    assert "never" not in ran.text
    told = [(event["kind"], event["id"], event.get("text")) for event in ran.events]
    assert told[0] == ("skip", "c0", "1 / 0")
    assert ran.told("end") == [("c1", True)]
