"""Windows and macOS, as far as they can be tried on Linux: neither has been run on its own."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from jobkit.executors import windows, windows_host
from jobkit.executors.nursery import Nursery
from jobkit.executors.process import Child, Command, Outcome, child_environment, inheritable
from tests.test_executors import is_gone, until

ROOT = Path(__file__).parent.parent
MINUTE = timedelta(minutes=1)
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it imitates other systems")

WITHOUT = """
import importlib, os, pkgutil, signal, socket, sys
import asyncio, multiprocessing, psutil, subprocess, typer, jobkit.kit
for name in ("fork", "setsid", "killpg", "wait4", "waitpid", "getpgid", "nice", "sysconf", "uname",
             "getuid", "geteuid", "set_blocking", "closerange", "mkfifo", "sched_getaffinity"):
    delattr(os, name) if hasattr(os, name) else None
for name in [name for name in dir(signal) if name.startswith("SIG") and name not in
             ("SIGINT", "SIGTERM", "SIGABRT", "SIGFPE", "SIGILL", "SIGSEGV", "SIG_DFL", "SIG_IGN")]:
    delattr(signal, name)
for name in ("send_fds", "recv_fds", "AF_UNIX", "CMSG_SPACE", "SCM_RIGHTS"):
    delattr(socket, name)
for name in ("fcntl", "resource", "termios", "pwd", "grp", "pty", "tty", "syslog"):
    sys.modules[name] = None
for name in [name for name in sys.modules if name.startswith("jobkit")]:
    del sys.modules[name]
sys.platform = "win32"
import jobkit.executors
for found in pkgutil.walk_packages(jobkit.executors.__path__, "jobkit.executors."):
    importlib.import_module(found.name)
    print(found.name)
"""


def test_all_executors_can_be_imported_where_there_is_only_what_windows_has() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "jobkit.executors.process" in done.stdout.split()


def test_structures_have_the_size_that_windows_gives_them() -> None:
    sizes = (windows_host.BasicLimits, windows_host.Limits, windows_host.Accounting)
    assert [ctypes.sizeof(size) for size in sizes] == [64, 144, 48]
    assert windows_host.Limits.job_memory.offset == 120


class OnWindows:
    """A script run by the line and the host for Windows, with imitated functions."""

    def __init__(
        self,
        folder: Path,
        code: str,
        *,
        timeout: timedelta = MINUTE,
        lease: timedelta = MINUTE,
        memory: int | None = None,
    ) -> None:
        self.log = folder / "calls"
        environment = child_environment(
            inheritable(os.environ), run_id=1, attempt=1, scheduled_for=None, worker_id="w",
            params={},
        )  # fmt: skip
        self.printed: list[str] = []
        self.outcome: Outcome | None = None
        self.nursery = Nursery({})
        self.link = self.nursery.take()
        self.child = Child(
            Command([sys.executable, "-c", code], folder, environment, memory_limit=memory),
            timeout=timeout,
            grace=timedelta(seconds=2),
            lease_for=lease,
            on_output=lambda text, _stream: self.printed.append(text),
            link=self.link,
        )
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _wait(self) -> None:
        self.outcome = self.child.wait()
        self.printed += [text for text, _ in self.outcome.rest]
        self.nursery.give_back(self.link)

    def ended(self) -> Outcome:
        self._thread.join(30)
        assert self.outcome is not None
        return self.outcome

    @property
    def text(self) -> str:
        return "".join(self.printed)

    @property
    def calls(self) -> list[list[str]]:
        return [line.split() for line in self.log.read_text().splitlines()]


Start = Callable[..., OnWindows]


@pytest.fixture
def start(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Starts scripts by hosts that think they are on Windows."""

    def popen(command: list[str], **more: object) -> object:
        assert more.pop("creationflags") == windows.CREATE_NO_WINDOW
        assert command[1:3] == ["-I", "-S"]
        assert Path(command[3]).name == "windows_host.py"
        more["env"] = {"PYTHONPATH": str(ROOT)}
        program = [sys.executable, "-m", "tests.windows_on_linux", str(workplace / "calls")]
        return subprocess.Popen(program, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(windows, "subprocess", _With(Popen=popen))
    monkeypatch.setattr("jobkit.executors.link.start_host", windows.PipeLink)
    monkeypatch.setattr("jobkit.executors.nursery.start_host", windows.PipeLink)
    monkeypatch.setattr(Nursery, "_zygote", lambda *_: None)
    return lambda code, **more: OnWindows(workplace, code, **more)


class _With:
    """The module subprocess, but for one name."""

    def __init__(self, **changed: object) -> None:
        self.__dict__ = vars(subprocess) | changed


LIMITED = ["limit", "True", "9", "144", "0x2200"]
ENTERED = [["create", "None"], [*LIMITED, str(windows_host.NO_LIMIT)], ["assign", "True", "-1"]]


def test_the_host_goes_into_a_job_before_it_starts_the_script(start: Start) -> None:
    started = start("import sys; print(open('calls').read()); sys.exit(3)")
    done = started.ended()
    assert (done.ended_by, done.exit_code, done.signal, done.leftovers) == ("exit", 3, None, 0)
    assert [line.split() for line in started.text.splitlines() if line] == ENTERED
    assert started.calls == [*ENTERED, ["exit", "0"]]
    assert done.cpu_seconds == pytest.approx(80, abs=5)


def test_both_streams_are_one_and_a_megabyte_comes_whole(start: Start) -> None:
    started = start(
        "import sys; print('a'); print('b', file=sys.stderr); sys.stdout.write('x' * (1 << 20))"
    )
    assert started.ended().output_bytes == 4 + (1 << 20)
    assert started.text == "a\nb\n" + "x" * (1 << 20)


def test_a_job_holds_a_burst_of_memory_at_a_quarter_over_the_limit(start: Start) -> None:
    started = start("print(1)", memory=1 << 40)
    assert started.ended().ended_by == "exit"
    assert [*LIMITED, str((1 << 40) * 5 // 4)] in started.calls


TELLS_OF_TERM = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("bye"), sys.exit(5)))
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"],
                        start_new_session=True)
