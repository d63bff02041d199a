"""A forked interpreter runs a script as a fresh one does, and falls back without a word."""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobkit.executors.link import Breed
from jobkit.executors.nursery import Nursery
from jobkit.executors.process import Child, Command, Outcome, child_environment, inheritable
from tests.test_executors import is_gone, until

HOUR = timedelta(hours=1)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks interpreters")
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def nursery() -> Iterator[Nursery]:
    opened = Nursery(inheritable(os.environ))
    yield opened
    opened.close()


class Started:
    """A script that runs, forked or fresh."""

    def __init__(
        self,
        nursery: Nursery,
        script: Path,
        *arguments: str,
        warm: bool = True,
        variables: dict[str, str] | None = None,
        memory: int | None = None,
        timeout: timedelta = HOUR,
        modules: tuple[str, ...] = (),
        python: str = sys.executable,
    ) -> None:
        environment = child_environment(
            inheritable(os.environ), run_id=next(numbers), attempt=1, scheduled_for=None,
            worker_id="w1", params={},
        )  # fmt: skip
        self.printed: list[str] = []
        argv = [str(script), *arguments]
        self.link = nursery.take(python, modules)
        self.child = Child(
            Command(
                [python, *argv],
                script.parent,
                environment | (variables or {}),
                warm=tuple(argv) if warm else None,
                memory_limit=memory,
            ),
            timeout=timeout,
            grace=timedelta(seconds=1),
            lease_for=HOUR,
            on_output=lambda text, _stream: self.printed.append(text),
            link=self.link,
        )
        self._nursery = nursery
        self._outcome: Outcome | None = None
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        self._outcome = self.child.wait()
        self.printed += [text for text, _ in self._outcome.rest]
        self._nursery.give_back(self.link)

    @property
    def text(self) -> str:
        return "".join(self.printed)

    def ended(self) -> Outcome:
        self._thread.join(60)
        assert self._outcome is not None
        return self._outcome


def run(nursery: Nursery, script: Path, *arguments: str, **more: object) -> tuple[object, ...]:
    started = Started(nursery, script, *arguments, **more)  # type: ignore[arg-type]
    ended = started.ended()
    return ended.ended_by, ended.exit_code, ended.signal, started.text


IS_WARM = "import sys; print('argparse' in sys.modules)"

