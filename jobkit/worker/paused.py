"""A child that waits with its kernel after a cell that failed, between two attempts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobkit.executors.process import Child, Outcome
from jobkit.executors.provenance import Begun
from jobkit.worker.workshop import Prepared

GO_ON = "go-on.json"
"""As `executors/runners/keeping.py` names it."""


@dataclass(frozen=True)
class Paused:
    """A child that waits with its kernel after a cell that failed, and all that it runs with."""

    child: Child
    prepared: Prepared
    begun: Begun
    stack: ExitStack
    """Gives back its host and its folder."""
    outcome: Outcome
    """What it printed, and what its runner tells of the kernel and the cell."""
    edits: tuple[Mapping[str, Any], ...]
    """The corrections with which it went on."""
    correction: str = ""
    """The last of them: the source of the cell that failed."""

    @property
    def folder(self) -> Path:
        """Where its runner looks for a correction."""
        return Path(str(self.facts.get("folder")))

    @property
    def facts(self) -> Mapping[str, Any]:
        """What its runner tells: `connection_file`, `folder`, `pid`, and of the cell."""
        return self.outcome.kept or {}

    def go_on(self, attempt: int) -> None:
        """Hand the correction to the runner; OSError when that cannot be done."""
        said = {name: value for name, value in self.edits[-1].items() if name != "diff"}
        order = {"source": self.correction, "attempt": attempt, "edit": said}
        draft = self.folder / "go-on.part"
        draft.write_text(json.dumps(order), "utf-8")
        draft.replace(self.folder / GO_ON)
