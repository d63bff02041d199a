"""One suite on both databases: every test that takes `database` runs on SQLite and PostgreSQL."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import settings as hypothesis_settings

import jobkit
from jobkit import migrations
from jobkit.kit import Kit
from jobkit.settings import setting_names
from tests.browser import browser, page
from tests.postgres import execute, start_server
from tests.stage import Stage, set_stage

__all__ = ["browser", "page"]

hypothesis_settings.register_profile("jobkit", deadline=None, derandomize=True)
hypothesis_settings.load_profile("jobkit")

KINDS = ("sqlite", "postgresql")
OF_THE_TESTS = {"JOBKIT_TEST_PG", "JOBKIT_BROWSER"}
"""What the tests read themselves, in fixtures that may start late."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--wakeups",
        choices=("on", "off"),
        default="on",
        help="off: every test, and every program that it starts, works at poll speed",
    )


@pytest.fixture(autouse=True)
def workplace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """An empty folder with one script, and no setting from the environment but `--wakeups`."""
    ours = {name for name in os.environ if name.startswith("JOBKIT_")} - OF_THE_TESTS
    for name in {*ours, *setting_names().values(), "REFLEX_DB_URL"}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JOBKIT_SPOOL_DIR", str(tmp_path / "spool"))
    monkeypatch.setenv("JOBKIT_CACHE_DIR", str(tmp_path / "cache"))
    if request.config.getoption("wakeups") == "off":
        monkeypatch.setenv("JOBKIT_WAKEUPS", "off")
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "hello.py").write_text("print('hello')\n", "utf-8")
    return folder


@pytest.fixture(scope="session")
def postgres_base() -> Iterator[str]:
    """The URL of a server's maintenance database."""
    server = start_server()
    if server is None:
        given = os.environ["JOBKIT_TEST_PG"]
        yield _named(given, sa.make_url(given).database or "postgres")
        return
    yield server.url("postgres")
    server.stop()


@pytest.fixture(scope="session")
def postgres_template(postgres_base: str) -> Iterator[str]:
    name = f"template_{uuid.uuid4().hex[:12]}"
    execute(postgres_base, f"CREATE DATABASE {name}")
    migrations.upgrade(_named(postgres_base, name))
    yield name
    execute(postgres_base, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "jobkit.db"
    migrations.upgrade(f"sqlite:///{path}")
    return path


def _named(url: str, name: str) -> str:
    changed = sa.make_url(url).set(drivername="postgresql+psycopg", database=name)
    return changed.render_as_string(hide_password=False)


def _postgres_copy(base: str, template: str) -> Iterator[str]:
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute(base, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _named(base, name)
    execute(base, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> str:
    shutil.copy(sqlite_template, tmp_path / "jobkit.db")
    return f"sqlite:///{tmp_path / 'jobkit.db'}"


@pytest.fixture
def postgres_database(postgres_base: str, postgres_template: str) -> Iterator[str]:
    yield from _postgres_copy(postgres_base, postgres_template)


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest) -> str:
    """The URL of an upgraded database."""
    name = {"sqlite": "sqlite_database", "postgresql": "postgres_database"}[request.param]
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def empty_sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture
def empty_postgres(postgres_base: str) -> Iterator[str]:
    yield from _postgres_copy(postgres_base, "template0")


@pytest.fixture(params=KINDS)
def empty_database(request: pytest.FixtureRequest) -> str:
    """The URL of a database without any table."""
    name = {"sqlite": "empty_sqlite", "postgresql": "empty_postgres"}[request.param]
    url: str = request.getfixturevalue(name)
    return url


@pytest.fixture
def kit(database: str) -> Iterator[Kit]:
    with jobkit.connect(database) as opened:
        yield opened


@pytest.fixture
def stage(database: str) -> Iterator[Stage]:
    """A database at a literal instant: Monday 2026-03-02, 06:00 UTC."""
    opened = set_stage(database)
    yield opened
    opened.kit.close()
