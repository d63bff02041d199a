"""What the documents say is what the program does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import typer

from jobkit.cli.admin import app as admin
from jobkit.cli.commands import app
from jobkit.settings import setting_names
from jobkit.states import ATTEMPT_STATUSES, OVERLAP_POLICIES, RUN_STATUSES

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def commands(of: typer.Typer) -> set[str]:
    """Return the commands of a program, groups with a word before theirs."""
    group = typer.main.get_command(of)
    found = set()
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        below = getattr(command, "commands", {})
        found |= {name, *(f"{name} {word}" for word in below)}
    return found


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_in_a_document_exists(document: Path) -> None:
    known = {f"jobkit {name}" for name in commands(app)}
    known |= {f"job-admin {name}" for name in commands(admin)}
    text = document.read_text("utf-8")
    code = "\n".join(_code(text))
    for program, word in re.findall(r"(?<![%\w])(jobkit|job-admin) ([a-z][a-z-]*)\b", code):
        assert f"{program} {word}" in known, word


def _code(text: str) -> list[str]:
    return [
        block or line for block, line in re.findall(r"```\n(.*?)```|`([^`\n]+)`", text, re.DOTALL)
    ]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_setting_in_a_document_exists(document: Path) -> None:
    known = {*setting_names().values(), "JOBKIT_TEST_PG", "JOBKIT_BROWSER"}
    given_to_scripts = {"RUN_ID", "ATTEMPT", "SCHEDULED_FOR", "PARAMS", "WORKER_ID", "WORKER_PID"}
    given_to_scripts |= {"ARTIFACTS", "SECRETS"}
    known |= {f"JOBKIT_{name}" for name in given_to_scripts} | {"JOBKIT_SECRET_NAME"}
    for name in re.findall(r"\bJOBKIT_[A-Z_]+\b", document.read_text("utf-8")):
        assert name in known


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_leads_to_is_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text("utf-8")):
        assert target.startswith("https://") or (document.parent / target).exists(), target


def test_the_concepts_explain_every_state_and_policy() -> None:
    text = (ROOT / "docs" / "concepts.md").read_text("utf-8")
    for word in (*RUN_STATUSES, *ATTEMPT_STATUSES, *OVERLAP_POLICIES):
        assert re.search(rf"\b{word}\b", text), word


def test_the_changelog_has_the_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text("utf-8")
