"""Files as polars DataFrames; polars is imported only here, and only when one is asked for."""

from __future__ import annotations

from collections.abc import Callable
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
