"""What ships for Prometheus and Grafana, held against a real Prometheus that scrapes a demo."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import jobkit
from jobkit import monitoring
from jobkit.cli.commands import app
from jobkit.kit import Kit
from jobkit.store import tallies
from tests.test_processes import Processes, until

HERE = Path(__file__).parent
TOKEN = "a-token-of-the-tests"
ADDRESS = re.compile(r"http://(127\.0\.0\.1:\d+)/")


def needed(program: str) -> str:
    if shutil.which(program) is None and "CI" not in os.environ:
        pytest.skip(f"{program} is not installed (Debian's package prometheus)")
    return program


def printed(what: str) -> str:
    ran = CliRunner().invoke(app, ["metrics", what])
    assert ran.exit_code == 0
    return ran.stdout


def expressions() -> dict[str, str]:
    """Return what the dashboard asks for, by panel and letter, with its variables filled in."""
    filled = {"$job": "jobkit", "$__rate_interval": "1m"}
    found = {}
    for panel in json.loads(printed("dashboard"))["panels"]:
        for target in panel.get("targets", []):
            asked = target["expr"]
            for name, value in filled.items():
                asked = asked.replace(name, value)
            found[f"{panel['title']} {target['refId']}"] = asked
    return found


class Prometheus:
    """A server of its own, which scrapes and evaluates each second."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._url = f"http://127.0.0.1:{free.getsockname()[1]}"
        (folder / "rules.yml").write_text(printed("rules"), "utf-8")
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps(config), "utf-8")
        self._log = folder / "prometheus.log"
        asked = (
            f"--web.listen-address={self._url.removeprefix('http://')}",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
        )
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([needed("prometheus"), *asked], stdout=log, stderr=log)

    def ask(self, path: str, **query: str) -> Any:
        """Return the data of an answer of the API; None while there is none."""
        url = f"{self._url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        assert self._process.poll() is None, self._log.read_text("utf-8")
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 503:
                pytest.fail(f"{query}: {error.read().decode()}")
            return None
        except OSError:
            return None  # it has only begun

    def numbers(self, expression: str) -> list[float]:
        """Return what an expression comes to now, NaN left out."""
        data = self.ask("query", query=expression)
        values = [] if data is None else [float(it["value"][1]) for it in data["result"]]
        return [value for value in values if not isnan(value)]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def address(processes: Processes, program: subprocess.Popen[bytes]) -> str:
    """Return where a program listens."""
    until(lambda: ADDRESS.search(processes.said(program)) is not None)
    found = ADDRESS.search(processes.said(program))
    assert found is not None
    return found[1]


@pytest.fixture
def demo(sqlite_database: str) -> Iterator[tuple[Kit, Processes]]:
    processes = Processes(sqlite_database, JOBKIT_TOKEN=TOKEN)
    with jobkit.connect(sqlite_database) as kit:
        yield kit, processes
    processes.end()


@pytest.fixture
def prometheus(demo: tuple[Kit, Processes], tmp_path: Path) -> Iterator[Prometheus]:
    _, processes = demo
    needed("prometheus")
    asked = (
        ("up", "--demo", "--port", "0", "--no-browser"),
        ("scheduler", "--metrics-port", "0"),
        ("worker", "--metrics-port", "0"),
    )
    started = [processes.start(*words) for words in asked]
    portal, *alone = (address(processes, program) for program in started)
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(tmp_path / "rules.yml")],
        "scrape_configs": [
            {
                "job_name": "jobkit",
                "static_configs": [{"targets": [portal]}],
                "authorization": {"credentials": TOKEN},
            },
            {"job_name": "jobkit-processes", "static_configs": [{"targets": alone}]},
        ],
    }
    opened = Prometheus(tmp_path, config)
    yield opened
    opened.end()


def live(kit: Kit) -> None:
    """Let a slot be run, and count it at once, as a scheduler does a moment later."""
    kit.add_job("meter", "hello.py", every="1s")
    until(lambda: bool(kit.runs(job="meter", status="COMPLETED")))
    with kit.database.write() as connection:
        tallies.count(connection, kit.clock.now() + tallies.LAG)


def test_a_real_prometheus_has_an_answer_to_every_rule_and_every_panel(
    demo: tuple[Kit, Processes], prometheus: Prometheus
) -> None:
    until(lambda: prometheus.numbers("sum(jobkit_runs_finished_total)") != [])
    live(demo[0])
    groups = prometheus.ask("rules")["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    recorded = {name: name for name, rule in rules.items() if rule["type"] == "recording"}
    asked = expressions() | recorded
    assert len(recorded) == 3
    assert len(asked) > 30
    lacking = set(asked)

    def answered() -> bool:
        lacking.difference_update([it for it in lacking if prometheus.numbers(asked[it])])
        return not lacking

    try:
        until(answered, 60)
    finally:
        assert lacking == set()
    rules = prometheus.ask("rules")["groups"]
    assert {it["health"] for group in rules for it in group["rules"]} == {"ok"}, rules
    assert {it["health"] for it in prometheus.ask("targets")["activeTargets"]} == {"up"}


def test_each_rule_alerts_when_it_should_and_not_before(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(printed("rules"), "utf-8")
    shutil.copy(HERE / "rules_test.yml", tmp_path)
    for asked in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        ran = subprocess.run(
            [needed("promtool"), *asked], cwd=tmp_path, capture_output=True, text=True
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_no_panel_of_the_dashboard_lies_over_another() -> None:
    panels = json.loads(monitoring.text(monitoring.DASHBOARD))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][it] for it in "xywh") for panel in panels]
    for index, (x, y, w, h) in enumerate(places):
        assert x + w <= 24
        for left, top, wide, high in places[:index]:
            assert x >= left + wide or left >= x + w or y >= top + high or top >= y + h
