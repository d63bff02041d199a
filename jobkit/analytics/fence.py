"""What a statement that a person typed may do: one SELECT over the views, and nothing else.

The engine itself reaches no file outside of the cache, no network and no extension. The cache holds
more than the views show, so the statement's own tree is looked at as well.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import duckdb

from jobkit import text
from jobkit.errors import BadInput

TABLE_FUNCTIONS = {"range", "generate_series", "unnest", "json_each", "json_tree", "repeat"}
FORBIDDEN_FUNCTIONS = {
    "write_log", "setseed", "set_config", "setval", "nextval", "sleep_ms", "getenv",
    "current_setting", "getvariable", "current_query", "txid_current", "query", "query_table",
    "read_text", "read_blob", "glob",
}  # fmt: skip


def check(cursor: Any, sql: str, views: set[str]) -> set[str]:
    """Refuse what is not one SELECT over the views; BadInput says what is wrong.

    Returns the views that it reads.
    """
    tree = json.loads(cursor.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0])
    if tree.get("error"):
        said = str(tree.get("error_message", "")).partition("\n")[0]
        raise BadInput(
            f"This is no SELECT: {said}.", "Write one SELECT; nothing else is possible here."
        )
    if len(tree["statements"]) != 1:
        raise BadInput("These are several statements.", "Write one SELECT at a time.")
    made = {entry["key"].lower() for entry in _entries(tree)}
    for node in _nodes(tree):
        _check_node(node, views, made)
    tables = {str(node.get("table_name")).lower() for node in _nodes(tree)}
    return tables & views


def _entries(tree: Any) -> Iterator[Any]:
    """Yield what WITH names, wherever it stands."""
    for node in _nodes(tree):
        if isinstance(node.get("cte_map"), dict):
            yield from node["cte_map"].get("map", [])


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    waiting = [tree]
    while waiting:
        here = waiting.pop()
        if isinstance(here, dict):
            yield here
            waiting.extend(here.values())
        elif isinstance(here, list):
            waiting.extend(here)


def _check_node(node: dict[str, Any], views: set[str], made: set[str]) -> None:
    kind = node.get("type")
    if kind == "BASE_TABLE":
        name = str(node.get("table_name", ""))
        is_plain = not node.get("schema_name") and not node.get("catalog_name")
        if not is_plain or name.lower() not in views | made:
            raise BadInput(
                f"There is no view {name!r}.", f"Those there are: {', '.join(sorted(views))}."
            )
    elif kind == "TABLE_FUNCTION":
        name = str(node["function"].get("function_name", ""))
        if name.lower() not in TABLE_FUNCTIONS:
            raise BadInput(
                f"{name}() is not possible here.",
                f"Statements read the views only: {', '.join(sorted(views))}.",
            )
    elif kind in ("FUNCTION", "WINDOW") or node.get("class") == "FUNCTION":
        name = str(node.get("function_name", ""))
        if name.lower() in FORBIDDEN_FUNCTIONS:
            raise BadInput(f"{name}() is not possible here.", "Leave it out.")
    elif kind in ("SHOW_REF", "PIVOT_REF", "EXTERNAL"):
        raise BadInput("That kind of statement is not possible here.", "Write it as a SELECT.")


@contextmanager
def limited(cursor: Any, seconds: float | None) -> Iterator[None]:
    """Interrupt what a connection does after a time; what it says becomes a message."""
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        cursor.interrupt()

    timer = threading.Timer(seconds, stop) if seconds is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    except duckdb.Error as error:
        if stopped.is_set():
            raise BadInput(
                f"The statement took longer than {text.duration(seconds)}.",
                "Ask for less time or fewer columns, or give timeout=.",
            ) from None
        raise _translated(error) from error
    finally:
        if timer is not None:
            timer.cancel()


def _translated(error: duckdb.Error) -> BadInput:
    said = str(error).strip()
    if isinstance(error, duckdb.OutOfMemoryException):
        return BadInput(
            "The statement needs more memory than it may have.",
            "Ask for less time, fewer columns or fewer groups.",
        )
    return BadInput(
        f"DuckDB refused the statement: {said}", "The views are described in docs/analytics.md."
    )
