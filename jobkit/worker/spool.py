"""Results that the database could not take: kept on disk until they are delivered once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jobkit.store.claims import Chunk, Claim, Result


@dataclass(frozen=True)
class Report:
    """All that one attempt still has to write: its last output and its result."""

    claim: Claim
    result: Result
    chunks: tuple[Chunk, ...]

    @property
    def key(self) -> tuple[int, int]:
        """Name the attempt as heartbeats do: (run, attempt)."""
        return self.claim.run_id, self.claim.attempt


class Spool:
    """A folder of reports for one database, readable by this user alone."""

    def __init__(self, folder: Path, database_name: str) -> None:
        self.folder = folder / hashlib.sha256(database_name.encode()).hexdigest()[:16]

    def keep(self, report: Report, suffix: str = ".json") -> Path:
        """Write a report so that it survives a power cut; a repeat replaces it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        claim = report.claim
        path = self.folder / f"{claim.run_id}-{claim.attempt}-{claim.worker_id}{suffix}"
        draft = path.with_suffix(".part")
        with draft.open("w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(report), file, default=_encode)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        return path

    def set_aside(self, report: Report) -> Path:
        """Keep a report that the database refuses, for a person to look at."""
        return self.keep(report, suffix=".refused")

    def kept(self) -> Iterator[tuple[Path, Report]]:
        """Yield the reports that wait here; one that cannot be read is set aside, not lost."""
        for path in sorted(self.folder.glob("*.json")):
            try:
                yield path, _decode(json.loads(path.read_text("utf-8")))
            except FileNotFoundError:
                continue  # another worker delivered it
            except (ValueError, KeyError, TypeError):
                path.replace(path.with_suffix(".unreadable"))


def _encode(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{value!r} cannot be kept")


def _decode(document: dict[str, Any]) -> Report:
    claim, result = document["claim"], document["result"]
    for fields in (claim, result):
        for name, value in fields.items():
            if value is not None and (name.endswith("_at") or name == "scheduled_for"):
                fields[name] = datetime.fromisoformat(value)
    chunks = tuple(
        (seq, datetime.fromisoformat(at), text, *(stream or ("output",)))
        for seq, at, text, *stream in document["chunks"]
    )
    return Report(Claim(**claim), Result(**result), chunks)