print(left.pid)
time.sleep(600)
"""


def pid_of(started: OnWindows) -> int:
    assert until(lambda: "\n" in started.text)
    return int(started.text.split()[0])


def test_a_cancelled_script_gets_a_break_and_may_say_a_last_word(start: Start) -> None:
    started = start(TELLS_OF_TERM)
    left = pid_of(started)
    started.child.kill("cancel")
    done = started.ended()
    assert (done.ended_by, done.exit_code, done.leftovers) == ("cancel", 5, 1)
    assert started.text.endswith("bye\n")
    assert started.calls == [*ENTERED, ["event", "1", "True"], ["exit", "0"]]
    assert until(lambda: is_gone(left))


def test_a_timeout_a_lease_and_a_limit_of_memory_end_a_script(start: Start) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    late = start(deaf, timeout=timedelta(seconds=1))
    done = late.ended()
    assert (done.ended_by, ["event", "1", "True"] in late.calls) == ("timeout", True)
    assert start(deaf, lease=timedelta(seconds=1)).ended().ended_by == "lease"
    big = start("x = bytearray(200 << 20); import time; time.sleep(600)", memory=100 << 20).ended()
    assert big.ended_by == "memory"
    assert big.max_rss_bytes is not None
    assert big.max_rss_bytes > 100 << 20


def test_a_fenced_script_ends_with_its_host(start: Start) -> None:
    started = start("import time; print('up'); time.sleep(600)")
    assert until(lambda: "up" in started.text)
    started.child.kill("lease", timedelta(0))
    assert started.ended().ended_by in ("lost", "lease")


def test_a_worker_that_is_gone_ends_the_host_and_its_script(start: Start) -> None:
    started = start(TELLS_OF_TERM)
    left = pid_of(started)
    started.link.close()
    assert started.ended().ended_by == "lease"
    assert until(lambda: is_gone(left))


def test_the_host_for_windows_runs_by_its_file_and_ends_when_it_gets_no_order() -> None:
    command = [sys.executable, "-I", "-S", str(windows.PROGRAM)]
    assert subprocess.run(command, stdin=subprocess.DEVNULL).returncode == 0


def test_an_exit_code_of_windows_fits_32_bits() -> None:
    job = windows_host.Job({"memory": None}, _Quiet(), threading.Event())
    job.process = _With(returncode=0xC000013A)
    assert job.measures()["exit_code"] == -1073741510


class _Quiet:
    """Functions of Windows that do nothing, and say that all is well."""

    def __getattr__(self, _name: str) -> Callable[..., int]:
        return lambda *_: 1


# macOS

ELSEWHERE = """
import json, sys
from datetime import timedelta
from pathlib import Path
import os
from jobkit.executors import host, link, process
link.FOLDER = Path(sys.argv[1])
process.ORPHANS_ESCAPE = True
minute = timedelta(minutes=1)
environment = process.child_environment(
    process.inheritable(os.environ), run_id=int(sys.argv[2]), attempt=1, scheduled_for=None,
    worker_id="w", params={})
printed = []
child = process.Child(
    process.Command([sys.executable, "-c", sys.argv[3]], Path.cwd(), environment,
                    memory_limit=int(sys.argv[4]) or None),
    timeout=minute, grace=minute, lease_for=minute, on_output=lambda *said: printed.append(said))
done = child.wait()
text = "".join(text for text, _ in [*printed, *done.rest])
print(json.dumps({"text": text, "ended_by": done.ended_by, "leftovers": done.leftovers,
                  "most": done.max_rss_bytes}))
"""

FAMILY = """
import subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
near = subprocess.Popen([sys.executable, "-c", code])
far = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print(near.pid, far.pid)
"""


def elsewhere(folder: Path, code: str, memory: int = 0) -> dict[str, object]:
    """Run a script by a host that knows of no subreaper and no /proc; return its outcome."""
    original = (ROOT / "jobkit" / "executors" / "host.py").read_text("utf-8")
    changed = original.replace('IS_LINUX = sys.platform == "linux"', "IS_LINUX = False")
    assert changed != original
    (folder / "host.py").write_text(changed, "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(folder), str(os.getpid()), code, str(memory)],
        capture_output=True,
        text=True,
        check=True,
    )
    outcome: dict[str, object] = json.loads(done.stdout)
    return outcome


def test_where_orphans_escape_their_host_the_worker_finds_them_by_their_cookie(
    workplace: Path,
) -> None:
    done = elsewhere(workplace, FAMILY)
    assert (done["ended_by"], done["leftovers"]) == ("exit", 1)
    assert all(is_gone(int(pid)) for pid in str(done["text"]).split())


def test_where_there_is_no_proc_a_limit_of_memory_holds_for_the_group(workplace: Path) -> None:
    code = "x = bytearray(200 << 20); import time; time.sleep(600)"
    done = elsewhere(workplace, code, memory=100 << 20)
    assert done["ended_by"] == "memory"
    assert int(str(done["most"])) > 100 << 20
