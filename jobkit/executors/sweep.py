"""Find and kill processes by the cookie in their environment: what a killed host left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil

ROUNDS = 5


def sweep(matches: Callable[[dict[str, str]], bool]) -> int:
    """Kill every process whose cookies match, and what those start meanwhile; returns how many.

    Hosts go last: while one lives, orphans come to it and are found.
    """
    killed: set[int] = set()
    for _ in range(ROUNDS):
        found = [(pid, host) for pid, host, cookies in _marked() if matches(cookies)]
        if not found:
            break
        for pid, _host in sorted(found, key=lambda item: item[1]):
            with suppress(OSError):  # it is gone, or is not ours; Windows has no word for each
                os.kill(pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
                killed.add(pid)
    return len(killed)


def sweep_dead_workers() -> int:
    """Kill what workers of this machine that are gone left running; returns how many processes."""
    return sweep(lambda cookies: not psutil.pid_exists(int(cookies.get("JOBKIT_WORKER_PID", 1))))


def carriers() -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (process id, environment) of each process of this machine that carries a cookie."""
    for pid, _is_host, environment in _marked():
        yield pid, environment


def _marked() -> Iterator[tuple[int, bool, dict[str, str]]]:
    """Yield (process id, whether it is a host, cookies) of the processes that carry cookies."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            environment = process.environ()
            if "JOBKIT_RUN_ID" in environment and "JOBKIT_WORKER_PID" in environment:
                # A host shows nothing but cookies.
                is_host = all(name.startswith("JOBKIT_") for name in environment)
                yield process.pid, is_host, environment
