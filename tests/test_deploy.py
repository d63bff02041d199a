"""The recipes for containers say nothing that the program does not know."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from jobkit.cli.commands import app
from jobkit.service import make_plan
from jobkit.settings import load, setting_names
from jobkit.text import parse_duration
from portal.permissions import NEEDED

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "docs" / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: it for name, it in SERVICES.items() if it["image"] == "jobkit"}
PASSWORD = re.compile(r"\$\{POSTGRES_PASSWORD:\?[^}]+\}")


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Containerfile in their order."""
    text = re.sub(r"(?m)^#.*\n", "", (DEPLOY / "Containerfile").read_text("utf-8"))
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line]


def understood(words: list[str]) -> str:
    """Return the command that the words call; a usage error when jobkit does not take them."""
    command: Any = typer.main.get_command(app)
    name, rest = [], list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest[0]]
        name.append(rest.pop(0))
    command.make_context(" ".join(name), rest)
    return " ".join(name)


def test_the_image_runs_as_nobody_special_under_an_init() -> None:
    said = dict(instructions())
    order = [word for word, _ in instructions()]
    assert order[0] == "FROM"
    assert said["USER"] == "jobkit"
    assert "useradd --uid 10001" in next(text for word, text in instructions() if word == "RUN")
    assert order.index("USER") > max(at for at, word in enumerate(order) if word == "RUN")
    assert json.loads(said["ENTRYPOINT"]) == ["tini", "--", "jobkit"]
    program, *words = json.loads(said["HEALTHCHECK"].partition(" CMD ")[2])
    assert (program, understood(words)) == ("jobkit", "db check")


def test_the_image_installs_extras_that_there_are() -> None:
    known = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (installs,) = (text for word, text in instructions() if "pip install" in text)
    named = re.findall(r"\[([a-z0-9,]+)\]", installs)
    assert {name for names in named for name in names.split(",")} >= {"postgres", "analytics"}
    assert set(named[0].split(",")) <= set(known["optional-dependencies"])


def test_every_setting_in_the_recipes_exists_and_is_understood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = dict(text.split("=", 1) for word, text in instructions() if word == "ENV")
    for service in OURS.values():
        given = {**image, **service["environment"]}
        assert set(given) - {"PYTHONUNBUFFERED"} <= set(setting_names().values())
        for name, value in given.items():
            monkeypatch.setenv(name, PASSWORD.sub("secret", str(value)))
        assert load().db_url == "postgresql://jobkit:secret@db/jobkit"


def test_every_command_in_the_recipes_is_understood() -> None:
    calls = {name: understood(service["command"]) for name, service in OURS.items()}
    assert calls == {
        "upgrade": "db upgrade", "scheduler": "scheduler", "portal": "portal",
        "worker-1": "worker", "worker-2": "worker",
    }  # fmt: skip
    assert understood(["user", "add", "anna", "--role", "admin"]) == "user add"


def test_nobody_starts_before_the_schema_is_there() -> None:
    for name in set(OURS) - {"upgrade"}:
        assert OURS[name]["depends_on"] == {
            "db": {"condition": "service_healthy"},
            "upgrade": {"condition": "service_completed_successfully"},
        }
    assert "healthcheck" in SERVICES["db"]
    assert SERVICES["upgrade"]["restart"] == "no"


def test_containers_have_the_time_to_stop_that_their_programs_take() -> None:
    needed = {it.name: it.stops_within for it in make_plan(load(), system="systemd").programs}
    for name in set(OURS) - {"upgrade"}:
        assert parse_duration(OURS[name]["stop_grace_period"]) >= needed[name.partition("-")[0]]


def test_each_worker_has_a_volume_of_its_own() -> None:
    mounts = {name: dict(_mounts(service)) for name, service in SERVICES.items()}
    used = {it for places in mounts.values() for it in places.values() if "/" not in it}
    assert used == set(COMPOSE["volumes"])
    spools = [mounts[name]["/var/lib/jobkit"] for name in ("worker-1", "worker-2")]
    assert len(set(spools)) == 2
    assert all(
        mounts[name]["/var/lib/artifacts"] == "artifacts" for name in set(OURS) - {"upgrade"}
    )


def _mounts(service: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for volume in service.get("volumes", []):
        source, target, *_ = volume.split(":")
        yield target, source


def test_the_portal_is_asked_where_it_answers() -> None:
    code = SERVICES["portal"]["healthcheck"]["test"][-1]
    compile(code, "healthcheck", "exec")
    port = SERVICES["portal"]["command"][-1]
    assert f"http://127.0.0.1:{port}/healthz?live" in code
    assert "health.healthz" in NEEDED
    assert SERVICES["portal"]["ports"] == [f"127.0.0.1:{port}:{port}"]


def test_no_password_stands_in_the_recipes() -> None:
    text = (DEPLOY / "compose.yaml").read_text("utf-8")
    assert len(PASSWORD.findall(text)) == text.count("POSTGRES_PASSWORD") - 1 == 2
