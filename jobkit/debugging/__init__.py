"""A failed run, run here: `run.debug()` fetches what it ran and stops where it stopped."""

from __future__ import annotations

from jobkit.debugging.debugged import Debugged, Frame
from jobkit.debugging.debugger import debug

__all__ = ["Debugged", "Frame", "debug"]
