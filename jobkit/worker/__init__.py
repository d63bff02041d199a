"""The worker: claims runs, executes them as children of its own, and records what they came to."""

from jobkit.worker.loop import Doings, Worker

__all__ = ["Doings", "Worker"]
