"""The file of settings that services read, which may hold passwords: nobody else reads it."""

from __future__ import annotations

from pathlib import Path

from jobkit.errors import BadInput
from jobkit.service.files import File

PRIVATE = 0o600
HEAD = """\
# Settings of jobkit's services, one NAME=value a line; README.md lists them. What the folder of
# the scripts has in its .env or jobkit.toml holds as well; this wins.
"""
EXAMPLE = "#JOBKIT_DB_URL='postgresql://jobs:password@db.example/jobs'\n"


def file_of(path: Path, settings: dict[str, str], owner: str | None = None) -> File:
    """Return the file with these settings."""
    lines = [f"{name}={quoted(name, value)}\n" for name, value in settings.items()]
    if "JOBKIT_DB_URL" not in settings:
        lines.insert(0, EXAMPLE)
    return File(path, HEAD + "".join(lines), mode=PRIVATE, owner=owner, is_settings=True)


def quoted(name: str, value: str) -> str:
    """Write a value so that systemd, the shell and jobkit's own reader of `.env` read the same."""
    if value.isprintable() and "\\" not in value:
        if "'" not in value:
            return f"'{value}'"
        if not set(value) & set('"$`'):
            return f'"{value}"'
    raise BadInput(
        f"{name} cannot be written down for services: it holds quotes, backslashes or the like.",
        "Put it in the .env of their folder, or percent-encode it in a URL.",
    )
