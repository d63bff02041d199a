"""In a fresh kernel every cell gives the figures of its report, and the notebook runs."""

from __future__ import annotations

import json

import nbformat
import pytest
from nbclient import NotebookClient

from jobkit.kit import Kit
from tests.archives import NOW, live


def executed(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    client = NotebookClient(notebook, timeout=180, kernel_name="python3")
    done: nbformat.NotebookNode = client.execute()
    return done


@pytest.mark.filterwarnings("ignore")
def test_every_cell_gives_the_same_figures_in_a_fresh_kernel(sqlite_database: str) -> None:
    import jobkit

    with jobkit.connect(sqlite_database) as kit:
        live(kit, attempts=300)
        log = kit.log("60d", tz="Europe/Paris")
        reports = [
            log.throughput(every="1d"), log.throughput(every=None, by="hour"), log.durations(),
            log.durations(by=None, every="1d"), log.failures(), log.failures(every="1d"),
            log.queue_wait(every="1d"), log.utilisation(every="1d"),
            log.utilisation(every="1d", by="worker"), log.concurrency(every="1d"), log.late(),
            log.late(after="5m"), log.retries(), log.slowest(7), log.flakiest(5), log.compare("7d"),
            log.sql("SELECT job, avg(duration_seconds) AS a FROM attempts GROUP BY ALL ORDER BY 1"),
        ]  # fmt: skip
        for report in reports:
            assert "Traceback" not in report.cell
        cells = [f"{report.cell}\nprint(report.df.write_json())" for report in reports]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        done = executed(notebook)
        for report, cell in zip(reports, done.cells, strict=True):
            printed = "".join(
                item["text"] for item in cell.outputs if item["output_type"] == "stream"
            )
            wanted = json.loads(report.df.write_json())
            assert json.loads(printed) == wanted, report.name
    assert log.window.end == NOW


def test_a_cell_never_holds_a_password(sqlite_database: str) -> None:
    import jobkit

    with jobkit.connect(sqlite_database) as kit:
        kit.database.url = kit.database.url.set(password="hidden", username="me", host="h")
        assert "hidden" not in Kit._opening(kit)
