"""Children, and all that they start: real processes, and nothing left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from jobkit.executors.process import Child, Command, Outcome, child_environment, inheritable

MINUTE = timedelta(minutes=1)
SOON = 15.0


class Started:
    """A child that runs, and what it has printed."""

    def __init__(
        self, code: str, *, timeout: float = 60, lease: float = 60, grace: float = 1
    ) -> None:
        self.printed: list[str] = []
        self.heard = threading.Event()
        environment = child_environment(
            inheritable(os.environ),
            run_id=time.monotonic_ns(),
            attempt=1,
            scheduled_for=datetime(2026, 3, 2, 6, 30, tzinfo=UTC),
            worker_id="w1",
            params={"region": "north"},
        )
        self.child = Child(
            Command([sys.executable, "-c", code], Path.cwd(), environment),
            timeout=timedelta(seconds=timeout),
            grace=timedelta(seconds=grace),
            lease_for=timedelta(seconds=lease),
            on_output=self._hear,
        )
        self.outcome: Outcome | None = None
        self._thread = threading.Thread(target=self._wait)
        self._thread.start()

    def _hear(self, text: str, stream: str) -> None:
        self.printed.append(text)
        self.heard.set()

    def _wait(self) -> None:
        self.outcome = self.child.wait()
        self.printed += [text for text, _ in self.outcome.rest]

    def ended(self) -> Outcome:
        self._thread.join(30)
        assert self.outcome is not None
        return self.outcome

    @property
    def text(self) -> str:
        return "".join(self.printed)


def until(condition: Callable[[], bool]) -> bool:
    """Wait for what must come soon."""
    deadline = time.monotonic() + SOON
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_script_that_ends_well_is_a_success_with_its_measures() -> None:
    done = Started("print('hello')").ended()
    assert (done.ended_by, done.exit_code, done.tail, done.output_bytes) == (
        "exit",
        0,
        "hello\n",
        6,
    )
    assert done.cpu_seconds is not None
    assert done.max_rss_bytes is not None
    assert done.cpu_seconds > 0
    assert done.max_rss_bytes > 1_000_000


def test_an_exit_code_is_kept() -> None:
    assert Started("raise SystemExit(3)").ended().exit_code == 3


def test_a_signal_is_told_by_its_number() -> None:
    done = Started("import os; os.kill(os.getpid(), 11)").ended()
    assert (done.exit_code, done.signal) == (139, 11)


def test_what_cannot_be_started_is_an_error_that_says_why(tmp_path: Path) -> None:
    environment = dict(os.environ)
    child = Child(
        Command([str(tmp_path / "nothing")], tmp_path, environment),
        timeout=MINUTE,
        grace=MINUTE,
        lease_for=MINUTE,
        on_output=lambda *_: None,
    )
    done = child.wait()
    assert done.ended_by == "error"
    assert "No such file" in done.error


def test_both_streams_come_in_the_order_of_writing() -> None:
    started = Started("import sys; print('a'); print('b', file=sys.stderr); print('c')")
    started.ended()
    assert started.text == "a\nb\nc\n"


def test_output_comes_while_the_script_runs(tmp_path: Path) -> None:
    go = tmp_path / "go"
    started = Started(
        f"import os, time\nprint('first')\nwhile not os.path.exists({str(go)!r}): time.sleep(.01)\n"
        "print('last')"
    )
    assert started.heard.wait(SOON)
    assert started.text == "first\n"
    go.touch()
    started.ended()
    assert started.text == "first\nlast\n"


FAMILY = """
import os, signal, subprocess, sys, time
code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
quiet = subprocess.Popen([sys.executable, "-c", code])
daemon = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
print(quiet.pid, daemon.pid)
"""


def family(started: Started) -> list[int]:
    assert until(lambda: "\n" in started.text)
    return [int(pid) for pid in started.text.split()]


def test_a_timeout_ends_children_that_ignore_it_and_daemons() -> None:
    started = Started(FAMILY + "time.sleep(600)", timeout=1.5, grace=0.2)
    pids = family(started)
    assert started.ended().ended_by == "timeout"
    assert all(is_gone(pid) for pid in pids)


def test_what_a_script_leaves_behind_ends_with_it() -> None:
    started = Started(FAMILY)
    done = started.ended()
    assert (done.ended_by, done.exit_code, done.leftovers) == ("exit", 0, 2)
    assert all(is_gone(int(pid)) for pid in started.text.split())


def test_a_cancelled_script_may_say_a_last_word() -> None:
    started = Started(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye'), sys.exit(5)))\n"
        "print('ready'); time.sleep(600)",
        grace=20,
    )
    assert started.heard.wait(SOON)
    started.child.kill("cancel")
    done = started.ended()
    assert (done.ended_by, done.exit_code) == ("cancel", 5)
    assert started.text == "ready\nbye\n"


def test_a_lease_that_nobody_renews_ends_the_script() -> None:
    started = Started(FAMILY + "time.sleep(600)", lease=1.0)
    pids = family(started)
    assert started.ended().ended_by == "lease"
    assert all(is_gone(pid) for pid in pids)


def test_a_renewed_lease_lets_the_script_go_on() -> None:
    started = Started("print('up'); import time; time.sleep(1.5)", lease=0.8)
    started.child.extend(MINUTE)
    assert started.ended().ended_by == "exit"


def test_a_fenced_attempt_is_killed_even_if_its_host_is_stopped() -> None:
    started = Started(FAMILY + "time.sleep(600)")
    pids = family(started)
    os.kill(started.child.host_pid, signal.SIGSTOP)
    started.child.kill("lease")
    assert until(lambda: all(is_gone(pid) for pid in pids))
    started.ended()


def test_a_killed_host_leaves_nothing() -> None:
    started = Started(FAMILY + "time.sleep(600)")
    pids = family(started)
    os.kill(started.child.host_pid, signal.SIGKILL)
    assert started.ended().ended_by == "lost"
    assert until(lambda: all(is_gone(pid) for pid in pids))


WORKER = """
import os, sys
from datetime import timedelta
from pathlib import Path
from jobkit.executors.process import Child, Command, child_environment, inheritable
env = child_environment(
    inheritable(os.environ), run_id=1, attempt=1, scheduled_for=None, worker_id="w", params={}
)
hour = timedelta(hours=1)
child = Child(
    Command([sys.executable, "-c", sys.argv[1]], Path.cwd(), env),
    timeout=hour, grace=hour, lease_for=hour,
    on_output=lambda text, _: print(text, end="", flush=True))
