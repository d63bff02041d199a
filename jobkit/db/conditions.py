"""Conditions of our own: one text of SQL for both databases."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles


class Ids(sa.types.TypeDecorator[Sequence[int]]):
    """Many ids as one parameter: an array, or on SQLite a JSON document."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: sa.Dialect) -> Any:
        many = sa.Text() if dialect.name == "sqlite" else postgresql.ARRAY(sa.BigInteger())
        return dialect.type_descriptor(many)

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> Any:
        return json.dumps(value) if dialect.name == "sqlite" else value


class Condition(sa.sql.functions.FunctionElement[Any]):
    """A condition of our own.

    It has no type: of a Boolean SQLAlchemy makes `... = 1` for SQLite, which no index answers.
    """


class OneOf(Condition):
    """Whether a column holds one of many ids.

    One parameter, however many they are: a list of them is a new text of SQL for each count.
    """

    inherit_cache = True

    def __init__(self, column: sa.ColumnElement[Any], parameter: str) -> None:
        super().__init__(column, sa.bindparam(parameter, type_=Ids()))


@compiles(OneOf)
def _one_of(element: OneOf, compiler: Any, **more: Any) -> str:
    column, ids = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} = ANY ({ids})"


@compiles(OneOf, "sqlite")
def _one_of_json(element: OneOf, compiler: Any, **more: Any) -> str:
    column, ids = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({ids}))"  # noqa: S608 - compiled parts


class LaterBy(Condition):
    """Whether an instant is later than another one by more than so many seconds."""

    inherit_cache = True

    def __init__(
        self, column: sa.ColumnElement[Any], other: sa.ColumnElement[Any], seconds: int
    ) -> None:
        super().__init__(column, other, sa.literal_column(str(int(seconds))))


@compiles(LaterBy)
def _later_by(element: LaterBy, compiler: Any, **more: Any) -> str:
    column, other, seconds = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} > {other} + {seconds} * INTERVAL '1 second'"


@compiles(LaterBy, "sqlite")
def _later_by_days(element: LaterBy, compiler: Any, **more: Any) -> str:
    column, other, seconds = (compiler.process(clause, **more) for clause in element.clauses)
    return f"(julianday({column}) - julianday({other})) * 86400 > {seconds}"


class Rarely(Condition):
    """A condition that hardly any row meets.

    SQLite, which keeps no statistics here, then takes the index that answers it, and not the one
    of all runs that wait.
    """

    inherit_cache = True


@compiles(Rarely)
def _rarely(element: Rarely, compiler: Any, **more: Any) -> str:
    (condition,) = element.clauses
    return str(compiler.process(condition, **more))


@compiles(Rarely, "sqlite")
def _rarely_likelihood(element: Rarely, compiler: Any, **more: Any) -> str:
    (condition,) = element.clauses
    return f"likelihood({compiler.process(condition, **more)}, 0.000001)"
