"""Types of columns that both databases keep, and read, alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from jobkit.errors import BadInput
from jobkit.text import clean


class _InstantText(sqlite.DATETIME):
    """An instant as SQLAlchemy writes it, `2026-03-02 06:00:00.000000`, in a tenth of the time."""

    def bind_processor(self, dialect: sa.Dialect) -> Callable[[datetime | None], str | None]:
        return lambda naive: None if naive is None else naive.isoformat(" ", "microseconds")


class Utc(sa.types.TypeDecorator[datetime]):
    """An instant: naive UTC in the database, where both engines sort it well; aware in Python."""

    impl = sa.DateTime
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        kind = _InstantText if dialect.name == "sqlite" else sa.DateTime
        return dialect.type_descriptor(kind())

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise BadInput(f"{value!r} names no time zone.", "Give an aware datetime.")
        if value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        return value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: sa.Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class JsonText(sa.types.TypeDecorator[Any]):
    """A JSON document, kept as text that psql, sqlite3 and DuckDB read alike."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else clean(json.dumps(value, ensure_ascii=False))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else json.loads(value)


BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
