"""Secrets by name: looked up on the worker, handed to an attempt, never kept in the database."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from jobkit.errors import CannotStart
from jobkit.executors.masking import LEAST_CHARACTERS

SERVICE = "jobkit"
MOST_BYTES = 64 << 10
AS_VARIABLE = "env:"
# A script has no business in the scheduler's database, and these may hold its password.
WITHHELD = ("DATABASE_URL", "REFLEX_DB_URL", "PGPASSWORD")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def resolve(
    names: Sequence[str], environment: Mapping[str, str], folder: Path | None
) -> dict[str, str]:
    """Return the values of secrets that a job names, `NAME` or `env:NAME`, by their bare names.

    Looked for in this order: the file `folder/NAME` (without a newline at its end), the variable
    `JOBKIT_SECRET_NAME`, the variable `NAME`, the keyring under the service `jobkit`. CannotStart
    names what is missing, or too short to be masked in output; it never tells a value.
    """
    values = {}
    for name in (entry.removeprefix(AS_VARIABLE) for entry in names):
        _check(name)
        value = _find(name, environment, folder)
        if value is None:
            raise CannotStart(
                f"The secret {name} was not found on this worker: it is not in"
                f" {_places(name, folder)}.",
                "Put it in one of them.",
            )
        if len(value) < LEAST_CHARACTERS or value.isspace():
            raise CannotStart(
                f"The secret {name} is shorter than {LEAST_CHARACTERS} characters or blank, and"
                " could not be masked in output.",
                "Give it a longer value.",
            )
        values[name] = value
    return values


def variables(names: Sequence[str], values: Mapping[str, str]) -> dict[str, str]:
    """Return those that a job wants as variables as well, `env:NAME`."""
    bare = [name.removeprefix(AS_VARIABLE) for name in names if name.startswith(AS_VARIABLE)]
    return {name: values[name] for name in bare}


def place(values: Mapping[str, str], folder: Path) -> None:
    """Write one file for each secret, for this user only; CannotStart when that cannot be done."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for name, value in values.items():
            _write(folder / name, value.encode("utf-8", "surrogateescape"))
    except OSError as error:
        raise CannotStart(
            f"The secrets cannot be written to {folder}: {error.strerror}.", "Look at the disk."
        ) from error


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise CannotStart(f"{name!r} names no secret.", "Use letters, digits and _.")
    if name.startswith("JOBKIT_"):
        raise CannotStart(
            f"{name} cannot be a secret: names with JOBKIT_ are jobkit's own.", "Rename it."
        )


def _find(name: str, environment: Mapping[str, str], folder: Path | None) -> str | None:
    if folder is not None and (value := _from_file(name, folder)) is not None:
        return value
    for variable in _variables(name):
        if variable in environment:
            return environment[variable]
    return _from_keyring(name)


def _variables(name: str) -> list[str]:
    own = f"JOBKIT_SECRET_{name}"
    return [own] if name in WITHHELD else [own, name]


def _places(name: str, folder: Path | None) -> str:
    places = [] if folder is None else [f"the file {folder / name}"]
    places += [f"the variable {variable}" for variable in _variables(name)]
    return f"{', '.join(places)} or the keyring (service {SERVICE})"


def _from_file(name: str, folder: Path) -> str | None:
    """Return what a file holds, None when there is none; links may lead inside the folder only."""
    path = folder / name
    if not os.path.lexists(path):
        return None
    try:
        found = path.resolve(strict=True)
        if not found.is_relative_to(folder.resolve()) or not found.is_file():
            raise CannotStart(
                f"The secret {name} is not read: {path} is no regular file inside the folder.",
                "Put the file itself there.",
            )
        with found.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise CannotStart(f"The secret {name} is longer than 64 KiB: {path}.", "Shorten it.")
        value = data.decode("utf-8")
    except UnicodeDecodeError:
        raise CannotStart(
            f"The secret {name} is not read: {path} is no UTF-8 text.", "Encode it, in base64 say."
        ) from None
    except (OSError, RuntimeError) as error:
        why = error.strerror if isinstance(error, OSError) else "its links go round in a circle"
        raise CannotStart(
            f"The secret {name} is not read: {path}: {why}.", "Let the worker read it."
        ) from error
    return value.removesuffix("\n").removesuffix("\r") if value.endswith("\n") else value


def _from_keyring(name: str) -> str | None:
    """Ask the user's keyring, if the library is there and has one to ask."""
    try:
        keyring = import_module("keyring")
    except ImportError:
        return None
    try:
        value: str | None = keyring.get_password(SERVICE, name)
    except keyring.errors.KeyringError:
        return None
    return value


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
