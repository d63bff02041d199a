"""Final runs of the tables with their attempts, kept on this machine: each is read once.

A state names files that never change; a new one takes its place as a whole. So programs that share
the folder may overwrite each other's state: each is a true picture of what its writer had seen.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from jobkit.analytics.objects import first, longest, write
from jobkit.analytics.shapes import ATTEMPTS, RUNS

FORMAT = 2
SEALED_ROWS = 50_000
"""A file with fewer runs is written anew together with what is added."""
PART_ROWS = 250_000
ROW_GROUP = 60_000
STALE_SECONDS = 86_400


@dataclass(frozen=True)
class Part:
    """Two files: runs, and the attempts of exactly these."""

    name: str
    runs: int
    attempts: int
    longest: int
    """Microseconds from claim to end of the longest attempt."""
    first: int | None
    """The earliest slot, making or claim, in microseconds since 1970."""


@dataclass(frozen=True)
class State:
    """What of a database is in the cache, and where to go on reading."""

    since: int | None = None
    """Runs with a mark below it are in the parts, are named in `open_ids`, or left."""
    open_ids: tuple[int, ...] = ()
    cleaned_runs: int = 0
    applied: tuple[str, ...] = ()
    """Parts of the archive whose runs are not in the parts here."""
    witness: tuple[int, str] | None = None
    """A run that is in the parts, and when it was made: another database would not have it."""
    parts: tuple[Part, ...] = ()

    @property
    def longest(self) -> int:
        """Microseconds from claim to end of the longest attempt."""
        return max((part.longest for part in self.parts), default=0)


class Folder:
    """The cache of one database."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> State:
        """Return the state that was saved last; an empty one when there is none to be read."""
        try:
            found = json.loads((self.path / "state.json").read_text("utf-8"))
            if found.pop("format") != FORMAT:
                return State()
            parts = tuple(Part(**part) for part in found.pop("parts"))
            witness = found.pop("witness")
            state = State(
                parts=parts,
                witness=tuple(witness) if witness else None,
                since=found["since"],
                open_ids=tuple(found["open_ids"]),
                cleaned_runs=found["cleaned_runs"],
                applied=tuple(found["applied"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return State()
        return state if all(self.has(part) for part in parts) else State()

    def save(self, state: State) -> None:
        """Make a state the one that is loaded; files that nobody needs any more are deleted."""
        self.path.mkdir(parents=True, exist_ok=True)
        write(self.path / "state.json", json.dumps({"format": FORMAT, **asdict(state)}))
        used = {f"{kind}-{part.name}" for part in state.parts for kind in ("runs", "attempts")}
        old = time.time() - STALE_SECONDS  # somebody who reads may still need younger ones
        for file in self.path.glob("*.parquet"):
            with contextlib.suppress(OSError):
                if file.name not in used and file.stat().st_mtime < old:
                    file.unlink()

    def has(self, part: Part) -> bool:
        """Whether both files of a part are there."""
        return self.runs_file(part).exists() and self.attempts_file(part).exists()

    def runs_file(self, part: Part) -> Path:
        """Return where a part's runs are."""
        return self.path / f"runs-{part.name}"

    def attempts_file(self, part: Part) -> Path:
        """Return where a part's attempts are."""
        return self.path / f"attempts-{part.name}"

    def add(self, parts: Sequence[Part], runs: pl.DataFrame, attempts: pl.DataFrame) -> list[Part]:
        """Return parts with rows added: in a new one, or together with a small last one."""
        kept = list(parts)
        if kept and kept[-1].runs < SEALED_ROWS and runs.height < SEALED_ROWS:
            last = kept.pop()
            runs = pl.concat([pl.read_parquet(self.runs_file(last)), runs])
            attempts = pl.concat([pl.read_parquet(self.attempts_file(last)), attempts])
        return [*kept, self._written(runs, attempts)]

    def without(self, parts: Sequence[Part], gone: pl.Series) -> list[Part]:
        """Return parts that lack some runs and their attempts."""
        return [self._part_without(part, gone) for part in parts]

    def _part_without(self, part: Part, gone: pl.Series) -> Part:
        ids = pl.read_parquet(self.runs_file(part), columns=["id"]).get_column("id")
        if not ids.is_in(gone.implode()).any():
            return part
        keeps = ~pl.col("id").is_in(gone.implode())
        runs = pl.read_parquet(self.runs_file(part)).filter(keeps)
        keeps = ~pl.col("dispatch_id").is_in(gone.implode()).fill_null(value=False)
        return self._written(runs, pl.read_parquet(self.attempts_file(part)).filter(keeps))

    def _written(self, runs: pl.DataFrame, attempts: pl.DataFrame) -> Part:
        self.path.mkdir(parents=True, exist_ok=True)
        part = Part(
            f"{uuid.uuid4()}.parquet",
            runs.height,
            attempts.height,
            longest(attempts.lazy()),
            earliest(runs, attempts),
        )
        self._put(self.runs_file(part), runs.select(list(RUNS)).sort("completed_at"))
        self._put(self.attempts_file(part), attempts.select(list(ATTEMPTS)).sort("claimed_at"))
        return part

    @staticmethod
    def _put(path: Path, frame: pl.DataFrame) -> None:
        half = path.with_name(f"half-{path.name}")
        frame.write_parquet(half, compression="zstd", row_group_size=ROW_GROUP)
        half.replace(path)

    def ids(self, state: State, *more: str) -> pl.DataFrame:
        """Return the ids of all runs in the parts, and other columns of theirs."""
        names = ["id", *more]
        if not state.parts:
            return pl.DataFrame(schema={name: RUNS[name] for name in names})
        files = [self.runs_file(part) for part in state.parts]
        return pl.scan_parquet(files).select(names).collect()


class Gathering:
    """Rows on their way into parts: written whenever there are enough for a large file."""

    def __init__(self, folder: Folder, state: State) -> None:
        self._folder = folder
        self._parts = list(state.parts)
        self._runs: list[pl.DataFrame] = []
        self._attempts: list[pl.DataFrame] = []
        self._count = 0

    def add(self, runs: pl.DataFrame, attempts: pl.DataFrame) -> None:
        """Take final runs with their attempts."""
        if not (runs.height or attempts.height):
            return
        self._runs.append(runs.select(list(RUNS)))
        self._attempts.append(attempts.select(list(ATTEMPTS)))
        self._count += runs.height
        if self._count >= PART_ROWS:
            self._flush()

    def _flush(self) -> None:
        self._parts = self._folder.add(
            self._parts, pl.concat(self._runs), pl.concat(self._attempts)
        )
        self._runs, self._attempts, self._count = [], [], 0

    def finish(self, state: State, **changes: Any) -> State:
        """Return the state with all that was taken, and other changes."""
        if self._runs:
            self._flush()
        return replace(state, parts=tuple(self._parts), **changes)


def earliest(runs: pl.DataFrame, attempts: pl.DataFrame) -> int | None:
    """Return the earliest slot, making or claim of rows, in microseconds since 1970."""
    claimed = attempts.lazy().select(pl.col("claimed_at").min().dt.epoch("us")).collect().item()
    return min((us for us in (first(runs.lazy()), claimed) if us is not None), default=None)
