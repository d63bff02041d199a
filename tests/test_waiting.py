"""Waiting for runs: alone and for many, in loops and in a real kernel; an interrupt ends no run."""

from __future__ import annotations

import asyncio
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import jobkit
from jobkit import Kit, Run, lookout
from jobkit.cards import Card
from jobkit.errors import BadInput, DatabaseUnavailable, JobFailed, NotFound
from jobkit.lookout import Lookout
from jobkit.store import claims
from jobkit.store.claims import Claim, Result
from tests.loops import in_a_loop
from tests.test_processes import Processes, processes, script, until

__all__ = ["processes"]

LONG = 60.0
FAILS = (
    "def load(region):\n    raise ValueError(f'no region {region}')\n\nprint('start')\nload('xx')\n"
)


class Hand:
    """A worker of a few lines: what a run comes to is decided by the test."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def claim(self) -> Claim:
        with self._kit.database.write() as connection:
            now = self._kit.clock.now()
            (claim,) = claims.claim(
                connection, now, worker_id="box-1-a", queue="default",
                lease=timedelta(hours=1), limit=1,
            )  # fmt: skip
        return claim

    def print(self, claim: Claim, number: int, said: str) -> None:
        with self._kit.database.write() as connection:
            chunk = (number, self._kit.clock.now(), said, "output")
            claims.add_output(connection, [(claim, [chunk])])

    def finish(self, claim: Claim, code: int = 0) -> None:
        now = self._kit.clock.now()
        error = f"exit code {code}" if code else ""
        with self._kit.database.write() as connection:
            result = Result("exit", claim.claimed_at, now, code, error)
            claims.finish(connection, [(claim, result)], now, Random(1))


@pytest.fixture
def hand(kit: Kit) -> Hand:
    kit.add_job("sales", "hello.py", overlap="allow", retries=0)
    return Hand(kit)


def later(seconds: float, *steps: Any) -> threading.Thread:
    def go() -> None:
        for step in steps:
            time.sleep(seconds)
            step()

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def test_a_run_that_ended_is_no_wait(kit: Kit, hand: Hand) -> None:
    run = kit.submit("sales")
    hand.finish(hand.claim())
    assert run.wait().status == "COMPLETED"
    assert kit.wait(run.id, "5m").id == run.id
    with pytest.raises(NotFound, match="no run 99"):
        kit.wait(99)


def test_a_wait_that_is_late_says_why_the_run_waits(kit: Kit, hand: Hand) -> None:
    run = kit.submit("sales")
    with pytest.raises(TimeoutError, match=r"still PENDING after 0\.2 s: no worker serves"):
        run.wait(timeout=timedelta(seconds=0.2))
    hand.claim()
    with pytest.raises(TimeoutError, match=r"still IN_PROGRESS after 0\.1 s$"):
        run.wait("100ms")


def test_all_are_gathered_in_their_order(kit: Kit, hand: Hand) -> None:
    runs = [kit.submit("sales") for _ in range(3)]
    taken = [hand.claim() for _ in range(3)]
    thread = later(0.1, *(lambda claim=claim: hand.finish(claim) for claim in reversed(taken)))
    done = jobkit.gather([*runs, runs[0]], timeout=LONG)
    assert [(run.id, run.status) for run in done] == [  # type: ignore[union-attr]
        (run.id, "COMPLETED") for run in [*runs, runs[0]]
    ]
    thread.join()
    assert jobkit.gather([]) == []


def test_a_failure_is_raised_when_all_have_ended(kit: Kit, hand: Hand) -> None:
    runs = [kit.submit("sales") for _ in range(3)]
    taken = [hand.claim() for _ in range(3)]
    hand.finish(taken[1], 3)
    thread = later(0.2, lambda: hand.finish(taken[0]), lambda: hand.finish(taken[2], 4))
    with pytest.raises(JobFailed, match=f"Run {runs[1].id} of sales ended as FAILED") as caught:
        jobkit.gather(runs, timeout=LONG)
    assert f"1 more did not complete: {runs[2].id}" in caught.value.__notes__
    assert all(run.refresh().is_final for run in runs)
    first, second, third = jobkit.gather(runs, return_exceptions=True)
    assert isinstance(first, jobkit.Run)
    assert isinstance(second, JobFailed)
    assert isinstance(third, JobFailed)
    thread.join()


def test_runs_come_as_they_end(kit: Kit, hand: Hand) -> None:
    runs = [kit.submit("sales") for _ in range(3)]
    taken = {claim.run_id: claim for claim in [hand.claim() for _ in range(3)]}
    order = [runs[2], runs[0], runs[1]]
    coming = jobkit.as_completed(runs, timeout=LONG)
    for run in order:
        hand.finish(taken[run.id], int(run is runs[0]))
        assert next(coming).id == run.id
    assert list(coming) == []
    with pytest.raises(TimeoutError, match=r"unfinished after 0\.1 s"):
        list(jobkit.as_completed([kit.submit("sales"), kit.submit("sales")], timeout=0.1))


def test_many_are_asked_for_by_one_statement(
    kit: Kit, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = kit.submit_many("sales", [{} for _ in range(200)])
    runs = [kit.run(run_id) for run_id in ids]
    looks: list[int] = []
    real = Lookout.ended
    monkeypatch.setattr(
        Lookout, "ended", lambda self, left: looks.append(len(left)) or real(self, left)
    )
    thread = later(0.1, *(lambda run=run: run.cancel() for run in runs[:2]))
    with pytest.raises(TimeoutError, match="198 runs are unfinished"):
        jobkit.gather(runs, timeout=1.5)
    thread.join()
    assert looks[0] == 200
    assert looks[-1] == 198
    assert len(looks) < 30


def test_runs_of_two_databases_are_not_gathered(sqlite_database: str, empty_sqlite: str) -> None:
    with jobkit.connect(sqlite_database) as one, jobkit.connect(empty_sqlite) as two:
        for kit in (one, two):
            kit.add_job("sales", "hello.py")
        with pytest.raises(BadInput, match="2 databases"):
            jobkit.gather([one.submit("sales"), two.submit("sales")])


def test_a_loop_goes_on_while_a_run_is_awaited(kit: Kit, hand: Hand) -> None:
    runs = [kit.submit("sales") for _ in range(20)]
    taken = [hand.claim() for _ in runs]

    async def main() -> tuple[list[Any], int]:
        beats = 0

        async def beat() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.01)
                beats += 1

        beating = asyncio.create_task(beat())
        thread = later(0.01, *(lambda claim=claim: hand.finish(claim) for claim in taken))
        done = await asyncio.gather(*runs)
        assert sum("jobkit-await" in it.name for it in threading.enumerate()) <= 1
        beating.cancel()
        thread.join()
        return done, beats

    done, beats = in_a_loop(main)
    assert [run.status for run in done] == ["COMPLETED"] * 20
    assert beats > 5
    until(lambda: not any(it.name == "jobkit-await" for it in threading.enumerate()))


def test_what_is_awaited_may_fail_or_be_given_up(kit: Kit, hand: Hand) -> None:
    failed, left = kit.submit("sales"), kit.submit("sales")
    hand.finish(hand.claim(), 1)

    async def main() -> None:
        with pytest.raises(JobFailed, match="exit code 1"):
            await failed
        task = asyncio.ensure_future(kit.runs.awaited(left))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises((asyncio.CancelledError, CancelledError)):
            await task
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await left

    in_a_loop(main)
    assert left.refresh().status == "PENDING"
    until(lambda: not any(it.name == "jobkit-await" for it in threading.enumerate()))


def test_the_first_five_that_are_awaited_have_a_card(
    kit: Kit, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shown:
        def __init__(self, read: Callable[..., Card]) -> None:
            self.read, self.last = read, ""
            begun.append(self)

        def paint(self) -> None:
            assert not self.last

        def end(self, *notes: str) -> None:
            self.last = self.read(*notes).text

    begun: list[Shown] = []
    monkeypatch.setattr(lookout.live, "begin", Shown)
    runs = [kit.submit("sales") for _ in range(7)]
    taken = [hand.claim() for _ in runs]

    async def main() -> None:
        thread = later(0.01, *(lambda claim=claim: hand.finish(claim) for claim in taken))
        await asyncio.gather(*runs)
        thread.join()

    in_a_loop(main)
    assert sorted(card.last.splitlines()[0] for card in begun) == [
        f"Run {run.id} of sales: COMPLETED" for run in runs[:5]
    ]


WAITS: dict[str, tuple[Callable[[list[Run]], Any], str]] = {
    "wait": (lambda runs: runs[0].wait(), "Stopped waiting for run 1 of sales; the run goes on"),
    "gather": (jobkit.gather, "Stopped waiting for 2 runs; they go on"),
    "as_completed": (
        lambda runs: list(jobkit.as_completed(runs)),
        "Stopped waiting for 2 runs; they go on",
    ),
    "logs": (lambda runs: list(runs[0].logs(follow=True)), ""),
}


@pytest.mark.parametrize(("wait", "said"), WAITS.values(), ids=WAITS)
def test_an_interrupt_ends_the_waiting_and_no_run(
    kit: Kit,
    hand: Hand,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wait: Callable[[list[Run]], Any],
    said: str,
) -> None:
    runs = [kit.submit("sales"), kit.submit("sales")]
    hand.claim()
    monkeypatch.setattr(Lookout, "pause", lambda *_: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as stopped:
            wait(runs)
    finally:
        signal.signal(signal.SIGINT, before)
    assert str(stopped.value).startswith(said)
    assert [run.refresh().status for run in runs] == ["IN_PROGRESS", "PENDING"]
    assert not any(run.refresh().wants_cancel for run in runs)
    assert capsys.readouterr() == ("", ""), "outside of a notebook nothing is shown"


def test_lines_are_followed_over_attempts(kit: Kit, hand: Hand) -> None:
    kit.edit("sales", retries=1, retry_delay="0s")
    run = kit.submit("sales")
    first = hand.claim()
    hand.print(first, 0, "one\ntw")

    def again() -> None:
        second = hand.claim()
        hand.print(second, 0, "three\nand no end")
        hand.finish(second)

    thread = later(0.1, lambda: hand.print(first, 1, "o\n"), lambda: hand.finish(first, 1), again)
    assert list(run.logs(follow=True)) == ["one", "two", "three", "and no end"]
    thread.join()
    assert list(run.logs()) == ["three", "and no end"]


def test_a_database_that_is_away_for_a_moment_is_waited_for(
    kit: Kit, hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = kit.submit("sales")
    claim = hand.claim()
    real, fails = lookout.history.ended_among, iter([False, True, True])

    def shaky(*given: Any) -> Any:
        if next(fails, False):
            raise DatabaseUnavailable("It is away.")
        return real(*given)

    monkeypatch.setattr(lookout.history, "ended_among", shaky)
    thread = later(0.2, lambda: hand.finish(claim))
    assert run.wait(timeout=LONG).status == "COMPLETED"
    thread.join()
    monkeypatch.setattr(lookout, "AWAY_SECONDS", -1.0)
    fails = iter([True])
    with pytest.raises(DatabaseUnavailable):
        kit.submit("sales").wait(timeout=LONG)


def test_a_failure_shows_the_remote_frames_and_what_changed(kit: Kit, hand: Hand) -> None:
    good = kit.submit("sales")
    hand.finish(hand.claim())
    kit.edit("sales", priority=7)
    run = kit.submit("sales")
    claim = hand.claim()
    frames = 'Traceback (most recent call last):\n  File "a.py"\nValueError: no'
    hand.print(claim, 0, f"start\n{frames}\n")
    hand.finish(claim, 1)
    with pytest.raises(JobFailed) as caught:
        run.wait()
    error = caught.value
    assert run.traceback == frames
    assert "ValueError: no" in str(error)
    assert f"Changed since run {good.id}" in error.changes
    assert error.changes in error.__notes__
    shown = "\n".join(error._render_traceback_())
    for said in (error.message, "run.wait()", "ValueError: no", error.changes, "box-1-a"):
        assert said in shown
    assert "".join(traceback.format_exception(error)).count("ValueError: no") == 1
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert (copy.run_id, copy.__notes__) == (run.id, error.__notes__)
    assert good.traceback is None


def test_a_run_of_no_notebook_left_none(kit: Kit, hand: Hand) -> None:
    run = kit.submit("sales")
    hand.finish(hand.claim())
    with pytest.raises(BadInput, match="left no notebook"):
        run.notebook()


# In a real kernel, with a real worker


class Kernel(NotebookClient):
    """Executes cells as people do, keeps when messages came, and interrupts cells that ask so."""

    def __init__(self, cells: list[str]) -> None:
        made = [nbformat.v4.new_code_cell(source) for source in cells]
        super().__init__(
            nbformat.v4.new_notebook(cells=made),
            timeout=180, kernel_name="python3", allow_errors=True,
        )  # fmt: skip
        self.updates: dict[int, list[float]] = {}
        self._interrupted: set[int] = set()

    def process_message(self, msg: Any, cell: Any, index: int) -> Any:
        if msg["msg_type"] == "update_display_data":
            self.updates.setdefault(index, []).append(time.monotonic())
            is_running = "IN_PROGRESS" in str(msg["content"]["data"])
            if "# interrupt" in cell.source and is_running and index not in self._interrupted:
                self._interrupted.add(index)
                self.km.provisioner.process.send_signal(signal.SIGINT)
        return super().process_message(msg, cell, index)


@pytest.fixture
def fleet(processes: Processes, workplace: Path) -> Iterator[str]:
    script(workplace, "slow.py", "import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    script(workplace, "fails.py", FAILS)
    script(workplace, "steps.py", (
        "import time\nfor n in range(12):\n    print('step', n, flush=True)\n    time.sleep(0.25)\n"
    ))  # fmt: skip
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("6 * 7")]),
        workplace / "sums.ipynb",
    )
    with jobkit.connect(processes.url) as kit:
        for name in ("slow.py", "fails.py", "steps.py", "sums.ipynb"):
            kit.add_job(name.partition(".")[0], name, retries=0, overlap="allow")
        kit.add_job("model", "steps.py", queue="gpu")
        processes.start("worker", "--slots", "4", "--name", "box")
        until(lambda: len(kit.workers) == 1)
        yield processes.url
        for run in kit.queue():
            run.cancel()
        until(lambda: not kit.queue())


def shown(cell: Any) -> list[str]:
    """Return what a cell shows, as text: displayed, returned, raised."""
    return [
        item.data["text/plain"] if "data" in item else f"{item.ename}: {item.evalue}"
        for item in cell.outputs
        if item.output_type != "stream"
    ]


CELLS = """
import jobkit; kit = jobkit.connect(URL); kit
---
run = kit.submit("steps"); run.wait()
---
await kit.submit("steps")
---
kit.submit("fails").wait()
---
done = jobkit.gather([kit.submit("steps"), kit.submit("fails")])
---
kit.submit("slow").wait()  # interrupt
---
await kit.submit("slow")  # interrupt
---
kit.submit("model").wait(timeout="11s")
---
kit.submit("steps").wait(live=False).id > 0
---
run
---
ran = kit.submit("sums"); ran.wait(); ran.notebook().cells[0].outputs[0].data["text/plain"]
---
import threading
silent = threading.Thread(target=lambda: kit.submit("steps").wait()); silent.start(); silent.join()
---
[line for line in kit.submit("steps").logs(follow=True)][-1]
"""


@pytest.mark.filterwarnings("ignore")
def test_a_notebook_waits_with_cards_and_is_interrupted(fleet: str) -> None:
    kernel = Kernel(CELLS.replace("URL", repr(fleet)).strip().split("\n---\n"))
    kernel.execute()
    cells = [shown(cell) for cell in kernel.nb.cells]
    assert "1 alive, 4 slots" in cells[0][0]
    for card, returned in cells[1:3]:
        assert "of steps: COMPLETED" in card
        assert "| step 11" in card
        assert returned.startswith("<Run ")
    gaps = [b - a for a, b in zip(kernel.updates[1], kernel.updates[1][1:], strict=False)]
    assert len(kernel.updates[1]) >= 3
    assert min(gaps[:-1], default=1) > 0.15  # four a second; the last one comes when it ends

    card, error = cells[3]
    assert "of fails: FAILED" in card
    assert "JobFailed" in error
    raised = "\n".join(kernel.nb.cells[3].outputs[-1].traceback)
    for said in ('kit.submit("fails").wait()', "in load", "ValueError: no region xx"):
        assert said in raised
    assert "jobkit/waiting.py" not in raised
    assert "2 of 2 runs ended, 1 of them not well" in cells[4][0]
    assert "of fails ended as FAILED" in cells[4][1]

    for card, error in cells[5:7]:
        assert "of slow: IN_PROGRESS" in card
        assert "Stopped waiting for run" in card
        assert "the run goes on" in error
        assert "].cancel()" in error
    assert cells[5][1].startswith("KeyboardInterrupt")
    assert cells[6][1].startswith("CancelledError")
    with jobkit.connect(fleet) as kit:
        assert [run.status for run in kit.runs(job="slow")] == ["IN_PROGRESS"] * 2

    assert "no worker serves queue 'gpu'; online: box (default)" in cells[7][0]
    assert "no worker serves queue 'gpu'" in cells[7][1]
    assert cells[8] == ["True"]
    assert "of steps: COMPLETED" in cells[9][0]
    assert len(cells[9]) == 1
    assert cells[10][-1] == "'42'"
    assert cells[11] == []
    assert cells[12] == ["'step 11'"]
