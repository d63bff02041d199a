"""Magics for a run that failed: `%jobkit attach RUN`, `%%attached`, `%%jobkit go on`, and the end.

%jobkit attach 12        opens the memory of run 12, whose kernel is kept
%%attached               executes a cell there
%%jobkit go on           the cell is the corrected one: the run goes on with it
%jobkit let go           ends the kernel; the run is FAILED
%jobkit kept             lists the kernels that are kept
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, cell_magic, line_cell_magic, magics_class

from jobkit.attach import Kernel, attach, settled
from jobkit.errors import BadInput, JobkitError

if TYPE_CHECKING:
    from jobkit.kit import Kit

USAGE = "Write: %jobkit attach RUN, %%jobkit go on, %jobkit let go [RUN], %jobkit kept."


@magics_class
class AttachMagics(Magics):
    """One kernel at a time is attached."""

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._kernel: Kernel | None = None
        self._opened: Kit | None = None

    @line_cell_magic
    def jobkit(self, line: str, cell: str | None = None) -> Any:
        """Attach to the kernel of a run that failed, let it go on, or let it go."""
        words = line.split()
        if words[:1] == ["attach"] and len(words) == 2:
            return self._attach(_number(words[1]))
        if words[:2] == ["go", "on"] and len(words) <= 3:
            return self._go_on(words[2:], cell)
        if words[:2] == ["let", "go"] and len(words) <= 3:
            return self._let_go(words[2:])
        if words == ["kept"]:
            running = self._kit.runs(status="IN_PROGRESS", limit=1000)
            return [kept for run in running if (kept := run.kept) is not None]
        raise BadInput(f"{line!r} is not understood.", USAGE)

    @cell_magic
    def attached(self, line: str, cell: str) -> None:
        """Execute a cell in the kernel that is attached, and show here what it shows."""
        self._attached.run(cell)

    @property
    def _kit(self) -> Kit:
        """The notebook's own `kit`, else the one of the settings."""
        import jobkit
        from jobkit.kit import Kit

        own = self.shell.user_ns.get("kit") if self.shell is not None else None
        if isinstance(own, Kit):
            return own
        if self._opened is None:
            self._opened = jobkit.connect(source="notebook")
        return self._opened

    @property
    def _attached(self) -> Kernel:
        if self._kernel is None:
            raise BadInput("No kernel is attached.", "First: %jobkit attach RUN")
        return self._kernel

    def _attach(self, run_id: int) -> Kernel:
        self._close()
        self._kernel = attach(self._kit.run(run_id))
        return self._kernel

    def _go_on(self, given: list[str], cell: str | None) -> Any:
        if cell is None:
            raise BadInput(
                "The corrected cell is missing.", "Write %%jobkit go on as the first line of it."
            )
        run = self._kit.run(_number(given[0]) if given else self._attached.kept.run_id)
        asked = self._kit.runs.go_on(run.id, cell)
        self._close()
        try:
            return settled(asked)
        except KeyboardInterrupt:
            raise JobkitError(
                f"Stopped waiting; run {run.id} goes on.", f"See: jobkit show {run.id}"
            ) from None

    def _let_go(self, given: list[str]) -> Any:
        run_id = _number(given[0]) if given else self._attached.kept.run_id
        asked = self._kit.runs.let_go(run_id)
        self._close()
        return settled(asked)

    def _close(self) -> None:
        if self._kernel is not None:
            self._kernel.close()
        self._kernel = None


def _number(word: str) -> int:
    if not word.isdigit():
        raise BadInput(f"{word!r} is not the number of a run.", USAGE)
    return int(word)


def load(ipython: Any) -> None:
    """Add the magics to a shell."""
    ipython.register_magics(AttachMagics)
