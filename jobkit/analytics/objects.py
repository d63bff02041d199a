"""Files of the archive on this machine: each is fetched once, checked, and never changes."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import polars as pl

from jobkit.archive import places
from jobkit.errors import JobkitError


class Objects:
    """A folder of archive files by their hash; any number of processes may share it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ids: dict[str, pl.Series] = {}
        self._figures: dict[str, int | None] = {}
        self._columns: dict[str, frozenset[str]] = {}

    def path(self, listed: Any) -> Path:
        """Return where a file is once it was fetched."""
        return self.folder / f"{listed.sha256}.parquet"

    def fetch(self, listed: Any) -> Path | None:
        """Return the path of a file that the manifest lists; None when it is gone or damaged."""
        path = self.path(listed)
        if path.exists():
            return path
        self.folder.mkdir(parents=True, exist_ok=True)
        half = self.folder / f"half-{secrets.token_hex(8)}"
        try:
            places.fetch(listed.url, half)
            if places.sha256(half) != listed.sha256:
                return None
            half.replace(path)
        except (JobkitError, OSError):
            return None
        finally:
            half.unlink(missing_ok=True)
        return path

    def ids(self, listed: Any) -> pl.Series | None:
        """Return the ids in a file of runs."""
        known = self._ids.get(listed.sha256)
        if known is not None:
            return known
        path = self.fetch(listed)
        if path is None:
            return None
        found = pl.read_parquet(path, columns=["id"]).get_column("id").cast(pl.Int64)
        self._ids[listed.sha256] = found
        return found

    def has(self, listed: Any, path: Path, columns: Iterable[str]) -> bool:
        """Whether a file has all of these columns."""
        if listed.sha256 not in self._columns:
            self._columns[listed.sha256] = frozenset(pl.read_parquet_schema(path))
        return self._columns[listed.sha256].issuperset(columns)

    def longest(self, listed: Any, path: Path) -> int:
        """Return the microseconds from claim to end of the longest attempt in a file."""
        return self._noted(listed, "longest", lambda: longest(pl.scan_parquet(path))) or 0

    def first(self, listed: Any, path: Path) -> int | None:
        """Return the earliest making or slot in a file of runs, in microseconds since 1970."""
        return self._noted(listed, "first", lambda: first(pl.scan_parquet(path)))

    def _noted(self, listed: Any, name: str, find: Callable[[], int | None]) -> int | None:
        """Return a figure of a file, which is found once and noted beside it."""
        if listed.sha256 not in self._figures:
            note = self.folder / f"{listed.sha256}.json"
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                noted = json.loads(note.read_text("utf-8"))[name]
                self._figures[listed.sha256] = None if noted is None else int(noted)
            if listed.sha256 not in self._figures:
                found = self._figures[listed.sha256] = find()
                write(note, json.dumps({name: found}))
        return self._figures[listed.sha256]


def longest(attempts: pl.LazyFrame) -> int:
    """Return the microseconds from claim to end of the longest of these attempts."""
    span = (pl.col("finished_at") - pl.col("claimed_at")).dt.total_microseconds().max()
    found: int | None = attempts.select(span).collect().item()
    return max(0, found or 0)


def first(runs: pl.LazyFrame) -> int | None:
    """Return the earliest making or slot of these runs, in microseconds since 1970."""
    instants = pl.min_horizontal(pl.col("created_at").min(), pl.col("scheduled_for").min())
    found: int | None = runs.select(instants.dt.epoch("us")).collect().item()
    return found


def write(path: Path, text: str) -> None:
    """Write a file that others read at any time: they see the old one or the new one, whole."""
    half = path.with_name(f"half-{secrets.token_hex(8)}")
    try:
        half.write_text(text, "utf-8")
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)
