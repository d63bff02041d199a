"""Ending a run early and well, from within."""

from __future__ import annotations

import sys


class StopRun(BaseException):
    """Ends a notebook early; what runs its cells takes it for a good end."""


def stop(reason: str = "stopped") -> None:
    """End the run that calls it, as COMPLETED, with a reason that its history shows.

    In a notebook the rest of the cells is not run; a script ends with exit code 0. Elsewhere, as in
    a notebook that somebody executes by hand, it ends what is being run in the same way.
    """
    said = " ".join(reason.split())
    print(f"::stop {said}", flush=True)  # noqa: T201 - this line is how a run says it
    if _in_notebook():
        raise StopRun(said)
    raise SystemExit(0)


def _in_notebook() -> bool:
    shells = sys.modules.get("IPython.core.getipython")
    return shells is not None and shells.get_ipython() is not None
