"""Kinds: the command that runs each sort of file, and what the functions of files return."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from jobkit.errors import CannotStart
from jobkit.executors import kinds
from jobkit.executors.kinds import Launch, Task, kind_of
from jobkit.executors.kinds.python import Needs, read_needs, satisfies
from jobkit.executors.kinds.shell import Shell
from jobkit.executors.target import resolve, split_function

OURS = Path(sys.executable)
Make = Callable[..., Task]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a file and return the task that runs it."""

    def write(name: str, text: str, *arguments: str, python: Path = OURS, **params: Any) -> Task:
        path, function = split_function(name)
        (tmp_path / path).write_text(textwrap.dedent(text))
        return Task(resolve(path, [tmp_path]), arguments, params, python, function)

    return write


def launch(task: Task) -> Launch:
    name = task.target.name + (f":{task.function}" if task.function else "")
    return kind_of(name, None, None).launch(task)


def run(task: Task) -> subprocess.CompletedProcess[str]:
    """Run a task as a fresh process, with the folder of its artifacts beside it."""
    artifacts = task.target.root / "artifacts"
    artifacts.mkdir(exist_ok=True)
    command = launch(task)
    told = {"JOBKIT_PARAMS": json.dumps(dict(task.params)), "JOBKIT_ARTIFACTS": str(artifacts)}
    return subprocess.run(
        command.argv,
        env=os.environ | dict(command.env) | told,
        cwd=task.target.cwd,
        capture_output=True,
        text=True,
        timeout=120,
    )


# Which kind


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("a.py", "python"),
        ("A.PY", "python"),
        ("a.py:main", "function"),
        ("a.sh", "shell"),
        ("a.ps1", "shell"),
        ("a.bat", "shell"),
        ("a.ipynb", "notebook"),
        ("a.sql", "sql"),
        ("tool", "program"),
        ("a.rb", "program"),
    ],
)
def test_the_suffix_names_the_kind(path: str, kind: str) -> None:
    assert kind_of(path, None, None).name == kind


def test_a_kind_by_name_wins_over_the_suffix() -> None:
    assert kind_of("a.py", "program", None).name == "program"


def test_a_kind_that_the_worker_does_not_allow_is_refused() -> None:
    assert kind_of("a.py", None, {"python"}).name == "python"
    for name in (None, "program"):
        with pytest.raises(CannotStart, match="JOBKIT_KINDS"):
            kind_of("tool", name, {"python"})


def test_an_unknown_kind_names_those_there_are() -> None:
    with pytest.raises(CannotStart, match=r"no kind 'ruby' here; there are python, shell, .*sql"):
        kind_of("a.py", "ruby", None)


class Ruby:
    name = "ruby"
    suffixes = (".rb",)

    def launch(self, task: Task) -> Launch:
        return Launch(("/usr/bin/ruby", str(task.target.path)))


@pytest.fixture
def entry_points(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[importlib.metadata.EntryPoint]]:
    points: list[importlib.metadata.EntryPoint] = []
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    kinds._outside.cache_clear()
    yield points
    kinds._outside.cache_clear()


def test_a_package_brings_a_kind_of_its_own(
    entry_points: list[importlib.metadata.EntryPoint],
) -> None:
    value = f"{__name__}:Ruby"
    entry_points.append(importlib.metadata.EntryPoint("ruby", value, "jobkit.kinds"))
    assert kind_of("a.rb", None, None).name == "ruby"
    assert kind_of("a", "ruby", {"ruby"}).name == "ruby"
    with pytest.raises(CannotStart, match="JOBKIT_KINDS"):
        kind_of("a.rb", None, {"python"})


def test_a_kind_that_cannot_be_loaded_is_named_and_harms_no_other(
    entry_points: list[importlib.metadata.EntryPoint],
) -> None:
    entry_points.append(importlib.metadata.EntryPoint("bad", "nothing.here:X", "jobkit.kinds"))
    assert kind_of("a.py", None, None).name == "python"
    assert kind_of("tool", None, None).name == "program"
    with pytest.raises(CannotStart, match=r"'bad'.*cannot be loaded"):
        kind_of("a.rb", None, None)


