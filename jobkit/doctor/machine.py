"""This machine: its time zones, its folders, its disks, and the programs that jobs need."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import tempfile
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

from jobkit import artifacts
from jobkit.db import copies
from jobkit.db.database import parse_url
from jobkit.doctor.check import Check, Patient, check
from jobkit.doctor.finding import Finding
from jobkit.doctor.rights import holds_open, is_open
from jobkit.errors import CannotStart
from jobkit.executors.kinds.python import find_uv
from jobkit.settings import Settings
from jobkit.text import size

UV_SECONDS = 5.0
OLD_YEARS = 2
LITTLE_SHARE, LITTLE_BYTES = 0.05, 1 << 30
NO_BYTES = 200 << 20
PROBED_ZONE = "Europe/Paris"


@check("time zones")
def zones(this: Check, patient: Patient) -> Iterator[Finding]:
    try:
        zoneinfo.ZoneInfo.no_cache(PROBED_ZONE)
    except zoneinfo.ZoneInfoNotFoundError:
        yield this.problem(
            "This machine has no time zone data: schedules in local time cannot be computed.",
            "Run: pip install tzdata",
        )
        return
    version = zone_version()
    if version is None:
        yield this.warning(
            "Nobody says how old the time zone data is.", "Run: pip install --upgrade tzdata"
        )
    elif patient.now.year - int(version[:4]) >= OLD_YEARS:
        yield this.warning(
            f"The time zone data is of {version}: zones that changed their rules since are wrong.",
            "Upgrade the system's package tzdata, or: pip install --upgrade tzdata",
        )
    else:
        yield this.ok(f"Time zone data of {version}.")


def zone_version() -> str | None:
    """Return the version of the time zone data that schedules go by, like 2026a."""
    for folder in map(Path, zoneinfo.TZPATH):
        for name, pattern in (("+VERSION", r"(\d{4}[a-z]+)"), ("tzdata.zi", r"# version (\w+)")):
            path = folder / name
            if path.is_file() and (found := re.match(pattern, path.read_text("utf-8")[:99])):
                return found[1]
        if (folder / PROBED_ZONE).exists():
            return _packaged(folder)
    try:
        return _iana(importlib.metadata.version("tzdata"))
    except importlib.metadata.PackageNotFoundError:
        return None


def _packaged(folder: Path) -> str | None:
    """Return the version of the data that Debian's package put into a folder, where it says so."""
    try:
        asked = subprocess.run(
            ["dpkg-query", "--show", "--showformat=${Version}", "tzdata"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UV_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.match(r"\d{4}[a-z]+", asked.stdout)
    return found[0] if found else None


def _iana(version: str) -> str:
    """Turn the version of the package, 2026.1, into that of the data, 2026a."""
    year, _, number = version.partition(".")
    release = number.partition(".")[0]
    return f"{year}{chr(ord('a') + int(release) - 1)}" if release.isdigit() else version


@check("uv")
def uv(this: Check, patient: Patient) -> Iterator[Finding]:
    try:
        command = find_uv()
    except CannotStart:
        yield this.warning(
            "uv is not here: scripts that name their packages (PEP 723) cannot start.",
            "Run: pip install uv",
        )
        return
    asked = subprocess.run(
        [*command, "--version"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=UV_SECONDS,
    )
    if asked.returncode:
        yield this.problem(f"{command[0]} does not run: {asked.stderr.strip()[:200]}", "Repair it.")
    else:
        yield this.ok(f"{asked.stdout.strip()}.")


@check("folders")
def folders(this: Check, patient: Patient) -> Iterator[Finding]:
    found: list[Finding] = []
    for name, path in written(patient.settings).items():
        found += _folder(this, name, path)
    found += _secrets(this, patient.settings.secrets_dir)
    yield from found
    if not found:
        yield this.ok("Those that jobkit writes to are this user's, and nobody else's to read.")


def written(chosen: Settings) -> dict[str, Path]:
    """Return the folders that programs of this machine write to, by what names them."""
    named = {
        "JOBKIT_SPOOL_DIR": str(chosen.spool_dir),
        "JOBKIT_CACHE_DIR": str(chosen.cache_dir),
        "JOBKIT_ARTIFACTS_URL": chosen.artifacts_url or artifacts.default_url(chosen.db_url),
        "JOBKIT_ARCHIVE_URL": chosen.archive_url or "",
    }
    return {
        name: Path(path.removeprefix("file://")).expanduser().absolute()
        for name, path in named.items()
        if path and not path.startswith("s3://")
    }


def _folder(this: Check, name: str, path: Path) -> Iterator[Finding]:
    there = nearest(path)
    if not there.is_dir():
        yield this.problem(f"{name}: {there} is no folder.", "Name a folder.")
    elif not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        yield this.problem(
            f"{name}: this user cannot write to {there}.", "Let it, or name another folder."
        )
    elif there == path and name != "JOBKIT_ARCHIVE_URL" and holds_open(path):
        yield this.warning(
            f"{name}: anybody on this machine may read what lies in {path}.",
            f"chmod o-rwx {path}",
        )


def _secrets(this: Check, path: Path | None) -> Iterator[Finding]:
    if path is None:
        return
    if not path.is_dir() or not os.access(path, os.R_OK | os.X_OK):
        yield this.problem(
            f"JOBKIT_SECRETS_DIR: {path} is no folder that this user can read.",
            "Make it, for this user only.",
        )
    elif is_open(path):
        yield this.problem(
            f"JOBKIT_SECRETS_DIR: anybody on this machine may read {path}.", f"chmod o-rwx {path}"
        )


def nearest(path: Path) -> Path:
    """Return a folder, or the nearest one above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


@check("disk space")
def disks(this: Check, patient: Patient) -> Iterator[Finding]:
    found: dict[int, tuple[Path, list[str]]] = {}
    for name, path in _used(patient.settings).items():
        there = nearest(path)
        found.setdefault(there.stat().st_dev, (there, []))[1].append(name)
    for path, names in found.values():
        usage = shutil.disk_usage(path)
        words = f"{size(usage.free)} of {size(usage.total)} are free at {path} ({', '.join(names)})"
        if usage.free < NO_BYTES:
            yield this.problem(f"Only {words}.", "Make room.")
        elif usage.free < LITTLE_BYTES and usage.free < LITTLE_SHARE * usage.total:
            yield this.warning(f"Only {words}.", "Make room before it is full.")
        else:
            yield this.ok(f"{words}.")


def _used(chosen: Settings) -> dict[str, Path]:
    names = {"JOBKIT_SPOOL_DIR": "results", "JOBKIT_CACHE_DIR": "analytics"}
    names |= {"JOBKIT_ARTIFACTS_URL": "artifacts", "JOBKIT_ARCHIVE_URL": "archive"}
    used = {names[name]: path for name, path in written(chosen).items()}
    used["temporary files"] = Path(tempfile.gettempdir())
    if (file := copies.file_of(parse_url(chosen.db_url))) is not None:
        used = {"database": file.parent} | used
    return used


CHECKS = (zones, uv, folders, disks)
