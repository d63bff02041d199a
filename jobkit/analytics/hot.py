"""The view `runs` over what the tables hold, for questions that need no archive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobkit.errors import BadInput
from jobkit.store import history

if TYPE_CHECKING:
    from polars import DataFrame
    from sqlalchemy.engine import Connection

NAMES = {"id": "run_id", "retry_count": "retries", "lost_count": "lost", "error_message": "error"}


class Stream:
    """A frame that DuckDB reads without pyarrow."""

    def __init__(self, frame: DataFrame) -> None:
        self._frame = frame

    def __arrow_c_stream__(self, schema: object = None) -> object:
        return self._frame.__arrow_c_stream__(schema)


class Hot:
    """Answers SQL over runs, as `history.of_slots` gives them, and over given frames."""

    def __init__(self, rows: Sequence[Any]) -> None:
        try:
            import duckdb
        except ImportError:
            raise BadInput(
                "This needs the extra analytics.", "Install it: pip install 'jobkit[analytics]'."
            ) from None
        self._engine = duckdb.connect()
        self._engine.register("runs", Stream(_runs(rows)))

    @classmethod
    def read(cls, connection: Connection, start: datetime) -> Hot:
        """Read the runs of slots from an instant on."""
        return cls(history.of_slots(connection, start))

    def query(self, sql: str, frames: Mapping[str, DataFrame]) -> DataFrame:
        """Answer a statement of jobkit's own."""
        import polars

        for name, frame in frames.items():
            self._engine.register(name, Stream(frame))
        return polars.DataFrame(self._engine.sql(sql))


def _runs(rows: Sequence[Any]) -> DataFrame:
    import polars

    moment = polars.Datetime("us")
    schema: dict[str, Any] = {
        "id": polars.Int64,
        "job_id": polars.Int64,
        "job_version": polars.Int64,
        "trigger": polars.String,
        "status": polars.String,
        "scheduled_for": moment,
        "claimed_at": moment,
        "completed_at": moment,
        "retry_count": polars.Int64,
        "lost_count": polars.Int64,
        "reason": polars.String,
        "error_message": polars.String,
    }
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return polars.DataFrame(
        {
            NAMES.get(name, name): polars.Series(
                _naive(values) if kind == moment else values, dtype=kind
            )
            for (name, kind), values in zip(schema.items(), columns, strict=True)
        }
    )


def _naive(values: Sequence[datetime | None]) -> list[datetime | None]:
    return [None if value is None else value.replace(tzinfo=None) for value in values]
