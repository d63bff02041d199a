"""Each report, grouped in each way, says a cell that gives its figures in a fresh kernel."""

from __future__ import annotations

import json

import nbformat
import pytest

import jobkit
from tests.archives import NOW, live
from tests.referee import QUESTIONS, Asked
from tests.test_analytics_notebook import executed

AT = Asked(NOW.replace(month=1, day=1), NOW, NOW, "1d", "Europe/Paris")


@pytest.mark.filterwarnings("ignore")
def test_every_question_is_asked_again_by_its_cell(sqlite_database: str) -> None:
    with jobkit.connect(sqlite_database) as kit:
        live(kit, attempts=300)
        log = kit.log((AT.start, AT.end), tz=AT.zone)
        reports = [question.ask(log, AT) for question in QUESTIONS]
        reports += [log.throughput(every=None, by="trigger"), log.queue_wait(every="1w")]
        cells = [f"{report.cell}\nprint(report.df.write_json())" for report in reports]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        for report, cell in zip(reports, executed(notebook).cells, strict=True):
            said = "".join(item.get("text", "") for item in cell.outputs)
            assert json.loads(said) == json.loads(report.df.write_json()), report.cell
            assert report.df.height > 0
