"""Results that the database could not take: kept until they are delivered once.

They lie on disk; in memory only while the disk has no room for them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from jobkit.artifacts import Kept
from jobkit.executors.packages import PackageSet
from jobkit.executors.provenance import ScriptText
from jobkit.store.claims import Chunk, Claim, Result

log = logging.getLogger("jobkit.worker")


@dataclass(frozen=True)
class Report:
    """All that one attempt still has to write: its last output and its result."""

    claim: Claim
    result: Result
    chunks: tuple[Chunk, ...]
    artifacts: tuple[Kept, ...] = ()
    packages: PackageSet | None = None
    """The packages that it ran on, unless they are in the database already."""
    script: ScriptText | None = None
    """The text that it ran, unless that is in the database already."""

    @property
    def key(self) -> tuple[int, int]:
        """Name the attempt as heartbeats do: (run, attempt)."""
        return self.claim.run_id, self.claim.attempt


class Spool:
    """A folder of reports for one database, readable by this user alone."""

    def __init__(self, folder: Path, database_name: str) -> None:
        self.folder = folder / hashlib.sha256(database_name.encode()).hexdigest()[:16]
        self._lock = threading.Lock()
        self._in_memory: dict[tuple[int, int], Report] = {}

    def keep(self, report: Report) -> None:
        """Keep a report so that it survives a power cut; a repeat replaces it.

        On a disk that takes nothing it is kept in memory, and put on disk when that takes it.
        """
        try:
            self._write(report, ".json")
        except OSError as error:
            log.warning(
                "run %d: its result waits in memory, since %s takes nothing: %s.",
                report.key[0], self.folder, error.strerror or error,
            )  # fmt: skip
            with self._lock:
                self._in_memory[report.key] = report

    def set_aside(self, report: Report) -> Path:
        """Keep a report that the database refuses, for a person to look at; raises OSError."""
        return self._write(report, ".refused")

    def kept(self) -> Iterator[Report]:
        """Yield the reports that wait here; one that cannot be read is set aside, not lost."""
        self._put_on_disk()
        with self._lock:
            waiting = list(self._in_memory.values())
        yield from waiting
        for path in sorted(self.folder.glob("*.json")):
            try:
                yield _decode(json.loads(path.read_text("utf-8")))
            except FileNotFoundError:
                continue  # another worker delivered it
            except (ValueError, KeyError, TypeError):
                path.replace(path.with_suffix(".unreadable"))

    def discard(self, report: Report) -> None:
        """Let go of a report that was delivered."""
        with self._lock:
            self._in_memory.pop(report.key, None)
        self._path(report, ".json").unlink(missing_ok=True)

    def _put_on_disk(self) -> None:
        with self._lock:
            waiting = list(self._in_memory.values())
        for report in waiting:
            try:
                self._write(report, ".json")
            except OSError:
                return
            with self._lock:
                self._in_memory.pop(report.key, None)

    def _path(self, report: Report, suffix: str) -> Path:
        claim = report.claim
        return self.folder / f"{claim.run_id}-{claim.attempt}-{claim.worker_id}{suffix}"

    def _write(self, report: Report, suffix: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._path(report, suffix)
        draft = path.with_suffix(".part")
        try:
            with draft.open("w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(report), file, default=_encode)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        except OSError:
            draft.unlink(missing_ok=True)  # half a report takes room and is of no use
            raise
        return path


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
    artifacts = tuple(Kept(**fields) for fields in document.get("artifacts", ()))
    packages, script = document.get("packages"), document.get("script")
    return Report(
        Claim(**claim),
        Result(**result),
        chunks,
        artifacts,
        PackageSet(**packages) if packages else None,
        ScriptText(**script) if script else None,
    )