def test_kinds_import_the_standard_library_only() -> None:
    code = (
        "import sys, jobkit.executors.kinds, jobkit.executors.source\n"
        "print([name for name in ('IPython', 'nbformat', 'duckdb', 'polars', 'sqlalchemy',"
        " 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n"


# Python


def test_a_script_runs_by_our_interpreter_and_may_be_forked(make: Make) -> None:
    task = make("a b.py", "", "; rm -rf /", "$(reboot)")
    command = launch(task)
    path = str(task.target.path)
    assert command.argv == (sys.executable, path, "; rm -rf /", "$(reboot)")
    assert command.warm is not None
    assert (str(command.warm.script), command.warm.arguments) == (path, task.arguments)


def test_a_job_may_name_a_venv_or_an_interpreter(make: Make, tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.symlink_to(sys.executable)
    for chosen in (tmp_path / "venv", python):
        command = launch(make("a.py", "", python=chosen))
        assert command.argv[0] == str(python)
        assert command.warm is not None  # by a fork of that one, if it can be had
    with pytest.raises(CannotStart, match="There is no interpreter"):
        launch(make("a.py", "", python=tmp_path / "nothing"))


BLOCK = """\
# /// script
# requires-python = ">=3.8"
# dependencies = [
#   "iniconfig==2.0.0",
#
# ]
# ///
import iniconfig, sys
print(iniconfig.__file__, sys.argv[1:])
"""


def test_a_script_that_names_its_packages_runs_by_uv(make: Make) -> None:
    command = launch(make("a.py", BLOCK, "--x"))
    assert command.argv[1:4] == ("run", "--no-project", "--python")
    assert command.argv[-3] == "--script"
    assert command.argv[-1] == "--x"
    assert command.warm is None


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        ("print(1)", Needs()),
        (BLOCK, Needs(("iniconfig==2.0.0",), ">=3.8")),
        (BLOCK.replace("\n", "\r\n"), Needs(("iniconfig==2.0.0",), ">=3.8")),
        ("# /// script\n# dependencies = []\n# ///\n", Needs()),
        ("# /// script\n# ///\n", Needs()),
        ("# /// other\n# dependencies = ['x']\n# ///\n", Needs()),
        ("# /// script\n# dependencies = ['x']\nprint()\n# ///\n", Needs()),
        (" # /// script\n # dependencies = ['x']\n # ///\n", Needs()),
        ("#!/usr/bin/env python\n# /// script\n# dependencies = ['x']\n# ///", Needs(("x",))),
    ],
)
def test_a_block_is_read_as_pep_723_says(tmp_path: Path, text: str, needs: Needs) -> None:
    (tmp_path / "a.py").write_bytes(text.encode())
    assert read_needs(tmp_path / "a.py") == needs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("# /// script\n# a = \n# ///\n", "not TOML"),
        ("# /// script\n# dependencies = 'x'\n# ///\n", "is wrong"),
        ("# /// script\n# requires-python = 3\n# ///\n", "is wrong"),
        ("# /// script\n# a=1\n# ///\n\n# /// script\n# a=1\n# ///\n", "two blocks"),
    ],
)
def test_a_wrong_block_is_an_error(make: Make, text: str, message: str) -> None:
    with pytest.raises(CannotStart, match=message):
        launch(make("a.py", text))


@pytest.mark.parametrize(
    ("specifier", "answer"),
    [
        (">=3.11", True),
        (">=3.12", False),
        (">=3.8, <4", True),
        ("==3.11.*", True),
        ("==3.11", False),
        ("==3.11.7", True),
        ("!=3.11.*", False),
        ("~=3.10", True),
        ("~=3.11.3", True),
        ("~=3.11.9", False),
        (">3.11.7", False),
        ("<=3.11.7", True),
        ("===3.11.7", True),
        (">=3.12rc1", False),
        ("nonsense", False),
    ],
)
def test_a_version_is_held_against_a_specifier(specifier: str, answer: bool) -> None:
    assert satisfies((3, 11, 7), specifier) is answer


