"""What a notebook's Tab and hover know, asked of a real kernel as JupyterLab and VS Code ask it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import start_new_kernel

import jobkit

PATIENCE_SECONDS = 90
SETUP = """\
import jobkit
kit = jobkit.connect({url!r})
kit.add_job("hello", "hello.py", source="print(1)", every="15m")
kit.add_job("nightly load", "load.py", source="print(1)", daily="02:00")
run = kit.submit("hello")
"""


@pytest.fixture
def kernel(sqlite_database: str) -> Iterator[BlockingKernelClient]:
    """Start a kernel in which a kit has two jobs and a run."""
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        answer = client.execute(
            SETUP.format(url=sqlite_database), reply=True, timeout=PATIENCE_SECONDS
        )
        assert answer["content"]["status"] == "ok", answer["content"]
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def offered(kernel: BlockingKernelClient, code: str) -> set[str]:
    """Return what Tab offers after some code, without what begins with an underscore."""
    reply = kernel.complete(code, len(code), reply=True, timeout=PATIENCE_SECONDS)
    last = (match.rpartition(".")[2] for match in reply["content"]["matches"])
    return {name for name in last if not name.startswith("_")}


def hovered(kernel: BlockingKernelClient, code: str) -> str:
    """Return what hovering over a name, or Shift-Tab, shows."""
    reply = kernel.inspect(code, len(code), reply=True, timeout=PATIENCE_SECONDS)
    assert reply["content"]["found"], code
    return re.sub(r"\x1b\[[0-9;]*m", "", reply["content"]["data"]["text/plain"])


@pytest.mark.filterwarnings("ignore")
def test_tab_knows_jobs_runs_and_what_can_be_done_with_them(kernel: BlockingKernelClient) -> None:
    assert {"connect", "job", "gather", "preview"} <= offered(kernel, "jobkit.")
    assert {"jobs", "runs", "workers", "add_job", "notebook"} <= offered(kernel, "kit.")
    assert {"hello", "submit", "df"} <= offered(kernel, "kit.jobs.")
    assert "nightly load" not in offered(kernel, "kit.jobs.")
    assert offered(kernel, "kit.jobs['") == {"hello", "nightly load"}
    assert {"submit", "pause", "next"} <= offered(kernel, "kit.jobs.hello.")
    for one in ("run.", "kit.runs[1].", "kit.runs.last.", "kit.submit('hello')."):
        assert {"wait", "logs", "result", "cancel", "status"} <= offered(kernel, one), one
    assert "drain" in offered(kernel, "kit.workers.")


@pytest.mark.filterwarnings("ignore")
def test_hovering_says_the_signature_and_what_it_does(kernel: BlockingKernelClient) -> None:
    assert "Wait until the run has ended" in hovered(kernel, "run.wait")
    assert "Stop the schedule" in hovered(kernel, "kit.jobs.hello.pause")
    assert "timeout" in hovered(kernel, "run.wait")
    assert "Make a function a job" in hovered(kernel, "jobkit.job")
    assert "kit.runs[:10]" in hovered(kernel, "kit.runs")


def test_the_package_says_that_it_has_types() -> None:
    assert (Path(jobkit.__file__).parent / "py.typed").exists()
