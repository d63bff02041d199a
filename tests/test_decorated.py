"""`@jobkit.job` on functions: tested here, deployed as often as one likes, run by real workers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import textwrap
import types
import zipfile
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
from pathlib import Path

import pytest

import jobkit
from jobkit import cli
from jobkit.kit import Kit

Write = Callable[..., types.ModuleType]
FILE = """
import datetime
import enum
import jobkit

class Region(enum.Enum):
    EU = "eu"
    US = "us"

RATE = 2

def scaled(n):
    return n * RATE

@jobkit.job("0 6 * * 1-5", tz="Europe/Paris", retries=3, timeout="10m", tags=["sales"], queue="gpu")
def refresh(region: Region = Region.EU, day: datetime.date = datetime.date(2026, 1, 1), n: int = 2):
    '''Refresh the figures.

    :param n: how many
    '''
    print("refreshing", region.name, day.isoformat())
    return {"n": scaled(n), "region": region.value, "weekday": day.strftime("%a")}

@jobkit.job
def by_hand(name: str):
    return [name, scaled(1)]

@jobkit.job(every="15m", name="async one")
async def later(fail: bool = False):
    if fail:
        raise ValueError("as asked")
    return by_hand("x")
"""


@pytest.fixture
def write(workplace: Path) -> Iterator[Write]:
    made: list[str] = []

    def module(source: str = FILE, name: str = "definitions_of_sales") -> types.ModuleType:
        path = workplace / f"{name}.py"
        path.write_text(textwrap.dedent(source), "utf-8")
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[name] = loaded
        made.append(name)
        spec.loader.exec_module(loaded)
        return loaded

    yield module
    for name in made:
        sys.modules.pop(name, None)


def work(kit: Kit, queues: str = "default,gpu") -> None:
    """Run a real worker until it has nothing left to do."""
    command = [sys.executable, "-m", "jobkit.worker", "--queues", queues]
    url = kit.database.url.render_as_string(hide_password=False)
    environment = {**os.environ, "JOBKIT_DB_URL": url}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    try:
        for run in kit.runs(limit=100):
            try:
                run.wait(60)
            except jobkit.JobFailed:
                continue
    finally:
        process.terminate()
        process.wait(20)


def test_the_function_stays_a_function(write: Write) -> None:
    module = write()
    assert module.refresh(module.Region.US, n=4)["n"] == 8
    assert module.refresh.__name__ == "refresh"
    assert "Refresh the figures" in module.refresh.__doc__


def test_a_test_runs_the_script_as_a_worker_would(
    write: Write, capfd: pytest.CaptureFixture[str]
) -> None:
    module = write()
    found = module.refresh.test(region=module.Region.US, day=date(2026, 3, 2), n=5)
    assert found == {"n": 10, "region": "us", "weekday": "Mon"}
    assert "refreshing US 2026-03-02" in capfd.readouterr().out
    assert module.later.test() == ["x", 2]


def test_a_test_that_fails_has_the_traceback_of_its_process(write: Write) -> None:
    with pytest.raises(jobkit.JobFailed, match="ValueError: as asked") as caught:
        write().later.test(fail=True)
    assert "in later\n    raise ValueError" in caught.value.output
    assert caught.value.message == "The test of async one ended with exit code 1."


def test_a_test_ends_at_its_timeout(write: Write) -> None:
    source = (
        'import jobkit\n@jobkit.job(timeout="1s")\ndef slow():\n    import time\n    time.sleep(60)'
    )
    with pytest.raises(jobkit.JobFailed, match="took longer than its timeout"):
        write(source).slow.test()


def test_a_result_may_be_a_table(write: Write) -> None:
    source = """
        import jobkit
        @jobkit.job(dependencies=[])
        def table(rows: int = 3):
            import polars
            return polars.DataFrame({"a": list(range(rows))})
        """
    assert write(source).table.test(rows=2)["a"].to_list() == [0, 1]


def wheel(folder: Path) -> Path:
    """Write a package that no index has."""
    made = folder / "greetings_of_ours-1.0-py3-none-any.whl"
    about = "greetings_of_ours-1.0.dist-info"
    files = {
        "greetings_of_ours.py": "def hello(name):\n    return f'hello {name}'\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: greetings-of-ours\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in (*files, f"{about}/RECORD"))
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made


uses_uv = pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")


@uses_uv
def test_what_a_function_needs_comes_by_uv_in_a_test_and_from_a_worker(
    write: Write, kit: Kit, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    needed = f"greetings-of-ours @ {wheel(workplace).as_uri()}"
    source = f"""
        import importlib.util, sys
        import jobkit
        @jobkit.job(dependencies=[{needed!r}], retries=0)
        def greet(name: str = "you"):
            import greetings_of_ours
            if not name:
                raise ValueError("nobody to greet")
            ours = importlib.util.find_spec("jobkit") is not None
            return [greetings_of_ours.hello(name), sys.prefix, ours]
        """
    greet = write(source).greet
    said, prefix, has_jobkit = greet.test(name="you")
    assert (said, has_jobkit) == ("hello you", False)
    assert Path(prefix) != Path(sys.prefix)
    with pytest.raises(jobkit.JobFailed, match="ValueError: nobody to greet"):
        greet.test(name="")
    greet.deploy(kit)
    good, failed = greet.submit(name="all"), greet.submit(name="")
    work(kit)
    assert good.refresh().result()[0] == "hello all"
    assert failed.refresh().status == "FAILED"
    assert 'raise ValueError("nobody to greet")' in failed.output().text


@uses_uv
def test_the_versions_that_are_installed_here_are_there_as_well(write: Write) -> None:
    source = """
        import sys
        import iniconfig
        import jobkit
        @jobkit.job
        def parse(text: str = "[a]\\nb=1"):
            return [iniconfig.IniConfig("x.ini", text)["a"]["b"], iniconfig.__file__]
        """
    parse = write(source).parse
    assert f"iniconfig=={version('iniconfig')}" in parse.source
    value, path = parse.test()
    assert value == "1"
    assert not Path(path).is_relative_to(sys.prefix)


def test_deploying_twice_makes_no_version(
    write: Write, kit: Kit, capsys: pytest.CaptureFixture[str]
) -> None:
    refresh = write().refresh
    assert refresh.deploy(kit).what == "created"
    again = refresh.deploy()
    assert (again.what, again.job.version, again.diff) == ("unchanged", 1, "")
    assert write().refresh.deploy(kit).what == "unchanged"
    assert len(kit.versions("refresh")) == 1
    assert capsys.readouterr().out.splitlines() == [
        "refresh: created, version 1",
        "refresh: unchanged, version 1",
        "refresh: unchanged, version 1",
    ]
    job = kit.job("refresh")
    assert (job.kind, job.timezone, job.max_retries) == ("python", "Europe/Paris", 3)
    assert job.tags == ["sales"]
    assert (job.defined_in, job.queue) == ("definitions_of_sales.py", "gpu")
    assert [entry["name"] for entry in job.signature] == ["region", "day", "n"]


def test_deploying_shows_what_changes_and_takes_back_what_is_gone(write: Write, kit: Kit) -> None:
    write().refresh.deploy(kit)
    kit.pause("refresh")
    source = FILE.replace("RATE = 2", "RATE = 3").replace("retries=3, ", "").replace("0 6", "0 7")
    done = write(source).refresh.deploy(kit)
    assert done.what == "changed"
    assert "-RATE = 2\n+RATE = 3" in done.diff
    assert "cron: '0 6 * * 1-5' -> '0 7 * * 1-5'" in done.diff
    default = kit.settings.max_retry_attempts
    assert default == done.job.max_retries
    assert not done.job.is_active
    assert repr(done) == "<Deployment of refresh: changed, version 3>"


def test_an_interval_keeps_its_anchor(write: Write, kit: Kit) -> None:
    write().later.deploy(kit)
    before = kit.job("async one").next(1)
    assert write().later.deploy(kit).what == "unchanged"
    assert write(FILE.replace("RATE = 2", "RATE = 4")).later.deploy(kit).what == "changed"
    assert kit.job("async one").next(1) == before


def test_workers_run_what_is_deployed(write: Write, kit: Kit) -> None:
    module = write()
    for definition in (module.refresh, module.by_hand, module.later):
        definition.deploy(kit)
    made = module.refresh.submit(region="us", day=date(2026, 3, 3))
    other = module.by_hand.submit(name="0012")
    failed = module.later.submit(fail=True)
    kit.edit("async one", retries=0)
    failed.cancel()
    failed = module.later.submit(fail=True)
    work(kit)
    assert made.refresh().result() == {"n": 4, "region": "us", "weekday": "Tue"}
    assert other.refresh().result() == ["0012", 2]
    assert failed.refresh().status == "FAILED"
    assert "ValueError: as asked" in failed.output().text


def test_what_is_submitted_is_checked(write: Write, kit: Kit) -> None:
    by_hand = write().by_hand
    by_hand._kit = kit
    with pytest.raises(jobkit.BadInput, match=r"by_hand is not deployed to .*by_hand.deploy\(\)"):
        by_hand.submit(name="x")
    by_hand.deploy(kit)
    for given, said in (
        ({}, "The parameter 'name' is missing: a text"),
        ({"name": 3}, "name=3 is not a text"),
        ({"name": "x", "nam": 1}, "no parameter 'nam'; did you mean 'name'"),
    ):
        with pytest.raises(jobkit.BadInput, match=said):
            kit.submit("by_hand", **given)
        with pytest.raises(jobkit.BadInput, match=said):
            kit.submit_many("by_hand", [given])
    assert len(kit.runs()) == 0


def test_a_schedule_needs_all_that_is_required(write: Write, kit: Kit) -> None:
    source = "import jobkit\n@jobkit.job(daily='06:00'{})\ndef report(day: str): return day"
    with pytest.raises(jobkit.BadInput, match="The parameter 'day' is missing"):
        write(source.format("")).report.deploy(kit)
    assert len(kit.jobs) == 0
    write(source.format(", params={'day': 'monday'}")).report.deploy(kit)
    with pytest.raises(jobkit.BadInput, match="day=3 is not a text"):
        kit.edit("report", params={"day": 3})


def test_a_retry_is_checked_against_the_signature_of_now(write: Write, kit: Kit) -> None:
    by_hand = write().by_hand
    by_hand.deploy(kit)
    run = by_hand.submit(name="x")
    run.cancel()
    write(FILE.replace("by_hand(name: str)", "by_hand(name: int)")).by_hand.deploy(kit)
    with pytest.raises(jobkit.BadInput, match="name='x' is not a whole number"):
        kit.retry(run.id)


def test_a_signature_can_be_given_by_hand(kit: Kit) -> None:
    job = kit.add_job(
        "hello", "hello.py", signature=[{"name": "n", "type": "int", "required": True}]
    )
    assert job.signature[0]["name"] == "n"
    with pytest.raises(jobkit.BadInput, match="'n' is missing"):
        job.submit()
    with pytest.raises(jobkit.BadInput, match="describes no parameter"):
        kit.add_job("other", "hello.py", signature=[{"name": "n", "type": "number"}])


WRONG = {
    "a bad cron": ("('61 * * * *')", "61"),
    "an unknown zone": ("('* * * * *', tz='Mars/Olympus')", "Mars"),
    "an unknown keyword": ("(retry=3)", "no 'retry'"),
    "two schedules": ("('* * * * *', every='1h')", "one schedule"),
    "the schedule twice": ("('* * * * *', cron='1 * * * *')", "given twice"),
    "a number as a schedule": ("(15)", "15 is no cron"),
    "its source": ("(source='x')", "function says itself"),
    "a parameter of the wrong type": ("(params={'n': 'x'})", "n='x' is not a whole number"),
}


@pytest.mark.parametrize(("call", "said"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_where_it_is_written(write: Write, call: str, said: str) -> None:
    with pytest.raises(jobkit.BadInput, match=said):
        write(f"import jobkit\n@jobkit.job{call}\ndef job(n: int = 1): ...")


def test_nothing_is_written_of_what_cannot_travel(write: Write, kit: Kit) -> None:
    source = """
        import jobkit, threading
        lock = threading.Lock()
        @jobkit.job
        def job(df: threading.Thread): return lock
        """
    definition = write(source).job
    with pytest.raises(jobkit.CannotTravel) as caught:
        definition.deploy(kit)
    assert [item.name for item in caught.value.refusals] == ["df", "lock"]
    assert len(kit.jobs) == 0
    assert "cannot travel: lock (_thread.lock), read by job" in repr(definition)


def test_it_says_what_it_is(write: Write, kit: Kit) -> None:
    import html5lib

    refresh = write().refresh
    assert "deployed: not deployed" in repr(refresh)
    refresh.deploy(kit)
    said = repr(refresh)
    assert said.startswith("<job refresh>\n  schedule: ")
    assert 'parameters: region: str = "eu", day: date = "2026-01-01", n: int = 2' in said
    assert "deployed: version 1" in said
    shown = refresh._repr_html_()
    html5lib.HTMLParser(strict=True).parseFragment(shown)
    assert len(shown) < 20_000
    assert len(refresh.next(5)) == 5
    assert refresh.pause().is_active is False
    assert refresh.resume().is_active is True
    assert refresh.history().height == 0
    filled = refresh.backfill("2026-03-02", "2026-03-04", dry_run=True)
    assert [slot.day for slot in filled.slots] == [2, 3]


def test_the_command_line_reads_parameters_by_the_signature(
    write: Write, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    write().by_hand.deploy(kit)
    url = kit.database.url.render_as_string(hide_password=False)
    monkeypatch.setenv("JOBKIT_DB_URL", url)

    def code(*arguments: str) -> object:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        return ended.value.code

    assert code("run", "by_hand", "--param", "name=0012") == 0
    assert kit.runs()[0].params == {"name": "0012"}
    assert code("run", "by_hand", "--param", "nam=1") == 2
    assert len(kit.runs()) == 1


def test_a_bare_import_loads_none_of_it() -> None:
    unwanted = {"jobkit.decorated", "jobkit.capture", "jobkit.kit", "polars", "IPython"}
    code = f"import sys, jobkit; print(sorted({unwanted} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
