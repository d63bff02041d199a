"""Previews of what scripts left: text, small tables, pictures and notebooks; never their HTML."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jobkit
from jobkit.terminal import plain
from jobkit.text import size
from portal.reports.reporter import ReportsUnavailable

TEXT_BYTES = 4096
MOST_CELLS = 200
TABLE_LIMIT = 64_000_000
NOTEBOOK_LIMIT = 20_000_000
IMAGE_LIMIT = 20_000_000
READABLE = ("application/json", "application/x-ndjson", "application/xml", "application/sql")
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
NOTEBOOK = "application/x-ipynb+json"
PARQUET = "application/vnd.apache.parquet"


@dataclass(frozen=True)
class Shown:
    """One output of a notebook's cell: text, or a PNG in base64."""

    text: str = ""
    png: str = ""
    is_error: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell of an executed notebook."""

    kind: str
    """code, markdown or raw."""
    number: str
    source: str
    outputs: tuple[Shown, ...] = ()

    @property
    def has_failed(self) -> bool:
        return any(output.is_error for output in self.outputs)


@dataclass(frozen=True)
class Preview:
    """What can be shown of an artifact: one of these, and a word on what is left out."""

    kind: str
    """text, table, image, notebook or nothing."""
    note: str = ""
    text: str = ""
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    cells: tuple[Cell, ...] = field(default=())


def can_preview(artifact: jobkit.Artifact) -> bool:
    """Whether the type of an artifact is one that is shown."""
    kind = artifact.media_type
    return _is_readable(kind) or kind in (*PICTURES, NOTEBOOK, PARQUET)


def preview(artifact: jobkit.Artifact, table: Callable[[], Mapping[str, Any]]) -> Preview:
    """Read as much of an artifact as is shown; what cannot be is said in `note`.

    `table`: gives the first rows of one that is a table, as `Desk` does.
    """
    kind = artifact.media_type
    try:
        if kind in PICTURES:
            return _too_large(artifact, IMAGE_LIMIT) or Preview("image")
        if kind == PARQUET:
            return _too_large(artifact, TABLE_LIMIT) or _table(table())
        if kind == NOTEBOOK:
            return _too_large(artifact, NOTEBOOK_LIMIT) or _notebook(artifact)
        if _is_readable(kind):
            return _text(artifact)
    except (jobkit.BadInput, jobkit.ArtifactsUnavailable, ReportsUnavailable) as error:
        return Preview("nothing", str(error))
    return Preview("nothing", f"Files of type {kind} have no preview.")


def picture_type(data: bytes) -> str | None:
    """Tell the type of a picture by its first bytes, whatever it is called; None for others."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _is_readable(kind: str) -> bool:
    return kind.startswith("text/") or kind in READABLE


def _too_large(artifact: jobkit.Artifact, limit: int) -> Preview | None:
    if artifact.size <= limit:
        return None
    return Preview("nothing", f"It is larger than {size(limit)}: the download has all.")


def _text(artifact: jobkit.Artifact) -> Preview:
    with artifact.open() as file:
        data = file.read(TEXT_BYTES)
    is_cut = artifact.size > len(data)
    note = f"The first {TEXT_BYTES >> 10} KiB of {size(artifact.size)}." if is_cut else ""
    return Preview("text", note, text=plain(data.decode("utf-8", "replace")))


def _table(found: Mapping[str, Any]) -> Preview:
    rows = tuple(map(tuple, found["rows"]))
    return Preview("table", found["note"], columns=tuple(found["columns"]), rows=rows)


def _notebook(artifact: jobkit.Artifact) -> Preview:
    document = artifact.json()
    listed = document.get("cells") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        return Preview("nothing", "It is no notebook.")
    cells = tuple(_cell(item) for item in listed[:MOST_CELLS] if isinstance(item, dict))
    left = len(listed) - MOST_CELLS
    return Preview(
        "notebook", f"{left} more cells: the download has all." * (left > 0), cells=cells
    )


def _cell(item: dict[str, Any]) -> Cell:
    outputs = item.get("outputs")
    shown = outputs if isinstance(outputs, list) else []
    number = item.get("execution_count")
    return Cell(
        str(item.get("cell_type", "")),
        str(number) if isinstance(number, int) else "",
        _cut(_joined(item.get("source"))),
        tuple(_shown(shown)),
    )


def _shown(outputs: list[Any]) -> Iterator[Shown]:
    for output in outputs:
        if not isinstance(output, dict):
            continue
        data = output.get("data")
        bundle = data if isinstance(data, dict) else {}
        if png := _png(_joined(bundle.get("image/png"))):
            yield Shown(png=png)
        elif output.get("output_type") == "error":
            said = _joined(output.get("traceback"), "\n")
            said = said or f"{output.get('ename', '')}: {output.get('evalue', '')}"
            yield Shown(text=_cut(said), is_error=True)
        elif said := _joined(output.get("text")) or _joined(bundle.get("text/plain")):
            yield Shown(text=_cut(said))


def _joined(text: Any, between: str = "") -> str:
    """Notebooks keep text as one string or as a list of lines."""
    if isinstance(text, list):
        return between.join(item for item in text if isinstance(item, str))
    return text if isinstance(text, str) else ""


def _cut(text: str) -> str:
    shown = plain(text)
    return shown if len(shown) <= TEXT_BYTES else shown[:TEXT_BYTES] + " …"


def _png(encoded: str) -> str:
    """Return base64 that holds a PNG and nothing else, or nothing."""
    try:
        data = base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError):
        return ""
    return base64.b64encode(data).decode() if picture_type(data) == "image/png" else ""


def pretty(value: Any) -> str:
    """Write a result as JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False)