def test_a_version_that_our_interpreter_has_not_is_for_uv_to_find(make: Make) -> None:
    other = '# /// script\n# requires-python = ">=3.99"\n# ///\n'
    assert "--python" not in launch(make("a.py", other)).argv
    assert launch(make("a.py", other)).argv[1] == "run"
    same = '# /// script\n# requires-python = ">=3.11"\n# ///\n'
    assert launch(make("a.py", same)).argv[0] == sys.executable


def test_packages_without_uv_are_an_error_that_says_how(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(CannotStart, match="pip install uv"):
        launch(make("a.py", BLOCK))


uses_uv = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")


@uses_uv
def test_uv_brings_what_a_script_needs(make: Make) -> None:
    done = run(make("a.py", BLOCK, "--x"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("['--x']\n")
    assert str(Path(sys.prefix)) not in done.stdout


@uses_uv
def test_a_script_below_uv_carries_the_cookie_and_hears_the_signal(make: Make) -> None:
    text = BLOCK + (
        "import os, signal, time\n"
        "def bye(*_):\n    print('bye', flush=True)\n    raise SystemExit(7)\n"
        "signal.signal(signal.SIGTERM, bye)\n"
        "print(os.environ['JOBKIT_RUN_ID'], flush=True)\n"
        "time.sleep(60)\n"
    )
    command = launch(make("a.py", text))
    child = subprocess.Popen(
        command.argv,
        env=os.environ | dict(command.env) | {"JOBKIT_RUN_ID": "42"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with child:
        assert child.stdout is not None
        lines = [child.stdout.readline(), child.stdout.readline()]
        assert lines[1] == "42\n"
        child.send_signal(signal.SIGTERM)
        assert child.stdout.read().splitlines()[0] == "bye"
    assert child.returncode == 7


# Shells and programs


def test_a_shell_script_takes_its_arguments_as_text(make: Make) -> None:
    done = run(
        make("a.sh", 'printf "<%s>" "$@"', "a b", "$(id)", "; exit 3", "-c", "@file", "x\ny")
    )
    assert done.stdout == "<a b><$(id)><; exit 3><-c><@file><x\ny>"


def test_a_missing_shell_is_named(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)
    for name, product in (("a.sh", "bash"), ("a.ps1", "PowerShell")):
        with pytest.raises(CannotStart, match=product):
            launch(make(name, ""))


def test_powershell_reads_a_file_and_no_command(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/opt/{name}")
    command = launch(make("a.ps1", "", "-x; evil"))
    assert command.argv[0] == "/opt/pwsh"
    assert command.argv[-3] == "-File"
    assert command.argv[-1] == "-x; evil"


def test_a_batch_file_runs_on_windows_only(make: Make) -> None:
    with pytest.raises(CannotStart, match="Windows only"):
        launch(make("a.cmd", ""))


@pytest.mark.parametrize("char", [*'&|<>^%!"()', "\n", "\r"])
def test_a_batch_file_takes_no_argument_that_cmd_would_read(make: Make, char: str) -> None:
    windows = Shell(platform="win32")
    assert windows.launch(make("a.bat", "", "a b", "c:\\x")).argv[1:] == ("a b", "c:\\x")
    with pytest.raises(CannotStart, match="would not take as text"):
        windows.launch(make("a.bat", "", "fine", f"a{char}b"))


def test_a_program_runs_if_it_is_executable(make: Make) -> None:
    task = make("tool", "#!/bin/sh\necho ran $1\n", "x")
    with pytest.raises(CannotStart, match="chmod"):
        launch(task)
    task.target.path.chmod(0o755)
    assert run(task).stdout == "ran x\n"


# Functions

FUNCTION = """
import sys
print("imported", __name__ == "__main__")

def add(a: int, b: int = 2, *, c=0):
    return {"sum": a + b + c}
"""


def test_a_function_is_called_with_the_parameters_and_returns_json(
    make: Make, tmp_path: Path
) -> None:
    done = run(make("f.py:add", FUNCTION, a=1, c=4))
    assert done.stdout == 'imported False\n::result {"sum": 7}\n'
    assert json.loads((tmp_path / "artifacts" / "result.json").read_text()) == {"sum": 7}
    assert [item.name for item in (tmp_path / "artifacts").iterdir()] == ["result.json"]


@pytest.mark.parametrize(
    ("function", "params", "message"),
    [
        ("nothing", {}, "f.py has no function 'nothing'. It has: add."),
        ("add", {"a": 1, "z": 1}, "add() takes no parameter 'z'. It takes: a, b, c."),
        ("add", {"b": 1}, "add() needs the parameter 'a'."),
    ],
)
def test_what_a_function_does_not_take_is_said(
    make: Make, function: str, params: dict[str, Any], message: str
) -> None:
    done = run(make(f"f.py:{function}", FUNCTION, **params))
    assert done.returncode == 1
    assert done.stderr.startswith(message)
    assert "Traceback" not in done.stderr


def test_a_function_may_take_any_parameter_and_be_asynchronous(make: Make) -> None:
    done = run(make("f.py:f", "async def f(**all):\n    return all\n", x=[1, None, "ä"]))
    assert done.stdout == '::result {"x": [1, null, "ä"]}\n'


def test_no_result_is_no_line(make: Make) -> None:
    assert run(make("f.py:f", "def f(): pass")).stdout == ""


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("object()", "object"),
        ("[float('nan')]", "list"),
        ("__import__('datetime').date(2026, 1, 1)", "datetime.date"),
        ("(i for i in 'ab')", "generator"),
    ],
)
def test_a_result_that_nothing_holds_says_what_to_return(
    make: Make, tmp_path: Path, value: str, kind: str
) -> None:
    done = run(make("f.py:f", f"def f():\n    return {value}"))
    assert done.returncode == 1
    assert f"f() returned a {kind}, which JSON does not hold" in done.stderr
    assert "Return a DataFrame" in done.stderr
    assert not list((tmp_path / "artifacts").iterdir())


def test_a_frame_is_kept_as_parquet(make: Make, tmp_path: Path) -> None:
    text = "import polars\ndef f():\n    return polars.LazyFrame({'a': [1, 2], 'b': ['x', None]})"
    done = run(make("f.py:f", text))
    assert done.stdout.splitlines() == [
        "::metric rows 2",
        '::result {"rows": 2, "columns": ["a", "b"], "file": "result.parquet"}',
    ]
    kept = pl.read_parquet(tmp_path / "artifacts" / "result.parquet")
    assert kept.rows() == [(1, "x"), (2, None)]


def test_a_traceback_shows_only_frames_of_the_user(make: Make) -> None:
    done = run(make("f.py:f", "def g():\n    1 / 0\ndef f():\n    g()\n"))
    assert done.returncode == 1
    assert done.stderr.count("  File ") == 2
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "runners" not in done.stderr
    broken = run(make("f.py:f", "import nothing_of_that_name"))
    assert broken.stderr.count("  File ") == 1


def test_an_exit_code_of_a_function_is_kept(make: Make) -> None:
    assert run(make("f.py:f", "import sys\ndef f():\n    sys.exit(5)")).returncode == 5


def test_a_function_finds_modules_beside_it_and_none_of_ours(make: Make, tmp_path: Path) -> None:
    (tmp_path / "sql.py").write_text("answer = 42")
    assert run(make("f.py:f", "import sql\ndef f():\n    return sql.answer")).stdout == (
        "::result 42\n"
    )


@uses_uv
def test_a_function_gets_the_packages_that_its_file_names(make: Make) -> None:
    text = BLOCK.split("import")[0] + "import iniconfig\ndef f():\n    return iniconfig.__name__\n"
    done = run(make("f.py:f", text))
    assert done.stdout == '::result "iniconfig"\n', done.stderr
