"""Programs of earlier revisions, from the history of this repository."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobkit.migrations import REVISIONS

ROOT = Path(__file__).parent.parent
VERSIONS = "jobkit/migrations/versions"


def unpack(revision: str, folder: Path) -> Path:
    """Unpack the last program that a revision was the newest of; skip where it is not there."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no history of this repository is here, and so no earlier program")
    commit = next((it for it in _commits() if _scripts_of(it) == _scripts(revision)), None)
    if commit is None:
        pytest.skip(f"the history here does not reach back to revision {revision}: git fetch")
    with tarfile.open(fileobj=io.BytesIO(_git("archive", commit, "jobkit", "portal"))) as packed:
        packed.extractall(folder, filter="data")
    return folder


def _commits() -> Iterator[str]:
    """Yield the newest commit, and each that changed revisions after the one before it."""
    yield "HEAD"
    for commit in _git("rev-list", "HEAD", "--", VERSIONS).decode().split():
        yield commit
        yield from _git("rev-parse", f"{commit}^@").decode().split()


def _scripts(revision: str) -> set[str]:
    """Name the scripts up to a revision: a branch may have had another of the same number."""
    names = {path.name for path in (ROOT / VERSIONS).glob("r*.py")}
    return {name for name in names if name[1:5] <= revision} if revision in REVISIONS else set()


def _scripts_of(commit: str) -> set[str]:
    listed = _git("ls-tree", "--name-only", commit, f"{VERSIONS}/").decode().split()
    return {name for name in (Path(it).name for it in listed) if name.startswith("r")}


def _git(*arguments: str) -> bytes:
    ran = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True)
    return ran.stdout if ran.returncode == 0 else b""