SCRIPTS = {
    "main and arguments": """
import sys
print(__name__, __file__, __doc__, __package__, __spec__, type(__loader__).__name__, __cached__)
print(sorted(name for name in dir()), __builtins__.__name__)
print(sys.argv, sys.orig_argv[1:], sys.executable, sys.stdin.read() == "")
""",
    "path": "import sys; print(sys.path)",
    "beside it": "import neighbour; print(neighbour.__name__, neighbour.__file__)",
    "exit code": "raise SystemExit(7)",
    "exit with words": "import sys; sys.exit('no such day')",
    "exit with a large code": "import sys; sys.exit(256 + 3)",
    "exit with nothing": "import sys; sys.exit()",
    "hard exit": "import os, sys; sys.stdout.write('x'); sys.stdout.flush(); os._exit(5)",
    "traceback": "def f(x):\n    return 1 / x\n\nf(0)",
    "traceback with a cause": (
        "try:\n    int('x')\nexcept ValueError as e:\n    raise RuntimeError('why') from e"
    ),
    "traceback of a neighbour": "import broken",
    "syntax error": "print('never')\nprint(",
    "keyboard interrupt": "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('never')",
    "own excepthook": "import sys\nsys.excepthook = lambda *a: print('mine', a[0])\n1 / 0",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "signals": """
import signal
for name in ("SIGINT", "SIGTERM", "SIGPIPE", "SIGCHLD", "SIGHUP", "SIGXFSZ", "SIGUSR1", "SIGQUIT"):
    print(name, signal.getsignal(getattr(signal, name)))
""",
    "at exit": """
import atexit, threading, time
atexit.register(print, "first registered")
atexit.register(print, "last registered")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread"))).start()
print("main ends")
""",
    "a daemon thread": """
import threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("main ends")
""",
    "a file that nobody closed": """
kept = open("left.txt", "w")
kept.write("all of it")
""",
    "a file that a module never closed": "import keeper",
    "a finalizer": """
class Loud:
    def __del__(self):
        print("gone", name)
name = "well"
loud = Loud()
loop = [loud]
loop.append(loop)
""",
    "buffering": """
import os, sys
for n in range(3):
    sys.stdout.write(f"out {n} ")
    os.write(1, b"raw ")
    sys.stderr.write(f"err {n} ")
print(sys.stdout.line_buffering, sys.stdout.write_through, sys.stdout.encoding, sys.stdout.errors)
print(sys.stderr.line_buffering, sys.stderr.encoding, sys.stderr.errors, sys.stdout.isatty())
""",
    "bytes": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "closed output": "import sys; sys.stdout.close()",
    "processes": """
import multiprocessing
def double(x):
    return 2 * x
if __name__ == "__main__":
    for method in ("fork", "spawn", "forkserver"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            print(method, pool.map(double, range(4)))
""",
    "executors": """
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
if __name__ == "__main__":
    for kind in (ThreadPoolExecutor, ProcessPoolExecutor):
        with kind(2) as pool:
            print(kind.__name__, list(pool.map(abs, [-1, -2])))
""",
    "a subprocess of its own": """
import subprocess, sys
print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True))
subprocess.run(["sh", "-c", "echo shell"])
""",
    "asyncio": "import asyncio\nasync def f():\n    print('in')\nasyncio.run(f())",
    "dataclass, pickle and typing": """
import dataclasses, pickle, typing
@dataclasses.dataclass
class Point:
    x: int
    y: "int"
print(pickle.loads(pickle.dumps(Point(1, 2))), typing.get_type_hints(Point))
""",
    "flags": "import sys; print(sys.flags, sys.getrecursionlimit(), sys.warnoptions)",
    "warnings": "import warnings; warnings.warn('careful', stacklevel=1)",
    "descriptors": "import os; print(sorted(os.listdir('/proc/self/fd'))[:3], os.getsid(0) > 1)",
    "environment": """
import os
print({k: v for k, v in os.environ.items() if not k.startswith("JOBKIT_RUN")}, os.getcwd())
os.environ["NEW"] = "1"
import subprocess
subprocess.run(["sh", "-c", "echo $NEW $JOBKIT_ATTEMPT $MINE"])
""",
    "local time": "import time; print(time.strftime('%Z', time.localtime(0)))",
    "main of the module": "import __main__, sys; print(__main__ is sys.modules['__main__'])",
    "inspection": """
import inspect, linecache
def f():
    return 1
print(inspect.getsource(f), linecache.getline(__file__, 2))
""",
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_forked_and_fresh_do_the_same(nursery: Nursery, workplace: Path, name: str) -> None:
    (workplace / "neighbour.py").write_text("", "utf-8")
    (workplace / "broken.py").write_text("def g():\n    raise KeyError('k')\ng()\n", "utf-8")
    (workplace / "keeper.py").write_text("f = open('kept.txt', 'w'); f.write('kept')\n", "utf-8")
    script = workplace / "script.py"
    script.write_text(SCRIPTS[name], "utf-8")
    more = {"variables": {"MINE": "yes", "TZ": "Asia/Tokyo"}}
    left = {}
    told = {}
    for warm in (False, True):
        told[warm] = run(nursery, script, "a", "b c", warm=warm, **more)
        left[warm] = {path.name: path.read_text() for path in workplace.glob("*.txt")}
        for path in workplace.glob("*.txt"):
            path.unlink()
    assert told[True] == told[False]
    assert left[True] == left[False]


def test_it_is_forked_where_that_is_possible(nursery: Nursery, workplace: Path) -> None:
    (workplace / "script.py").write_text(IS_WARM, "utf-8")
    assert run(nursery, workplace / "script.py")[3] == "True\n"
    assert run(nursery, workplace / "script.py", warm=False)[3] == "False\n"


def test_another_interpreter_is_forked_from_once_it_is_ready(
    nursery: Nursery, workplace: Path
) -> None:
    (workplace / "script.py").write_text(f"{IS_WARM}; print(sys.prefix, sys.executable)", "utf-8")
    venv = workplace / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = f"{venv}/bin/python"
    told = [run(nursery, workplace / "script.py", python=python)[3]]
    assert until(lambda: nursery._zygotes.get(Breed(python)) is not None)
    nursery.tidy()  # what was asked for and never used since is no surprise
    told.append(run(nursery, workplace / "script.py", python=python)[3])
    assert told == [f"{is_warm}\n{venv} {python}\n" for is_warm in (False, True)]
    assert run(nursery, workplace / "script.py")[3] == f"True\n{sys.prefix} {sys.executable}\n"


def test_an_interpreter_of_another_version_stays_fresh(
    nursery: Nursery, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "script.py").write_text(IS_WARM, "utf-8")
    venv = workplace / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = f"{venv}/bin/python"
    monkeypatch.setattr("jobkit.executors.nursery.OURS", [3, 1])
    assert run(nursery, workplace / "script.py", python=python)[3] == "False\n"
    assert until(lambda: Breed(python) in nursery._zygotes)
    assert run(nursery, workplace / "script.py", python=python)[3] == "False\n"


def test_forks_draw_their_own_random_numbers(nursery: Nursery, workplace: Path) -> None:
    script = workplace / "script.py"
    script.write_text("import random, uuid; print(random.random(), uuid.uuid4())", "utf-8")
    assert len({run(nursery, script)[3] for _ in range(3)}) == 3


@pytest.mark.parametrize("name", ["json", "random", "queue"])
def test_a_module_beside_the_script_is_not_hidden_by_a_preloaded_one(
    nursery: Nursery, workplace: Path, name: str
) -> None:
    (workplace / f"{name}.py").write_text("who = 'mine'\n", "utf-8")
    (workplace / "script.py").write_text(f"import {name}; print({name}.who)", "utf-8")
    assert run(nursery, workplace / "script.py")[3] == "mine\n"


def test_an_interpreters_own_variables_mean_a_fresh_one(nursery: Nursery, workplace: Path) -> None:
    (workplace / "script.py").write_text("import sys; print(sys.flags.optimize)", "utf-8")
    more = {"variables": {"PYTHONOPTIMIZE": "1"}}
    assert run(nursery, workplace / "script.py", **more)[3] == "1\n"


def test_a_module_that_starts_threads_is_not_preloaded(
    workplace: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "threads.py").write_text(
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
        "utf-8",
    )
    (workplace / "calm.py").write_text("", "utf-8")
    (workplace / "script.py").write_text(
        "import sys; print('threads' in sys.modules, 'calm' in sys.modules)", "utf-8"
    )
    environment = inheritable(os.environ) | {"PYTHONPATH": str(workplace)}
    opened = Nursery(environment, ["threads", "calm", "missing"])
    aside = workplace / "aside"
    aside.mkdir()
    (workplace / "script.py").rename(aside / "script.py")
    try:
        more = {"variables": {"PYTHONPATH": str(workplace)}}
        assert run(opened, aside / "script.py", **more)[3] == "False True\n"
    finally:
        opened.close()
    assert "threads is not preloaded: it starts threads" in caplog.text
    assert "missing is not preloaded: ModuleNotFoundError" in caplog.text


def test_polars_is_preloaded_and_works_in_each_fork(workplace: Path) -> None:
    (workplace / "script.py").write_text(
        "import sys\nprint('polars' in sys.modules)\nimport polars\n"
        "df = polars.DataFrame({'a': range(100_000)})\n"
        "print(df.group_by(polars.col('a') % 10).len().height, df.sort('a')['a'][-1])\n"
        "df.write_parquet('a.parquet')\nprint(polars.scan_parquet('a.parquet').collect().height)",
        "utf-8",
    )
    opened = Nursery(inheritable(os.environ), ["polars"])
    try:
        for _ in range(3):
            told = run(opened, workplace / "script.py")
            assert told == ("exit", 0, None, "True\n10 99999\n100000\n")
    finally:
        opened.close()


@pytest.mark.parametrize("victim", ["host", "zygote"])
def test_after_kill_9_of_a_host_or_zygote_nothing_is_left_and_the_next_script_runs(
    workplace: Path, victim: str
) -> None:
    opened = Nursery(inheritable(os.environ))
    script = workplace / "script.py"
    script.write_text(HOSTILE, "utf-8")
    try:
        started = Started(opened, script)
        pids = family_of(started)
        host = started.child.host_pid
        zygote = opened._zygote(opened._usual)
        assert zygote is not None
        os.kill(host if victim == "host" else zygote._process.pid, signal.SIGKILL)
        if victim == "zygote":
            started.child.kill("cancel", timedelta(0))
        ended = started.ended()
        assert ended.ended_by == ("lost" if victim == "host" else "cancel")
        assert until(lambda: all(is_gone(pid) for pid in pids))
        script.write_text("print('again')", "utf-8")
        assert run(opened, script)[3] == "again\n"
    finally:
        opened.close()


def family_of(started: Started) -> list[int]:
    assert until(lambda: "\n" in started.text)
    return [int(pid) for pid in started.text.split()[1:]]


HOSTILE = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sleeper = "import os, signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(600)"
pids = [os.getpid()]
pids.append(subprocess.Popen([sys.executable, "-c", sleeper], start_new_session=True).pid)
pids.append(subprocess.Popen([sys.executable, "-c", sleeper], start_new_session=True, env={}).pid)
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if (daemon := os.fork()) == 0:
        os.execve(sys.executable, [sys.executable, "-c", sleeper], {})
    os.write(write, str(daemon).encode())
    os._exit(0)
pids.append(int(os.read(read, 20)))
print("family", *pids, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_hostile_children_are_gone_within_a_second(
    nursery: Nursery, workplace: Path, how: str
) -> None:
    script = workplace / "script.py"
    script.write_text(HOSTILE, "utf-8")
    limit = timedelta(seconds=2) if how == "timeout" else HOUR
    started = Started(nursery, script, timeout=limit)
    pids = family_of(started)
    if how == "cancel":
        started.child.kill("cancel")
    ended = started.ended()
    assert ended.ended_by == how
    assert [pid for pid in pids if not is_gone(pid)] == []
    assert ended.leftovers >= 3


def test_a_bounded_fork_bomb_is_ended(nursery: Nursery, workplace: Path) -> None:
    script = workplace / "script.py"
    script.write_text(
        "import os, time\n"
        "until = time.monotonic() + 30\n"
        "for _ in range(6):\n    os.fork()\n"
        "print('one', flush=True)\n"
        "while time.monotonic() < until:\n    time.sleep(0.1)\n",
        "utf-8",
    )
    started = Started(nursery, script)
    assert until(lambda: started.text.count("one") == 64)
    started.child.kill("cancel", timedelta(0))
    assert started.ended().leftovers >= 63


def test_a_script_over_its_memory_limit_is_ended(nursery: Nursery, workplace: Path) -> None:
    script = workplace / "script.py"
    script.write_text(
        "import subprocess, sys, time\n"
        "code = 'import time; held = bytearray(60_000_000); time.sleep(60)'\n"
        "for _ in range(3):\n    subprocess.Popen([sys.executable, '-c', code])\n"
        "time.sleep(60)\n",
        "utf-8",
    )
    ended = Started(nursery, script, memory=150_000_000).ended()
    assert ended.ended_by == "memory"
    assert ended.max_rss_bytes is not None
    assert ended.max_rss_bytes > 150_000_000


def test_a_host_is_used_again_and_shows_the_cookies_of_its_attempt(
    nursery: Nursery, workplace: Path
) -> None:
    script = workplace / "script.py"
    script.write_text(
        "import os\n"
        "mine = open('/proc/self/environ').read()\n"
        "host = open(f'/proc/{os.getppid()}/environ').read()\n"
        "print(f\"JOBKIT_RUN_ID={os.environ['JOBKIT_RUN_ID']}\\0\" in mine, mine == host)\n",
        "utf-8",
    )
    hosts = set()
    for _ in range(3):
        started = Started(nursery, script)
        hosts.add(started.child.host_pid)
        started.ended()
        assert started.text == "True True\n"
    assert len(hosts) == 1
    (host,) = hosts
    assert until(lambda: re.sub("\0", "", Path(f"/proc/{host}/environ").read_text()) == "")


def test_many_at_once_each_have_their_host(nursery: Nursery, workplace: Path) -> None:
    script = workplace / "script.py"
    script.write_text(
        "import os, sys, time\n"
        "while not os.path.exists('go'):\n    time.sleep(0.01)\n"
        "sys.exit(int(sys.argv[1]))\n",
        "utf-8",
    )
    started = [Started(nursery, script, str(number)) for number in range(12)]
    (workplace / "go").touch()
    assert [each.ended().exit_code for each in started] == list(range(12))
    assert len({each.child.host_pid for each in started}) == 12


def test_hosts_that_nobody_needs_end_but_for_one(
    nursery: Nursery, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = workplace / "script.py"
    script.write_text(
        "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n", "utf-8"
    )
    started = [Started(nursery, script) for _ in range(3)]
    hosts = [each.child.host_pid for each in started]
    (workplace / "go").touch()
    for each in started:
        each.ended()
    nursery.tidy()
    assert [host for host in hosts if is_gone(host)] == []
    monkeypatch.setattr("jobkit.executors.nursery.HOST_IDLE_SECONDS", -1.0)
    nursery.tidy()
    assert until(lambda: sum(is_gone(host) for host in hosts) == 2)
    again = Started(nursery, script)
    assert again.child.host_pid in hosts
    assert again.ended().exit_code == 0


def test_a_zygote_that_nobody_needs_ends_and_is_started_again(
    workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "calm.py").write_text("import sys; print('wave' in sys.modules)", "utf-8")
    (workplace / "long.py").write_text(
        "import os, time\nwhile not os.path.exists('go'):\n    time.sleep(0.01)\n", "utf-8"
    )
    opened = Nursery(inheritable(os.environ))
    special: dict[str, tuple[str, ...]] = {"modules": ("wave",)}
    try:
        assert run(opened, workplace / "calm.py")[3] == "False\n"
        long = Started(opened, workplace / "long.py", **special)  # type: ignore[arg-type]
        usual, other = (opened._zygotes[opened._breed(None, it)] for it in ((), ("wave",)))
        assert usual is not None
        assert other is not None
        monkeypatch.setattr("jobkit.executors.nursery.HOST_IDLE_SECONDS", -1.0)
        monkeypatch.setattr("jobkit.executors.nursery.ZYGOTE_IDLE_SECONDS", -1.0)
        opened.tidy()
        assert not other.has_ended()  # what runs goes on
        (workplace / "go").touch()
        assert long.ended().exit_code == 0
        opened.tidy()
        assert until(other.has_ended)
        assert not usual.has_ended()
        assert run(opened, workplace / "calm.py", **special)[3] == "True\n"
    finally:
        opened.close()
