"""Kernels that are kept after a failure: attached to, gone on with, and each way they can end."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from jobkit.attach import CellFailed, settled
from jobkit.errors import BadInput, NotFound
from jobkit.executors.sweep import carriers
from jobkit.handles import Kept, Run
from jobkit.kit import Kit
from jobkit.models import kept_kernels
from jobkit.store import kernels
from jobkit.store.claims import Claim
from tests.stage import Stage, at
from tests.test_processes import Processes, processes, until

__all__ = ["processes"]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="kernels need TCP there")
FAILING = (
    "x = 21\nprint('one')",
    "import os\nprint('attempt', os.environ['JOBKIT_ATTEMPT'])\ny = x / 0",
    "print('rest', y, os.environ['JOBKIT_ATTEMPT'])",
)


def notebook(folder: Path, *cells: str, name: str = "note.ipynb") -> str:
    listed = [
        {"cell_type": "code", "id": f"c{index}", "metadata": {}, "source": source,
         "outputs": [], "execution_count": None}
        for index, source in enumerate(cells)
    ]  # fmt: skip
    document = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": listed}
    (folder / name).write_text(json.dumps(document), "utf-8")
    return name


def failed(
    kit: Kit, folder: Path, *cells: str, keep: str = "10m", **definition: Any
) -> tuple[Run, Kept]:
    """Submit a run of a notebook, and wait until its kernel is kept."""
    target = notebook(folder, *(cells or FAILING))
    kit.add_job("note", target, **{"keep_kernel": keep, "retries": 0, **definition})
    run = kit.submit("note")
    until(lambda: run.refresh().kept is not None)
    kept = run.refresh().kept
    assert kept is not None
    return run.refresh(), kept


def processes_of(run: Run, worker_id: str) -> list[int]:
    """The processes of a run; other tests on this machine have runs of the same number."""
    mark = {"JOBKIT_RUN_ID": str(run.id), "JOBKIT_WORKER_ID": worker_id}
    return [pid for pid, cookies in carriers() if mark.items() <= cookies.items()]


def folder_of(kept: Kept) -> Path:
    return Path(kept.connection_file).parent


def is_lawful(kit: Kit) -> bool:
    return [finding for finding in kit.verify() if finding.breaches] == []


def ended(run: Run, kept: Kept) -> Run:
    """Wait until a run has ended; nothing of its kernel is left then."""
    until(lambda: run.refresh().is_final)
    until(lambda: not processes_of(run, kept.worker_id), 10)
    until(lambda: not folder_of(kept).exists())
    assert kept.process_id is not None
    assert not psutil.pid_exists(kept.process_id)
    assert run.refresh().kept is None
    assert is_lawful(run._kit)
    return run.refresh()


def test_a_run_whose_kernel_is_kept_is_attached_to_and_goes_on_as_the_next_attempt(
    processes: Processes, kit: Kit, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace)
    assert (run.status, run.attempt, run.attempts()) == ("IN_PROGRESS", 1, [])
    assert run.progress_text is not None
    assert run.progress_text.startswith("failed at cell 2, kernel kept until ")
    assert (kept.cell, kept.cells, kept.error) == (2, 3, "ZeroDivisionError: division by zero")
    assert is_lawful(kit)

    kernel = run.attach()
    assert kernel["x"] == 21
    assert kernel["[1, 'a', None]"] == [1, "a", None]
    assert repr(kernel["(1, 2)"]) == "(1, 2)"
    assert kernel.variables == {"x": "int"}
    assert "x: int" in repr(kernel)
    with pytest.raises(KeyError, match="NameError"):
        kernel["nowhere"]
    kernel.run("divisor = 7\nprint('there', os.environ['JOBKIT_ATTEMPT'])\ndivisor")
    assert capsys.readouterr().out == "there 1\n7\n"
    with pytest.raises(CellFailed, match="NameError"):
        kernel.run("nowhere")
    kernel.run("import polars\ndf = polars.DataFrame({'a': [1, 2]})")
    assert kernel["df"]["a"].to_list() == [1, 2]

    gate = workplace / "gate"
    corrected = (
        f"import pathlib, time\ny = x / divisor\nwhile not pathlib.Path({str(gate)!r}).exists():\n"
        "    time.sleep(0.02)"
    )
    kernel.go_on(corrected)
    until(lambda: run.refresh().attempt == 2)
    assert is_lawful(kit)  # its processes are the second attempt's now
    assert processes_of(run, kept.worker_id)
    assert run.refresh().progress_text is None
    gate.touch()
    run = ended(run, kept)

    assert (run.status, run.attempt) == ("COMPLETED", 2)
    first, second = run.attempts()
    assert (first.status, first.exit_code, second.status) == ("FAILURE", 1, "SUCCESS")
    assert first.error_message == "ZeroDivisionError: division by zero"
    assert first.finished_at is not None
    assert second.started_at is not None
    assert first.finished_at < second.started_at
    assert "attempt 1" in run.output(1).text
    assert "one" not in run.output(2).text
    assert run.output(2).text == "rest 3.0 2\n"
    assert [cell.number for cell in run.cells(2)] == [2, 3]


def test_the_edit_is_in_the_notebook_in_the_changes_and_with_the_run(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace, "x = 1", "x / 0", "x")
    kernel = run.attach()
    kernel.run("x = 5")
    kernel.go_on("x / 1")
    run = ended(run, kept)
    assert [artifact.attempt for artifact in run.artifacts()] == [1, 2]
    before, after = (kit.artifact(run.id, "note.ipynb", number).json() for number in (1, 2))
    assert before["cells"][1]["metadata"]["tags"] == ["jobkit.failed"]
    cell = after["cells"][1]
    assert cell["source"] == ["x / 1"]
    assert cell["outputs"][0]["data"]["text/plain"] == ["5.0"]
    assert cell["metadata"]["tags"] == []
    (noted,) = cell["metadata"]["jobkit"]["edits"]
    assert (noted["before"], noted["cell"], noted["attempt"]) == ("x / 0", 2, 1)
    assert "-x / 0\n+x / 1" in noted["diff"]
    assert [it["code"] for it in after["metadata"]["jobkit"]["attached"]] == ["x = 5"]
    nbformat.validate(nbformat.reads(json.dumps(after), as_version=4))
    (edit,) = run.edits
    assert (edit.cell, edit.before, edit.after) == (2, "x / 0", "x / 1")
    assert "-x / 0\n+x / 1" in edit.diff
    changes = run.changes()
    assert changes[0].words == f"cell 2 was corrected by {edit.by}, 1 line added, 1 removed"
    assert "+x / 1" in changes[0].diff
    assert "+x / 1" in changes._repr_html_()


def test_only_the_workers_user_can_open_it_and_nothing_listens_on_tcp(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    processes.start("worker")
    forking = "import os\nif not (pid := os.fork()):\n    print('by a fork')\n    os._exit(0)"
    run, kept = failed(kit, workplace, f"{forking}\nos.waitpid(pid, 0)", "1 / 0")
    assert "by a fork" in run.output().text
    assert stat.S_IMODE(folder_of(kept).stat().st_mode) & 0o777 == 0o700
    assert stat.S_IMODE(Path(kept.connection_file).stat().st_mode) == 0o600
    assert json.loads(Path(kept.connection_file).read_text())["transport"] == "ipc"
    for pid in processes_of(run, kept.worker_id):
        assert psutil.Process(pid).net_connections("inet") == []
    run.let_go()
    ended(run, kept)


def by_deadline(run: Run, kept: Kept, worker: subprocess.Popen[bytes]) -> None:
    pass


def by_its_death(run: Run, kept: Kept, worker: subprocess.Popen[bytes]) -> None:
    assert kept.process_id is not None
    os.kill(kept.process_id, signal.SIGKILL)


def by_hand(run: Run, kept: Kept, worker: subprocess.Popen[bytes]) -> None:
    run.let_go()


def by_a_worker_that_stops(run: Run, kept: Kept, worker: subprocess.Popen[bytes]) -> None:
    worker.send_signal(signal.SIGTERM)


def by_a_drain(run: Run, kept: Kept, worker: subprocess.Popen[bytes]) -> None:
    assert run._kit.drain(kept.worker_id) == 1


WAYS: dict[Callable[..., None], str] = {
    by_deadline: "until its time was over",
    by_its_death: "until it died",
    by_hand: "until it was let go",
    by_a_worker_that_stops: "until its worker stopped",
    by_a_drain: "until its worker stopped",
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_each_way_to_end_leaves_no_process_and_a_run_that_failed(
    processes: Processes, kit: Kit, workplace: Path, way: Callable[..., None]
) -> None:
    worker = processes.start("worker")
    run, kept = failed(kit, workplace, keep="3s" if way is by_deadline else "10m")
    way(run, kept, worker)
    run = ended(run, kept)
    said = f"ZeroDivisionError: division by zero; its kernel was kept {WAYS[way]}"
    assert (run.status, run.error_message) == ("FAILED", said)
    assert run.progress_text == "failed at cell 2"
    (attempt,) = run.attempts()
    assert (attempt.status, attempt.exit_code, attempt.error_message) == ("FAILURE", 1, said)
    assert (attempt.duration or timedelta(1)) < timedelta(minutes=1)
    assert "ZeroDivisionError" in (attempt.log_output or "")
    assert [artifact.name for artifact in run.artifacts()] == ["note.ipynb"]
    if way in (by_a_worker_that_stops, by_a_drain):
        assert worker.wait(30) == 0


def test_a_cancel_ends_it_as_cancelled(processes: Processes, kit: Kit, workplace: Path) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace)
    run.cancel()
    run = ended(run, kept)
    assert (run.status, [it.status for it in run.attempts()]) == ("CANCELLED", ["FAILURE"])


def test_a_worker_that_is_killed_leaves_no_kernel_and_the_run_has_failed(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    processes.start("scheduler")
    worker = processes.start("worker")
    run, kept = failed(kit, workplace)
    worker.kill()
    worker.wait()
    until(lambda: not processes_of(run, kept.worker_id), 10)
    until(lambda: run.refresh().is_final)
    processes.start("worker")  # which removes what the dead one left on disk
    run = ended(run, kept)
    said = "ZeroDivisionError: division by zero; the worker was lost that kept its kernel"
    assert (run.status, run.error_message) == ("FAILED", said)
    (attempt,) = run.attempts()
    assert (attempt.status, attempt.exit_code) == ("FAILURE", 1)
    assert "ZeroDivisionError" in (attempt.log_output or "")


def test_a_corrected_cell_that_fails_keeps_the_kernel_again(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace)
    run = settled(run.go_on("y = nowhere"))
    again = run.kept
    assert again is not None
    assert (run.attempt, again.attempt, again.cell) == (2, 2, 2)
    assert (again.source, again.error) == (
        "y = nowhere",
        "NameError: name 'nowhere' is not defined",
    )
    assert again.connection_file == kept.connection_file
    run = settled(run.go_on("y = x\nimport os"))
    run = ended(run, again)
    assert run.status == "COMPLETED"
    assert [it.status for it in run.attempts()] == ["FAILURE", "FAILURE", "SUCCESS"]
    assert [edit.after for edit in run.edits] == ["y = nowhere", "y = x\nimport os"]
    assert run.output(3).text == "rest 21 3\n"
    document = kit.artifact(run.id, "note.ipynb").json()
    assert len(document["cells"][1]["metadata"]["jobkit"]["edits"]) == 2


def test_a_kept_kernel_occupies_no_slot_and_renews_its_lease(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    processes.start("scheduler")
    processes.start("worker", "--slots", "1")
    run, kept = failed(kit, workplace)
    kit.add_job("other", "hello.py", retries=0)
    for _ in range(3):
        assert kit.submit("other").wait(60).status == "COMPLETED"
    time.sleep(8)  # longer than the lease and its grace
    assert run.refresh().kept == kept
    until(lambda: settled(run.go_on("y = 1")).is_final)
    assert ended(run, kept).status == "COMPLETED"


def test_a_timeout_does_not_run_while_it_is_kept_and_runs_again_when_it_goes_on(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace, "x = 1 / 0", "x", timeout="20s")
    assert run.claimed_at is not None
    until(lambda: kit.clock.now() > run.claimed_at + timedelta(seconds=21))  # type: ignore[operator]
    assert run.refresh().kept == kept
    run.go_on("import time\ntime.sleep(60)")
    run = ended(run, kept)
    assert (run.status, run.attempts()[-1].status) == ("TIMEOUT", "TIMEOUT")


def test_while_tries_are_left_the_run_is_tried_again_instead(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace, retries=1, retry_delay="0.1s")
    assert (run.attempt, kept.attempt) == (2, 2)
    assert [it.status for it in run.attempts()] == ["FAILURE"]
    run.let_go()
    assert ended(run, kept).status == "FAILED"


def test_what_cannot_be_attached_says_why(processes: Processes, kit: Kit, workplace: Path) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace)
    with pytest.raises(BadInput, match="corrected cell is empty"):
        run.go_on("  ")
    with pytest.raises(NotFound):
        kit.runs.go_on(run.id + 1, "x")
    with kit.database.write() as connection:
        connection.execute(kept_kernels.update().values(hostname="elsewhere"))
    with pytest.raises(BadInput, match="kernel of run 1 is on elsewhere, and this is"):
        run.attach()
    assert settled(run.go_on("y = 0")).status == "COMPLETED"  # that works from anywhere
    with pytest.raises(BadInput, match="No kernel is kept of run 1: it is COMPLETED"):
        run.attach()
    with pytest.raises(BadInput, match="No kernel is kept of run 1"):
        run.go_on("y = 0")
    ended(run, kept)


def test_a_kernel_that_ends_while_it_is_attached_says_so(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace, keep="6s")
    kernel = run.attach()
    with pytest.raises(BadInput, match="The kernel of run 1 is gone"):
        kernel.run("import time\ntime.sleep(600)")
    kernel.close()
    assert ended(run, kept).status == "FAILED"


def test_a_program_without_keep_kernel_cannot_make_itself_kept(
    processes: Processes, kit: Kit, workplace: Path
) -> None:
    (workplace / "liar.py").write_text("print('::cell {\"kind\": \"kept\"}')\nprint('after')\n")
    kit.add_job("liar", "liar.py", retries=0)
    processes.start("worker")
    run = kit.submit("liar").wait(60)
    assert (run.status, run.output().text) == ("COMPLETED", "after\n")


MAGICS = (
    "%load_ext jobkit\nimport jobkit\nkit = jobkit.connect()",
    "%jobkit attach 1",
    "%%attached\nfrom IPython.display import HTML, display\ndisplay(HTML('<b>there</b>'))\nx",
    "%%attached\nprint('said', x)\n1 / 0",
    "%jobkit kept",
    "%%jobkit go on\ny = x",
    "%jobkit let go 1",
    "%%attached\nx",
    "%jobkit dance",
)


def test_the_magics_in_a_real_notebook(processes: Processes, kit: Kit, workplace: Path) -> None:
    processes.start("worker")
    run, kept = failed(kit, workplace)
    document = nbformat.read(workplace / notebook(workplace, *MAGICS, name="mine.ipynb"), 4)
    environment = os.environ | {"JOBKIT_DB_URL": processes.url}
    client = NotebookClient(document, timeout=120, allow_errors=True)
    client.execute(env=environment, cwd=str(workplace))
    shown = [cell["outputs"] for cell in document["cells"]]
    assert shown[0] == []
    assert "x: int" in shown[1][0]["data"]["text/plain"]
    assert shown[2][0]["data"]["text/html"] == "<b>there</b>"
    assert shown[2][1]["data"]["text/plain"] == "21"
    assert shown[3][0]["text"] == "said 21\n"
    assert "ZeroDivisionError" in str(shown[3][1])
    assert shown[3][-1]["ename"] == "CellFailed"
    assert "<Kernel of run 1 on" in shown[4][0]["data"]["text/plain"]
    assert "Run 1 of note: COMPLETED" in shown[5][0]["data"]["text/plain"]
    assert "No kernel is kept of run 1" in shown[6][-1]["evalue"]
    assert "No kernel is attached" in shown[7][-1]["evalue"]
    assert "'dance' is not understood" in shown[8][-1]["evalue"]
    assert ended(run, kept).status == "COMPLETED"


# The rules, on a literal clock


def kernel(now: Any, error: str = "ValueError: bad") -> kernels.Kernel:
    return kernels.Kernel("laptop", 7, "/nowhere/kernel.json", 2, 3, "x", error, now)


def keep(stage: Stage, claim: Claim, minutes: int = 15) -> bool:
    now = stage.clock.now()
    with stage.kit.database.write() as connection:
        return kernels.keep(
            connection,
            claim,
            kernel(now + timedelta(minutes=minutes)),
            started_at=claim.claimed_at,
            failed_at=now,
            measures={"log_output": "said"},
            text="kept",
        )


def go_on(stage: Stage, claim: Claim) -> Claim | None:
    with stage.kit.database.write() as connection:
        return kernels.go_on(connection, claim, stage.clock.now(), stage.lease)


def test_a_run_goes_on_once_however_often_its_worker_asks(stage: Stage) -> None:
    stage.register()
    stage.job(retries=0)
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    assert keep(stage, claim)
    stage.clock.turn_to(at("06:05"))
    following = go_on(stage, claim)
    assert following is not None
    assert (following.attempt, following.claimed_at) == (2, at("06:05"))
    stage.clock.turn_to(at("06:06"))
    assert go_on(stage, claim) == following
    run = run.refresh()
    assert (run.status, run.attempt, run.retry_count, run.max_retries) == ("IN_PROGRESS", 2, 1, 1)
    (attempt,) = run.attempts()
    assert (attempt.status, attempt.finished_at, attempt.log_output) == (
        "FAILURE", at("06:00"), "said",
    )  # fmt: skip
    assert not stage.finish(claim, exit_code=1)  # the first attempt is over
    assert stage.finish(following, exit_code=1)
    assert run.refresh().status == "FAILED"
    assert is_lawful(stage.kit)


def test_nothing_is_kept_while_tries_are_left_nor_of_a_run_that_is_to_be_cancelled(
    stage: Stage,
) -> None:
    stage.register()
    stage.job(retries=1)
    stage.kit.submit("sales")
    assert not keep(stage, stage.claim_one())
    stage.job("other", retries=0)
    run = stage.kit.submit("other")
    claim = stage.claim_one()
    run.cancel()
    assert not keep(stage, claim)
    assert run.refresh().kept is None


def test_a_stale_worker_neither_keeps_nor_goes_on(stage: Stage) -> None:
    stage.register()
    stage.job(retries=0)
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    assert keep(stage, claim)
    stage.clock.turn_to(at("07:00", day=4))
    stage.tick()
    assert run.refresh().status == "FAILED"
    assert go_on(stage, claim) is None
    assert not keep(stage, claim)


def test_the_rescue_of_a_run_whose_kernel_was_kept_records_the_failure_that_it_was(
    stage: Stage,
) -> None:
    stage.register()
    stage.job(retries=0)
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    stage.clock.turn_to(at("06:10"))
    assert keep(stage, claim)
    stage.clock.turn_to(at("07:00", day=4))
    stage.tick()
    run = run.refresh()
    said = "ValueError: bad; the worker was lost that kept its kernel"
    assert (run.status, run.error_message, run.progress_text) == ("FAILED", said, None)
    (attempt,) = run.attempts()
    assert (attempt.status, attempt.finished_at, attempt.exit_code) == ("FAILURE", at("06:10"), 1)
    assert is_lawful(stage.kit)


def test_a_wish_is_heard_once_and_letting_go_overrules_it(stage: Stage) -> None:
    stage.register()
    stage.job(retries=0)
    run = stage.kit.submit("sales")
    claim = stage.claim_one()
    assert keep(stage, claim)
    run.go_on("x = 1")
    with pytest.raises(BadInput, match="asked run 1 to go on already"):
        run.go_on("x = 2")
    with stage.kit.database.read() as connection:
        (wish,) = kernels.wishes(connection, "w1")
    assert (wish.what, wish.correction) == ("go on", "x = 1")
    run.let_go()
    with stage.kit.database.read() as connection:
        (wish,) = kernels.wishes(connection, "w1")
    assert (wish.what, wish.correction) == ("let go", "")
    stage.clock.turn_to(at("07:00"))
    with pytest.raises(BadInput, match="No kernel is kept"):
        run.go_on("x = 3")


@pytest.mark.parametrize(("given", "seconds"), [("15m", 900), (90, 90), (0, None)])
def test_how_long_is_part_of_the_definition(kit: Kit, given: Any, seconds: float | None) -> None:
    job = kit.add_job("note", "hello.py", keep_kernel=given)
    assert job.keep_kernel_seconds == seconds


def test_how_long_has_bounds(kit: Kit) -> None:
    with pytest.raises(BadInput, match="keep_kernel=2d is out of bounds"):
        kit.add_job("note", "hello.py", keep_kernel="2d")
