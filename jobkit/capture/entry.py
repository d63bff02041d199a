"""What ends a captured script: parameters in, the result out. Its text is appended, not imported.

The standard library only, and no module of jobkit: the script runs where there is none.
"""

from __future__ import annotations

from typing import Any


def _jobkit_params(function: Any) -> dict[str, Any]:
    """Read the run's parameters, as the types that the function's signature names."""
    import json
    import os
    import typing

    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - an annotation may mean something to people only
        hints = {}
    given = json.loads(os.environ.get("JOBKIT_PARAMS") or "{}")
    return {
        name: _jobkit_read(value, hints[name]) if name in hints else value
        for name, value in given.items()
    }


def _jobkit_read(value: Any, hint: Any) -> Any:
    """Turn JSON into what a hint names, in lists and dictionaries too."""
    import typing

    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if value is None:
        return None
    if type(None) in inner and len(inner) == 2:
        return _jobkit_read(value, inner[0] if inner[1] is type(None) else inner[1])
    if isinstance(value, list) and inner:
        made = [_jobkit_read(item, inner[0]) for item in value]
        return origin(made) if origin in (tuple, set, frozenset) else made
    if isinstance(value, dict) and len(inner) == 2:
        return {key: _jobkit_read(item, inner[1]) for key, item in value.items()}
    return _jobkit_make(value, hint) if isinstance(hint, type) else value


def _jobkit_make(value: Any, kind: Any) -> Any:
    """Turn a text or a number into a date, a duration, a path, a member of an Enum."""
    import datetime
    import decimal
    import enum
    import pathlib
    import uuid

    if issubclass(kind, enum.Enum):
        return kind(value) if value in [item.value for item in kind] else kind[value]
    if issubclass(kind, (datetime.date, datetime.time)):
        return kind.fromisoformat(value)
    if issubclass(kind, datetime.timedelta):
        return kind(seconds=value)
    plain = (decimal.Decimal, pathlib.PurePath, uuid.UUID, float, tuple, set, frozenset)
    return kind(value) if issubclass(kind, plain) else value


def _jobkit_keep(value: Any) -> None:
    """Leave what the function returned as the run's result: JSON, or a DataFrame as Parquet."""
    import inspect
    import json
    import os
    import pathlib
    import sys

    if inspect.iscoroutine(value):
        import asyncio

        value = asyncio.run(value)
    if value is None:
        return
    folder = pathlib.Path(os.environ.get("JOBKIT_ARTIFACTS") or ".")
    if hasattr(value, "sink_parquet") and hasattr(value, "collect"):
        value = value.collect()
    write = getattr(value, "write_parquet", None) or getattr(value, "to_parquet", None)
    if write is not None:
        write(str(folder / ".result.parquet.part"))
        (folder / ".result.parquet.part").replace(folder / "result.parquet")
        columns = [str(name) for name in value.columns]
        value = {"rows": len(value), "columns": columns, "file": "result.parquet"}
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise SystemExit(
            f"It returned a {type(value).__name__}, which JSON does not hold: {error}. Return a "
            "DataFrame, or numbers, texts, lists and dictionaries; dates by .isoformat()."
        ) from None
    if write is None and os.environ.get("JOBKIT_ARTIFACTS"):
        (folder / "result.json").write_text(text + "\n", "utf-8", "surrogatepass")
    if len(text.encode("utf-8", "replace")) <= 65536:
        line = f"::result {text}"
    else:
        line = f"The result is {len(text):,} characters long: see result.json."
    sys.stdout.flush()
    sys.stdout.buffer.write(line.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()
