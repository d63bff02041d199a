"""What came of running a failed run here: the exception, its frames, and what was in them."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Any

LONGEST_VALUE = 80
MOST_VALUES = 20
MOST_FRAMES = 10


@dataclass(frozen=True)
class Frame:
    """One step of a traceback."""

    file: str
    line: int
    function: str
    code: str
    """The line's."""
    locals: Mapping[str, Any] = field(repr=False)
    is_theirs: bool = True
    """Whether it is of what the run executes, not of a library."""

    @property
    def where(self) -> str:
        """The place, as people say it."""
        return f"{Path(self.file).name}:{self.line} in {self.function}"


@dataclass(frozen=True)
class Debugged:
    """A failed run that was run here; nothing of its history was changed."""

    run_id: int
    attempt: int
    job_name: str
    name: str
    """Of the script or notebook."""
    exception: BaseException | None
    """None: it did not fail here."""
    frames: tuple[Frame, ...]
    """Of the exception, without those of jobkit; the innermost last."""
    namespace: dict[str, Any] = field(repr=False)
    """The names of the script, or of the notebook's cells."""
    cell: int | None
    """The number of the notebook's cell that failed, from 1."""
    folder: Path
    """Of the source, and of `artifacts`: what the attempt left, and what is left here."""
    params: Mapping[str, Any]
    masked: tuple[str, ...]
    """Secrets whose value is `***` here."""
    notes: tuple[str, ...]
    """What is other here than there."""

    @property
    def artifacts(self) -> Path:
        """The folder with what the attempt left, and what was left here."""
        return self.folder / "artifacts"

    @property
    def frame(self) -> Frame | None:
        """The innermost frame of what the run executes."""
        theirs = [frame for frame in self.frames if frame.is_theirs] or self.frames
        return theirs[-1] if theirs else None

    @property
    def locals(self) -> Mapping[str, Any]:
        """The names of the failing frame; of one that did not fail, the namespace."""
        return self.namespace if self.frame is None else self.frame.locals

    @property
    def traceback(self) -> str:
        """The exception as Python shows it."""
        return "" if self.exception is None else "".join(traceback.format_exception(self.exception))

    def post_mortem(self) -> None:
        """Open the debugger where it stopped."""
        if self.exception is None:
            return
        try:
            from IPython.core.debugger import Pdb
        except ImportError:
            import pdb

            pdb.post_mortem(self.exception.__traceback__)
        else:
            debugger = Pdb()
            debugger.reset()
            debugger.interaction(None, self.exception.__traceback__)

    @property
    def _head(self) -> str:
        place = f", cell {self.cell}" if self.cell is not None else ""
        of = f"run {self.run_id} of {self.job_name}, attempt {self.attempt}"
        if self.exception is None:
            return f"{of}: {self.name} did not fail here"
        return f"{of}: {self.name}{place} stopped on {_said(self.exception)}"

    def __repr__(self) -> str:
        lines = [self._head]
        lines += [f"  {frame.where}: {frame.code}" for frame in self.frames[-MOST_FRAMES:]]
        shown = shown_values(self.locals) if self.exception is not None else []
        if shown:
            lines += ["locals", *(f"  {name} = {value}" for name, value in shown)]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        frames = "".join(
            f"<li>{escape(frame.where)}: <code>{escape(_cut(frame.code))}</code></li>"
            for frame in self.frames[-MOST_FRAMES:]
        )
        shown = shown_values(self.locals) if self.exception is not None else []
        rows = "".join(
            f"<tr><th scope='row' style='text-align:left'>{escape(name)}</th>"
            f"<td style='text-align:left'><code>{escape(value)}</code></td></tr>"
            for name, value in shown
        )
        notes = "".join(f"<li>{escape(note)}</li>" for note in self.notes)
        return (
            f"<p><b>{escape(_cut(self._head, 300))}</b></p>"
            + (f"<ol>{frames}</ol>" if frames else "")
            + (f"<table><caption>Locals</caption>{rows}</table>" if rows else "")
            + (f"<ul>{notes}</ul>" if notes else "")
        )


def frames_of(exception: BaseException, theirs: Path) -> tuple[Frame, ...]:
    """Return an exception's frames after those of jobkit; `theirs`: the folder of what ran."""
    found: list[Frame] = []
    step: TracebackType | None = exception.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        file = Path(code.co_filename)
        is_theirs = file.is_relative_to(theirs) and "site-packages" not in file.parts
        if is_theirs or found:
            line = linecache.getline(code.co_filename, step.tb_lineno).strip()
            values = dict(step.tb_frame.f_locals)
            found.append(
                Frame(code.co_filename, step.tb_lineno, code.co_name, line, values, is_theirs)
            )
        step = step.tb_next
    return tuple(found)


def shown_values(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return names and short values; without modules, and what begins with an underscore."""
    shown = []
    for name, value in values.items():
        if name.startswith("_") or type(value).__name__ in ("module", "function", "type"):
            continue
        shown.append((name, _cut(_repr(value))))
    return shown[-MOST_VALUES:]


def _repr(value: Any) -> str:
    try:
        return " ".join(repr(value).split())
    except Exception as error:  # noqa: BLE001 - the value's own fault, not that of who looks
        return f"<{type(value).__name__}: its repr raised {type(error).__name__}>"


def _said(exception: BaseException) -> str:
    return _cut(f"{type(exception).__name__}: {exception}", 200)


def _cut(text: str, longest: int = LONGEST_VALUE) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
