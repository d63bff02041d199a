"""Files as polars DataFrames; polars is imported only here, and only when one is asked for."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from jobkit.errors import BadInput

if TYPE_CHECKING:
    from polars import DataFrame

READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_ndjson",
    ".ndjson": "read_ndjson",
}


def is_frame(name: str) -> bool:
    """Whether a file of this name can be read as a table."""
    return PurePosixPath(name).suffix.lower() in READERS


def read(name: str, opened: Callable[[], BinaryIO], rows: int | None = None) -> DataFrame:
    """Read a file, or its first rows, by the suffix of its name.

    BadInput when its suffix or its bytes are those of no table, or polars is missing.
    """
    reader = READERS.get(PurePosixPath(name).suffix.lower())
    if reader is None:
        raise BadInput(
            f"{name} is no table that can be read.", f"Those that can: {', '.join(READERS)}."
        )
    polars = _polars()
    options = {"n_rows": rows} if rows is not None and reader != "read_json" else {}
    try:
        with opened() as file:
            frame: DataFrame = getattr(polars, reader)(file, **options)
    except polars.exceptions.PolarsError as error:
        said = str(error).partition("\n")[0]
        raise BadInput(f"{name} cannot be read as a table: {said}.", "Read its bytes.") from None
    return frame if rows is None else frame.head(rows)


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise BadInput(
            "Tables need the extra analytics.", "Install it: pip install 'jobkit[analytics]'."
        ) from None
    return polars


def of(cls: type[Any], handles: Sequence[Any], more: Mapping[str, str] = {}) -> DataFrame:
    """Return dataclasses as a table with a column for each public field, and `more` by its type.

    What a column holds follows from the annotation, so that an empty table has the same columns.
    Instants are in UTC; what JSON holds is its text.
    """
    polars = _polars()
    kinds = {
        "int": polars.Int64,
        "float": polars.Float64,
        "bool": polars.Boolean,
        "str": polars.String,
        "datetime": polars.Datetime("us", "UTC"),
        "timedelta": polars.Duration("us"),
        "list[str]": polars.List(polars.String),
    }
    columns = {
        item.name: str(item.type).removesuffix(" | None")
        for item in dataclasses.fields(cls)
        if not item.name.startswith("_")
    } | dict(more)
    data = {
        name: [_value(getattr(handle, name), kind in kinds) for handle in handles]
        for name, kind in columns.items()
    }
    schema = {name: kinds.get(kind, polars.String) for name, kind in columns.items()}
    frame: DataFrame = polars.DataFrame(data, schema=schema)
    return frame


def _value(value: Any, is_plain: bool) -> Any:
    if is_plain or value is None:
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