child.wait()
"""


def test_a_killed_worker_leaves_nothing() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, FAMILY + "time.sleep(600)"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert worker.stdout is not None
    pids = [int(pid) for pid in worker.stdout.readline().split()]
    assert len(pids) == 2
    worker.kill()
    worker.wait()
    worker.stdout.close()
    assert until(lambda: all(is_gone(pid) for pid in pids))


def test_forty_children_at_once_end_each_with_its_own_code() -> None:
    started = [Started(f"raise SystemExit({number})") for number in range(40)]
    assert [item.ended().exit_code for item in started] == list(range(40))


def test_a_script_sees_its_run_and_no_database() -> None:
    os.environ["JOBKIT_DB_URL"] = "postgresql://ada:secret@host/db"
    try:
        started = Started(
            "import os\nfor name in ('JOBKIT_ATTEMPT', 'JOBKIT_SCHEDULED_FOR', 'JOBKIT_PARAMS'):\n"
            "    print(os.environ[name])\nprint('JOBKIT_DB_URL' in os.environ)"
        )
    finally:
        del os.environ["JOBKIT_DB_URL"]
    started.ended()
    assert started.text.splitlines() == [
        "1",
        "2026-03-02T06:30:00Z",
        '{"region": "north"}',
        "False",
    ]


# Output


def test_any_bytes_are_text() -> None:
    started = Started(
        "import sys; sys.stdout.buffer.write(b'a\\x00b\\xff\\xfe \\x1b[31mred \\xe2\\x82')"
    )
    started.ended()
    assert started.text == "a␀b�� \x1b[31mred �"


def test_thirty_megabytes_on_one_line_keep_their_head_and_tail() -> None:
    started = Started("import sys; sys.stdout.write('h' * 5 + 'm' * 30_000_000 + 't' * 5)")
    done = started.ended()
    assert done.output_bytes == 30_000_010
    assert done.omitted_bytes == 30_000_010 - 10 * 1024 * 1024
    assert started.text.startswith("hhhhhm")
    assert started.text.endswith("mttttt")
    assert f"… {done.omitted_bytes} bytes left out …" in started.text
    assert max(len(chunk.encode()) for chunk in started.printed) <= 256 * 1024
