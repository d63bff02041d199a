"""Rows as a database's driver gives them, made into polars frames column by column.

polars is imported when a frame is made: only an archiver pays for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from jobkit.db import Utc
from jobkit.models import attempts, output, runs
from jobkit.store.leaving import Rows

RUN_COLUMNS = tuple(column for column in runs.c if column.name != "born")
ATTEMPT_COLUMNS = tuple(attempts.c)
OUTPUT_COLUMNS = tuple(column for column in output.c if column.name != "claimed_at")
CHUNK = ("seq", "at", "stream", "text")
"""The fields of a chunk of output, as an archived attempt lists them."""
OF_ATTEMPT = ("dispatch_id", "attempt")
MOST_OUTPUT = 16 << 20
"""Bytes of output that are held at once, unless one attempt has more."""
_AS_WRITTEN = "%Y-%m-%d %H:%M:%S.%6f"
"""As fixed as this, polars reads it several times faster."""


def frame(columns: Sequence[sa.Column[Any]], rows: Rows) -> Any:
    """Return rows as a frame: instants in naive UTC microseconds, JSON as text."""
    import polars

    if not rows:
        return polars.DataFrame(schema={column.name: _dtype(column) for column in columns})
    values = zip(*rows, strict=True)
    return polars.DataFrame(
        [_series(column, given) for column, given in zip(columns, values, strict=True)]
    )


def _series(column: sa.Column[Any], values: tuple[Any, ...]) -> Any:
    import polars

    dtype = _dtype(column)
    count = len(values)
    if values.count(None) == count:  # half of all columns: a month has no launchers
        return polars.Series(column.name, [None], dtype=dtype).new_from_index(0, count)
    if isinstance(column.type, Utc) and any(isinstance(value, str) for value in values):
        return _instants(column.name, values)
    return polars.Series(column.name, values, dtype=dtype)


def _instants(name: str, values: Sequence[str | None]) -> Any:
    """Read instants that SQLite keeps as text."""
    import polars

    texts = polars.Series(name, values, dtype=polars.String)
    try:
        return texts.str.to_datetime(_AS_WRITTEN, time_unit="us")
    except polars.exceptions.InvalidOperationError:  # somebody else wrote one in fewer digits
        read = [None if value is None else datetime.fromisoformat(value) for value in values]
        return polars.Series(name, read, dtype=polars.Datetime("us"))


def _dtype(column: sa.Column[Any]) -> Any:
    import polars

    if isinstance(column.type, Utc):
        return polars.Datetime("us")
    if isinstance(column.type, sa.Integer):
        return polars.Int64
    return polars.Float64 if isinstance(column.type, sa.Float) else polars.String


def light(given: Any) -> Iterator[Any]:
    """Cut attempts where their output would be too much to hold at once."""
    import polars

    printed = polars.col("output_bytes").fill_null(0) - polars.col("omitted_bytes").fill_null(0)
    weight = given.select(printed.cum_sum() // MOST_OUTPUT).to_series()
    if not len(given) or weight[0] == weight[-1]:
        yield given
        return
    yield from given.with_columns(weight.alias("weight")).partition_by(
        "weight", maintain_order=True, include_key=False
    )


def whole(given: Any, said: Any) -> Any:
    """Return attempts with their output as a last column: a list of chunks in their order."""
    import polars

    chunks = said.sort(*OF_ATTEMPT, "seq").group_by(OF_ATTEMPT, maintain_order=True)
    listed = chunks.agg(polars.struct(CHUNK).alias("output"))
    joined = given.join(listed, on=OF_ATTEMPT, how="left", maintain_order="left")
    nothing = polars.lit([], dtype=listed.schema["output"])
    return joined.with_columns(polars.col("output").fill_null(nothing))
