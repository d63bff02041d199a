"""Secrets by name: where they are looked for, and what an error tells."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobkit.errors import CannotStart
from jobkit.executors import secrets
from jobkit.executors.secrets import place, resolve, variables


class KeyringError(Exception):
    """As in the library."""


@pytest.fixture(autouse=True)
def ring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """A keyring of the tests' own, empty at first."""
    kept: dict[tuple[str, str], str] = {}

    def get_password(service: str, name: str) -> str | None:
        if ("broken", "") in kept:
            raise KeyringError("locked")
        return kept.get((service, name))

    errors = SimpleNamespace(KeyringError=KeyringError)
    library = SimpleNamespace(get_password=get_password, errors=errors)
    monkeypatch.setitem(sys.modules, "keyring", library)
    return kept


def test_file_then_variables_then_keyring(tmp_path: Path, ring: dict[tuple[str, str], str]) -> None:
    environment = {"JOBKIT_SECRET_KEY": "own-variable", "KEY": "plain-variable"}
    (tmp_path / "KEY").write_text("from-file\n", "utf-8")
    ring["jobkit", "KEY"] = "from-ring"
    assert resolve(["KEY"], environment, tmp_path) == {"KEY": "from-file"}
    (tmp_path / "KEY").unlink()
    assert resolve(["KEY"], environment, tmp_path) == {"KEY": "own-variable"}
    del environment["JOBKIT_SECRET_KEY"]
    assert resolve(["env:KEY"], environment, None) == {"KEY": "plain-variable"}
    assert resolve(["KEY"], {}, tmp_path) == {"KEY": "from-ring"}


def test_one_newline_at_the_end_of_a_file_is_dropped(tmp_path: Path) -> None:
    for written, value in [(b"word\n", "word"), (b"word\r\n", "word"), (b"word\n\n", "word\n")]:
        (tmp_path / "KEY").write_bytes(written)
        assert resolve(["KEY"], {}, tmp_path) == {"KEY": value}


def test_a_missing_secret_is_named_with_the_places_looked_at(
    tmp_path: Path, ring: dict[tuple[str, str], str]
) -> None:
    ring["broken", ""] = ""
    with pytest.raises(CannotStart) as told:
        resolve(["OTHER", "KEY"], {"OTHER": "a-known-value"}, tmp_path)
    said = str(told.value)
    for place_ in ("secret KEY", str(tmp_path / "KEY"), "JOBKIT_SECRET_KEY", "variable KEY"):
        assert place_ in said
    assert "keyring" in said
    assert "a-known-value" not in said


def test_no_keyring_library_is_no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(CannotStart, match="not found"):
        resolve(["KEY"], {}, None)


@pytest.mark.parametrize("name", ["", "a b", "../KEY", "A/B", "1A", "env:", "É", "KEY\n"])
def test_a_name_that_is_none_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="names no secret"):
        resolve([name], {}, tmp_path)


def test_settings_of_jobkit_and_its_database_are_no_secrets_of_scripts(tmp_path: Path) -> None:
    environment = {"JOBKIT_DB_URL": "sqlite:///x.db", "DATABASE_URL": "postgresql://a:b@c/d"}
    for name in ("JOBKIT_DB_URL", "env:JOBKIT_SECRET_KEY", "DATABASE_URL"):
        with pytest.raises(CannotStart):
            resolve([name], environment, None)
    (tmp_path / "DATABASE_URL").write_text("given on purpose", "utf-8")
    assert resolve(["DATABASE_URL"], environment, tmp_path)["DATABASE_URL"] == "given on purpose"


@pytest.mark.parametrize("value", ["", "abc", "     "])
def test_a_value_that_cannot_be_masked_is_refused_and_not_told(value: str) -> None:
    with pytest.raises(CannotStart, match="KEY is shorter than 4 characters") as told:
        resolve(["KEY"], {"KEY": value}, None)
    assert not value.strip() or value not in str(told.value)


def test_a_link_may_lead_inside_the_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    (folder / "..data").mkdir(parents=True)
    (folder / "..data" / "KEY").write_text("mounted", "utf-8")
    (folder / "KEY").symlink_to("..data/KEY")
    assert resolve(["KEY"], {}, folder) == {"KEY": "mounted"}
    (tmp_path / "OUT").write_text("elsewhere", "utf-8")
    (folder / "OUT").symlink_to(tmp_path / "OUT")
    (folder / "DIR").mkdir()
    (folder / "LOOP").symlink_to("LOOP")
    (folder / "GONE").symlink_to("nowhere")
    for name in ("OUT", "DIR", "LOOP", "GONE"):
        with pytest.raises(CannotStart, match=f"{name} is not read") as told:
            resolve([name], {name: "a-variable"}, folder)
        assert "elsewhere" not in str(told.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no such files on Windows")
def test_a_pipe_is_no_secret_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "KEY")
    with pytest.raises(CannotStart, match="no regular file"):
        resolve(["KEY"], {}, tmp_path)


def test_a_file_that_is_no_text_or_too_long_is_refused(tmp_path: Path) -> None:
    (tmp_path / "KEY").write_bytes(b"\xff\xfe\xff\xfe")
    with pytest.raises(CannotStart, match="no UTF-8"):
        resolve(["KEY"], {}, tmp_path)
    (tmp_path / "KEY").write_bytes(b"x" * (secrets.MOST_BYTES + 1))
    with pytest.raises(CannotStart, match="64 KiB"):
        resolve(["KEY"], {}, tmp_path)


def test_only_what_is_asked_for_becomes_a_variable() -> None:
    values = {"KEY": "one-value", "TOKEN": "another"}
    assert variables(["KEY", "env:TOKEN"], values) == {"TOKEN": "another"}


def test_secrets_are_placed_in_files_of_this_user_only(tmp_path: Path) -> None:
    folder = tmp_path / "attempt" / "secrets"
    place({"KEY": "one-välue\n", "TOKEN": "another"}, folder)
    assert (folder / "KEY").read_text("utf-8") == "one-välue\n"
    assert sorted(path.name for path in folder.iterdir()) == ["KEY", "TOKEN"]
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CannotStart, match="file") as told:
        place({"KEY": "a-value"}, tmp_path / "file")
    assert "a-value" not in str(told.value)
    place({"KEY": "a-value"}, tmp_path / "folder")
    with pytest.raises(CannotStart, match="exists"):
        place({"KEY": "a-value"}, tmp_path / "folder")
