"""Hours of workers: what the attempts of files that never change add up to, kept on this machine.

Time in attempts and the most at once cannot be summed over files: attempts of two may overlap in an
hour. So each file has its roll-ups; they count as they are for hours that only one file knows, and
hours that several know are counted from rows, once for each set of files.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl

from jobkit.analytics.hot import SEALED_ROWS, Part
from jobkit.analytics.objects import Objects
from jobkit.analytics.rollups import BUSY, HOUR_US, PEAKS, ROLLUPS, pieces_of
from jobkit.analytics.window import EPOCH, literal

KINDS = {"busy": BUSY, "peaks": PEAKS}
MOST_RANGES = 48
"""Of claims; more of them cost more than the rows between them."""
MOST_LOOSE = 200
MARGIN = timedelta(hours=1)
"""How much longer than the longest attempt that ended one may be that has only begun."""


Claims = tuple[int, int]
"""From one instant on up to another, in microseconds since 1970."""


@dataclass(frozen=True)
class Tally:
    """Where roll-ups of hours are, and of which hours there are rows besides."""

    busy: str
    """For each hour and worker what `rollups.BUSY` says."""
    crowds: str
    """For each hour `peak`, the most attempts at once, and `work_us`, the time in attempts."""
    loose: frozenset[int]


@dataclass(frozen=True)
class Rolled:
    """A file of attempts and its roll-ups."""

    attempts: str
    busy: str
    peaks: str


class Hours:
    """The roll-ups by hour of one database; threads and processes may share the folder."""

    def __init__(
        self,
        folder: Path,
        objects: Objects,
        cursor: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._folder = folder
        self._objects = objects
        self._cursor = cursor
        self._units: dict[str, frozenset[int]] = {}

    def tally(
        self,
        files: Sequence[str],
        archived: Sequence[Any],
        last: tuple[Part, str] | None,
        longest: timedelta,
    ) -> Tally | None:
        """Return what the hours of these files of attempts add up to; None without any.

        `last`: the part to which rows are still added, and its file; while it is small its hours
        are counted from rows, so that nothing is put together anew whenever a run has ended.
        """
        rolled = self._rolled(files, archived)
        loose: frozenset[int] = frozenset()
        if last is not None and last[1] in rolled and last[0].runs < SEALED_ROWS:
            units = self._units_of(rolled[last[1]])
            if len(units) <= MOST_LOOSE:
                loose = units
                del rolled[last[1]]
        if not rolled:
            return None
        named = "\n".join(sorted(rolled))
        key = hashlib.sha256(named.encode()).hexdigest()[:24]
        busy, crowds = (self._folder / f"{name}-of-{key}.parquet" for name in ("busy", "crowds"))
        if not (_is_there(busy) and _is_there(crowds)):
            self._merge(list(rolled.values()), busy, crowds, longest)
        return Tally(str(busy), str(crowds), loose)

    def _rolled(self, files: Sequence[str], archived: Sequence[Any]) -> dict[str, Rolled]:
        """Return the files with their roll-ups: of the archive, or made here."""
        parts = {str(self._objects.path(row)): row.part for row in archived}
        listed = {(row.part, row.kind): row for row in archived if row.kind in KINDS}
        found = {}
        for file in files:
            there = [listed.get((parts.get(file), kind)) for kind in KINDS]
            paths = [None if row is None else self._objects.fetch(row) for row in there]
            made = [path or self._made(kind, file) for kind, path in zip(KINDS, paths, strict=True)]
            found[file] = Rolled(file, *map(str, made))
        return found

    def _made(self, kind: str, file: str) -> Path:
        path = self._folder / f"{kind}-{Path(file).name}"
        if not _is_there(path):
            self._write(path, ROLLUPS[kind].format(attempts=_parquet([file])))
        return path

    def _units_of(self, rolled: Rolled) -> frozenset[int]:
        if rolled.peaks not in self._units:
            self._units[rolled.peaks] = frozenset(pl.read_parquet(rolled.peaks).get_column("unit"))
        return self._units[rolled.peaks]

    def _merge(
        self, rolled: Sequence[Rolled], busy: Path, crowds: Path, longest: timedelta
    ) -> None:
        """Put roll-ups together; hours that several files know are counted from their rows."""
        units = pl.concat(
            [pl.scan_parquet(each.peaks).select(pl.col("unit").unique()) for each in rolled]
        )
        shared = units.group_by("unit").len().filter(pl.col("len") > 1).collect()
        hours = shared.get_column("unit").sort().to_list()
        self._write(busy, f"{_merged('busy', rolled, hours, longest)} ORDER BY unit")
        work = f"""SELECT unit, sum(work_us)::BIGINT AS work_us
            FROM {_parquet([str(busy)])} GROUP BY unit"""  # noqa: S608
        peaks = _merged("peaks", rolled, hours, longest)
        self._write(crowds, f"SELECT * FROM ({peaks}) JOIN ({work}) USING (unit) ORDER BY unit")  # noqa: S608

    def _write(self, path: Path, question: str) -> None:
        half = path.with_name(f"half-{secrets.token_hex(8)}-{path.name}")
        try:
            with self._cursor() as cursor:
                target = str(half).replace("'", "''")
                cursor.execute(f"COPY ({question}) TO '{target}' (FORMAT parquet)")
            half.replace(path)
        finally:
            half.unlink(missing_ok=True)


def _merged(kind: str, rolled: Sequence[Rolled], hours: Sequence[int], longest: timedelta) -> str:
    """Return SQL for roll-ups of a kind as a whole; `hours` are counted from rows."""
    within = among(hours)
    files = _parquet([getattr(each, kind) for each in rolled])
    question = f"SELECT * FROM {files} WHERE NOT ({within})"  # noqa: S608
    if not hours:
        return question
    rows = _parquet([each.attempts for each in rolled])
    claimed = claimed_in(claims_of(hours, longest))
    touched = f"(SELECT * FROM {rows} WHERE {claimed})"  # noqa: S608
    counted = f"{pieces_of(touched, within)} {KINDS[kind]}"
    return f"{question} UNION ALL SELECT * FROM ({counted})"  # noqa: S608


def among(units: Iterable[int]) -> str:
    """Return SQL that says whether a row is of one of these units."""
    listed = ", ".join(map(str, units))
    return f"unit IN ({listed})" if listed else "FALSE"


def claims_of(units: Sequence[int], longest: timedelta) -> list[Claims]:
    """Return when attempts that ran in one of these hours, which are sorted, may be claimed."""
    before = (longest + MARGIN) // timedelta(microseconds=1)
    gap = HOUR_US
    while len(ranges := _ranges(units, before, gap)) > MOST_RANGES:
        gap *= 2
    return ranges


def claimed_in(claims: Sequence[Claims]) -> str:
    """Return SQL that says whether an attempt was claimed then: most of a file is not read."""
    said = [
        f"claimed_at >= {_instant(low)} AND claimed_at < {_instant(high)}" for low, high in claims
    ]
    return " OR ".join(f"({each})" for each in said) or "FALSE"


def _ranges(units: Sequence[int], before: int, gap: int) -> list[Claims]:
    found: list[Claims] = []
    for unit in units:
        low, high = unit - before, unit + HOUR_US
        if found and low <= found[-1][1] + gap:
            low = found.pop()[0]
        found.append((low, high))
    return found


def _instant(us: int) -> str:
    return literal(EPOCH + timedelta(microseconds=us))


def _parquet(files: Iterable[str]) -> str:
    listed = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
    return f"read_parquet([{listed}], union_by_name = true)"


def _is_there(path: Path) -> bool:
    """Whether a file is there; it is marked as used, so that nobody sweeps it."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True
