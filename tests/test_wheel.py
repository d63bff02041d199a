"""What is published: the wheel, in an environment of its own, and the list of its materials."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
import zipfile
from pathlib import Path

import cyclonedx.schema
import jsonschema_rs
import pytest

from tests.test_processes import until

ROOT = Path(__file__).parents[1]
UV = shutil.which("uv") or "uv"


def run(*command: str, **more: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    said: str = done.stdout
    return said


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # Of the source archive, as an installer builds it that finds no wheel.
    run(UV, "build", "--quiet", "--out-dir", str(folder), cwd=ROOT)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """An environment that holds the wheel and what it needs, and nothing of this tree."""
    folder = wheel.parent / "environment"
    run(UV, "venv", "--quiet", "--python", sys.executable, str(folder))
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    run(UV, "pip", "install", "--quiet", "--python", str(scripts / "python"), str(wheel))
    return scripts


def test_the_wheel_holds_all_that_is_used_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"jobkit", "jobkit_vendor", "portal"}
    wanted = {
        "jobkit/py.typed",
        "portal/static/portal.css",
        "portal/static/portal.js",
        "portal/templates/base.html",
        *(f"jobkit/sample_scripts/{path.name}" for path in (ROOT / "sample_scripts").glob("*.py")),
    }
    assert wanted <= names
    assert any(name.startswith("jobkit_vendor/htmx") for name in names), "assets come with it"
    sources = {
        path.relative_to(ROOT).as_posix()
        for top in ("jobkit", "portal")
        for path in (ROOT / top).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources - names == set()


def test_the_demo_runs_from_the_wheel_alone(installed: Path, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    at = {"cwd": tmp_path, "env": environment}
    jobkit = str(installed / "jobkit")
    where = run(str(installed / "python"), "-c", "import jobkit; print(jobkit.__file__)", **at)
    assert Path(where.strip()).is_relative_to(installed.parent)
    with (tmp_path / "log").open("w") as log:
        demo = subprocess.Popen(
            [jobkit, "up", "--demo", "--no-browser", "--port", "0"],
            stdout=log,
            stderr=log,
            **at,  # type: ignore[call-overload]
        )
        try:
            until(lambda: "http://127.0.0.1:" in (tmp_path / "log").read_text(), 60)
            until(lambda: _completed(jobkit, at) > 0, 60)
            address = (tmp_path / "log").read_text().partition("http://")[2].split()[0]
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
            with browser.open(f"http://{address}", timeout=30) as answer:
                assert "</html>" in answer.read().decode(), "the portal has its templates"
        finally:
            demo.terminate()
            demo.wait(30)
    assert run(jobkit, "verify", **at)


def _completed(jobkit: str, at: dict[str, object]) -> int:
    return len(json.loads(run(jobkit, "runs", "--status", "COMPLETED", "--json", **at)))


def test_the_list_of_materials_names_each_dependency(tmp_path: Path) -> None:
    target = tmp_path / "jobkit.cdx.json"
    command = ("export", "--quiet", "--format", "cyclonedx1.5", "--no-dev", "--all-extras")
    run(UV, *command, "--output-file", str(target), cwd=ROOT)
    document = json.loads(target.read_text("utf-8"))
    assert faults(document) == []
    assert (document["bomFormat"], document["metadata"]["component"]["name"]) == (
        "CycloneDX",
        "jobkit",
    )
    listed = {item["name"] for item in document["components"] if item["version"]}
    assert {"sqlalchemy", "flask", "duckdb", "polars", "psycopg", "authlib"} <= listed
    assert "pytest" not in listed


def faults(document: object) -> list[str]:
    """Return what the schema of CycloneDX 1.5 says against a list of materials."""
    schemas = Path(cyclonedx.schema.__file__).parent / "_res"

    def read(address: str) -> object:
        return json.loads((schemas / address.rpartition("/")[2]).read_text("utf-8"))

    # The library's own validator takes minutes for the addresses of 1,200 files.
    validator = jsonschema_rs.Draft7Validator(read("bom-1.5.SNAPSHOT.schema.json"), retriever=read)
    return [error.message for error in validator.iter_errors(document)]


def test_what_the_wheel_ships_of_others_is_in_a_list_of_its_own(wheel: Path) -> None:
    hook = (ROOT / "hatch_build.py").read_text("utf-8")
    shipped, checked = (
        re.findall(rf'^{name} = "(.+?)"', hook, re.MULTILINE)[0]
        for name in ("SHIPPED_AS", "SHA256")
    )
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if ".dist-info/sboms/" in each)
        document = json.loads(archive.read(name))
        text = archive.read(shipped)
    assert faults(document) == []
    (htmx,) = document["components"]
    assert htmx["hashes"] == [{"alg": "SHA-256", "content": checked}]
    assert hashlib.sha256(text).hexdigest() == checked
    assert htmx["version"].encode() in text


def test_a_list_of_materials_that_lacks_something_is_seen() -> None:
    broken = json.loads((ROOT / "htmx.cdx.json").read_text("utf-8"))
    del broken["components"][0]["name"]
    assert faults(broken) == ['"name" is a required property']
