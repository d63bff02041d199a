"""Calls a function of a file: `python function.py FILE FUNCTION [ARGUMENT...]`.

Parameters come from JOBKIT_PARAMS. What the function returns is the run's result: JSON as a line
`::result {json}` and `result.json` in JOBKIT_ARTIFACTS, a DataFrame as `result.parquet` there.
The exit code is 1 when it fails, with the traceback of the user's own frames.
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

LINE_BYTES = 64 << 10  # a longer result is in its file only


class Refused(Exception):
    """What is wrong with the file, the parameters or the result; for the author."""


def main(path: Path, name: str, arguments: list[str]) -> int:
    """Call the function and return the exit code."""
    sys.path[:] = [str(path.parent), os.getcwd(), *sys.path[1:]]  # noqa: PTH109
    sys.argv = [str(path), *arguments]
    try:
        params = json.loads(os.environ.get("JOBKIT_PARAMS") or "{}")
        function = find(load(path), name, path)
        check(function, name, params)
        value = function(**params)
        if inspect.iscoroutine(value):
            import asyncio  # slow, and rarely needed

            value = asyncio.run(value)
        keep(value, name)
    except Refused as error:
        sys.stdout.flush()
        sys.stderr.write(f"{error}\n")
        return 1
    except Exception as error:  # noqa: BLE001 - it is the user's, and shown as Python would
        sys.stdout.flush()
        show(error)
        return 1
    return 0


def load(path: Path) -> ModuleType:
    """Execute the file as a module that its own classes can be found in."""
    name = path.stem if path.stem not in sys.modules else f"_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Refused(f"{path.name} is no Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find(module: ModuleType, name: str, path: Path) -> Callable[..., Any]:
    """Return the function; Refused when there is none of that name, naming those there are."""
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if callable(found):
        return found  # type: ignore[no-any-return]
    there = [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and key[0] != "_"
    ]
    raise Refused(f"{path.name} has no function {name!r}. It has: {', '.join(there) or 'none'}.")


def check(function: Callable[..., Any], name: str, params: Mapping[str, Any]) -> None:
    """Refuse parameters that the function does not take, and the lack of those that it needs."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return  # built in: the call itself will tell
    kinds = inspect.Parameter
    known = signature.parameters.values()
    named = [
        item for item in known if item.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
    ]
    if nameless := [item.name for item in known if item.kind is kinds.POSITIONAL_ONLY]:
        raise Refused(f"{name}() takes {nameless[0]!r} by position only. Let it take it by name.")
    takes_any = any(item.kind is kinds.VAR_KEYWORD for item in known)
    names = [item.name for item in named]
    unknown = [] if takes_any else [param for param in params if param not in names]
    if unknown:
        raise Refused(
            f"{name}() takes no parameter {unknown[0]!r}. It takes: {', '.join(names) or 'none'}."
        )
    missing = [
        item.name for item in named if item.default is kinds.empty and item.name not in params
    ]
    if missing:
        raise Refused(
            f"{name}() needs the parameter {missing[0]!r}. Add it to the job's or the run's params."
        )


def keep(value: Any, name: str) -> None:
    """Keep what the function returned; Refused for what is neither JSON nor a DataFrame."""
    if value is None:
        return
    folder = os.environ.get("JOBKIT_ARTIFACTS")
    if is_frame(value):
        keep_frame(value, Path(folder) if folder else None)
        return
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(
            f"{name}() returned a {_type_name(value)}, which JSON does not hold: {error}.\n"
            "Return a DataFrame, or numbers, texts, lists and dictionaries (dates by .isoformat(); "
            "NaN as None), or write a file into the folder $JOBKIT_ARTIFACTS and return nothing."
        ) from None
    if folder:
        part = Path(folder, ".result.json.part")
        part.write_text(text + "\n", encoding="utf-8", errors="surrogatepass")
        part.replace(Path(folder, "result.json"))
    say_result(text)


def is_frame(value: Any) -> bool:
    """Say whether it is a table of polars, pandas, DuckDB or Arrow, without importing any."""
    return any(
        hasattr(value, name)
        for name in ("write_parquet", "sink_parquet", "to_parquet", "__arrow_c_stream__")
    )


def keep_frame(value: Any, folder: Path | None) -> None:
    """Write a table as Parquet and say its size."""
    if hasattr(value, "sink_parquet") and hasattr(value, "collect"):
        value = value.collect()
    if folder:
        part = folder / ".result.parquet.part"
        _write_parquet(value, part)
        part.replace(folder / "result.parquet")
    columns = [str(column) for column in getattr(value, "columns", ())]
    if not columns and hasattr(value, "column_names"):
        columns = list(value.column_names)
    rows = value.num_rows if hasattr(value, "num_rows") else len(value)
    _say(f"::metric rows {rows}")
    summary = {"rows": rows, "columns": columns, "file": "result.parquet"}
    say_result(json.dumps(summary, ensure_ascii=False))


def _write_parquet(value: Any, path: Path) -> None:
    if hasattr(value, "write_parquet"):
        value.write_parquet(str(path))
    elif hasattr(value, "to_parquet"):
        try:
            value.to_parquet(str(path))
        except ImportError:  # pandas without pyarrow
            _by_duckdb(value, path)
    else:
        import polars

        polars.DataFrame(value).write_parquet(path)


def _by_duckdb(value: Any, path: Path) -> None:
    try:
        import duckdb
    except ImportError:
        raise Refused(
            "A pandas DataFrame is kept by pyarrow or DuckDB. Run: pip install 'jobkit[analytics]'"
        ) from None
    duckdb.from_df(value).write_parquet(str(path))


def say_result(text: str) -> None:
    """Tell the run's result in its output, unless it is long."""
    if len(text.encode("utf-8", "replace")) <= LINE_BYTES:
        _say(f"::result {text}")
    else:
        _say(f"The result is {len(text):,} characters long: see result.json.")


def show(error: BaseException) -> None:
    """Print a traceback without the frames of this file and of the import machinery."""
    frames = error.__traceback__
    while frames is not None and _is_foreign(frames):
        frames = frames.tb_next
    for line in traceback.format_exception(type(error), error, frames):
        sys.stderr.write(line)


def _is_foreign(frame: TracebackType) -> bool:
    name = frame.tb_frame.f_code.co_filename
    return name == __file__ or name.startswith("<frozen ") or "asyncio" in Path(name).parts


def _say(text: str) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace") + b"\n")
    sys.stdout.buffer.flush()


def _type_name(value: Any) -> str:
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else kind.__module__ + "."
    return prefix + kind.__qualname__


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
