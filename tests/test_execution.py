"""What a job says of its execution, and what a worker's own settings make of it: real scripts."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from jobkit.errors import BadInput
from jobkit.handles import Attempt, Run
from jobkit.kit import Kit
from jobkit.models import SQLModel, output
from jobkit.settings import load
from jobkit.worker import Worker


def worker(kit: Kit, **settings: Any) -> Worker:
    chosen = load(db_url=kit.settings.db_url, **settings)
    return Worker(kit.database, chosen, until_idle=True)


def execute(
    kit: Kit, target: str, *args: str, settings: dict[str, Any] | None = None, **given: Any
) -> tuple[Run, Attempt]:
    """Run a job once, as a worker with these settings does."""
    kit.add_job("job", target, *args, **{"retries": 0, **given})
    run = kit.submit("job")
    worker(kit, **(settings or {})).run()
    run = run.refresh()
    return run, run.attempts()[-1]


def write(workplace: Path, name: str, text: str) -> str:
    path = workplace / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return name


def test_facts_of_any_program_become_progress_metrics_and_the_result(
    kit: Kit, workplace: Path
) -> None:
    script = write(
        workplace,
        "load.sh",
        "echo '::progress 0.25 the north'\necho '::metric rows 1200'\n"
        "echo '::result {\"ok\": true}'\nsleep 0.4\n",
    )
    run, attempt = execute(kit, script)
    assert (run.status, run.progress, run.progress_text) == ("COMPLETED", 0.25, "the north")
    assert (attempt.metrics, attempt.result) == ({"rows": 1200}, {"ok": True})
    assert run.output().text.count("::") == 3


def test_variables_working_folder_and_niceness_are_the_jobs(kit: Kit, workplace: Path) -> None:
    (workplace / "below").mkdir()
    script = write(
        workplace, "show.py", "import os; print(os.getcwd(), os.environ['MINE'], os.nice(0))"
    )
    run, _ = execute(kit, script, cwd="below", env_vars={"MINE": "a b"}, nice=7)
    assert run.output().text == f"{workplace / 'below'} a b {os.nice(0) + 7}\n"


def test_a_secret_is_a_file_and_its_value_is_nowhere_in_the_database(
    kit: Kit, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBKIT_SECRET_TOKEN", "s3cret/ value")
    monkeypatch.setenv("PASSWORD", "open-sesame")
    script = write(
        workplace,
        "spill.py",
        "import os, base64, urllib.parse, json\n"
        "value = open(os.environ['JOBKIT_SECRETS'] + '/TOKEN').read()\n"
        "print(value, urllib.parse.quote(value), json.dumps(value))\n"
        "print(base64.b64encode(b'x' + value.encode()).decode())\n"
        "for letter in value:\n    print(letter, end='', flush=True)\n"
        "print()\n"
        "print(sorted(n for n in os.environ if 'TOKEN' in n), os.environ.get('PASSWORD'))\n"
        "print(oct(os.stat(os.environ['JOBKIT_SECRETS'] + '/TOKEN').st_mode))\n"
        "print('::result ' + json.dumps({'token': value}))\n",
    )
    run, attempt = execute(kit, script, secrets=["TOKEN", "env:PASSWORD"])
    assert run.status == "COMPLETED", run.output().text
    text = run.output().text
    assert '*** *** "***"\n' in text
    assert "[] ***\n" in text
    assert f"{oct(stat.S_IFREG | 0o600)}\n" in text
    assert attempt.result == {"token": "***"}
    assert attempt.provenance is not None
    with kit.database.read() as connection:
        for table in SQLModel.metadata.sorted_tables:
            for row in connection.execute(sa.select(table)):
                assert "s3cret" not in str(row)
                assert "open-sesame" not in str(row)


def test_a_secret_that_is_not_there_is_an_error_that_names_it(kit: Kit, workplace: Path) -> None:
    run, attempt = execute(kit, write(workplace, "a.py", ""), secrets=["NOWHERE"])
    assert (run.status, attempt.status) == ("FAILED", "ERROR")
    assert "The secret NOWHERE was not found" in str(attempt.error_message)


def test_an_attempt_over_its_memory_limit_ends_with_the_numbers(kit: Kit, workplace: Path) -> None:
    script = write(
        workplace, "big.py", "import time; held = bytearray(200_000_000); time.sleep(60)"
    )
    _, attempt = execute(kit, script, memory="100MB")
    assert attempt.status == "FAILURE"
    assert "more than its limit of 100.0 MB" in str(attempt.error_message)


@pytest.mark.parametrize(
    ("given", "settings", "says"),
    [
        ({}, {"kinds": ("shell",)}, "of the kind 'python', which this worker does not run"),
        ({"kind": "parrot"}, {}, "There is no kind 'parrot'"),
        ({"python": "/usr/bin/env"}, {}, "which this worker does not allow"),
        ({"cwd": "../.."}, {}, "lies outside the script roots"),
        ({"cwd": "nowhere"}, {}, "does not exist"),
    ],
)
def test_what_the_workers_own_settings_do_not_allow_is_not_run(
    kit: Kit, workplace: Path, given: dict[str, Any], settings: dict[str, Any], says: str
) -> None:
    script = write(workplace, "ran.py", "open('ran', 'w')")
    run, attempt = execute(kit, script, settings=settings, **given)
    assert (run.status, attempt.status) == ("FAILED", "ERROR")
    assert says in str(attempt.error_message)
    assert not (workplace / "ran").exists()


def test_an_interpreter_that_is_allowed_runs_the_script(kit: Kit, workplace: Path) -> None:
    script = write(workplace, "who.py", "import sys; print(sys.executable)")
    venv = workplace / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    run, attempt = execute(kit, script, python="venv", settings={"interpreters": (str(venv),)})
    assert run.output().text == f"{venv}/bin/python\n"
    assert attempt.provenance is not None
    assert attempt.provenance["isolation"] == "fresh"


def test_only_allowed_variables_reach_a_script(
    kit: Kit, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_A", "1")
    monkeypatch.setenv("OTHER", "2")
    monkeypatch.setenv("JOBKIT_TOKEN", "of the portal")
    script = write(workplace, "env.py", "import os, json; print(json.dumps(dict(os.environ)))")
    run, _ = execute(kit, script, settings={"env_allow": ("PATH", "TEAM_*")})
    seen = json.loads(run.output().text)
    told = {name for name in seen if name.startswith("JOBKIT_")}
    # Python itself sets LC_CTYPE where no locale is given.
    assert set(seen) - told - {"LC_CTYPE"} == {"PATH", "TEAM_A", "PYTHONUNBUFFERED"}
    assert not {"JOBKIT_DB_URL", "JOBKIT_TOKEN", "JOBKIT_SPOOL_DIR"} & told


def test_a_job_that_carries_its_text_needs_no_file(kit: Kit, workplace: Path) -> None:
    kit.add_job("job", "hello.py", source="print('from', __name__, 6 * 7)\n")
    run = kit.submit("job")
    kit.edit("job", source="print('edited')\n")
    later = kit.submit("job")
    worker(kit).run()
    assert run.output().text == "from __main__ 42\n"
    assert later.output().text == "edited\n"
    assert (workplace / "hello.py").read_text("utf-8") == "print('hello')\n"


def test_what_a_script_leaves_is_kept_and_its_folder_is_gone(kit: Kit, workplace: Path) -> None:
    script = write(
        workplace,
        "leave.py",
        "import os\nplace = os.environ['JOBKIT_ARTIFACTS']\nprint(place)\n"
        "open(place + '/report.csv', 'w').write('a,b\\n1,2\\n')\nraise SystemExit(3)\n",
    )
    run, attempt = execute(kit, script)
    (left,) = run.artifacts()
    assert (attempt.status, left.name, left.text()) == ("FAILURE", "report.csv", "a,b\n1,2\n")
    assert not Path(run.output().text.strip()).parent.exists()


def test_a_script_that_is_deleted_or_edited_while_it_runs_ends_as_it_began(
    kit: Kit, workplace: Path
) -> None:
    text = (
        "import os, time\nopen(__file__ + '.on', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.01)\nprint('old')\n"
    )
    (workplace / "edited.py").write_text(text, "utf-8")
    (workplace / "deleted.py").write_text(text, "utf-8")
    made = [kit.add_job(name, f"{name}.py").submit() for name in ("edited", "deleted")]
    working = threading.Thread(target=worker(kit).run)
    working.start()
    while len(list(workplace.glob("*.py.on"))) < 2:
        time.sleep(0.02)
    (workplace / "edited.py").write_text("print('new')\n", "utf-8")
    (workplace / "deleted.py").unlink()
    (workplace / "go").touch()
    working.join(60)
    assert [run.refresh().output().text for run in made] == ["old\n", "old\n"]


def test_output_reaches_the_database_within_a_moment(kit: Kit, workplace: Path) -> None:
    write(
        workplace,
        "slow.py",
        "import os, time\nprint('first')\nwhile not os.path.exists('go'): time.sleep(0.01)\n",
    )
    run = kit.add_job("slow", "slow.py").submit()
    working = threading.Thread(target=worker(kit).run)
    working.start()
    until = time.monotonic() + 60
    while not run.refresh().output(1).text:
        assert time.monotonic() < until
        time.sleep(0.02)
    assert run.refresh().status == "IN_PROGRESS"
    (workplace / "go").touch()
    working.join(60)
    with kit.database.read() as connection:
        assert set(connection.scalars(sa.select(output.c.stream))) == {"output"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kind": "Parrot!"}, "names no kind"),
        ({"memory": "12 apples"}, "is not a size"),
        ({"memory": 12}, "less than 1 MB"),
        ({"nice": -5}, "out of bounds"),
        ({"env_vars": {"JOBKIT_DB_URL": "x"}}, "cannot name a variable"),
        ({"secrets": ["pass word"]}, "names no secret"),
        ({"isolation": "total"}, "is not known"),
        ({"tags": ["two words"]}, "is no tag"),
        ({"source": " "}, "is empty"),
        ({"source": "x\x00"}, "holds a NUL"),
    ],
)
def test_bad_words_about_execution_name_the_value_and_write_nothing(
    kit: Kit, given: dict[str, Any], says: str
) -> None:
    with pytest.raises(BadInput, match=says):
        kit.add_job("job", "hello.py", **given)
    assert list(kit.jobs) == []


@pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="needs a process namespace: root on Linux"
)
def test_a_worker_that_is_process_1_leaves_nothing_and_no_zombie(
    sqlite_database: str, workplace: Path
) -> None:
    write(
        workplace,
        "daemon.sh",
        "setsid sh -c 'sleep 300 & exec sleep 300' & \nsleep 0.2\n"
        "exec python3 -c 'print(open(\"/proc/1/comm\").read())'\n",
    )
    import jobkit

    with jobkit.connect(sqlite_database) as kit:
        run = kit.add_job("daemon", "daemon.sh", retries=0).submit()
        started = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child",
             sys.executable, "-m", "jobkit", "worker"],
            env=os.environ | {"JOBKIT_DB_URL": sqlite_database},
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            ended = run.wait(90)
            assert ended.attempts()[0].status == "SUCCESS"
            inside = _below(started.pid)
            names = {Path(f"/proc/{pid}/comm").read_text().strip() for pid in inside}
            assert "sleep" not in names
            assert not any(" Z " in Path(f"/proc/{pid}/stat").read_text() for pid in inside)
        finally:
            os.kill(_below(started.pid)[0], signal.SIGTERM)
            started.wait(60)


def _below(pid: int) -> list[int]:
    found: list[int] = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *_below(int(child))]
    return found
